"""What is not trained, at its cheapest: no gradients, batch norms folded away, low precision."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Run = Callable[[nn.Module], Sequence[torch.Tensor]]  # a module, on an example


def _normalized_convolutions(module: nn.Module, run: Run) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Which batch norm takes which convolution's output, seen by running the module once."""
    outputs: dict[int, tuple[torch.Tensor, nn.Conv2d]] = {}  # holds the tensors, so that no id is given twice
    found: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def note_output(conv, _inputs, output):
        outputs[id(output)] = (output, conv)

    def note_input(norm, inputs):
        if id(inputs[0]) in outputs:
            found[norm] = outputs[id(inputs[0])][1]

    handles = []
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            handles.append(child.register_forward_hook(note_output))
        elif isinstance(child, nn.BatchNorm2d) and child.running_mean is not None:
            handles.append(child.register_forward_pre_hook(note_input))
    run(module)
    for handle in handles:
        handle.remove()
    return found


def _feature_maps(backbone: nn.Module) -> Sequence[torch.Tensor]:
    """Of an example."""
    weight = next(backbone.parameters())
    example = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(weight)
    return backbone(example).feature_maps


@torch.no_grad()
def fold_batch_norms(module: nn.Module, run: Run = _feature_maps, trained: bool = False) -> nn.Module:
    """A copy in which every batch norm after a convolution has become part of it, as it is in evaluation mode.

    Returns an unfolded copy if folding would change what `run` gives, as where a convolution's output is also used
    without its norm. The copy is in evaluation mode.

    Args:
        module: a backbone, unless `run` says how to call it.
        trained: whether the norms that have gradients are left as they are.
    """
    plain = copy.deepcopy(module).eval()
    folded = copy.deepcopy(plain)
    pairs = _normalized_convolutions(folded, run)
    if trained:
        pairs = {norm: conv for norm, conv in pairs.items() if not norm.weight.requires_grad}
    if len(set(pairs.values())) < len(pairs):  # a convolution that serves several norms
        return plain
    names = {module: name for name, module in folded.named_modules()}
    for norm, conv in pairs.items():
        mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias
        )
        # timm's batch norms carry the activation that follows them
        folded.set_submodule(names[norm], getattr(norm, "act", nn.Identity()))
    same = all(
        torch.allclose(actual, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
        for actual, expected in zip(run(folded), run(plain), strict=True)
    )
    return folded if same else plain


class FrozenBackbone:
    """Features of a backbone that is not trained, for images `(B, 3, H, W)`, at strides 4 to 32, without gradients.

    Args:
        backbone: moved to no device here. With `batch_norm="eval"` it is copied and stays as it is.
        mixed_precision: what features are computed in, as Accelerate calls it: no, bf16 or fp16.
        batch_norm: `"eval"`, or `"train"`: batch statistics, which also update the backbone's running ones, as the
            released program does.
    """

    def __init__(self, backbone: nn.Module, mixed_precision: str = "no", batch_norm: str = "eval"):
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision, torch.float32)
        self.batch_statistics = batch_norm == "train"
        if self.batch_statistics:
            self.backbone = backbone.train().to(memory_format=torch.channels_last)
        else:
            self.backbone = fold_batch_norms(backbone).to(dtype).to(memory_format=torch.channels_last)
        self.dtype = dtype

    @property
    def on_cpu(self) -> bool:
        return next(self.backbone.parameters()).device.type == "cpu"

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images = images.contiguous(memory_format=torch.channels_last)
        if len(images) > 1 and self.on_cpu and not self.batch_statistics:
            # No slower, and an image's features are then the same to the bit whatever is beside it
            return tuple(map(torch.cat, zip(*map(self, images.split(1)), strict=True)))
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return tuple(self.backbone(images).feature_maps)

    @contextmanager
    def as_used(self) -> Iterator[None]:
        """In here features are those of the finished model, and no statistics move."""
        self.backbone.eval()
        try:
            yield
        finally:
            self.backbone.train(self.batch_statistics)
