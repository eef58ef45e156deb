"""`hf-usod publish`: a model, an adapter, a Space, a dataset of pseudo-labels, or the metric to the Hub."""

import argparse
import tempfile
from pathlib import Path

from .common import without_loading_bars

KINDS = {
    "model": "a trained or embedded model, with its code, pipeline and card",
    "adapter": "a task adapter",
    "space": "a Gradio Space",
    "dataset": "pseudo-labels with their images",
    "metric": "a module for evaluate.load",
}
REPO_TYPES = {"model": "model", "adapter": "model", "space": "space", "dataset": "dataset", "metric": "space"}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("publish", help="publish a model, adapter, Space, dataset or metric on the Hub")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, what in KINDS.items():
        options = kinds.add_parser(kind, help=what)
        options.add_argument("source", metavar="SOURCE", help="a folder, or the name of an embedded model or adapter")
        options.add_argument("--repo", required=True, metavar="NAMESPACE/NAME")
        options.add_argument("--private", action="store_true", help="create the repository as a private one")
        options.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
        options.add_argument("--delete", action="store_true", help="delete the repository's files that are not sent")
        options.add_argument("--message", metavar="M", help="of the commit")
        if kind in ("model", "adapter", "dataset"):
            options.add_argument(
                "--card", type=Path, metavar="FILE.md", help="the card's source (default: the one of that name)"
            )
        if kind == "adapter":
            options.add_argument("--base", metavar="ID", help="Hub id of the model that the adapter sits on")
        if kind == "dataset":
            options.add_argument("--images", required=True, type=Path, metavar="DIR", help="what the labels belong to")
            options.add_argument("--license", required=True, metavar="ID", help="of the images, such as cc-by-4.0")
            options.add_argument("--about", metavar="TEXT", help="where the images come from, for the card")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..hub import publish
    from ..hub.upload import check_repo_id

    check_repo_id(args.repo)
    with tempfile.TemporaryDirectory(prefix="hf-usod-publish-") as parent:
        folder = Path(parent) / "repository"
        _build(args, folder)
        if args.dry_run:
            return _dry_run(folder, args.repo, REPO_TYPES[args.kind])
        message = args.message or f"Publish {args.kind} {Path(args.source).name} with hf_usod"
        url = publish(
            folder, args.repo, REPO_TYPES[args.kind], message=message, private=args.private, delete=args.delete
        )
    print(f"Published: {url}" if url else f"{args.repo} is up to date; nothing was sent.")
    return 0


def _build(args: argparse.Namespace, folder: Path) -> None:
    from ..hub import build_adapter, build_dataset, build_metric, build_model, build_space
    from ..hub.folders import find_source

    without_loading_bars()
    if args.kind == "model":
        build_model(find_source(args.source), folder, args.repo, args.card)
    elif args.kind == "adapter":
        base = build_adapter(find_source(args.source), folder, args.repo, args.base, args.card)
        if not args.base:
            print(
                f"Note: the adapter names {base!r} as its base. For others that must be the Hub id of the published "
                "base model: give it by --base NAMESPACE/NAME."
            )
    elif args.kind == "space":
        build_space(Path(args.source), folder)
    elif args.kind == "metric":
        build_metric(Path(args.source), folder, args.repo)
    else:
        build_dataset(Path(args.source), args.images, folder, args.repo, args.license, args.about, args.card)


def _dry_run(folder: Path, repo: str, repo_type: str) -> int:
    from ..hub import Plan, PublishError, compare
    from ..hub.upload import files_of

    try:
        plan = compare(folder, repo, repo_type)
        known = "no such repository yet" if plan.revision is None else f"compared with {plan.revision[:7]}"
    except PublishError as error:  # the Hub is not needed to show what would be sent
        plan = Plan(added={name: path.stat().st_size for name, path in files_of(folder).items()})
        known = f"not compared: {error}"
    print(f"{repo} ({repo_type}, {known}):\n{plan.describe()}\nNothing was sent (--dry-run).")
    return 0
