"""Networks as inference has them, batch norms as parts of the convolutions before them: the same numbers but for
rounding."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # as Accelerate calls them
Run = Callable[[nn.Module], Sequence[torch.Tensor]]  # a module, on an example


def cpu_knows_bf16() -> bool:
    """Whether the processor multiplies in bf16 itself (AVX-512 BF16, AMX); others emulate it, many times slower than
    single precision."""
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


class PointwiseConv(nn.Conv2d):
    """A 1 x 1 convolution by oneDNN on a CPU, however many threads there are. PyTorch takes it for several only; one
    multiplies matrices, which on processors with AVX-512 may take twice the time."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "PointwiseConv":
        """The same convolution, of the same weights."""
        pointwise = cls.__new__(cls)
        pointwise.__dict__ = conv.__dict__.copy()
        return pointwise

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """`(B, C_in, H, W)` -> `(B, C_out, H', W')`."""
        by_onednn = maps.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if not by_onednn or maps.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(maps)
        assert not isinstance(self.padding, str)  # see `fold_batch_norms`
        return torch.mkldnn_convolution(
            maps, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def _normalized_convolutions(
    module: nn.Module, run: Run
) -> tuple[dict[nn.BatchNorm2d, nn.Conv2d], Sequence[torch.Tensor]]:
    """Which batch norm takes which convolution's output, seen by running the module once, and what it gives."""
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
    result = run(module)
    for handle in handles:
        handle.remove()
    return found, result


def _feature_maps(backbone: nn.Module) -> Sequence[torch.Tensor]:
    """Of an example."""
    weight = next(backbone.parameters())
    example = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(weight)
    return backbone(example).feature_maps


def maps_of_an_example(model: nn.Module) -> tuple[torch.Tensor, ...]:
    """All maps that a cue extractor or detector makes of noise."""
    weight = next(model.parameters())
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(weight)
    outputs = model(pixel_values=image)
    side_logits = getattr(outputs, "side_logits", None)
    return (outputs.logits, *(side_logits.values() if side_logits else ()))


@torch.no_grad()
def fold_batch_norms(module: nn.Module, run: Run = _feature_maps, trained: bool = False) -> nn.Module:
    """A copy in which every batch norm after a convolution has become part of it, as it is in evaluation mode, and
    convolutions take the fastest way.

    Returns an unfolded copy if folding would change what `run` gives, as where a convolution's output is also used
    without its norm. The copy is in evaluation mode.

    Args:
        module: a backbone, unless `run` says how to call it.
        trained: whether the norms that have gradients are left as they are.
    """
    folded = copy.deepcopy(module).eval()
    pairs, expected = _normalized_convolutions(folded, run)
    if trained:
        pairs = {norm: conv for norm, conv in pairs.items() if not norm.weight.requires_grad}
    if len(set(pairs.values())) < len(pairs):  # a convolution that serves several norms
        return copy.deepcopy(module).eval()
    names = {module: name for name, module in folded.named_modules()}
    for norm, conv in pairs.items():
        mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias
        )
        # timm's batch norms carry the activation that follows them
        folded.set_submodule(names[norm], getattr(norm, "act", nn.Identity()))
    for child, name in names.items():
        if type(child) is nn.Conv2d and child.kernel_size == (1, 1) and not isinstance(child.padding, str):
            folded.set_submodule(name, PointwiseConv.of(child))
    same = all(
        torch.allclose(actual, plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item())
        for actual, plain in zip(run(folded), expected, strict=True)
    )
    return folded if same else copy.deepcopy(module).eval()
