"""A model small enough to run in milliseconds, and a folder it is saved in."""

import pytest
import torch
from transformers import ResNetConfig

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel


def _tiny_config(**kwargs) -> UsodSceConfig:
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return UsodSceConfig(backbone_config=backbone, decoder_channels=8, **kwargs)


@pytest.fixture(scope="session")
def tiny_config():
    """Makes the configuration of a tiny model."""
    return _tiny_config


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> str:
    """A folder with a tiny model and its processor."""
    folder = str(tmp_path_factory.mktemp("checkpoint"))
    torch.manual_seed(0)
    UsodSceModel(_tiny_config()).save_pretrained(folder)
    UsodImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder
