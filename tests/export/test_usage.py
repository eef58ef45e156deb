"""What the documentation shows runs as it stands there: in Python without PyTorch, and in Chromium."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_usod.assets import EXAMPLES
from hf_usod.export.usage import SNIPPET
from hf_usod.loading import load_pipeline

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
MODULES = [ROOT / "node_modules", *map(Path, os.environ.get("NODE_PATH", "").split(os.pathsep))]
WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "hf_usod"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
"""


def shown(language):
    (code,) = (code for code in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL))
    return code


def saliency(folder, photo):
    return np.asarray(load_pipeline(folder)(photo, outputs=["saliency"])["saliency"]).astype(int)


def test_python_without_pytorch(exported, tmp_path):
    """Its opacity is the pipeline's map, but for a level of rounding."""
    assert shown("python") == SNIPPET and f"```python\n{SNIPPET}```" in (exported / "README.md").read_text()
    shutil.copytree(exported, tmp_path / "exported")
    shutil.copyfile(EXAMPLES / "chelsea.jpg", tmp_path / "photo.jpg")
    subprocess.run([sys.executable, "-c", WITHOUT + SNIPPET], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "cutout.png") as cutout:
        opacity = np.asarray(cutout.getchannel("A")).astype(int)
    expected = saliency(exported, tmp_path / "photo.jpg")
    assert np.ptp(expected) > 50 and np.abs(opacity - expected).max() <= 1


@pytest.fixture
def page(browser, exported, tmp_path):
    """The page of the documentation, served and open."""
    modules = next((folder for folder in MODULES if (folder / "onnxruntime-web" / "package.json").is_file()), None)
    if modules is None:
        pytest.skip("needs onnxruntime-web: npm install onnxruntime-web, here or where NODE_PATH says")
    (tmp_path / "index.html").write_text(shown("html"))
    (tmp_path / "exported").symlink_to(exported)
    (tmp_path / "node_modules").symlink_to(modules.resolve())
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/index.html")
        page.wait_for_function("document.title == 'Ready'")
        yield page
        page.close()
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *args):
        pass


def opacity(page, photo):
    page.set_input_files("input", photo)
    page.wait_for_function("document.title == 'Done'")
    levels = page.evaluate(
        """() => { document.title = 'Ready'; const canvas = document.querySelector('canvas');
           const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
           return [canvas.height, canvas.width, ...image.data.filter((_, place) => place % 4 == 3)]; }"""
    )
    return np.array(levels[2:]).reshape(levels[:2])


def test_a_browser(page, exported, tmp_path):
    """Of a photo of the model's size the map is Python's, but for rounding; of others it resizes in another way."""
    photo = Image.open(EXAMPLES / "chelsea.jpg")
    photo.resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / "small.png")
    expected = saliency(exported, tmp_path / "small.png")
    assert np.abs(opacity(page, tmp_path / "small.png") - expected).max() <= 2
    photo.save(tmp_path / "photo.png")
    found, expected = opacity(page, tmp_path / "photo.png"), saliency(exported, tmp_path / "photo.png")
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() / 255 < 0.1  # of an untrained network, which minds
