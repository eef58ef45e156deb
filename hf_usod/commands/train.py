"""`hf-usod train`: models from unlabeled images. Its options are the fields of the stages' arguments."""

import argparse

from ..training.options import add_options, plan_of
from .common import importing, without_loading_bars

DESCRIPTION = """Trains on unlabeled images: a cue extractor (stage 1), pseudo-labels, and a detector (stage 2), or
with --transfer adapters of trained ones. A recipe (--recipe) may say any of these options; the command line wins. An
option goes to all stages that have it, --set sd.num_epochs=2 to one. `--stage sd --help` shows one stage alone."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "train", help="train on unlabeled images", description=DESCRIPTION, add_help=False, allow_abbrev=False
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    plan = plan_of(args)

    with importing():
        from accelerate import PartialState

        from ..models.reading_usod import lift_limits
        from ..training.checks import check_plan
        from ..training.hub_images import bring_images
        from ..training.method import train_method
        from ..training.processes import prepare_cpu
        from ..training.rehearsal import rehearse

    lift_limits()
    without_loading_bars()
    prepare_cpu(spare_memory=plan.sd is not None and plan.sd.gradient_checkpointing)
    plan = bring_images(plan)
    if args.dry_run:
        print(plan.describe(), end="")
        for line in check_plan(plan):
            print(line)
        for line in rehearse(plan):
            print(line)
        return 0
    trained = train_method(plan)
    state = PartialState()
    if state.is_main_process:
        print(f"Trained: {trained}.")
    state.destroy_process_group()
    return 0
