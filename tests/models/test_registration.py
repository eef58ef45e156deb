import importlib
import subprocess
import sys

import pytest
from transformers import AutoImageProcessor, AutoModel

import hf_usod


def test_public_names():
    assert all(hasattr(hf_usod, name) for name in hf_usod.__all__)


def test_reloading_keeps_the_registrations(checkpoint):
    importlib.reload(hf_usod)
    assert type(AutoModel.from_pretrained(checkpoint)) is hf_usod.UsodSceModel
    for backend in (None, "pil", "torchvision"):
        assert type(AutoImageProcessor.from_pretrained(checkpoint, backend=backend)) is hf_usod.UsodImageProcessor


def test_import_is_light():
    code = "import sys, hf_usod; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hf_usod.models.modeling_usod_sce" in modules
    heavy = {"timm", "datasets", "hf_usod.conversion", "hf_usod.training", "hf_usod.evaluation"}
    assert not heavy & set(modules)


def test_checkpoint_path(tmp_path, monkeypatch):
    for name in ("usod-b", "usod-a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    monkeypatch.setattr("hf_usod.assets.CHECKPOINTS", tmp_path)
    assert hf_usod.checkpoint_path("usod-a") == tmp_path / "usod-a"
    for name in ("usod-c", "", ".", "../usod-a"):
        with pytest.raises(ValueError, match="usod-a, usod-b"):
            hf_usod.checkpoint_path(name)
