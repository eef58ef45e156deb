"""The PEFT tuner: puts task adapters into a model and takes them out again."""

import re
from typing import Any

from peft.tuners.tuners_utils import BaseTuner, check_target_module_exists
from torch import nn

from .config import ADAPTER_PREFIX, UsodAdapterConfig
from .layer import UsodAdapterLayer

# Those that may have running statistics
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


def _keep_statistics(norm: nn.Module, inputs: tuple) -> None:
    """Before each forward pass of a batch norm of the base: evaluation mode, as long as it is frozen.

    A hook, and not a `train` of our own, because after `model.add_adapter` nothing of PEFT is around the model, and
    `model.train()` is then the model's.
    """
    if norm.weight is None or not norm.weight.requires_grad:
        norm.eval()


class UsodAdapterModel(BaseTuner):
    """
    A model with task adapters, T(F) + Ta(F), as "Unified Unsupervised Salient Object Detection via Knowledge Transfer"
    (https://arxiv.org/abs/2404.14759) transfers its models to video and aerial images. Made by `get_peft_model`,
    `PeftModel.from_pretrained` or `model.load_adapter`.

    Example:

    ```python
    >>> from peft import get_peft_model
    >>> from transformers import AutoModel

    >>> from hf_usod import UsodAdapterConfig, checkpoint_path

    >>> model = get_peft_model(AutoModel.from_pretrained(checkpoint_path()), UsodAdapterConfig(init_weights="zero"))
    >>> model.print_trainable_parameters()  # Ta alone
    >>> model.save_pretrained("my-adapter")

    >>> detector = AutoModel.from_pretrained(checkpoint_path())
    >>> detector.load_adapter("my-adapter")
    ```"""

    prefix = ADAPTER_PREFIX
    tuner_layer_cls = UsodAdapterLayer
    # What is adapted unless `target_modules` says otherwise
    target_module_mapping = {"usod_sce": ["deep_projection"], "usod_sd": ["global_info"]}

    def _prepare_model(self, peft_config: UsodAdapterConfig, model: nn.Module) -> None:
        names = [name for name, _ in model.named_modules() if name and check_target_module_exists(peft_config, name)]
        names = [name for name in names if ".base_layer." not in name and self.prefix not in name]
        nested = [inner for outer in names for inner in names if inner.startswith(f"{outer}.")]
        if nested:
            raise ValueError(f"`target_modules` must not lie in one another; these do: {', '.join(nested)}.")

    def _create_and_replace(
        self,
        peft_config: UsodAdapterConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        if isinstance(target, UsodAdapterLayer):
            target.update_layer(adapter_name, peft_config)
            return
        layer = UsodAdapterLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)  # the default copies a `.weight`, which T need not have

    def _post_injection_hook(self, model: nn.Module, config: UsodAdapterConfig, adapter_name: str) -> None:
        adapted = [f"{name}." for name, module in model.named_modules() if isinstance(module, UsodAdapterLayer)]
        for name, module in model.named_modules():
            if not isinstance(module, _NORMS) or name.startswith(tuple(adapted)):
                continue
            if _keep_statistics not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(_keep_statistics)

    def _check_merge_allowed(self) -> None:
        raise ValueError("Parallel adapters cannot be merged into the model. `unload()` takes them out.")

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Nothing: Ta has T's dtype, as both see the same input."""

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # The default takes the name out before `.weight` only; Ta has modules below it, and the scalar nothing.
        return re.sub(rf"(\.usod_adapter_(?:modules|scales))\.{re.escape(adapter_name)}(?=\.|$)", r"\1", key)
