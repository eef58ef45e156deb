"""What an adaptation is told, and the images that it finds by it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import Sample, evenly_spread
from ..data.video import require_opencv, write_flow
from ..errors import RunError
from ..training.photos import join, list_run_samples
from .inspection import LEAST_HELD_OUT

HELD_OUT = 0.3  # of the images, on which candidates are compared and nothing is trained
MOST_HELD_OUT = 80
MEASURE = "measure"  # who chooses, if nobody does


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
        choose: the candidate to keep, whatever the measure says; `MEASURE` has the measure choose again. By default
            who chose before does.
    """

    images: Path
    output: Path
    aux: Path | None = None
    video: bool = False
    resume: bool = False
    seed: int = 0
    device: str | None = None
    batch_size: int = 4
    choose: str | None = None

    @property
    def has_maps(self) -> bool:
        """Whether the images have auxiliary maps, or will have their flow."""
        return self.video or self.aux is not None

    @property
    def asked(self) -> dict[str, Any]:
        """What a resumed one must be told as well."""
        aux = str(self.aux.resolve()) if self.aux else None
        return {"images": str(self.images.resolve()), "aux": aux, "task": "video" if self.video else None} | {
            "seed": self.seed
        }


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


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """What candidates are compared on, evenly spread, and what adapters learn from."""
    count = min(MOST_HELD_OUT, max(LEAST_HELD_OUT, round(HELD_OUT * len(samples))))
    held_out = evenly_spread(samples, count)
    ids = {sample.id for sample in held_out}
    return held_out, [sample for sample in samples if sample.id not in ids]


def with_flow(images: Path, flow: Path, samples: Sequence[Sample], readable: Collection[Path]) -> tuple[Sample, ...]:
    """The frames with the flow that is computed for them, if it is not there, by their `readable` neighbors."""
    write_flow(images, flow, readable=readable, wanted={sample.image for sample in samples})
    files = {sample: (flow / sample.image.relative_to(images)).with_suffix(".jpg") for sample in samples}
    return tuple(
        replace(sample, aux=file if file.exists() else None, aux_kind="flow" if file.exists() else None)
        for sample, file in files.items()
    )
