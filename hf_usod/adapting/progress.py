"""How far an adaptation is, and what is left of it: planned before it begins, kept in its folder, read by whoever
looks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..training.page import read_history
from .candidates import CUES

FLOW = "flow"
# Seconds that one of each takes on a slow processor: a frame, an image, a label, a step. What was measured in the
# folder corrects them, so that it is their relations that matter.
TYPICAL = {FLOW: 0.3, "maps": 0.4, "labels": 0.6, CUES: 1.2, "training": 2.4}
_PLACES = {"maps": "maps", "labels": "labels", "training": "runs"}


class Step(NamedTuple):
    """One of the things that are done, such as `maps default`.

    Args:
        name: its kind and, where there are several of a kind, of what.
        amount: images, or steps of a training.
    """

    name: str
    amount: int

    @property
    def kind(self) -> str:
        return self.name.split(" ", 1)[0]

    @property
    def typical(self) -> float:
        """Seconds."""
        return TYPICAL[self.kind] * self.amount

    def folder(self, root: Path) -> Path:
        """Where what it makes comes to lie."""
        return root / self.name if self.kind not in _PLACES else root / _PLACES[self.kind] / self.name.split(" ", 1)[1]

    @property
    def is_training(self) -> bool:
        return self.kind in (CUES, "training")


def plan_steps(
    flow: int, held_out: int, training: int, models: Iterable[str], sources: Iterable[str], steps: Callable[[int], int]
) -> list[Step]:
    """All that is to be done, in order.

    Args:
        flow: frames whose flow is computed.
        held_out, training: images.
        models: whose maps are compared.
        sources: of labels that adapters are trained on.
        steps: of a training on so many images.
    """
    planned = [Step(FLOW, flow)] if flow else []
    planned += [Step(f"maps {name}", held_out) for name in models]
    planned += [Step(CUES, steps(training)), Step(f"maps {CUES}", held_out)]
    for name in sources:
        planned += [
            Step(f"labels {name}", training),
            Step(f"training {name}", steps(training)),
            Step(f"maps {name}", held_out),
        ]
    return planned


@dataclass(frozen=True)
class Progress:
    """Where an adaptation stands.

    Args:
        steps: all, in order.
        seconds: what steps have taken, by name; of those that are done.
        running: the name of the one that is being done, or was when all was stopped.
        share: of it that is done, in [0, 1].
        rest: seconds that it will still take, where it says so itself.
    """

    steps: Sequence[Step]
    seconds: Mapping[str, float]
    running: str | None = None
    share: float = 0.0
    rest: float | None = None

    @property
    def done(self) -> list[Step]:
        return [step for step in self.steps if step.name in self.seconds and step.name != self.running]

    @property
    def left(self) -> list[Step]:
        done = {step.name for step in self.done}
        return [step for step in self.steps if step.name not in done]

    @property
    def pace(self) -> float:
        """How many times as long as typical this takes, as far as is known."""
        typical = sum(step.typical for step in self.done)
        return sum(self.seconds[step.name] for step in self.done) / typical if typical else 1.0

    @property
    def seconds_left(self) -> float:
        """Of all together."""
        later = self.pace * sum(step.typical for step in self.left if step.name != self.running)
        running = next((step.typical for step in self.steps if step.name == self.running), 0.0)
        return later + (self.pace * running * (1 - self.share) if self.rest is None else self.rest)

    @property
    def total_share(self) -> float:
        """Of all work that is done, in [0, 1], by time."""
        total = sum(step.typical for step in self.steps)
        left = sum(step.typical * (1 - self.share if step.name == self.running else 1) for step in self.left)
        return 1 - left / total if total else 0.0

    def told(self) -> str:
        """Which step it is, and how long all of it will take, in words."""
        place = next((place for place, step in enumerate(self.steps, 1) if step.name == self.running), None)
        which = f"step {place} of {len(self.steps)}, " if place else ""
        return f"{which}{in_words(self.seconds_left)} left"


def in_words(seconds: float) -> str:
    """A length of time, as one says it: `about 20 minutes`."""
    if seconds < 90:
        return "about a minute" if seconds > 30 else "less than a minute"
    if seconds < 90 * 60:
        minutes = round(seconds / 60)
        return f"about {minutes if minutes < 20 else 5 * round(minutes / 5)} minutes"
    return f"about {seconds / 3600:.1f} hours"


def read_progress(root: Path, state: Mapping[str, Any]) -> Progress:
    """Where the adaptation in a folder stands, by its state and by the files that the running step has made."""
    steps = [Step(name, amount) for name, amount in state.get("plan", [])]
    running = next((step for step in steps if step.name == state.get("running")), None)
    if running is None:
        return Progress(steps, state["seconds"])
    folder, rest = running.folder(root), None
    if running.is_training:
        records = read_history(folder)
        done = records[-1]["step"] if records else 0
        rest = 60 * records[-1]["minutes_left"] if records and "minutes_left" in records[-1] else None
    else:
        done = sum(1 for path in folder.rglob("*") if path.suffix in (".png", ".jpg") and path.name[0] != ".")
    return Progress(steps, state["seconds"], running.name, min(1.0, done / max(1, running.amount)), rest)
