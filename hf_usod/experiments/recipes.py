"""Tables of training variants: a recipe (YAML) says what to train and evaluate, and the table is filled.

```yaml
title: Table 7, refinement of pseudo-labels
recipe: ../usod-rgb-lite.yaml         # of `hf-usod train`, relative to this file; optional
arguments: {stage: sd, labels: "{labels}"}           # of `hf-usod train`, for every variant, over the recipe
shared:                               # what variants build on, made once a seed, in this order
  sce: {stage: sce}                   # a training
  labels: label {images} --model {sce}/model --output {here}      # or any command of hf-usod
variants:                             # what each is told besides
  none: {spr: none}
  both: {spr: both}                   # may have `then`: commands to run after its training
seeds: [0, 1]
evaluate:                             # what is scored of every variant, or `only` of some
  - {name: ECSSD-dev, images: "{data}/ECSSD-dev/RGB", masks: "{data}/ECSSD-dev/GT"}       # its model
  - {name: training labels, predictions: "{run}/labels", masks: "{data}/train/GT", only: [both]}
scores: [mae, f_adaptive]
published:
  both: {DUTS-TE: {mae: .047, f_adaptive: .816}}
```

Braces stand for: `{data}` and `{images}` the folders given to the command, `{run}` the variant's run, `{here}` the
folder of a shared step, and the name of a shared step for its folder. A model to score is in `{run}/model`, unless
`model` in `evaluate` says otherwise. What is finished is not repeated, a training that was stopped is resumed, and
scores that are there are kept.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import PlanError, TableError
from ..evaluation.published import source
from ..evaluation.usod_saliency.saliency_metrics import METRICS
from ..training.arguments import check_value
from ..training.recipes import check_stage, find_field

Step = dict[str, Any] | str  # a training's arguments, or a command of hf-usod


@dataclass(frozen=True)
class TableRecipe:
    """A table to fill; see the module for the fields."""

    title: str
    variants: dict[str, Step]
    evaluate: list[dict[str, Any]]
    recipe: Path | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Step] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    scores: list[str] = field(default_factory=lambda: ["mae", "f_adaptive", "e_adaptive"])
    published: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises:
        TypeError, ValueError: saying which field is wrong, and how.
        """
        for name, is_right, expected in _FIELDS:
            if not is_right(value := getattr(self, name)):
                raise TypeError(f"`{name}` is to be {expected}, got {value!r}")
        if unknown := [key for key in self.scores if key not in METRICS]:
            raise ValueError(f"there is no score {unknown[0]!r}; there are {', '.join(METRICS)}")
        for spec in self.evaluate:
            if "masks" not in spec or "name" not in spec or ("images" in spec) == ("predictions" in spec):
                raise ValueError(f"`evaluate` needs a name, masks, and either images or predictions, got {spec}")
            if unknown := sorted(set(spec.get("only", [])) - self.variants.keys()):
                raise ValueError(f"`only` has {unknown[0]!r}, which is no variant")
        if unknown := sorted(self.published.keys() - self.variants.keys()):
            raise ValueError(f"`published` has {unknown[0]!r}, which is no variant")
        if self.recipe and not self.recipe.is_file():
            raise ValueError(f"there is no recipe {self.recipe}")


def _are_steps(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(step, dict | str) for step in value.values())


def _are_specs(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(spec, dict) for spec in value)


def _are_seeds(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(seed) is int and seed >= 0 for seed in value)


def _are_published(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(rows, dict) for rows in value.values())


_FIELDS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("title", lambda value: isinstance(value, str), "a text"),
    ("variants", lambda value: _are_steps(value) and bool(value), "names with arguments, or with a command"),
    ("shared", _are_steps, "names with arguments, or with a command"),
    ("arguments", lambda value: isinstance(value, dict), "names with values"),
    ("evaluate", _are_specs, "a list of what is scored"),
    ("seeds", _are_seeds, "a list of whole numbers"),
    ("scores", lambda value: isinstance(value, list), "a list of scores"),
    ("published", _are_published, "by variant and data set, scores"),
)


def read_recipe(path: Path) -> TableRecipe:
    """A table recipe from its file.

    Raises:
        TableError: naming the file and what is wrong with it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("expected lines of `field: value`")
        if content.get("recipe"):
            content["recipe"] = (path.parent / content["recipe"]).resolve()
        return TableRecipe(**content)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).removeprefix("TableRecipe.__init__() ").split())
        raise TableError(f"{path}: {problem}.") from error


def override(table: TableRecipe, settings: Sequence[str], seeds: Sequence[int] | None = None) -> TableRecipe:
    """A recipe with arguments replaced in its trainings.

    Args:
        settings: `name=value` for all trainings, `stage.name=value` for those of a stage; commas part a list.

    Raises:
        TableError: for a setting of another form, an unknown stage or argument, or a value of another type.
    """
    changes: list[tuple[str, str, Any]] = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise TableError(f"--set {setting}: expected name=value.")
        stage, _, name = name.rpartition(".")
        _check_setting(setting, stage, name, value)
        changes.append((stage, name, value.split(",") if "," in value else value))

    def changed(step: Step, common: Mapping[str, Any]) -> Step:
        if isinstance(step, str):
            return step
        own_stage = {**common, **step}.get("stage", "all")
        return {**step, **{name: value for stage, name, value in changes if stage in ("", own_stage)}}

    if any(seed < 0 for seed in seeds or ()):
        raise TableError(f"--seeds {shlex.join(map(str, seeds or ()))}: expected numbers that are not negative.")
    return replace(
        table,
        shared={name: changed(step, {}) for name, step in table.shared.items()},
        variants={name: changed(step, table.arguments) for name, step in table.variants.items()},
        seeds=list(seeds or table.seeds),
    )


def _check_setting(setting: str, stage: str, name: str, value: str) -> None:
    """Raises a `TableError` for what no training takes; a value with braces is known only when they are filled."""
    option = f"--set {setting}"
    try:
        if stage:
            check_stage(stage, option)
        spec = find_field(name, stage or None, option)
    except PlanError as error:
        raise TableError(str(error)) from error
    if "{" not in value:
        try:
            for word in value.split(","):
                check_value(name, spec.from_word(word), spec.metadata)
        except PlanError as error:
            raise TableError(f"{option}: {error}") from error
        except ValueError as error:
            raise TableError(f"{option}: invalid {spec.kind.__name__} value: {value!r}.") from error


def fill(value: Any, places: Mapping[str, Any]) -> list[str]:
    """The words of a value, its braces filled: one, or all folders for `{images}`."""
    if value == "{images}":
        return list(places["images"])
    if not isinstance(value, str):
        return [str(value)]
    try:
        return [value.format_map(places)]
    except (KeyError, IndexError) as error:
        known = f"known are {', '.join(sorted(places))}" if places else "nothing is known"
        hint = " Give --data, the folder with the data sets." if error.args[0] == "data" else ""
        raise TableError(f"{value!r}: nothing is known of {error}; {known}.{hint}") from error


def missing_sets(table: TableRecipe, data: Path | None) -> list[dict[str, Any]]:
    """What a table would be evaluated on, were its ground truth at hand."""
    places = {"data": str(data)} if data else {}
    return [spec for spec in table.evaluate if not Path(fill(spec["masks"], places)[0]).is_dir()]


def without(table: TableRecipe, missing: Sequence[dict[str, Any]]) -> TableRecipe:
    """The table without those data sets.

    Raises:
        TableError: if that leaves none.
    """
    rest = [spec for spec in table.evaluate if spec not in missing]
    if not rest:
        raise TableError("None of the data sets that the table is evaluated on is at hand (above). Is --data right?")
    return replace(table, evaluate=rest)


def describe_missing(missing: Sequence[dict[str, Any]]) -> str:
    """One line a data set: what is not there, and where it can be had."""
    return "\n".join(f"not at hand: {spec['name']} ({spec['masks']}); {source(spec['name'])}" for spec in missing)
