"""The options of `hf-usod train`, built from the fields of the stages' arguments."""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any

from ..assets import recipe_path
from .arguments import STAGES
from .fields import SHARED_NAMES, ArgumentField, argument_fields
from .plan import Plan, make_plan
from .recipes import COMMAND_LINE, Setting, parse_set, read_recipe

_TITLES = {
    "all": "the whole method, --stage all",
    "sce": "stage 1, --stage sce",
    "transfer": "stage 1 as a transfer, --stage transfer or --transfer",
    "sd": "stage 2, --stage sd",
}


def add_options(parser: argparse.ArgumentParser, stage: str | None = None) -> None:
    """The options of a stage; for None those of all, each once. None has a default: what is absent was not said."""
    parser.usage = "%(prog)s [--recipe NAME|FILE] --images DIR [DIR ...] --output_dir DIR [options]"
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show this help, of --stage STAGE if given before")
    parser.add_argument(
        "--stage", choices=list(STAGES), default="all", help="what to train (default: all, one after the other)"
    )
    parser.add_argument("--recipe", metavar="NAME|FILE", help="YAML file with values for any of these arguments")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="[STAGE.]NAME=VALUE",
        help="values for arguments of one stage, as in a recipe: sd.num_epochs=2",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, and train nothing")
    stages = [stage] if stage else list(_TITLES)
    groups = {name: argument_fields(name) for name in stages}
    _add_group(parser, "every run", [groups[stages[0]][name] for name in SHARED_NAMES], groups)
    added = set(SHARED_NAMES)
    if stage is None:
        common = [spec for name, spec in groups["sd"].items() if name in groups["sce"] and name not in added]
        _add_group(parser, "stage 1 and stage 2", common, groups)
        added |= {spec.name for spec in common}
    for name in stages:
        _add_group(parser, _TITLES[name], [each for each in groups[name].values() if each.name not in added], groups)
        added |= groups[name].keys()


def _add_group(
    parser: argparse.ArgumentParser,
    title: str,
    specs: Sequence[ArgumentField],
    groups: dict[str, dict[str, ArgumentField]],
) -> None:
    if specs:
        group = parser.add_argument_group(title)
        for spec in specs:
            _add_option(
                group, spec, {name: fields[spec.name] for name, fields in groups.items() if spec.name in fields}
            )


def _add_option(group: Any, spec: ArgumentField, by_stage: dict[str, ArgumentField]) -> None:
    def parse(word: str) -> Any:
        return spec.from_word(word)

    parse.__name__ = spec.kind.__name__  # argparse names it in errors
    options: dict[str, Any] = {"type": parse, "default": argparse.SUPPRESS, "dest": spec.name}
    if spec.is_list:
        options["nargs"] = "+"
    if spec.kind is bool:
        options |= {"nargs": "?", "const": True, "metavar": "true|false"}
    elif choices := spec.metadata.get("choices"):
        options["choices"] = choices
    else:
        options["metavar"] = {"folder": "DIR", "name": "NAME|PATH"}.get(spec.metadata.get("place"), spec.kind.__name__)
    group.add_argument(f"--{spec.name}", help=_help_text(by_stage).replace("%", "%%"), **options)
    if spec.kind is bool:
        negative = {"dest": spec.name, "action": "store_const", "const": False, "default": argparse.SUPPRESS}
        group.add_argument(f"--no-{spec.name}", f"--no_{spec.name}", help=argparse.SUPPRESS, **negative)


def _help_text(by_stage: dict[str, ArgumentField]) -> str:
    texts = list(dict.fromkeys(spec.metadata["help"] for spec in by_stage.values()))
    defaults = {stage: _default(spec) for stage, spec in by_stage.items()}
    if len(set(defaults.values())) == 1:
        said = next(iter(defaults.values()))
    else:
        said = ", ".join(f"{stage}: {default}" for stage, default in defaults.items())
    return f"{texts[0]}{f' (default: {said})' if said else ' (required)'}"


def _default(spec: ArgumentField) -> str:
    if spec.default is MISSING:
        return ""
    if spec.default is None or spec.default == []:
        return "not set"
    return " ".join(map(str, spec.default)) if spec.is_list else str(spec.default)


class _Help(argparse.Action):
    """Prints the options of the stage that was named before, or of all."""

    def __call__(self, parser, namespace, values, option_string=None):
        stage = getattr(namespace, "stage", "all")
        shown = parser
        if stage != "all":
            doc = " ".join((STAGES[stage].__doc__ or "").split())
            shown = argparse.ArgumentParser(f"{parser.prog} --stage {stage}", description=doc, add_help=False)
            add_options(shown, stage)
        shown.print_help()
        parser.exit()


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options of a command line ask for.

    Raises:
        PlanError: naming the recipe or the option, and what is wrong.
    """
    names = {name for stage in STAGES for name in argument_fields(stage)}
    settings = read_recipe(recipe_path(options.recipe)) if options.recipe else []
    settings += [
        Setting(name, value, None, COMMAND_LINE, f"--{name}") for name, value in vars(options).items() if name in names
    ]
    return make_plan(options.stage, settings + parse_set(options.set))
