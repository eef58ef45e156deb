"""`hf-usod predict`: the salient objects of photos, as pictures, and of clips, as MP4s or WebMs."""

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..constants import ALPHAS, AUX_KINDS, EDGES, FORMATS, OUTPUT_KINDS, RUNTIMES
from ..errors import CommandError, WrongArgumentsError, counted, is_out_of_memory
from .common import (
    TILES_HELP,
    check_aux_source,
    checking_arguments,
    importing,
    margin,
    model_options,
    percentage,
    positive,
    process_place,
    tiles,
    unit_interval,
    without_loading_bars,
)
from .outputs import check_file

if TYPE_CHECKING:
    from ..inference import Encoding, Rendering, Report
    from ..inference.predict import Detects
    from ..inference.report import Tell

PIPE = "-"  # standard input or output
_LONGEST_LINE = 2**20  # bytes of a record
EPILOG = """
examples:
  hf-usod predict photos --output out --save cutout --format webp --crop 5
  hf-usod predict clip.mp4 --output out --save cutout --background transparent
  curl -s https://example.org/a.jpg | hf-usod predict - --output - --save cutout > a.png

exit status: 0 all went well, 1 something failed (it says what), 2 wrong arguments, 130 stopped by Ctrl-C
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "predict",
        parents=[model_options()],
        help="find the salient objects of photos and clips",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="photos, folders of photos, clips (mp4, mov, mkv, webm, avi, mts, wmv …), or quoted glob patterns; "
        "- for a photo from standard input",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder for the results; keeps the folder structure; - for standard output",
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
    parser.add_argument("--alpha", choices=ALPHAS, default="soft", help="the opacity of cutouts (default: %(default)s)")
    parser.add_argument(
        "--crop",
        type=margin,
        metavar="PERCENT",
        help="cut the results of photos to the object and this much of its longer side around it",
    )
    parser.add_argument("--format", choices=FORMATS, default="png", help="of photos' results (default: %(default)s)")
    parser.add_argument("--quality", type=percentage, help="of webp and jpg, 1 to 100 (default: 90)")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="a line for each photo and clip: its outputs, size and seconds, or its error; after the lines of earlier "
        "runs, unless --overwrite; - for standard output",
    )
    parser.add_argument(
        "--edges",
        choices=EDGES,
        default="fine",
        help="fine: outlines follow the photo's own pixels, and cutouts lose the background's colors there; none: as "
        "the model gives them, enlarged (default: %(default)s)",
    )
    parser.add_argument("--tiles", type=tiles, metavar="PIXELS|auto|none", help=TILES_HELP)
    parser.add_argument("--batch_size", type=positive, default=4, help="images at a time (default: %(default)s)")
    parser.add_argument(
        "--runtime", choices=RUNTIMES, help="what runs the model (default: onnx for a folder that `export` wrote)"
    )
    parser.add_argument(
        "--mixed_precision",
        choices=["auto", "no", "bf16", "fp16"],
        default="auto",
        help="what the network computes in: bf16 is faster on newer CPUs and GPUs; auto: bf16 on CPUs that have it "
        "(default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(run=run)


def _check(args: argparse.Namespace) -> None:
    check_aux_source(args)
    if args.aux_kind and not args.aux:
        raise WrongArgumentsError(
            "--aux_kind says what the maps in --aux are; --task video and clips have flow. Leave it out."
        )
    if PIPE in args.inputs and args.output != PIPE:
        raise WrongArgumentsError(
            "A photo from standard input has no name; write it to standard output, with --output -."
        )
    if args.output == PIPE:
        _check_pipe(args)
    if (lines := _of_this_process(args.json)) and lines != PIPE:
        with checking_arguments():
            _check_lines(Path(lines))


def _check_pipe(args: argparse.Namespace) -> None:
    if len(args.inputs) > 1 or len(args.save) > 1:
        raise WrongArgumentsError(
            "--output -: takes one picture. Give one photo and one kind, or a folder for --output."
        )
    if args.aux or args.task or args.temporal or args.json:
        raise WrongArgumentsError("--output -: is for one photo alone; leave out --aux, --task, --temporal and --json.")
    if process_place()[1] > 1:
        raise WrongArgumentsError("--output -: is for one process.")
    if args.mixed_precision not in ("auto", "no"):
        raise WrongArgumentsError("--output -: one photo is computed in full precision; leave out --mixed_precision.")

    with importing():
        from ..data.video import is_video_file

    (photo,) = args.inputs
    what = "a folder" if Path(photo).is_dir() else "a clip" if is_video_file(Path(photo)) else None
    if not Path(photo).exists() and glob.has_magic(photo):
        what = "a pattern"
    if what:
        raise WrongArgumentsError(f"--output -: takes one photo, and {photo} is {what}. Give a folder for --output.")


def _check_lines(path: Path) -> None:
    """Lines are written after those that are there already, or in their place, and to no other file."""
    check_file(path, "--json")
    if path.is_file() and path.stat().st_size and not _is_record(path):
        raise CommandError(f"--json {path}: exists and holds no lines of JSON. Choose another file.")


def _is_record(path: Path) -> bool:
    """Whether the first line of a file is one that this command writes."""
    with open(path, "rb") as file:
        try:
            record = json.loads(file.readline(_LONGEST_LINE))
        except ValueError:
            return False
    return isinstance(record, dict) and {"input", "outputs"} <= record.keys()


def run(args: argparse.Namespace) -> int:
    _check(args)
    with importing():
        from ..inference import Encoding, Rendering, Tiled
        from ..loading import load_pipeline
        from ..models.reading_usod import lift_limits

    lift_limits()
    without_loading_bars()
    crop = None if args.crop is None else args.crop / 100
    with checking_arguments():
        rendering = Rendering(
            tuple(args.save), args.threshold, args.background, args.temporal, args.alpha, crop, args.edges
        )
        encoding = Encoding(args.format, args.quality)
        encoding.check(rendering.kinds, rendering.has_background)
    detect: Detects = load_pipeline(args.model, args.adapter, device=args.device, runtime=args.runtime)
    if args.tiles:
        detect = Tiled(detect, args.tiles)
    if args.output == PIPE:
        return _to_standard_output(detect, args.inputs[0], rendering, encoding)
    with _records(_of_this_process(args.json), anew=args.overwrite) as tell:
        report = _predict(args, detect, rendering, encoding, tell)
    return _tell(report, args.output, sys.stderr if args.json == PIPE else sys.stdout)


def _to_standard_output(detect: "Detects", source: str, rendering: "Rendering", encoding: "Encoding") -> int:
    from ..inference.single import predict_bytes

    if sys.stdout.isatty():
        raise CommandError("--output -: standard output is a terminal. Send it to a file, with > FILE.")
    name = "standard input" if source == PIPE else source
    try:
        data = sys.stdin.buffer.read() if source == PIPE else Path(source).read_bytes()
        picture = predict_bytes(detect, data, rendering, encoding)
    except FileNotFoundError as error:
        raise CommandError(f"{name}: no such file or folder.") from error
    except ValueError as error:
        raise CommandError(f"{name}: {str(error).removeprefix('The bytes: ')}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise CommandError(f"{name}: memory does not suffice for it.") from error
    sys.stdout.buffer.write(picture)
    return 0


def _of_this_process(target: str | None) -> str | None:
    """Of several processes each has a file of its own: `lines.1.jsonl`."""
    place, count = process_place()
    if target in (None, PIPE) or count == 1:
        return target
    path = Path(target)
    return str(path.with_name(f"{path.stem}.{place}{path.suffix}"))


@contextmanager
def _records(target: str | None, anew: bool) -> "Iterator[Tell]":
    """What writes a line of JSON for a record, at once, to a file, after those that are there unless `anew`, or to
    standard output. The file is there at the end, and as it was if nothing could be done."""
    if target in (None, PIPE):
        yield lambda record: None if target is None else print(json.dumps(record.entry()), flush=True)
        return
    path = Path(target or "")
    with ExitStack() as closing:

        @cache
        def file() -> TextIO:
            path.parent.mkdir(parents=True, exist_ok=True)
            _end_line(path)
            return closing.enter_context(open(path, "w" if anew else "a", encoding="utf-8"))

        yield lambda record: print(json.dumps(record.entry()), file=file(), flush=True)
        file()


def _end_line(path: Path) -> None:
    """An earlier run may have been stopped within its last."""
    if path.is_file() and path.stat().st_size:
        with open(path, "rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")


def _predict(
    args: argparse.Namespace, detect: "Detects", rendering: "Rendering", encoding: "Encoding", tell: "Tell"
) -> "Report":
    from ..inference import AuxMaps, predict

    try:
        return predict(
            detect,
            args.inputs,
            args.output,
            rendering,
            aux=AuxMaps(args.aux, flow=args.task == "video", kind=args.aux_kind),
            batch_size=args.batch_size,
            encoding=encoding,
            overwrite=args.overwrite,
            mixed_precision=args.mixed_precision,
            shard=process_place(),
            tell=tell,
        )
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error


def _tell(report: "Report", output: str, out: TextIO) -> int:
    """Says what became of the photos and clips; returns the exit status."""
    from ..data.video import is_video_file

    print(f"{report} done, in {output}.", file=out)
    if report.kept:
        kept = counted(len(report.kept), "output existed and was kept", "outputs existed and were kept")
        print(f"{kept}; --overwrite replaces what exists.", file=out)
    for line in [*report.notes, *report.failed.values()]:
        print(line, file=sys.stderr)
    if report.failed:
        clips = sum(map(is_video_file, report.failed))
        counts = [(len(report.failed) - clips, "photo"), (clips, "clip")]
        told = " and ".join(counted(number, kind) for number, kind in counts if number)
        print(f"{told} failed (above).", file=sys.stderr)
    return 1 if report.failed else 0
