"""Tiny models in the place of those that come with the package, and folders of small photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel, UsodSdConfig, UsodSdModel
from hf_usod.adapting import candidates
from hf_usod.adapting.candidates import DEFAULT, Candidate

NUM_PHOTOS = 24


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def write_photo(path: Path, seed: int) -> None:
    """A bright ellipse on a dark, noisy ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:72, :80]
    cy, cx = random.uniform([26, 26], [46, 54])
    inside = ((y - cy) / random.uniform(10, 20)) ** 2 + ((x - cx) / random.uniform(10, 20)) ** 2 < 1
    photo = np.where(inside[..., None], [220, 180, 120], [40, 60, 50]) + random.normal(0, 10, (72, 80, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path) -> Path:
    for number in range(NUM_PHOTOS):
        write_photo(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png", number)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def tiny_models(tiny_backbone, tmp_path_factory) -> tuple[Path, Path]:
    """A detector and a cue extractor."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    backbone = tiny_backbone(stem=True)
    widths = {"neck_channels": [8] * 4, "fusion_channels": 8, "context_channels": 8}
    detector = UsodSdModel(UsodSdConfig(backbone_config=backbone, aux_backbone_config=backbone, **widths))
    cues = UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8))
    for name, model in (("detector", detector), ("cues", cues)):
        model.save_pretrained(root / name)
        UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(root / name)
    return root / "detector", root / "cues"


@pytest.fixture
def small(tiny_models, monkeypatch) -> None:
    """Adaptations of tiny models in a few steps."""
    detector, cues = map(str, tiny_models)
    monkeypatch.setattr(candidates, "DEFAULT_MODEL", detector)
    monkeypatch.setattr(candidates, "DEFAULT_CUE_EXTRACTOR", cues)
    monkeypatch.setattr(candidates, "SIZE", 128)
    monkeypatch.setattr(candidates, "STRIDE", 32)
    monkeypatch.setattr(candidates, "EPOCHS", 1)
    monkeypatch.setattr(candidates, "STEPS", 1)
    monkeypatch.setattr(candidates, "label_refinement", lambda: "none")
    monkeypatch.setattr(
        "hf_usod.adapting.adapt.embedded", lambda has_maps: [Candidate(DEFAULT, detector, None, "tiny")]
    )
