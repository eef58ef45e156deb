"""`hf-usod predict`: the salient objects of photos, as PNGs, and of clips, as MP4s or WebMs."""

import argparse
import sys

from ..constants import AUX_KINDS, OUTPUT_KINDS
from ..errors import CommandError
from .common import model_options, positive, unit_interval, without_loading_bars


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "predict", parents=[model_options()], help="find the salient objects of photos and clips"
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="photos, folders of photos, clips (mp4, mov, mkv, webm, avi, mts, wmv …), or quoted glob patterns",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the results; keeps the folder structure"
    )
    parser.add_argument(
        "--save",
        nargs="+",
        default=["saliency"],
        choices=OUTPUT_KINDS,
        help="one gives <stem>.png (clips: .mp4), several give <stem>_<kind>.png (default: saliency)",
    )
    parser.add_argument(
        "--aux", metavar="DIR", help="depth, thermal or flow maps of the photos, named as they are, for a detector"
    )
    parser.add_argument("--aux_kind", choices=AUX_KINDS, help="what these are, for a detector that is told")
    parser.add_argument(
        "--task", choices=["video"], help="video: the photos of each folder are frames, and their flow is used"
    )
    parser.add_argument(
        "--temporal",
        action="store_true",
        help="let the maps of a clip's frames, or of the photos of each folder, agree along their optical flow",
    )
    parser.add_argument("--threshold", type=unit_interval, default=0.5, help="of the mask (default: %(default)s)")
    parser.add_argument(
        "--background",
        metavar="COLOR",
        help="behind cutouts: a color, a picture's file, or transparent, for which clips become WebM "
        "(default: transparent; green in clips)",
    )
    parser.add_argument("--batch_size", type=positive, default=4, help="images at a time (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..data.video import is_video_file
    from ..inference import AuxMaps, Rendering, predict
    from ..loading import load_pipeline
    from ..models.reading_usod import lift_limits

    if args.aux and args.task:
        raise CommandError(
            "--task video computes the maps of frames; leave out --aux, or --task to use those in --aux."
        )
    if args.aux_kind and not args.aux:
        raise CommandError(
            "--aux_kind says what the maps in --aux are; --task video and clips have flow. Leave it out."
        )
    lift_limits()
    without_loading_bars()
    rendering = Rendering(tuple(args.save), args.threshold, args.background, args.temporal)
    detect = load_pipeline(args.model, args.adapter, device=args.device)
    try:
        report = predict(
            detect,
            args.inputs,
            args.output,
            rendering,
            aux=AuxMaps(args.aux, flow=args.task == "video", kind=args.aux_kind),
            batch_size=args.batch_size,
            overwrite=args.overwrite,
        )
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error
    print(f"{report} done, in {args.output}.")
    if report.kept:
        print(f"{len(report.kept)} outputs existed and were kept; --overwrite replaces them.")
    for line in [*report.notes, *report.failed.values()]:
        print(line, file=sys.stderr)
    if report.failed:
        kinds = "photos and clips" if any(map(is_video_file, report.failed)) else "photos"
        print(f"{len(report.failed)} {kinds} failed (above).", file=sys.stderr)
    return 1 if report.failed else 0
