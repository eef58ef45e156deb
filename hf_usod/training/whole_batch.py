"""What is over a whole batch though several processes have a part of it each, so that what a run computes does not
depend on how many there are: the statistics of batch norms, and means that are not over images."""

from collections.abc import Callable

import torch
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import distributed, nn
from torch.nn import functional


def is_alone() -> bool:
    """Whether this is the only process."""
    return not distributed.is_initialized() or distributed.get_world_size() == 1


class _Normalize(torch.autograd.Function):
    """A batch norm over all processes, of torch's own kernels with what they sum exchanged in between."""

    @staticmethod
    def forward(ctx, maps, weight, bias, eps):
        mean, variance = torch.batch_norm_update_stats(maps, None, None, 0.0)
        count = mean.new_tensor([maps.numel() // maps.shape[1]])
        own = torch.cat([mean, variance, count])
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own)
        stacked = torch.stack(parts)
        means, variances, counts = stacked.split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(dim=0) / total
        variance = (counts * (variances + (means - mean).square())).sum(dim=0) / total
        ctx.save_for_backward(maps, weight, mean, variance, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, total)
        return functional.batch_norm(maps, mean, variance, weight, bias, False, 0.0, eps), mean, variance, total

    @staticmethod
    def backward(ctx, gradient, *_):
        maps, weight, mean, variance, total = ctx.saved_tensors
        # In evaluation mode, where the statistics are constants, and then what flows through them
        of_maps, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, maps, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_bias, of_weight])
        distributed.all_reduce(sums)
        inverse = torch.rsqrt(variance + ctx.eps)
        scale = inverse if weight is None else weight * inverse
        slope = scale * inverse * sums[1] / total
        constant = scale * sums[0] / total - slope * mean
        shape = (1, -1, 1, 1)
        of_maps.sub_(constant.view(shape)).addcmul_(maps, slope.view(shape), value=-1)
        return of_maps, of_weight, of_bias, None


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
        normalized, mean, variance, count = _Normalize.apply(maps, self.weight, self.bias, self.eps)
        self._note(mean, variance, count)
        return self.act(normalized)

    @torch.no_grad()
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
