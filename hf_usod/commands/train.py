"""`hf-usod train`: a model from unlabelled images. Its options are the fields of the arguments' dataclasses."""

from collections.abc import Sequence


def add_parser(commands) -> None:
    commands.add_parser("train", add_help=False, help="train a model on unlabelled images (see train --help)")


def run(argv: Sequence[str]) -> int:
    from ..training import CueExtractorArguments, parse_arguments, train_cue_extractor

    args = parse_arguments(CueExtractorArguments, argv, prog="hf-usod train")
    print(f"The model is in {train_cue_extractor(args)}.")
    return 0
