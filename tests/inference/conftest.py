"""What tests of the way from file to file share."""

import importlib
from contextlib import nullcontext

import pytest
import torch

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel


@pytest.fixture(scope="session")
def model(tiny_backbone, tmp_path_factory):
    """A small model of random weights: what is tested here is the way from file to file."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).save_pretrained(folder)
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def as_loaded(monkeypatch):
    """The model that is called is the one that was loaded, and it is called for images alone, a batch at a time."""
    module = importlib.import_module("hf_usod.inference.predict")  # the function of this name hides it
    monkeypatch.setattr(module, "at_full_speed", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
