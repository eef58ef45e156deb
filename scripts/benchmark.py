"""Times parts of the package against plain transcriptions of what they compute, and compares their peak memory.

    python scripts/benchmark.py train --images DIR
    python scripts/benchmark.py predict --images DIR
    python scripts/benchmark.py refiner

Every part is a module in `benchmarks`, with `add_options(parser)` and `run(options) -> exit status`.
"""

import argparse
import importlib
import os
import shlex
import sys

import torch

from hf_usod.cli import exit_status

# What each command runs, one after the other; options of the same name are shared
COMMANDS = {
    "train": ["cue_extractor", "detector"],
    "predict": ["predict"],
    "refiner": ["refiner"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    modules = {
        name: [importlib.import_module(f"benchmarks.{part}") for part in parts] for name, parts in COMMANDS.items()
    }
    for name, parts in modules.items():
        told = [str(part.__doc__) for part in parts]
        command = commands.add_parser(
            name,
            help=told[0].splitlines()[0],
            description="\n\n".join(told),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            conflict_handler="resolve",
        )
        for part in parts:
            part.add_options(command)
        command.add_argument("--only", choices=COMMANDS[name], help="one of its parts")
    options = parser.parse_args()
    print(f"command: {shlex.join(['python', *sys.argv])}")
    print(f"{len(os.sched_getaffinity(0))} cores, {options.threads} threads, torch {torch.__version__}\n")
    chosen = zip(COMMANDS[options.command], modules[options.command], strict=True)
    return max(part.run(options) for name, part in chosen if options.only in (None, name))


if __name__ == "__main__":
    sys.exit(exit_status("benchmark.py", main))
