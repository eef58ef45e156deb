"""`hf-usod evaluate`: scores of models, or of saliency maps that exist, on images with ground truth; without any, what
can be said of models' maps all the same (`--unlabelled`)."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..constants import AUX_KINDS, DEFAULT_MODEL
from ..errors import CommandError, WrongArgumentsError
from .common import TILES_HELP, importing, not_negative, positive, tiles, without_loading_bars
from .outputs import check_page, check_report, check_scores

if TYPE_CHECKING:
    from ..evaluation import Evaluation, EvaluationSet
    from ..evaluation.page import Scored

REPORT_FILES = ("results.json", "results.md", "results.tex", "images.csv", "curves*")
QUALITY_FILES = ("quality.json", "quality.csv")

EPILOG = """
examples:
  hf-usod evaluate --predictions rembg_out --masks GT
  hf-usod evaluate --model usod-rgb-lite run/model --images ECSSD/RGB --masks ECSSD/GT --output report
  hf-usod evaluate --model run/model --task rgbd --root datasets --output results/rgbd.json
  hf-usod evaluate --unlabelled my_images --adapter my-domain/adapter

A file belongs to the image or mask of the same path without suffix; where there is none, also without an ending such as
_mask, _gt or _saliency: a0_mask.png is of a0.jpg. Masks are black and white, white where the object is.

--output FILE.json gets the scores; a folder gets results.json, results.md, results.tex, images.csv (per image),
curves.csv, the curves as PNG and PDF, and the models' maps, with which an evaluation that was stopped goes on.
--html FILE.html gets one page with scores, curves and the worst images, which opens in a browser, offline.

--unlabelled IMAGES needs no masks: it says how well the outlines of the models' maps follow the edges of the images.
That tells empty, blurred, inverted and much too large maps from sharp ones, of models on the same images; not whether
what was found is the thing you mean, nor how one image compares with another. --output gets quality.json and, if it is
a folder, quality.csv, a line an image.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score models, or maps of any method, against ground truth",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subject = parser.add_argument_group("what is scored")
    subject.add_argument(
        "--model",
        nargs="+",
        metavar="MODEL",
        help=f"embedded models, folders or Hub ids (default: {DEFAULT_MODEL}, unless --predictions is given)",
    )
    subject.add_argument(
        "--adapter",
        nargs="+",
        metavar="ADAPTER",
        help="also the model with each of these task adapters (without --model: the adapters on their own base models)",
    )
    subject.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")
    subject.add_argument(
        "--predictions",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders of saliency maps, or of cutouts with an alpha channel, by any method, as pictures or .npy files",
    )
    subject.add_argument("--partial", action="store_true", help="score the maps there are, though some masks have none")
    data = parser.add_argument_group("data with ground truth: folders, or a task's data sets")
    data.add_argument(
        "--unlabelled", type=Path, metavar="IMAGES", help="a folder of images without ground truth; see below"
    )
    data.add_argument("--images", type=Path, metavar="DIR")
    data.add_argument("--masks", type=Path, metavar="DIR", help="ground truth; see below for the names")
    data.add_argument("--aux", type=Path, metavar="DIR", help="depth, thermal or flow maps, likewise")
    data.add_argument(
        "--aux_kind", choices=AUX_KINDS, help="what these are, for detectors that are told (of a task it is known)"
    )
    data.add_argument("--name", help="of the data set, for the report (default: the folder that --masks lies in)")
    data.add_argument("--task", help="rgb, rgbd, rgbt, video or rsi: its test sets below --root")
    data.add_argument("--root", type=Path, metavar="DIR", help="where the data sets' folders are")
    data.add_argument(
        "--names", nargs="+", metavar="NAME", help="of the task's data sets (default: all that are there)"
    )
    out = parser.add_argument_group("how, and where to")
    out.add_argument("--output", type=Path, metavar="DIR|FILE.json", help="where to write; see below")
    out.add_argument("--html", type=Path, metavar="FILE.html", help="a page with the worst maps beside their masks")
    out.add_argument("--note", default="", help="what a reader must know of the model: backbone, pre-training, epoch")
    out.add_argument(
        "--normalize",
        action="store_true",
        help="stretch each map to the full range first, as PySODMetrics does by default; other numbers",
    )
    out.add_argument("--tiles", type=tiles, metavar="PIXELS|auto|none", help=TILES_HELP)
    out.add_argument("--batch_size", type=positive, default=8, help="images at a time (default: %(default)s)")
    out.add_argument("--num_workers", type=not_negative, help="processes that score (default: one a core)")
    parser.set_defaults(run=run)


def _check(args: argparse.Namespace) -> None:
    if args.predictions:
        if args.model or args.adapter or args.images or args.unlabelled or args.aux or args.task or args.tiles:
            raise WrongArgumentsError("--predictions are scored against --masks alone; leave out the other inputs.")
        if not args.masks:
            raise WrongArgumentsError("--predictions needs --masks, the folder with the ground truth.")
    elif args.task:
        if args.images or args.unlabelled or args.masks or args.aux or args.name:
            raise WrongArgumentsError("Give --task and --root, or --images and --masks, not both.")
        if not args.root:
            raise WrongArgumentsError("--task needs --root, the folder that its data sets are in.")
    elif args.unlabelled:
        _check_unlabelled(args)
    elif not (args.images and args.masks):
        raise WrongArgumentsError(
            "Nothing to evaluate on: give --images and --masks, --task and --root, or --predictions."
        )
    if (args.names or args.root) and not args.task:
        raise WrongArgumentsError(
            "--names and --root say where the data sets of a --task are; give it, or leave them out."
        )
    if args.adapter and len(args.model or []) > 1:
        raise WrongArgumentsError("--adapter goes with one --model, its base.")
    if args.aux_kind and not args.aux:
        raise WrongArgumentsError("--aux_kind says what the maps in --aux are; give both, or neither.")
    if args.partial and not args.predictions:
        raise WrongArgumentsError("--partial is for --predictions.")
    if args.html and args.html.suffix.lower() not in (".html", ".htm"):
        raise WrongArgumentsError(f"--html {args.html}: is to be a page; give a name that ends in .html.")


def _check_unlabelled(args: argparse.Namespace) -> None:
    others = {
        "images": args.images,
        "masks": args.masks,
        "html": args.html,
        "normalize": args.normalize,
        "name": args.name,
        "names": args.names,
        "root": args.root,
        "note": args.note,
        "num_workers": args.num_workers is not None,
    }
    if given := [name for name, value in others.items() if value]:
        raise WrongArgumentsError(f"--unlabelled is judged without masks; leave out --{given[0]}.")


def _folder_name(args: argparse.Namespace) -> str:
    return args.name or args.masks.resolve().parent.name


def _sets(args: argparse.Namespace) -> "list[EvaluationSet]":
    from ..evaluation import EvaluationSet, folder_samples, task_sets

    if args.task:
        sets, missing = task_sets(args.task, args.root, args.names)
        for line in missing:
            print(line, file=sys.stderr)
        return sets
    return [EvaluationSet(_folder_name(args), folder_samples(args.images, args.masks, args.aux, args.aux_kind))]


def _score_maps(args: argparse.Namespace) -> "Iterator[Scored]":
    from ..evaluation import EvaluationSet, evaluate_maps, map_samples
    from ..evaluation.page import Scored

    names = [folder.resolve().name for folder in args.predictions]
    pairs = [map_samples(folder, args.masks, args.partial) for folder in args.predictions]
    for name, folder, (samples, maps) in zip(names, args.predictions, pairs, strict=True):
        evaluation = evaluate_maps(
            name if names.count(name) == 1 else str(folder),
            EvaluationSet(_folder_name(args), samples),
            maps,
            note=args.note,
            normalize=args.normalize,
            num_workers=args.num_workers,
        )
        yield Scored(evaluation, samples, {sample.id: path for sample, path in zip(samples, maps, strict=True)})


def _models(args: argparse.Namespace) -> list[tuple[str, str | None]]:
    """Names of models, each alone or with an adapter."""
    from ..loading import base_of

    models: list[tuple[str, str | None]]
    models = [(name, None) for name in args.model or ([] if args.adapter else [DEFAULT_MODEL])]
    return models + [(args.model[0] if args.model else base_of(adapter), adapter) for adapter in args.adapter or []]


def _score_models(args: argparse.Namespace, maps: Path | None) -> "Iterator[Scored]":
    from ..evaluation import evaluate_model
    from ..evaluation.curves import file_name
    from ..evaluation.page import Scored
    from ..evaluation.predicting import map_path
    from ..loading import load

    sets = _sets(args)
    models = _models(args)
    loaded = [load(name, adapter, device=args.device) for name, adapter in models]  # all, before the first is scored
    for (name, adapter), (model, image_processor) in zip(models, loaded, strict=True):
        for dataset in sets:
            folder = maps / file_name(adapter or name) / file_name(dataset.name) if maps else None
            evaluation = evaluate_model(
                name,
                model,
                image_processor,
                dataset,
                adapter=adapter,
                note=args.note,
                batch_size=args.batch_size,
                folder=folder,
                tiles=args.tiles,
                normalize=args.normalize,
                num_workers=args.num_workers,
            )
            kept = {sample.id: map_path(folder, sample) for sample in dataset.samples} if folder else {}
            yield Scored(evaluation, dataset.samples, kept)


def _score(args: argparse.Namespace, maps: Path | None) -> "list[Scored]":
    try:
        return list(_score_maps(args) if args.predictions else _score_models(args, maps))
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error


def _tell(evaluations: "list[Evaluation]", scored_maps: bool) -> None:
    """What a reader of the numbers must know of the data."""
    for evaluation in evaluations:
        metrics = evaluation.metrics
        if metrics.num_empty:
            print(
                f"{evaluation.dataset}: {metrics.num_empty} masks hold no object; their F is 0 whatever is predicted."
            )
        if scored_maps and metrics.peak < 0.5:
            print(
                f"{evaluation.model}: no map goes above level {metrics.peak * 255:.3g} of 255. Were they saved on "
                "another scale?",
                file=sys.stderr,
            )


def run(args: argparse.Namespace) -> int:
    _check(args)
    as_folder = args.output is not None and args.output.suffix.lower() != ".json"
    if as_folder:
        check_report(args.output, *(QUALITY_FILES if args.unlabelled else REPORT_FILES))
    elif args.output is not None:
        check_scores(args.output)
    if args.html is not None:
        check_page(args.html, "--html")
    if args.unlabelled:
        return _judge(args, as_folder)

    with importing():
        from ..evaluation.page import evaluation_page
        from ..evaluation.report import legend, markdown_table
        from ..evaluation.results import entries_of
        from ..html import write_page
        from ..models.reading_usod import lift_limits

    lift_limits()
    without_loading_bars()
    with TemporaryDirectory() as aside:
        scored = _score(args, args.output / "maps" if as_folder else Path(aside) if args.html else None)
        evaluations = [one.evaluation for one in scored]
        entries = entries_of(evaluations)
        print(f"\n{markdown_table(entries)}\n{legend(entries)}")
        _tell(evaluations, bool(args.predictions))
        if args.html:
            write_page(evaluation_page(scored), args.html)
    if args.output is not None:
        _write(evaluations, args.output, as_folder)
    if args.output or args.html:
        print(f"Written to {' and '.join(str(path) for path in (args.output, args.html) if path)}.")
    return 0


def _judge(args: argparse.Namespace, as_folder: bool) -> int:
    """What can be said of maps without masks."""
    with importing():
        from ..data import list_samples
        from ..errors import DataError
        from ..inference import Tiled
        from ..loading import load_pipeline
        from ..models.reading_usod import lift_limits
        from ..quality.measure import judge_folder
        from ..quality.predicting import predict_samples
        from ..quality.report import LEGEND, Judged, quality_table, write_quality

    lift_limits()
    without_loading_bars()
    try:
        samples = list_samples([args.unlabelled], [args.aux] if args.aux else [], [args.aux_kind])
        detectors = [
            (name, adapter, load_pipeline(name, adapter, device=args.device)) for name, adapter in _models(args)
        ]
        judged = []
        for name, adapter, plain in detectors:
            detect = Tiled(plain, args.tiles) if args.tiles else plain
            quality = judge_folder(predict_samples(detect, samples, args.batch_size))
            judged.append(Judged(name, adapter, args.unlabelled, quality, args.tiles))
    except (FileNotFoundError, ValueError) as error:
        raise error if isinstance(error, DataError) else CommandError(str(error)) from error
    print(f"\n{quality_table(judged)}\n{LEGEND}")
    if args.output is not None:
        write_quality(judged, args.output, as_folder)
        print(f"Written to {args.output}.")
    return 0


def _write(evaluations: "list[Evaluation]", output: Path, as_folder: bool) -> None:
    from ..evaluation.curves import draw_curves
    from ..evaluation.report import write_report
    from ..evaluation.results import entries_of
    from ..files import write_json

    if not as_folder:
        write_json(output, entries_of(evaluations))
        return
    write_report(evaluations, output)
    try:
        draw_curves(evaluations, output)
    except ModuleNotFoundError as error:
        print(f"The curves are in curves.csv, not drawn. {error}", file=sys.stderr)
