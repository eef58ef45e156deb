"""Salient object detection without labels, as Hugging Face models.

Importing the package is quick, and loads neither torch nor transformers. Once they are loaded, `AutoModel`,
`AutoImageProcessor` and `pipeline` know its models, their image processor and the `salient-object-detection` pipeline,
and PEFT its task adapter. What models save carries its code: it also loads where the package is not installed, with
`trust_remote_code=True`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import _registration
from .constants import VERSION

if TYPE_CHECKING:
    from .adapters import UsodAdapterConfig
    from .assets import checkpoint_names, checkpoint_path
    from .errors import UsodError
    from .inference import detect
    from .models.configuration_usod import UsodSceConfig, UsodSdConfig, backbone_preset
    from .models.image_processing_usod import UsodImageProcessor
    from .models.modeling_usod import SaliencyOutput
    from .models.modeling_usod_sce import UsodSceModel
    from .models.modeling_usod_sd import UsodSdModel
    from .models.pipeline_usod import SalientObjectDetectionPipeline

__version__ = VERSION

_HOMES = {
    "SaliencyOutput": "models.modeling_usod",
    "SalientObjectDetectionPipeline": "models.pipeline_usod",
    "UsodAdapterConfig": "adapters",
    "UsodError": "errors",
    "UsodImageProcessor": "models.image_processing_usod",
    "UsodSceConfig": "models.configuration_usod",
    "UsodSceModel": "models.modeling_usod_sce",
    "UsodSdConfig": "models.configuration_usod",
    "UsodSdModel": "models.modeling_usod_sd",
    "backbone_preset": "models.configuration_usod",
    "checkpoint_names": "assets",
    "checkpoint_path": "assets",
    "detect": "inference",
}
_ROOMS = {
    *("adapters", "conversion", "data", "evaluation", "hub", "inference", "labels", "loading", "models", "objectives"),
    "training",
}

__all__ = [
    "SaliencyOutput",
    "SalientObjectDetectionPipeline",
    "UsodAdapterConfig",
    "UsodError",
    "UsodImageProcessor",
    "UsodSceConfig",
    "UsodSceModel",
    "UsodSdConfig",
    "UsodSdModel",
    "backbone_preset",
    "checkpoint_names",
    "checkpoint_path",
    "detect",
]


def __getattr__(name: str) -> Any:
    """A public name or room (PEP 562), imported when it is first asked for."""
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name].startswith("models."):
        _registration.register_models()  # so that a model knows of its pipeline, and the pipeline of its code
    globals()[name] = value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})


_registration.install()
