"""What an adaptation will take, measured on a few of the images, in folders that are removed again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..training.plan import LabelArguments, Plan
from ..training.rehearsal import rehearse
from .arguments import AdaptArguments, find_samples, split
from .candidates import detector_arguments, label_refinement, transfer_arguments
from .folder import AdaptFolder
from .inspection import inspect


def rehearse_adapt(args: AdaptArguments) -> Iterator[str]:
    """Looks at the images, and runs the trainings on a few of them. Writes nothing that stays.

    Yields:
        A line each: what the images are, and what each training takes; two to four adapters are trained.

    Raises:
        UsodError: what the adaptation itself would say.
    """
    samples = find_samples(args)
    AdaptFolder(args.output, args.asked, args.resume)
    inspection = inspect(samples, args.video)
    yield from inspection.lines()
    inspection.check()
    _, training = split(inspection.samples)
    with tempfile.TemporaryDirectory(prefix="hf_usod-") as made:
        root = Path(made)
        folder = AdaptFolder(root / "folder", {}, False)
        placed = folder.place(training, "train")
        images = folder.images("train")
        aux = folder.aux("train") if any(sample.aux for sample in placed) else None
        run = root / "run"
        plan = Plan(
            output_dir=str(run),
            resume=False,
            sce=transfer_arguments(images, aux, run / "sce", args.seed),
            labels=LabelArguments(None, False, label_refinement()),
            sd=detector_arguments(images, aux, run / "labels", run / "sd", args.seed),
        )
        yield from rehearse(plan)
    yield (
        "sd is done twice, with labels by two sources, and up to twice again while what it trained is the best; maps "
        "of all candidates are made in between."
    )
