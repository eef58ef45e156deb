"""The PEFT tuner: puts task adapters into a model and takes them out again."""

import re

from peft.tuners.tuners_utils import BaseTuner, check_target_module_exists
from torch import nn

from .config import ADAPTER_PREFIX, UsodAdapterConfig
from .layer import UsodAdapterLayer


class UsodAdapterModel(BaseTuner):
    """A model with task adapters; made by `get_peft_model`, `PeftModel.from_pretrained` or `model.load_adapter`."""

    prefix = ADAPTER_PREFIX
    tuner_layer_cls = UsodAdapterLayer
    target_module_mapping = {"usod_sce": ["deep_projection"]}  # what is adapted unless `target_modules` says otherwise

    def _prepare_model(self, peft_config: UsodAdapterConfig, model: nn.Module) -> None:
        names = [name for name, _ in model.named_modules() if name and check_target_module_exists(peft_config, name)]
        names = [name for name in names if ".base_layer." not in name and self.prefix not in name]
        nested = [inner for outer in names for inner in names if inner.startswith(f"{outer}.")]
        if nested:
            raise ValueError(f"`target_modules` must not lie in one another; these do: {', '.join(nested)}.")

    def _create_and_replace(
        self, peft_config, adapter_name, target, target_name, parent, current_key, **kwargs
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

    def train(self, mode: bool = True):
        """As usual, but that the batch norms of the frozen model keep their statistics."""
        super().train(mode)
        for name, module in self.model.named_modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and self.prefix not in name:
                module.eval()
        return self

    def _post_injection_hook(self, model: nn.Module, config: UsodAdapterConfig, adapter_name: str) -> None:
        self.train(model.training)

    def _check_merge_allowed(self) -> None:
        raise ValueError("Parallel adapters cannot be merged into the model. `unload()` takes them out.")

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Nothing: Ta has T's dtype, as both see the same input."""

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # The default takes the name out before `.weight` only; Ta has modules below it.
        return re.sub(rf"(\.usod_adapter_modules)\.{re.escape(adapter_name)}(?=\.|$)", r"\1", key)
