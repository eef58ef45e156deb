"""The fast copy of a model gives the same maps, and leaves the pipeline as it was."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hf_usod import (
    SalientObjectDetectionPipeline,
    UsodAdapterConfig,
    UsodError,
    UsodImageProcessor,
    UsodSdConfig,
    UsodSdModel,
)
from hf_usod.inference import Rendering, predict
from hf_usod.inference.speed import at_full_speed

EXAMPLES = Path(__file__).parents[2] / "space" / "examples"


@pytest.fixture
def detect(tiny_backbone):
    torch.manual_seed(0)
    config = UsodSdConfig(
        backbone_config=tiny_backbone(),
        aux_backbone_config=tiny_backbone(),
        neck_channels=[8, 8, 8, 8],
        fusion_channels=8,
        context_channels=8,
    )
    model = UsodSdModel(config)
    with torch.no_grad():  # norms that do something, and maps that are not all alike
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 2)
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    processor = UsodImageProcessor(size={"height": 64, "width": 64})
    return SalientObjectDetectionPipeline(model=model.eval(), image_processor=processor)


@pytest.mark.parametrize("adapted", [False, True])
def test_same_maps_without_norms(detect, adapted):
    if adapted:
        detect.model.add_adapter(UsodAdapterConfig(init_weights="copy"))
        detect.model.eval()
    model, images = detect.model, torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = model(pixel_values=images)
        with at_full_speed(detect):
            assert detect.model is not model
            assert not any(isinstance(module, nn.BatchNorm2d) for module in detect.model.modules())
            outputs = detect.model(pixel_values=images)
    assert detect.model is model and any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert expected.logits.std() > 0.1
    torch.testing.assert_close(outputs.logits.sigmoid(), expected.logits.sigmoid(), rtol=0, atol=1e-5)


def test_the_pipeline_has_its_own_model_back_after_an_error(detect):
    model = detect.model
    with pytest.raises(KeyError), at_full_speed(detect):
        raise KeyError
    assert detect.model is model


@pytest.mark.parametrize("few", [0, 20])  # folded, and as it is
def test_maps_do_not_depend_on_the_size_of_a_batch(detect, tmp_path, monkeypatch, few):
    monkeypatch.setattr(importlib.import_module("hf_usod.inference.predict"), "FEW", few)
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(5):
        Image.fromarray(random.integers(0, 256, (50 + number, 70, 3), np.uint8)).save(tmp_path / "in" / f"{number}.png")
    plain = Rendering(("saliency",), edges="none")
    for size in (1, 2, 5):
        assert (
            predict(detect, [tmp_path / "in"], tmp_path / str(size), plain, batch_size=size, progress=False).done == 5
        )
    for number in range(5):
        one, *others = (
            np.asarray(Image.open(tmp_path / str(size) / f"{number}.png")).astype(int) for size in (1, 2, 5)
        )
        assert one.std() > 1 and max(abs(one - other).max() for other in others) <= 1  # of 255 levels, where they round


def test_bf16_is_close_and_other_precisions_are_refused(detect):
    images, model = torch.randn(2, 3, 64, 96), detect.model
    with torch.inference_mode():
        expected = model(pixel_values=images).logits.sigmoid()
        with at_full_speed(detect, "bf16"):
            actual = detect.model(pixel_values=images).logits
    assert actual.dtype == torch.bfloat16 and 0 < (actual.float().sigmoid() - expected).abs().mean() < 0.02
    with pytest.raises(UsodError, match="fp16: needs a GPU"), at_full_speed(detect, "fp16"):
        pass


@pytest.mark.parametrize("has, dtype", [("avx512_bf16", torch.bfloat16), ("amx_bf16", torch.bfloat16), ("avx2", None)])
def test_a_cpu_that_multiplies_in_bf16_does(detect, monkeypatch, has, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True, "fma3": True}, raising=False)
    with torch.inference_mode(), at_full_speed(detect, "auto"):
        assert detect.model(pixel_values=torch.randn(1, 3, 64, 96)).logits.dtype == (dtype or torch.float32)
    detect.model = nn.Identity()  # of another runtime
    with at_full_speed(detect, "auto"):
        pass


@pytest.mark.slow
def test_processes_share_the_photos(tmp_path):
    """Two real processes do what one does, whatever the other has written by then."""
    command = [sys.executable, "-m", "hf_usod", "predict", str(EXAMPLES), "--save", "mask", "--edges", "none"]
    assert subprocess.run([*command, "--output", tmp_path / "one"], capture_output=True).returncode == 0
    lines = tmp_path / "lines.jsonl"
    for rank in ("1", "0"):  # one after the other: the second finds results of the first
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        words = [*command, "--output", tmp_path / "two", "--json", lines]
        assert subprocess.run(words, env=os.environ | place, capture_output=True).returncode == 0
    done = [(tmp_path / f"lines.{rank}.jsonl").read_text().count('"seconds"') for rank in (0, 1)]
    assert done == [3, 2]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
