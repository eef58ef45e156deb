"""Task adapters, a PEFT tuner. Importing this package makes PEFT know it."""

from peft.utils import register_peft_method

from .config import ADAPTER_PREFIX, ADAPTER_TYPE, UsodAdapterConfig
from .layer import UsodAdapterLayer
from .model import UsodAdapterModel

register_peft_method(
    name=ADAPTER_TYPE.lower(), config_cls=UsodAdapterConfig, model_cls=UsodAdapterModel, prefix=ADAPTER_PREFIX
)

__all__ = ["UsodAdapterConfig", "UsodAdapterLayer", "UsodAdapterModel"]
