"""Synthetic photos and a tiny backbone, for runs of a few steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetBackbone

from hf_usod.conversion import Pretrained
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.training.arguments import CueExtractorArguments

NUM_PHOTOS = 13  # three batches of four, and one left over


@pytest.fixture(autouse=True, scope="module")
def _on_cpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield


def write_photo(path: Path, seed: int) -> None:
    """A bright ellipse on a dark, noisy ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:80, :96]
    cy, cx = random.uniform([30, 30], [50, 66])
    inside = ((y - cy) / random.uniform(12, 24)) ** 2 + ((x - cx) / random.uniform(12, 24)) ** 2 < 1
    colors = random.integers([[0, 0, 0], [150, 100, 100]], [[80, 80, 80], [255, 255, 255]])
    photo = np.where(inside[..., None], colors[1], colors[0]) + random.normal(0, 10, (80, 96, 3))
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(NUM_PHOTOS):
        write_photo(folder / f"photo_{index:02d}.png", index)
    return folder


@pytest.fixture(scope="session")
def backbone(tiny_backbone, tmp_path_factory) -> Path:
    """A folder as `hf-usod convert` writes it."""
    torch.manual_seed(0)
    model = ResNetBackbone(tiny_backbone())
    model.train()(torch.randn(4, 3, 64, 64))  # running statistics that are not the initial ones
    folder = tmp_path_factory.mktemp("backbone")
    Pretrained(model.eval(), UsodImageProcessor()).save_pretrained(folder)
    return folder


@pytest.fixture
def short_run(photos, backbone, tmp_path) -> CueExtractorArguments:
    """Stage 1 in six steps, in two epochs; each is logged."""
    return CueExtractorArguments(
        images=[str(photos)],
        output_dir=str(tmp_path / "run"),
        backbone=str(backbone),
        size=64,
        num_epochs=2,
        batch_size=4,
        scale_steps=[1],
        scale_stride=32,
        decoder_channels=8,
        num_workers=0,
        log_every=1,
        num_previews=2,
    )
