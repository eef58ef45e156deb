"""The types of arguments: values of a recipe, and words of a command line, as what a field holds."""

import typing
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from ..constants import HUB_DATASETS
from ..errors import PlanError, nearest
from .arguments import STAGES, SharedArguments

SHARED_NAMES = tuple(spec.name for spec in fields(SharedArguments))  # of all stages and of a run of all
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


@dataclass(frozen=True)
class ArgumentField:
    """A field of an arguments' dataclass, with its type taken apart: `kind`, or None if `optional`, or a list."""

    name: str
    kind: type
    optional: bool  # the value, or an item of a list
    is_list: bool
    metadata: Any
    default: Any  # MISSING if it is required

    def from_word(self, word: str) -> Any:
        """The value, or an item of the list, that a word of a command line says.

        Raises:
            ValueError: if it says none.
        """
        if self.optional and self.is_list and word == "none":
            return None
        if self.kind is bool:
            if word.lower() not in _TRUE + _FALSE:
                raise ValueError
            return word.lower() in _TRUE
        return self.kind(word)

    def from_recipe(self, value: Any, source: str, folder: Path | None = None) -> Any:
        """A value of a recipe, checked; one item may stand for a list of one.

        Args:
            source: what an error is to name.
            folder: the recipe's, which relative paths are relative to; None for those of the process.

        Raises:
            PlanError: for another type.
        """
        if not self.is_list:
            return self._item(value, source, folder)
        items = value if isinstance(value, list) else [] if value is None else [value]
        return [self._item(item, source, folder) for item in items]

    def _item(self, value: Any, source: str, folder: Path | None) -> Any:
        if self.optional and (value is None or (self.is_list and value == "none")):
            return None
        if self.kind is bool and isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return self.from_word(value)
        if self.kind is float and type(value) is int:
            return float(value)
        if type(value) is not self.kind:  # not isinstance: True is no int
            raise PlanError(f"{source}: invalid {self.kind.__name__} value: {value!r}.{self._hint(value)}")
        return self._located(str(value), folder) if folder and self.metadata.get("place") else value

    def _hint(self, value: Any) -> str:
        """The way out where a number was written as a text, or a text that reads as something else."""
        if self.kind is str:
            return " Put it in quotes." if isinstance(value, int | float | date) else ""
        try:
            self.from_word(value)
        except (TypeError, ValueError, AttributeError):
            return ""
        return " Write it without quotes, digits alone."

    def _located(self, value: str, folder: Path) -> str:
        if value.startswith(HUB_DATASETS):
            return value
        path = folder / Path(value).expanduser()
        # A name, of an embedded model, say, is a path only if there is something at that path.
        return str(path) if self.metadata["place"] == "folder" or path.exists() else value


def _argument_field(spec: Field, annotation: Any) -> ArgumentField:
    is_list = typing.get_origin(annotation) is list
    of_item = typing.get_args(annotation)[0] if is_list else annotation
    kinds = typing.get_args(of_item) or (of_item,)
    (kind,) = (kind for kind in kinds if kind is not type(None))
    default = spec.default if spec.default_factory is MISSING else spec.default_factory()
    return ArgumentField(spec.name, kind, type(None) in kinds, is_list, spec.metadata, default)


@cache
def argument_fields(stage: str) -> dict[str, ArgumentField]:
    """The arguments of one of the `STAGES` by name."""
    cls = STAGES[stage]
    annotations = typing.get_type_hints(cls)
    return {spec.name: _argument_field(spec, annotations[spec.name]) for spec in fields(cls)}


def suggestion(name: str, known: Iterable[str]) -> str:
    """`" Did you mean …?"`, or nothing if nothing known comes near."""
    near = nearest(name, known)
    return f" Did you mean {near}?" if near else ""
