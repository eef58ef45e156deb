"""`hf-usod train`: models from unlabelled images. Its options are the fields of the stages' arguments."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_parser(commands) -> None:
    commands.add_parser("train", add_help=False, help="train on unlabelled images (see train --help)")


def run(argv: Sequence[str]) -> int:
    from ..training import STAGES, parse_arguments, train_adapter, train_cue_extractor, train_detector, train_whole

    first = argparse.ArgumentParser(prog="hf-usod train", add_help=False, allow_abbrev=False)
    first.add_argument("--stage", choices=list(STAGES), default="all")
    first.add_argument("--recipe", type=Path)
    chosen, rest = first.parse_known_args(argv)
    recipe = ["--recipe", str(chosen.recipe)] if chosen.recipe else []
    prog = f"hf-usod train [--stage {{{','.join(STAGES)}}}]"
    args: Any = parse_arguments(STAGES[chosen.stage], [*recipe, *rest], prog)
    if chosen.stage == "all":
        trained = train_whole(args, chosen.recipe)
    else:
        train: Any = {"sce": train_cue_extractor, "sd": train_detector, "transfer": train_adapter}[chosen.stage]
        trained = train(args)
    print(f"Trained: {trained}.")
    return 0
