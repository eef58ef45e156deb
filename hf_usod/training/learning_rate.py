"""The learning rate over a training."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR


def linear_decay(optimizer: torch.optim.Optimizer, num_steps: int, final_ratio: float) -> LambdaLR:
    """A learning rate that falls linearly over all steps to `final_ratio` of itself; 0 before the `first_step` of
    parameter groups that have one."""

    def factor(first_step: int) -> Callable[[int], float]:
        return lambda step: 0.0 if step < first_step else 1 - (1 - final_ratio) * min(step / num_steps, 1)

    return LambdaLR(optimizer, [factor(group.get("first_step", 0)) for group in optimizer.param_groups])


def set_rates(scheduler: LambdaLR, base_rates: Sequence[Any]) -> None:
    """Has a scheduler go on from where it stands with other rates."""
    scheduler.base_lrs = [*base_rates]
    rates = [rate * factor(scheduler.last_epoch) for rate, factor in zip(base_rates, scheduler.lr_lambdas, strict=True)]
    for group, base, rate in zip(scheduler.optimizer.param_groups, base_rates, rates, strict=True):
        group["initial_lr"], group["lr"] = base, rate
    scheduler._last_lr = rates
