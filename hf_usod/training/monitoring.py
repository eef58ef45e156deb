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


class Averages:
    """Running means of scalars on the device, fetched once a log line."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.since = time.perf_counter()

    def add(self, scalars: dict[str, torch.Tensor]) -> None:
        for name, value in scalars.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def fetch(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes, and steps a second; starts anew."""
        means = accelerator.reduce(torch.stack(list(self.sums.values())) / self.count, "mean").tolist()
        result = dict(zip(self.sums, means, strict=True))
        result["steps_per_second"] = self.count / (time.perf_counter() - self.since)
        self.restart()
        return result
