"""Settings of all tests: no network, and the same random numbers in every run."""

import importlib.util
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # beside others: one thread, also of what tests start
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from PIL import Image, PngImagePlugin
from transformers import ResNetConfig

_LIMITS = [
    (module, name, getattr(module, name))
    for module, name in (
        (Image, "MAX_IMAGE_PIXELS"),
        (PngImagePlugin, "MAX_TEXT_CHUNK"),
        (PngImagePlugin, "MAX_TEXT_MEMORY"),
    )
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _pillow_has_its_limits(monkeypatch):
    """Commands lift them for their process, which here is that of all tests."""
    for module, name, limit in _LIMITS:
        monkeypatch.setattr(module, name, limit)


@pytest.fixture(autouse=True)
def _the_same_numbers_on_every_cpu(monkeypatch):
    """Predictions are in single precision, also where bf16 is faster."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by playwright."""
    reason = "browser tests need playwright: pip install playwright"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("browser tests need Chromium (Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


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
def without_package() -> str:
    """Python code after which a process cannot import hf_usod."""
    return """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_usod":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="session")
def released():
    """The module `released.py`: inputs, and the numbers of the authors' released program."""
    spec = importlib.util.spec_from_file_location("released", Path(__file__).with_name("released.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
