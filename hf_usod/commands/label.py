"""`hf-usod label`: the pseudo-labels of photos, as PNGs. Also over several processes: `accelerate launch`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..constants import REFINEMENTS
from ..errors import CommandError, counted
from .common import importing, model_options, not_negative, positive, without_loading_bars

if TYPE_CHECKING:
    from ..inference.jobs import Job


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("label", parents=[model_options()], help="make pseudo-labels of unlabeled photos")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="folders of photos, photos, or quoted glob patterns"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the labels; keeps the folder structure"
    )
    parser.add_argument(
        "--refine",
        default="crf",
        choices=REFINEMENTS,
        help="what fits labels to their photos; crf is the paper's and needs the extra `crf` (default: %(default)s)",
    )
    parser.add_argument(
        "--aux", metavar="DIR", help="depth, thermal or flow maps of the photos, named as they are, for a detector"
    )
    parser.add_argument("--batch_size", type=positive, default=8, help="photos at a time (default: %(default)s)")
    parser.add_argument("--num_workers", type=not_negative, help="processes that refine (default: one a core)")
    parser.add_argument("--overwrite", action="store_true", help="replace labels that exist")
    parser.set_defaults(run=run)


def _alike(jobs: "Iterable[Job]") -> list[str]:
    """A line on photos that differ in the suffix only, if there are any."""
    by_stem: dict[str, list[Path]] = {}
    for job in jobs:
        by_stem.setdefault(str(job.relative.with_suffix("")).casefold(), []).append(job.source)
    alike = [photos for photos in by_stem.values() if len(photos) > 1]
    if not alike:
        return []
    more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
    return [
        f"{' and '.join(map(str, alike[0]))}{more}: differ in the suffix only, so that their labels keep it; training "
        "takes them, `publish dataset` does not. Rename one to publish them."
    ]


def run(args: argparse.Namespace) -> int:
    with importing():
        from accelerate.utils import gather_object

        from ..inference.jobs import plan_jobs
        from ..inference.predict import find_maps
        from ..labels import label_images
        from ..loading import load
        from ..models.reading_usod import lift_limits
        from ..training.processes import join_processes

    lift_limits()
    without_loading_bars()
    state = join_processes(None)  # not `PartialState`, which does not know of ACCELERATE_USE_CPU by itself
    alone = state.num_processes == 1
    try:
        plan = plan_jobs(args.images, args.output, ["label"], without_results=True)
        if clips := [job.source for job in plan.jobs if job.is_clip]:
            raise CommandError(
                f"{clips[0]}: is a clip; label takes photos. Save its frames as pictures and name those."
            )
        device = args.device if alone else str(state.device)
        model, image_processor = load(args.model, args.adapter, device=device)
        aux = find_maps(model, args.aux, plan.jobs) if args.aux else None
        report = label_images(
            model,
            image_processor,
            [(job.source, job.outputs["label"]) for job in plan.jobs],
            args.refine,
            aux=aux,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            overwrite=args.overwrite,
            shard=(state.process_index, state.num_processes),
            progress=state.is_main_process,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    reports = [report] if alone else gather_object([report])
    failed = {photo: problem for part in reports for photo, problem in part.failed.items()}
    if state.is_main_process:
        print(f"{counted(sum(part.done for part in reports), 'photo')} labeled, in {args.output}.")
        if kept := sum(len(part.kept) for part in reports):
            existed = counted(kept, "label existed and was kept", "labels existed and were kept")
            print(f"{existed}; --overwrite replaces what exists.")
        for problem in [*plan.notes, *_alike(plan.jobs), *failed.values()]:
            print(problem, file=sys.stderr)
        if failed:
            print(f"{counted(len(failed), 'photo')} failed (above).", file=sys.stderr)
    return 1 if failed else 0
