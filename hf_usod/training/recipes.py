"""Recipes: YAML files of `argument: value`, for every stage that has it, and sections named after stages, for one.

What they and the command line say is kept as `Setting`s, which `plan.make_plan` puts together.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import PlanError, in_a_line
from .arguments import STAGES
from .fields import ArgumentField, argument_fields, suggestion

RECIPE, COMMAND_LINE = 0, 1  # ranks: the higher wins


@dataclass(frozen=True)
class Setting:
    """A value for an argument of one stage, or (None) of every stage that has it."""

    name: str
    value: Any
    stage: str | None
    rank: int
    source: str  # what an error is to name


class _Loader(yaml.SafeLoader):
    """YAML 1.2's words: `no` is one, `1e-2` is a number, `010` none. A key that comes twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_EXPONENT = r"[eE][-+]?[0-9]+"
_PATTERNS = {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:0|[1-9][0-9]*)",
    "float": rf"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:{_EXPONENT})?|[-+]?[0-9]+{_EXPONENT}",
}
for _kind, _pattern in _PATTERNS.items():
    _first = list("tTfF-+.0123456789")  # characters that such a word begins with
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


def _load(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlanError(f"{source}: {in_a_line(error)}") from error


def find_field(name: str, stage: str | None, source: str) -> ArgumentField:
    """The field of a name, of a stage or of any.

    Raises:
        PlanError: if there is none, naming the nearest.
    """
    known: dict[str, ArgumentField] = {}
    for name_of_stage in [stage] if stage else STAGES:
        known |= {name: each for name, each in argument_fields(name_of_stage).items() if name not in known}
    if name not in known:
        raise PlanError(f"{source}: there is no argument {name!r}.{suggestion(name, known)}")
    return known[name]


def check_stage(name: str, source: str) -> None:
    """Raises a `PlanError` for what is no stage."""
    if name not in STAGES:
        raise PlanError(
            f"{source}: there is no stage {name!r}; there are {', '.join(STAGES)}.{suggestion(name, STAGES)}"
        )


def read_recipe(path: Path) -> list[Setting]:
    """What a recipe says; relative paths in it are relative to it.

    Raises:
        PlanError: naming the recipe and what is wrong in it: it cannot be read, or has an unknown stage, an unknown
            argument or a value of another type.
    """
    source = f"--recipe {path}"
    try:
        recipe = _load(path.read_text(encoding="utf-8"), source) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{source}: {error}") from error
    if not isinstance(recipe, dict):
        raise PlanError(f"{source}: expected lines of `argument: value`.")

    def settings(values: dict, stage: str | None) -> Iterator[Setting]:
        for name, value in values.items():
            where = f"{source}: {stage}.{name}" if stage else f"{source}: {name}"
            spec = find_field(str(name), stage, f"{source}: {stage}" if stage else source)
            yield Setting(spec.name, spec.from_recipe(value, where, path.parent), stage, RECIPE, where)

    sections = {name: value for name, value in recipe.items() if isinstance(value, dict) or name in _SECTIONS}
    result = list(settings({name: value for name, value in recipe.items() if name not in sections}, None))
    for stage, values in sections.items():
        check_stage(str(stage), source)
        if values is not None and not isinstance(values, dict):
            raise PlanError(f"{source}: {stage}: expected lines of `argument: value`.")
        result += settings(values or {}, stage)
    return result


# `sce` and `transfer` are arguments of a run of all stages as well; on a recipe's first level they are those.
_SECTIONS = STAGES.keys() - argument_fields("all").keys()


def parse_set(texts: Sequence[str]) -> list[Setting]:
    """`name=value` and `stage.name=value` of a command line, values as in a recipe.

    Raises:
        PlanError: as `read_recipe`.
    """
    result = []
    for text in texts:
        source = f"--set {text}"
        key, equals, value = text.partition("=")
        if not equals:
            raise PlanError(f"{source}: expected name=value or stage.name=value.")
        stage, dot, name = key.rpartition(".")
        if dot:
            check_stage(stage, source)
        spec = find_field(name, stage or None, source)
        result.append(
            Setting(name, spec.from_recipe(_load(value, source), source), stage or None, COMMAND_LINE, source)
        )
    return result
