"""Tiny models, exported once for all tests."""

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("onnxscript", reason='exporting needs: pip install "hf_usod[onnx]"')

from hf_usod import UsodImageProcessor, UsodSdConfig, UsodSdModel
from hf_usod.assets import EXAMPLES
from hf_usod.export.exporting import export_model
from hf_usod.loading import Loaded


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.jpg"))]


@torch.no_grad()
def _spread(model: UsodSdModel, images: torch.Tensor) -> None:
    """Gives the logits, before refinement, mean 0 and deviation 2."""
    refine, model.config.refine_maps = model.config.refine_maps, False
    score = model.decoder.score
    logits = model(images).logits
    score.weight.mul_(2 / logits.std())
    score.bias.copy_(-2 * logits.mean() / logits.std())
    model.config.refine_maps = refine


@pytest.fixture(scope="session")
def tiny(tiny_backbone, photos):
    """Makes a tiny detector, whose maps are no constants, and its processor."""

    def make(**options) -> Loaded:
        torch.manual_seed(0)
        config = UsodSdConfig(
            backbone_config=copy.deepcopy(tiny_backbone()),
            aux_backbone_config=tiny_backbone(),
            neck_channels=[6, 8, 10, 12],
            fusion_channels=6,
            context_channels=8,
            **options,
        )
        model = UsodSdModel(config).eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if tensor.ndim == 4 and "backbone" not in name:
                    torch.nn.init.kaiming_normal_(tensor)
                elif "offsets" in name:
                    tensor.normal_()
        processor = UsodImageProcessor(size={"height": 96, "width": 96})
        _spread(model, processor(photos, return_tensors="pt")["pixel_values"])
        return Loaded(model, processor)

    return make


@pytest.fixture(scope="session")
def detector(tiny) -> Loaded:
    return tiny(refine_maps=True)


@pytest.fixture(scope="session")
def exported(detector, photos, tmp_path_factory) -> Path:
    """The detector, of images alone, in single precision."""
    folder = tmp_path_factory.mktemp("exported") / "exported"
    export_model(*detector, folder, photos)
    return folder
