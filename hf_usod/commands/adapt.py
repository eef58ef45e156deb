"""`hf-usod adapt`: from a folder of images to an adapter of them, or to the advice to keep the default model."""

import argparse
from pathlib import Path

from .common import check_aux_source, importing, not_negative, positive, without_loading_bars
from .outputs import check_folder

EPILOG = """
example:
  hf-usod adapt my_images --output my-domain
  hf-usod predict new_images --adapter my-domain/adapter --output out --save cutout

It tries the default model, the adapters that come with the package, and the best of these trained on, by its own labels
and by a cue extractor's, and what comes of that again; compares them on images of yours that nothing was trained on, by
a measure that needs no masks; and keeps the best in my-domain/adapter, or the default model if none is better.
my-domain/report.html shows what was tried, before and after. No mask is read.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "adapt",
        help="make an adapter for your own images, without masks, or say that the default model is best",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a folder of images of one kind")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for what is made")
    parser.add_argument("--aux", type=Path, metavar="DIR", help="depth, thermal or flow maps, named as the images are")
    parser.add_argument(
        "--task", choices=["video"], help="video: the images are frames, a folder a sequence, and their flow is used"
    )
    parser.add_argument("--resume", action="store_true", help="go on with what was begun in DIR")
    parser.add_argument(
        "--look",
        action="store_true",
        help="begin: have the default model look at the images, and stop; --resume goes on",
    )
    parser.add_argument(
        "--choose",
        metavar="NAME",
        help="keep this candidate, whatever the measure says; `measure`: let it choose again",
    )
    parser.add_argument("--dry_run", action="store_true", help="look at the images, say what it takes, and stop")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the trainings (default: %(default)s)")
    parser.add_argument("--batch_size", type=positive, default=4, help="images at a time (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    check_aux_source(args)
    check_folder(args.output)

    with importing():
        from ..adapting.adapt import adapt, look
        from ..adapting.arguments import AdaptArguments
        from ..adapting.page import adapt_page, usage, verdict
        from ..adapting.rehearsal import rehearse_adapt
        from ..html import write_page
        from ..models.reading_usod import lift_limits
        from ..training.processes import prepare_cpu

    lift_limits()
    without_loading_bars()
    prepare_cpu()
    told = AdaptArguments(
        images=args.images,
        output=args.output,
        aux=args.aux,
        video=args.task == "video",
        resume=args.resume,
        seed=args.seed,
        device=args.device,
        batch_size=args.batch_size,
        choose=args.choose,
    )
    if args.dry_run:
        for line in rehearse_adapt(told):
            print(line)
        return 0
    if args.look:
        look(told)
        return 0
    adapted = adapt(told)
    report = args.output / "report.html"
    write_page(adapt_page(told, adapted), report)
    print(f"\n{verdict(adapted)}\nWhat was tried, before and after: {report}. To use it:")
    for line in usage(told, adapted):
        print(f"  {line}")
    return 0
