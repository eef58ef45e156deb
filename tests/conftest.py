"""Settings of all tests: no network, and the same random numbers in every run."""

import importlib.util
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from transformers import ResNetConfig


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _tiny_backbone(stem: bool = False) -> ResNetConfig:
    return ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=[*(["stem"] if stem else []), "stage1", "stage2", "stage3", "stage4"],
    )


@pytest.fixture(scope="session")
def tiny_backbone():
    """Makes the configuration of a backbone that runs in milliseconds, with or without its stem's features."""
    return _tiny_backbone


@pytest.fixture(scope="session")
def released():
    """The module `released.py`: inputs, and the numbers of the authors' released program."""
    spec = importlib.util.spec_from_file_location("released", Path(__file__).with_name("released.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
