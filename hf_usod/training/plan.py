"""The plan of a training: the arguments of all its stages, complete and checked before anything is trained.

Light: it can be made and printed without loading torch. What files and models say is looked at by `checks`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import yaml

from ..constants import DEFAULT_MODEL
from ..errors import PlanError
from .arguments import (
    STAGES,
    CueExtractorArguments,
    DetectorArguments,
    MethodArguments,
    TransferArguments,
)
from .fields import SHARED_NAMES, argument_fields
from .recipes import COMMAND_LINE, Setting


@dataclass(frozen=True)
class LabelArguments:
    """What makes the pseudo-labels of a run of all stages."""

    model: str | None  # an embedded model, a folder or a Hub id; None for the cue extractor that is trained
    by_detector: bool  # rather than by a cue extractor
    refine: str


@dataclass(frozen=True)
class Plan:
    """The stages of a training, in order; what is None is left out.

    A plan of one stage has that alone. One of the whole method has `labels` and `sd`, and `output_dir`, the folder that
    theirs are in.
    """

    output_dir: str
    resume: bool
    sce: CueExtractorArguments | TransferArguments | None = None
    labels: LabelArguments | None = None
    sd: DetectorArguments | None = None
    flow: bool = False  # the images are frames of videos, whose flow is their auxiliary map

    @property
    def stages(self) -> "dict[str, CueExtractorArguments | TransferArguments | DetectorArguments]":
        """The stages that are trained, by the names of `STAGES`."""
        first = "transfer" if isinstance(self.sce, TransferArguments) else "sce"
        return {name: args for name, args in ((first, self.sce), ("sd", self.sd)) if args is not None}

    def describe(self) -> str:
        """All values of all stages, as YAML."""
        values: dict[str, Any] = {name: dataclasses.asdict(args) for name, args in self.stages.items()}
        if self.labels:
            labels = dataclasses.asdict(self.labels)
            values = {"labels": labels, **values} if self.sce is None else _after_first(values, "labels", labels)
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)


def _after_first(values: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    first = next(iter(values))
    return {first: values[first], name: value, **values}


def make_plan(stage: str, settings: Sequence[Setting]) -> Plan:
    """The plan of one of the `STAGES` from what a recipe and a command line say, over the defaults.

    Raises:
        PlanError: for an argument that is missing, impossible, or without effect in this run.
    """
    planner = _Planner(stage, settings)
    plan = _plan_method(planner) if stage == "all" else _plan_stage(planner, stage)
    planner.check_effects()
    return plan


def _plan_stage(planner: "_Planner", stage: str) -> Plan:
    args = planner.fill(stage)
    return Plan(args.output_dir, args.resume, **{"sd" if stage == "sd" else "sce": args})


def _plan_method(planner: "_Planner") -> Plan:
    method: MethodArguments = planner.fill("all")
    root = Path(method.output_dir)
    own_adapt = planner.find("sd", "adapt")
    adapt = own_adapt or method.adapt or (DEFAULT_MODEL if method.transfer else None)
    sce: CueExtractorArguments | TransferArguments | None = None
    labeler = method.sce
    flow = method.task == "video"
    aux = [str(root / "flow" / str(place)) for place in range(len(method.images))] if flow else method.aux
    made = {"images": method.images, "output_dir": str(root / "sce"), "resume": True, "aux": aux}
    if method.labels_from == "sd":
        labeler = adapt
    elif method.transfer:
        sce = planner.fill("transfer", **made, **({"base": method.sce} if method.sce else {}))
        labeler = None
    elif method.sce is None:
        sce = planner.fill("sce", **made)
    places = [str(place) for place in range(len(method.images))] if len(method.images) > 1 else [""]
    made |= {"output_dir": str(root / "sd"), "labels": [str(root / "labels" / place) for place in places]}
    sd = planner.fill("sd", **made, **({"adapt": adapt} if adapt and not own_adapt else {}))
    if sce and sce.mixed_precision != sd.mixed_precision:
        raise PlanError(f"--mixed_precision: {sce.mixed_precision} and {sd.mixed_precision}; all stages share one.")
    labels = LabelArguments(labeler, method.labels_from == "sd", method.refine)
    return Plan(method.output_dir, method.resume, sce, labels, sd, flow)


class _Planner:
    """Fills the arguments of stages from settings, and keeps account of which settings have an effect."""

    def __init__(self, run: str, settings: Sequence[Setting]):
        self.run = run  # one of `STAGES`
        # Of equals the last wins: the command line's come after the recipe's, and those for one stage after the others.
        weights = {None: 0, "all": 1}
        self.settings = sorted(settings, key=lambda setting: (setting.rank, weights.get(setting.stage, 2)))
        self.chosen: dict[str, dict[str, Setting]] = {}  # by stage of the run and name
        self.made: dict[str, dict[str, Any]] = {}  # likewise, values that are not the user's to choose
        self.void: dict[str, Setting] = {}  # those that a trained detector makes void, by name
        self.chooser: Setting | None = None  # what chose that detector

    def fill(self, stage: str, **made: Any) -> Any:
        """The arguments of a stage: `made`, and for the rest the settings.

        Raises:
            PlanError: if an argument is missing or its value is impossible.
        """
        self.made[stage] = made
        specs = argument_fields(stage)
        chosen = {setting.name: setting for setting in self.settings if self._is_for(setting, stage)}
        self.chosen[stage] = chosen
        if stage == "sd":
            self._take_void(chosen, bool(made.get("adapt")))
        values = {name: setting.value for name, setting in chosen.items()} | made
        missing = [f"--{name}" for name, spec in specs.items() if spec.default is MISSING and name not in values]
        if missing:
            raise PlanError(f"the following arguments are required: {', '.join(missing)}.")
        try:
            return STAGES[stage](**values)
        except PlanError as error:
            raise PlanError(f"{stage}: {error}" if self.run == "all" != stage else str(error)) from error

    def find(self, stage: str, name: str) -> Any:
        """What the settings say of an argument of a stage; None if nothing."""
        values = [setting.value for setting in self.settings if setting.name == name and setting.stage in (None, stage)]
        return values[-1] if values else None

    def _is_for(self, setting: Setting, stage: str) -> bool:
        """Whether a setting says something to a stage of this run."""
        if setting.name not in argument_fields(stage) or setting.name in self.made[stage]:
            return False
        if setting.stage == "all" == self.run:
            return stage == "all" or setting.name in SHARED_NAMES
        return setting.stage in (None, stage)

    def _take_void(self, chosen: dict[str, Setting], adapted: bool) -> None:
        """Takes out what has no effect on a trained detector, which brings its backbones and widths."""
        names = ["adapt", "start_from", *(["transfer"] if adapted else [])]
        everywhere = self.chosen.get("all", {}) | chosen
        choosers = [everywhere[name] for name in names if name in everywhere and everywhere[name].value]
        start = "adapter" if adapted else "new"
        if choosers:
            self.chooser = choosers[0]
            start = "model" if self.chooser.name == "start_from" else "adapter"
        specs = argument_fields("sd")
        for name in [name for name in chosen if start not in specs[name].metadata.get("starts", (start,))]:
            self.void[name] = chosen.pop(name)

    def check_effects(self) -> None:
        """Raises a `PlanError` for a setting that has no effect in this run, unless it stands in a recipe's section of
        a stage that is left out, or is a recipe's for a new detector where the command line names a trained one."""
        for setting in self.settings:
            stages = [stage for stage in self.chosen if setting.stage in (None, "all", stage)]
            if any(setting.name in self.chosen[stage] for stage in stages):
                continue
            in_section = setting.rank < COMMAND_LINE and setting.stage not in (None, self.run)
            if in_section and setting.stage not in self.chosen:
                continue
            if setting.name in self.void and stages:
                if self.chooser is None or setting.rank >= self.chooser.rank:
                    beside = f"--{self.chooser.name}" if self.chooser else "a new detector"
                    raise PlanError(f"{setting.source}: has no effect with {beside}; leave it out.")
                continue
            owners = [name for name in STAGES if setting.name in argument_fields(name)]
            raise PlanError(
                f"{setting.source}: has no effect with --stage {self.run}"
                f"{' as it is set up here' if set(owners) & set(self.chosen) else ''}; leave it out. It is an argument "
                f"of the stages {', '.join(owners)}."
            )
