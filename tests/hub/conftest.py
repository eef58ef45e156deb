"""A local Hub, and the real client to talk to it."""

import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

sys.path.insert(0, str(Path(__file__).parent))

from local_hub import LocalHub


@pytest.fixture
def hub():
    with LocalHub() as hub:
        yield hub


@pytest.fixture
def client(hub, monkeypatch):
    """Makes a client with a token."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the other tests must not reach any network
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return lambda token="writer", endpoint=hub.endpoint: HfApi(endpoint=endpoint, token=token)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Something to publish: a regular file, one in a folder, and one for LFS."""
    folder = tmp_path / "folder"
    (folder / "examples").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n")
    (folder / "examples" / "terms.txt").write_text("public domain")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    return folder
