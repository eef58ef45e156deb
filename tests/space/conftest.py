"""The app in a process of its own, with a tiny adapter beside whatever is embedded."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hf_usod import UsodAdapterConfig
from hf_usod.constants import DEFAULT_MODEL
from hf_usod.loading import load_pipeline

SPACE = Path(__file__).parents[2] / "space"
START_SECONDS = 600  # a busy machine takes a while to import all of it


@dataclass
class App:
    """The running app: where it is, which process, and where it keeps files."""

    url: str
    pid: int
    folder: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def adapter(tmp_path_factory) -> Path:
    """An adapter of the default model that makes a difference everyone can see."""
    from peft import get_peft_model

    torch.manual_seed(2)
    model = load_pipeline(DEFAULT_MODEL, device="cpu").model
    model.name_or_path = DEFAULT_MODEL
    adapted = get_peft_model(model, UsodAdapterConfig())
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.ndim == 4:  # fresh ones whisper
            torch.nn.init.kaiming_normal_(parameter).data.mul_(2)
    folder = tmp_path_factory.mktemp("adapters") / "tiny-test"
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def app(adapter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    port = _free_port()
    environment = os.environ | {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "files"),
        "USOD_SPACE_ADAPTERS": str(adapter),
        "XDG_CACHE_HOME": str(folder / "cache"),  # where the workbench keeps what was open last
    }
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, str(SPACE / "app.py")], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/config", timeout=30).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"The app did not start:\n{(folder / 'log').read_text()}")
                time.sleep(0.5)
        yield App(url, process.pid, folder / "files")
    finally:
        process.terminate()
        process.wait(60)
