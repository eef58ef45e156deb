"""What was tried on a folder of images, and why one was chosen, as a page to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..constants import DEFAULT_MODEL
from ..html import Comparison, Comparisons, Page, Table, histogram
from ..inference.tiled import Tiles
from ..quality.measure import FolderQuality
from .adapt import Adapted
from .arguments import AdaptArguments
from .candidates import CUES, DEFAULT, map_file

MOST_PICTURES = 40
LIMITS = (
    "Quality is how well the outlines of maps follow the edges of their images, less what touches the frame and what "
    "is undecided; no mask was looked at. It tells blurred, empty, inverted and much too large maps from sharp ones; "
    "it cannot tell whether what was found is the thing you mean. Look at the pictures."
)


def adapt_page(args: AdaptArguments, adapted: Adapted, photos: int = MOST_PICTURES) -> Page:
    """The page of an adaptation: what was tried, and at most so many held-out images before and after, worst first."""
    return Page(
        title=f"{args.images.resolve().name}: {'keep the default model' if adapted.keeps_default else 'an adapter'}",
        summary=[verdict(adapted), LIMITS, *adapted.inspection.lines(), *adapted.notes],
        commands=usage(args, adapted),
        tables=[_tried(adapted)],
        walls=[_wall(adapted, photos)],
        charts=_charts(adapted),
        settings={
            **{name: str(value) for name, value in args.asked.items() if value is not None},
            **{f"seconds: {name}": f"{seconds:.0f}" for name, seconds in adapted.seconds.items()},
        },
    )


def verdict(adapted: Adapted) -> str:
    """The outcome in a sentence."""
    if adapted.keeps_default:
        return f"Keep the default model: {adapted.reason}."
    return f"Use {adapted.chosen}: {adapted.reason}."


def usage(args: AdaptArguments, adapted: Adapted) -> list[str]:
    """Three lines with which it is used."""
    return usage_lines(args.output, adapted.keeps_default, args.video, adapted.tiles)


def usage_lines(output: Path, keeps_default: bool, video: bool, tiles: Tiles = None) -> list[str]:
    """As `usage`, of the folder of an adaptation."""
    option = "" if keeps_default else f" --adapter {output / 'adapter'}"
    task = " --task video" if video else ""
    windows = f" --tiles {tiles}" if tiles else ""
    load = "" if keeps_default else f'; model.load_adapter("{output / "adapter"}")'
    return [
        f"hf-usod predict NEW_IMAGES{option}{task}{windows} --output out --save mask cutout",
        f"hf-usod evaluate --images IMAGES --masks MASKS{option}{windows}   # if you have masks of some",
        f'python: model = AutoModel.from_pretrained(hf_usod.checkpoint_path("{DEFAULT_MODEL}")){load}',
    ]


def _tried(adapted: Adapted) -> Table:
    head = ["", "quality", "alignment", "frame", "object", "undecided", "empty", "alike", "what it is"]
    rows = []
    for candidate in adapted.candidates:
        figures = adapted.qualities[candidate.name].figures()
        names = ("quality", "alignment", "border", "object", "undecided", "empty", "alike")
        harm = adapted.harms.get(candidate.name, "")
        about = f"{candidate.about}; not to be used: {harm}" if harm else candidate.about
        rows.append([candidate.name, *(f"{figures[name]:.3f}" for name in names), about])
    marked = [place for place, candidate in enumerate(adapted.candidates) if candidate.name == adapted.chosen]
    note = f"On {len(adapted.held_out)} images that nothing was trained on. {CUES} makes labels; it is no detector."
    return Table("What was tried", head, rows, note, marked)


def _wall(adapted: Adapted, photos: int) -> Comparisons:
    """Before and after; of a default model that is kept, it and the best of the others."""
    after = adapted.chosen
    if adapted.keeps_default:
        others = [candidate.name for candidate in adapted.candidates if candidate.name != DEFAULT]
        after = max(others, key=lambda name: adapted.qualities[name].score)
    scores = {image.id: image.score for image in adapted.qualities[after].images}
    worst = sorted(adapted.held_out, key=lambda sample: scores[sample.id])[:photos]
    items = [
        Comparison(
            sample.id,
            _levels(map_file(adapted.maps / DEFAULT, sample)),
            _levels(map_file(adapted.maps / after, sample)),
            sample.image,
            {"quality": scores[sample.id]},
        )
        for sample in worst
    ]
    return Comparisons("Before and after, the lowest quality first", DEFAULT, after, items)


def _levels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def _charts(adapted: Adapted) -> list:
    shown = {name: adapted.qualities[name] for name in dict.fromkeys([DEFAULT, adapted.chosen, CUES])}

    def values(what: str, of: Sequence[FolderQuality]) -> list[list[float]]:
        return [[image.figures()[what] for image in quality.images] for quality in of]

    titles = {
        "quality": ("Quality", 1.0),
        "object": ("Share of an image that is object", 1.0),
        "undecided": ("Share of an image that is undecided, .1 to .9", 0.5),
    }
    return [
        histogram(title, title.lower(), dict(zip(shown, values(what, list(shown.values())), strict=True)), 0.0, highest)
        for what, (title, highest) in titles.items()
    ]
