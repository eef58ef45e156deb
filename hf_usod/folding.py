"""Networks as inference has them, batch norms as parts of the convolutions before them: the same numbers but for
rounding."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .frozen_convolution import FUSED, FrozenConv
from .models.modeling_usod_sce import UsodSceModel
from .models.modeling_usod_sd import UsodSdModel

NETWORKS = (UsodSceModel, UsodSdModel)  # of PyTorch, with or without an adapter
FEW = 20  # images that are done sooner than a faster copy of a model is made
PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # as Accelerate calls them
Run = Callable[[nn.Module], Sequence[torch.Tensor]]  # a module, on an example


def cpu_knows_bf16() -> bool:
    """Whether the processor multiplies in bf16 itself (AVX-512 BF16, AMX); others emulate it, many times slower than
    single precision."""
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


@dataclass
class _Chain:
    """A convolution, the batch norm that takes its output, and the activation that takes what that gives."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None = None
    activation: nn.Module | None = None


def _chains(module: nn.Module, run: Run) -> tuple[list[_Chain], Sequence[torch.Tensor]]:
    """All there are in a module, seen by running it once, and what it gives. What runs more than once is in none."""
    outputs: dict[int, tuple[torch.Tensor, int, _Chain]] = {}  # holds the tensors, so that no id is given twice
    chains: list[_Chain] = []
    runs: Counter[nn.Module | None] = Counter()

    def note(child: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        runs[child] += 1
        _, version, chain = outputs.get(id(inputs[0]), (None, 0, None))
        if chain is not None and version != inputs[0]._version:  # something was added to it in place
            chain = None
        if isinstance(child, nn.Conv2d):
            chain = _Chain(child)
            chains.append(chain)
        elif chain is None or chain.activation is not None:
            return
        elif not isinstance(child, nn.BatchNorm2d):
            chain.activation = child
        elif chain.norm is None and child.running_mean is not None:
            chain.norm = child
        else:
            return
        outputs[id(output)] = (output, output._version, chain)

    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6)
    handles = [child.register_forward_hook(note) for child in module.modules() if isinstance(child, kinds)]
    result = run(module)
    for handle in handles:
        handle.remove()
    for chain in chains:
        if runs[chain.activation] > 1:
            chain.activation = None
    return [chain for chain in chains if runs[chain.conv] == 1 and runs[chain.norm] <= 1], result


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


@torch.inference_mode(False)  # in which tensors do not say how often they were changed
@torch.no_grad()
def fold_batch_norms(module: nn.Module, run: Run = _feature_maps, trained: bool = False) -> nn.Module:
    """A copy in which every batch norm after a convolution has become part of it, as it is in evaluation mode, and
    convolutions take the fastest way.

    Returns an unfolded copy if folding would change what `run` gives, as where a convolution's output is also used
    without its norm. The copy is in evaluation mode.

    Args:
        module: a backbone, unless `run` says how to call it.
        trained: whether convolutions and norms that have gradients are left as they are.
    """
    folded = copy.deepcopy(module).eval()
    chains, expected = _chains(folded, run)
    names: dict[nn.Module | None, str] = {module: name for name, module in folded.named_modules()}
    for chain in chains:
        conv, norm, activation = chain.conv, chain.norm, chain.activation
        if trained and any(part.weight.requires_grad for part in (conv, norm) if part):
            continue
        place = names.get(activation, "")
        if norm:
            mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias
            )
            own = getattr(norm, "act", nn.Identity())  # timm's batch norms carry the activation that follows them
            folded.set_submodule(names[norm], own)
            if type(own) is not nn.Identity:
                activation, place = own, names[norm]
        fused = activation if activation and type(activation) in FUSED else nn.Identity()
        if frozen := FrozenConv.of(conv, fused):
            folded.set_submodule(names[conv], frozen)
            if fused is activation:
                folded.set_submodule(place, nn.Identity())
    same = all(
        torch.allclose(actual, plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item())
        for actual, plain in zip(run(folded), expected, strict=True)
    )
    return folded if same else copy.deepcopy(module).eval()


def fastest(model: nn.Module) -> nn.Module:
    """A cue extractor or detector, with or without an adapter, as it is fastest: a copy with its batch norms folded,
    channels last; the same maps but for rounding (below 1e-5). Any other model is given back. For `FEW` images the copy
    is not worth its time."""
    if type(model) not in NETWORKS:
        return model
    return fold_batch_norms(model, maps_of_an_example).to(memory_format=torch.channels_last)
