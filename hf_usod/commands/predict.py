"""`hf-usod predict`: the salient objects of photos, as PNGs, and of clips, as MP4s."""

import argparse
import sys

from ..constants import AUX_KINDS, OUTPUT_KINDS
from ..errors import CommandError
from .common import model_options, positive, unit_interval


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "predict", parents=[model_options()], help="find the salient objects of photos and clips"
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="photos, folders of photos, clips (mp4, m4v, mov, mkv, webm, avi), or quoted glob patterns",
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
        "--background", default="#00ff00", metavar="COLOUR", help="behind the cutouts of clips (default: %(default)s)"
    )
    parser.add_argument("--batch_size", type=positive, default=4, help="images at a time (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from PIL import Image

    from ..data.video import is_video_file
    from ..inference import flow_of_frames, predict
    from ..inference.outputs import expand_inputs
    from ..loading import load_pipeline

    if args.aux and args.task:
        raise CommandError(
            "--task video computes the maps of frames; leave out --aux, or --task to use those in --aux."
        )
    if args.aux_kind and not args.aux:
        raise CommandError(
            "--aux_kind says what the maps in --aux are; --task video and clips have flow. Leave it out."
        )
    Image.MAX_IMAGE_PIXELS = None  # the user's own files, however large
    detect = load_pipeline(args.model, args.adapter, device=args.device)
    try:
        aux_of, aux_kind = None, args.aux_kind
        if args.task == "video" and detect.model.config.takes_aux:
            given = [path for path, _ in expand_inputs(args.inputs, args.output)]
            aux_of = flow_of_frames(path for path in given if not is_video_file(path))
            aux_kind = "flow" if detect.model.config.modality_informed else None
        elif args.task == "video":
            print("This model looks at frames one by one; their flow is not used.", file=sys.stderr)
        report = predict(
            detect,
            args.inputs,
            args.output,
            args.save,
            threshold=args.threshold,
            batch_size=args.batch_size,
            overwrite=args.overwrite,
            aux=args.aux,
            aux_of=aux_of,
            aux_kind=aux_kind,
            background=args.background,
            temporal=args.temporal,
        )
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error
    done = [f"{count} {what}" for count, what in ((report.done, "photos"), (report.clips, "clips")) if count]
    print(f"{' and '.join(done) or 'no photos'} done, in {args.output}.")
    if report.kept:
        print(f"{len(report.kept)} outputs existed and were kept; --overwrite replaces them.")
    for line in [*report.notes, *report.failed.values()]:
        print(line, file=sys.stderr)
    if report.failed:
        what = "photos and clips" if any(is_video_file(path) for path in report.failed) else "photos"
        print(f"{len(report.failed)} {what} failed (above).", file=sys.stderr)
    return 1 if report.failed else 0
