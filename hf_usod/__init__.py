"""Salient object detection without labels, as Hugging Face models.

Importing the package registers its models, their image processor and the `salient-object-detection` pipeline with
transformers, so that `AutoModel`, `AutoImageProcessor` and `pipeline` know them, and the task adapter with PEFT. What
models save carries its code: it also loads where the package is not installed, with `trust_remote_code=True`.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoVideoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .adapters import UsodAdapterConfig
from .loading import checkpoint_names, checkpoint_path
from .models.configuration_usod import UsodConfig, UsodSceConfig, UsodSdConfig, backbone_preset
from .models.image_processing_usod import UsodImageProcessor
from .models.modeling_usod import SaliencyOutput
from .models.modeling_usod_sce import UsodSceModel
from .models.modeling_usod_sd import UsodSdModel
from .models.pipeline_usod import SalientObjectDetectionPipeline

_MODELS = {UsodSceConfig: UsodSceModel, UsodSdConfig: UsodSdModel}


def _register() -> None:
    processors = {"pil": UsodImageProcessor, "torchvision": UsodImageProcessor}
    UsodImageProcessor.register_for_auto_class()
    for config, model in _MODELS.items():
        config.register_for_auto_class()
        model.register_for_auto_class("AutoModel")
        AutoConfig.register(config.model_type, config, exist_ok=True)
        # Not under AutoModelForSemanticSegmentation: one channel has no argmax over classes, and the stock
        # `image-segmentation` pipeline calls every model from outside of transformers unsupported.
        AutoModel.register(config, model, exist_ok=True)
        AutoImageProcessor.register(config, image_processor_classes=processors, exist_ok=True)
        # There is none; without saying so, stock pipelines guess one and ask to trust its code.
        AutoVideoProcessor.register(config, video_processor_classes={}, exist_ok=True)
    PIPELINE_REGISTRY.register_pipeline(
        "salient-object-detection", SalientObjectDetectionPipeline, pt_model=AutoModel, type="image"
    )
    UsodConfig.has_registered_pipeline = True


_register()

__all__ = [
    "SaliencyOutput",
    "SalientObjectDetectionPipeline",
    "UsodAdapterConfig",
    "UsodImageProcessor",
    "UsodSceConfig",
    "UsodSceModel",
    "UsodSdConfig",
    "UsodSdModel",
    "backbone_preset",
    "checkpoint_names",
    "checkpoint_path",
]
