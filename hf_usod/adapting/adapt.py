"""From a folder of images to an adapter of one's own domain, or to the advice to keep the default model."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..assets import checkpoint_source
from ..data import Sample
from ..data.video import require_opencv, write_flow
from ..errors import DataError, RunError
from ..files import write_folder_aside
from ..inference.tiled import AUTO, AUTO_LEAST, Tiles
from ..loading import load
from ..quality.measure import SURE, FolderQuality, choose, compare_scores, find_harm
from ..training.locks import lock_folder
from ..training.photos import join, list_run_samples
from .candidates import (
    CUES,
    DEFAULT,
    Candidate,
    Source,
    embedded,
    judge,
    judge_labels,
    judge_parts,
    label_refinement,
    make_labels,
    train_adapter,
    transfer_cues,
)
from .folder import AdaptFolder
from .inspection import FEWEST, Inspection, inspect, spread

HELD_OUT = 0.3  # of the images, on which candidates are compared and nothing is trained
LEAST_HELD_OUT, MOST_HELD_OUT = 5, 80
LEAST_TILED = 2 * AUTO_LEAST  # pixels of the median image's longer side, above which windows may show more
LEAST_OBJECT, MOST_OBJECT = 0.002, 0.9  # share of an image; a label of less or more says nothing

Result = TypeVar("Result")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class AdaptArguments:
    """What an adaptation is told.

    Args:
        images: a folder of images; its tree is searched.
        output: a folder for what is made.
        aux: the images' depth, thermal or flow maps, by the images' names.
        video: the images are frames, a folder a sequence, whose optical flow is computed.
        resume: whether to go on with what is in `output`.
        seed: of the trainings.
        device: see `load`; trainings are on the fastest.
    """

    images: Path
    output: Path
    aux: Path | None = None
    video: bool = False
    resume: bool = False
    seed: int = 0
    device: str | None = None
    batch_size: int = 4

    @property
    def asked(self) -> dict[str, Any]:
        """What a resumed one must be told as well."""
        aux = str(self.aux.resolve()) if self.aux else None
        return {"images": str(self.images.resolve()), "aux": aux, "task": "video" if self.video else None} | {
            "seed": self.seed
        }


@dataclass(frozen=True)
class Adapted:
    """What came of an adaptation.

    Args:
        inspection: of the images.
        held_out: the images that candidates were compared on.
        candidates: all, in the order in which they were tried.
        qualities: of each, by name.
        chosen: the name of one.
        reason: why.
        tiles: whether it is to look at windows too, see `Tiled`.
        notes: what else was found out, such as labels that were not used.
        maps: where each candidate's maps of the held-out images are.
        seconds: by step.
    """

    inspection: Inspection
    held_out: Sequence[Sample]
    candidates: Sequence[Candidate]
    qualities: dict[str, FolderQuality]
    chosen: str
    reason: str
    notes: list[str]
    maps: Path
    seconds: dict[str, float]
    tiles: Tiles = None

    @property
    def harms(self) -> dict[str, str]:
        """Why candidates are not to be used, of those that are not."""
        found = {name: find_harm(quality, self.qualities[DEFAULT]) for name, quality in self.qualities.items()}
        return {name: harm for name, harm in found.items() if harm}

    @property
    def keeps_default(self) -> bool:
        return self.chosen == DEFAULT


def find_samples(args: AdaptArguments) -> list[Sample]:
    """The images, with their auxiliary maps; of videos, whose flow is computed later, without.

    Raises:
        UsodError, FileNotFoundError: naming the folder.
    """
    if args.output.resolve() == args.images.resolve() or args.output.resolve().is_relative_to(args.images.resolve()):
        raise RunError(f"--output {args.output}: lies among the images. Choose a folder elsewhere.")
    if args.video:
        require_opencv()
    return join(list_run_samples([str(args.images)], [str(args.aux)] if args.aux else []))


def adapt(args: AdaptArguments, tell: Tell = print) -> Adapted:
    """Tries what there is to try on a folder of images and chooses by a measure that needs no masks.

    Every step is kept in the output folder; a stopped run goes on with `resume`.

    Raises:
        UsodError, FileNotFoundError, ModuleNotFoundError: with what to do about it.
        KeyboardInterrupt: when asked to stop.
    """
    samples = find_samples(args)
    # What can be refused is refused before anything is written
    AdaptFolder(args.output, args.asked, args.resume)
    inspection = inspect(samples, args.video)
    for line in inspection.lines():
        tell(line)
    inspection.check()
    first, *_ = embedded()
    load(first.model, device=args.device)
    with lock_folder(args.output):
        return _Adaptation(args, AdaptFolder(args.output, args.asked, args.resume), tell).run(inspection)


@dataclass
class _Adaptation:
    args: AdaptArguments
    folder: AdaptFolder
    tell: Tell
    candidates: list[Candidate] = field(default_factory=list)
    qualities: dict[str, FolderQuality] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self, inspection: Inspection) -> Adapted:
        args, samples = self.args, inspection.samples
        self.folder.save()
        if args.video:
            samples = self._step("flow", partial(_with_flow, args.images, self.folder.root / "flow", samples))
        held_out, training = split(samples)
        held_out = self.folder.place(held_out, "held_out")
        training = self.folder.place(training, "train")

        for candidate in embedded():
            self._judge(candidate, held_out)
        images, aux = self.folder.images("train"), self._aux(training)
        cues = self._step("cues", lambda: transfer_cues(images, aux, self.folder.root / CUES, args.seed))
        self._judge(cues, held_out)
        for source in self._sources(cues):
            labels = self.folder.root / "labels" / source.name
            self._step(f"labels {source.name}", partial(self._label, source, training, labels))
            if (used := self._usable(source, training, labels)) is None:
                continue
            self.folder.place(used, source.name)
            images, aux = self.folder.images(source.name), self._aux(used, source.name)
            run = self.folder.root / "runs" / source.name
            work = partial(train_adapter, source, images, aux, labels, run, args.seed)
            trained = self._step(f"training {source.name}", work)
            self._judge(trained, held_out)
        return self._choose(inspection, held_out)

    def _step(self, name: str, work: Callable[[], Result]) -> Result:
        """Does a step and keeps what it took; one that was done before is only looked up by its files."""
        before = self.folder.state["seconds"].get(name, 0.0)
        if not before:
            self.tell(f"{name} …")
        begun = time.monotonic()
        try:
            return work()
        finally:
            self.folder.state["seconds"][name] = round(before + time.monotonic() - begun, 1)
            self.folder.save()

    def _judge(self, candidate: Candidate, held_out: Sequence[Sample]) -> None:
        maps = self.folder.root / "maps" / candidate.name
        quality = self._step(
            f"maps {candidate.name}",
            lambda: judge(candidate, held_out, maps, self.args.device, self.args.batch_size),
        )
        self.candidates.append(candidate)
        self.qualities[candidate.name] = quality
        self.folder.state.setdefault("quality", {})[candidate.name] = quality.figures()
        self.folder.save()
        harm = self._harm(candidate.name)
        self.tell(f"  {candidate.name}: quality {quality.score:.3f}{f', not to be used: {harm}' if harm else ''}")

    def _harm(self, name: str) -> str:
        return find_harm(self.qualities[name], self.qualities[DEFAULT])

    def _sources(self, cues: Candidate) -> list[Source]:
        """What makes labels: of the detectors the best, and the cue extractor, unless its maps are no good."""
        detectors = {c.name: self.qualities[c.name] for c in self.candidates if c.is_detector}
        best = next(c for c in self.candidates if c.name == choose(detectors, DEFAULT)[0])
        sources = [Source(f"trained-by-{best.name}", best, "pixel", rectify=True)]
        if harm := self._harm(cues.name):
            self.notes.append(f"Labels of the cue extractor were not used: {harm}.")
        else:
            sources.append(Source(f"trained-by-{CUES}", cues, label_refinement(), rectify=False))
        return sources

    def _label(self, source: Source, training: Sequence[Sample], labels: Path) -> None:
        make_labels(source, training, labels, self.args.device, self.args.batch_size)

    def _usable(self, source: Source, training: Sequence[Sample], labels: Path) -> list[Sample] | None:
        """The images whose labels hold an object and a ground; None if most do not."""
        shares = judge_labels(training, labels)
        used = [sample for sample in training if LEAST_OBJECT <= shares[sample.id] <= MOST_OBJECT]
        dropped = len(training) - len(used)
        if dropped > len(training) / 2 or len(used) < FEWEST:
            self.notes.append(
                f"{source.name}: not trained, {dropped} of {len(training)} labels are empty or all object."
            )
            return None
        if dropped:
            self.notes.append(
                f"{source.name}: {dropped} of {len(training)} labels, empty or all object, were left out."
            )
        return used

    def _aux(self, samples: Sequence[Sample], name: str = "train") -> Path | None:
        return self.folder.aux(name) if any(sample.aux for sample in samples) else None

    def _choose(self, inspection: Inspection, held_out: Sequence[Sample]) -> Adapted:
        detectors = {c.name: self.qualities[c.name] for c in self.candidates if c.is_detector}
        name, reason = choose(detectors, DEFAULT)
        chosen = next(candidate for candidate in self.candidates if candidate.name == name)
        if chosen.adapter and not self.folder.adapter.exists():
            source = Path(checkpoint_source(chosen.adapter))
            write_folder_aside(self.folder.adapter, lambda aside: shutil.copytree(source, aside, dirs_exist_ok=True))
        tiles = self._try_tiles(chosen, inspection, held_out)
        self.folder.state |= {"chosen": name, "reason": reason, "tiles": tiles, "notes": self.notes}
        self.folder.save()
        return Adapted(
            inspection=inspection,
            held_out=held_out,
            candidates=self.candidates,
            qualities=self.qualities,
            chosen=name,
            reason=reason,
            notes=self.notes,
            maps=self.folder.root / "maps",
            seconds=self.folder.state["seconds"],
            tiles=tiles,
        )

    def _try_tiles(self, chosen: Candidate, inspection: Inspection, held_out: Sequence[Sample]) -> Tiles:
        """Whether the chosen one is to look at windows too: of images that are large enough, if the outlines of its
        maps, as windows show them, fit better for it beyond doubt."""
        _, median, _ = inspection.sides
        if median <= LEAST_TILED:
            return None
        tiled = replace(chosen, name=f"{chosen.name}-tiles", about=f"{chosen.name} with --tiles {AUTO}", tiles=AUTO)
        self._judge(tiled, held_out)
        scores = (judge_parts(held_out, self.folder.root / "maps" / one.name) for one in (tiled, chosen))
        gain, error = compare_scores(*scores)
        better = gain > SURE * error and not self._harm(tiled.name)
        self.notes.append(
            f"--tiles {AUTO} is {'to be used' if better else 'not used'}: what windows show fits better by {gain:.3f} "
            f"(standard error {error:.3f})."
        )
        return AUTO if better else None


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """What candidates are compared on, evenly spread, and what adapters learn from."""
    count = min(MOST_HELD_OUT, max(LEAST_HELD_OUT, round(HELD_OUT * len(samples))))
    held_out = spread(samples, count)
    ids = {sample.id for sample in held_out}
    return held_out, [sample for sample in samples if sample.id not in ids]


def _with_flow(images: Path, flow: Path, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The frames with the flow that is computed for them, if it is not there."""
    try:
        write_flow(images, flow)
    except ValueError as error:
        raise DataError(str(error)) from error
    files = {sample: (flow / sample.image.relative_to(images)).with_suffix(".jpg") for sample in samples}
    return tuple(
        replace(sample, aux=file if file.exists() else None, aux_kind="flow" if file.exists() else None)
        for sample, file in files.items()
    )
