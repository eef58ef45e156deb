"""What a run has logged, as charts."""

from collections import defaultdict
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from ..html import Chart

Scalars = dict[str, list[tuple[float, float]]]
_SIZE_GUIDANCE = {SCALARS: 0}  # all of them
_RATES = {"steps_per_second", "images_per_second", "learning_rate"}


def read_scalars(log: Path) -> Scalars:
    """The values by step of all that a run logged, also where it was resumed: the last word on a step counts."""
    by_step: dict[str, dict[float, float]] = defaultdict(dict)
    for file in sorted(log.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance=_SIZE_GUIDANCE).Reload()
        for name in events.Tags()[SCALARS]:
            by_step[name].update((event.step, event.value) for event in events.Scalars(name))
    return {name: sorted(values.items()) for name, values in by_step.items()}


def charts(title: str, scalars: Scalars) -> list[Chart]:
    """The loss and its terms in one chart, everything else in one of its own; rates and speeds are left out."""
    losses = {name: values for name, values in scalars.items() if name != "foreground" and name not in _RATES}
    drawn = [Chart(f"{title}: loss and its terms", "step", losses)] if losses else []
    if "foreground" in scalars:
        drawn.append(Chart(f"{title}: share of foreground", "step", {"foreground": scalars["foreground"]}))
    return drawn
