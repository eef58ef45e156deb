"""What is watched while a model is trained: means for the log, and maps that collapse."""

import time

import torch
from accelerate import Accelerator

from ..errors import RunError


class CollapseWatch:
    """Stops a run whose maps have been all background, or all foreground, for long: it will not recover by itself."""

    bounds = (0.01, 0.95)

    def __init__(self, patience: int, advice: str = "too high a learning rate (--learning_rate)"):
        self.patience = patience
        self.advice = advice  # reasons that are the stage's own
        self.collapsed_steps = 0

    def update(self, foreground: float, steps: int) -> None:
        """Takes the share of foreground pixels over the last `steps` steps.

        Raises:
            RunError: when maps have been collapsed for `patience` steps.
        """
        low, high = self.bounds
        self.collapsed_steps = 0 if low <= foreground <= high else self.collapsed_steps + steps
        if self.collapsed_steps >= self.patience:
            kind = "background" if foreground < low else "foreground"
            raise RunError(
                f"The maps have collapsed: for {self.collapsed_steps} steps they were all {kind} "
                f"({foreground:.1%} foreground). Look at previews/. Usual reasons: images without an object or all "
                f"alike, {self.advice}."
            )


HARD = 0.2  # |S - 0.5| below it is a hard sample, at the curriculum's widest (eq. 2)


def insight(saliency: torch.Tensor) -> dict[str, torch.Tensor]:
    """What maps `(B, 1, H, W)` tell of a run: the share of foreground, and of hard samples, pixels that are not decided
    yet."""
    return {
        "foreground": (saliency > 0.5).float().mean(),
        "hard_samples": ((saliency - 0.5).abs() < HARD).float().mean(),
    }


class Averages:
    """Running means of scalars on the device, fetched once a log line."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}  # some are not of every step
        self.steps = 0
        self.since = time.perf_counter()

    def add(self, scalars: dict[str, torch.Tensor]) -> None:
        for name, value in scalars.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.steps += 1

    def fetch(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes, and steps a second; starts anew."""
        own = torch.stack([value / self.counts[name] for name, value in self.sums.items()])
        means = accelerator.reduce(own, "mean").tolist()
        result = dict(zip(self.sums, means, strict=True))
        result["steps_per_second"] = self.steps / (time.perf_counter() - self.since)
        self.restart()
        return result
