"""The adapted module: T(F) + Ta(F).

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.utils._pytree import tree_map

from ..models.modeling_usod import check_complete, check_finite
from .config import UsodAdapterConfig


class UsodAdapterLayer(nn.Module, BaseTunerLayer):
    """A frozen module T with trained modules Ta in parallel, one an adapter; the outputs of the active ones are added.

    T may be any module, of any inputs, and return any structure of tensors. It stays in evaluation mode, so that the
    running statistics of its batch norms never move; those of Ta are trained, and saved with it.

    An adapter that was initialized to "zero" has a scalar s: T(F) + s Ta(F), s = 0 at first. Zero weights within Ta
    would do no such thing: before a ReLU they get no gradient, ever. Here s gets one at the first step, as Ta starts as
    a copy of T, and Ta's weights get theirs from the second step on.
    """

    adapter_layer_names = ("usod_adapter_modules", "usod_adapter_scales")
    base_layer: nn.Module
    usod_adapter_modules: nn.ModuleDict
    usod_adapter_scales: nn.ParameterDict
    active_adapters: list[str]  # this and the next: BaseTunerLayer's
    set_adapter: Callable[..., None]

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: UsodAdapterConfig):
        super().__init__()
        self.base_layer = base_layer
        self.usod_adapter_modules = nn.ModuleDict()
        self.usod_adapter_scales = nn.ParameterDict()
        self.merged_adapters: list[str] = []
        self.update_layer(adapter_name, config)
        self.train(base_layer.training)

    def update_layer(self, adapter_name: str, config: UsodAdapterConfig) -> None:
        """Adds an adapter: a module of T's structure, fresh or with T's weights."""
        module = copy.deepcopy(self.base_layer).requires_grad_(True)
        if config.init_weights == "random":
            for layer in module.modules():
                if callable(reset := getattr(layer, "reset_parameters", None)):
                    reset()
        if config.init_weights == "zero":
            like = next(module.parameters())
            self.usod_adapter_scales[adapter_name] = nn.Parameter(torch.zeros((), dtype=like.dtype, device=like.device))
        self.usod_adapter_modules[adapter_name] = module.train(self.training)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """What PEFT loads an adapter's weights with, which drops those that have no place.

        Raises:
            ValueError: for a learned scale that the adapter's configuration says nothing of; for NaN or infinity.
        """
        own = {key: tensor for key, tensor in state_dict.items() if key.startswith(f"{prefix}usod_adapter_")}
        for key in own:
            kind, _, name = key.removeprefix(prefix).partition(".")
            if kind == "usod_adapter_scales" and name not in self.usod_adapter_scales:
                raise ValueError(
                    f"{key}: the weights have a learned scale, of which adapter_config.json says nothing. It lacks "
                    '`"init_weights": "zero"`; add it.'
                )
        for name, module in self.usod_adapter_modules.items():
            wanted = {f"{prefix}usod_adapter_modules.{name}.{key}" for key in module.state_dict()}
            if wanted & own.keys():  # and not the base's weights alone
                check_complete(wanted - own.keys(), "The adapter")
        check_finite(own.items(), "The adapter")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def train(self, mode: bool = True) -> "UsodAdapterLayer":
        super().train(mode)
        self.base_layer.eval()
        return self

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise ValueError("A parallel adapter is a non-linear module of its own and cannot be merged; keep it loaded.")

    def unmerge(self) -> None:
        raise ValueError("A parallel adapter is never merged.")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return output
        for name in self.active_adapters:
            if name in self.usod_adapter_modules:
                addition = self.usod_adapter_modules[name](*args, **kwargs)
                if name in self.usod_adapter_scales:
                    scale = self.usod_adapter_scales[name]
                    addition = tree_map(scale.mul, addition)
                output = tree_map(torch.add, output, addition)
        return output
