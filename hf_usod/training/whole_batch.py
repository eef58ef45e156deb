"""What is over a whole batch though several processes have a part of it each, so that what a run computes does not
depend on how many there are: the statistics of batch norms, and means that are not over images."""

from collections.abc import Callable

import torch
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import distributed, nn


def is_alone() -> bool:
    """Whether this is the only process."""
    return not distributed.is_initialized() or distributed.get_world_size() == 1


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """As `nn.SyncBatchNorm`, which torch has for GPUs only; with what follows the norm in timm's layers."""

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training
        self.act = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)` of this process, normalized by the mean and variance over all processes'."""
        if not self.training:
            return self.act(super().forward(maps))
        values = maps.float()
        count = values.new_tensor([values.numel() // values.shape[1]])
        # The mean first, and the variance around it: the difference of two large sums would lose digits
        sums = _Sum.apply(torch.cat([values.sum(dim=(0, 2, 3)), count]))
        total = sums[-1].detach()
        mean = (sums[:-1] / total).view(1, -1, 1, 1)
        variance = _Sum.apply((values - mean).square().sum(dim=(0, 2, 3))) / total
        self._note(mean.detach().flatten(), variance.detach(), total)
        normalized = (values - mean) * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            normalized = normalized * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return self.act(normalized.to(maps.dtype))

    def _note(self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
        """Moves the running statistics, the variance as an unbiased one."""
        running_mean, running_var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        num_batches = self.get_buffer("num_batches_tracked").add_(1)
        weight = self.momentum if self.momentum is not None else 1 / num_batches.item()
        running_mean.lerp_(mean, weight)
        running_var.lerp_(variance * count / (count - 1).clamp(min=1), weight)


def synchronize_batch_norms(module: nn.Module) -> nn.Module:
    """A module with its batch norms synchronized, if there are several processes; names of weights stay what they
    were. It may be the module itself, changed."""
    if is_alone():
        return module
    if torch.accelerator.is_available() and distributed.get_backend() != "gloo":
        return convert_sync_batchnorm(module)
    if isinstance(module, nn.BatchNorm2d):
        return CpuSyncBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, synchronize_batch_norms(child))
    return module


def share_of_mean(counted: Callable[[], torch.Tensor]) -> torch.Tensor | float:
    """What a process's mean over as many things as it has `counted` is to be multiplied by, so that the average over
    processes is the mean over all things of all of them. 1 if there is one process."""
    if is_alone():
        return 1.0
    count = counted()
    total = count.float()
    distributed.all_reduce(total)
    return count * distributed.get_world_size() / total.clamp(min=1)
