"""What needs no server of its own: rendering, names, jobs, the requirements; and files that are removed."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.repocard import RepoCard
from packaging.requirements import Requirement
from PIL import Image

from hf_usod.models.pipeline_usod import levels

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

SPACE = Path(__file__).parents[2] / "space"


@pytest.fixture(autouse=True)
def _space_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(SPACE)


def requirements():
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    return {item.name: item for item in map(Requirement, (line for line in lines if not line.startswith("#")))}


def test_the_requirements_are_the_packages():
    project = tomllib.loads((SPACE.parent / "pyproject.toml").read_text())["project"]
    needed = {item.name: item for item in map(Requirement, project["dependencies"])}
    extras = (line for extra in ("demo", "video") for line in project["optional-dependencies"][extra])
    package = needed | {item.name: item for item in map(Requirement, extras)}
    for name, item in requirements().items():
        assert name in package and item.specifier == package[name].specifier
    without = {"jinja2", "pyyaml", "tensorboard"}  # for cards, recipes and training
    assert needed.keys() - requirements().keys() <= without


def test_the_front_matter():
    data = RepoCard.load(SPACE / "README.md").data.to_dict()
    assert data["sdk"] == "gradio" and data["license"] == "apache-2.0" and (SPACE / data["app_file"]).is_file()
    assert data["sdk_version"] in requirements()["gradio"].specifier
    assert (SPACE / "hf_usod").samefile(SPACE.parent / "hf_usod")


@pytest.mark.parametrize(
    "threshold, edge, expected",  # of saliency 0, 0.2, 0.4, 0.6, 1
    [
        (0.5, "sharp", [0, 0, 0, 255, 255]),
        (0.2, "sharp", [0, 0, 255, 255, 255]),
        (1.0, "sharp", [0, 0, 0, 0, 0]),
        (0.5, "soft", [0, 51, 102, 153, 255]),
        (0.1, "soft", [0, 51, 102, 153, 255]),
    ],
)
def test_opacity(threshold, edge, expected):
    from rendering import opacity

    saliency = Image.fromarray(np.array([[0, 51, 102, 153, 255]], np.uint8))
    assert np.abs(np.asarray(opacity(saliency, threshold, edge))[0].astype(int) - expected).max() <= 1


def test_backgrounds():
    from rendering import cut_photo, on_checkerboard

    photo = Image.new("RGB", (2, 1), "red")
    saliency = Image.fromarray(np.array([[255, 0]], np.uint8))
    assert [cut_photo(photo, saliency, 0.5).getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0, 255), (255, 0, 0, 0)]
    for color in ("#0000ff", "blue", "rgba(0, 0, 254.6, 1)"):
        picture = cut_photo(photo, saliency, 0.5, background=color)
        assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (0, 0, 255)]
    with pytest.raises(ValueError, match="color"):
        cut_photo(photo, saliency, 0.5, background="color")
    assert on_checkerboard(cut_photo(photo, saliency, 0.5)).getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_cutouts_are_those_of_the_command(mode):
    from hf_usod.inference import Rendering
    from rendering import cut_photo

    random = np.random.default_rng(0)
    photo = Image.fromarray(random.integers(0, 256, (6, 8, len(mode)), np.uint8))
    saliency = torch.from_numpy(random.integers(0, 256, (6, 8)).astype(np.float32) / 255)
    for background in (None, "#00ff7f"):
        ours = cut_photo(photo, levels(saliency), 0.3, background=background)
        expected = Rendering(background=background).picture("cutout", photo, saliency)
        assert ours.mode == expected.mode and np.array_equal(ours, expected)


def test_a_background_is_no_file_of_the_server():
    from rendering import cut_photo

    photo = Image.open(SPACE / "examples" / "coffee.jpg")
    with pytest.raises(ValueError, match="coffee"):
        cut_photo(photo, Image.new("L", photo.size), 0.5, background=str(SPACE / "examples" / "coffee.jpg"))


def test_names_in_a_zip():
    from batch_tab import unique_stems

    given = ["/1/a.jpg", "/2/A.png", "/3/b.jpg", "/4/a_2.jpg", "/5/a.jpg"]
    assert unique_stems(given) == ["a", "A_2", "b", "a_2_2", "a_3"]


def test_jobs_of_others_go_on():
    from jobs import Jobs

    jobs = Jobs()
    with jobs.running("me") as mine, jobs.running("me") as other, jobs.running("you") as yours:
        assert jobs.stop("me") == 2
        assert mine.is_set() and other.is_set() and not yours.is_set()
    assert jobs.stop("me") == jobs.stop("you") == 0


@pytest.mark.slow
def test_uploads_and_results_are_removed(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "files"))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.delitem(sys.modules, "app", raising=False)  # the metric's, if its test came before
    from gradio_client import Client, handle_file

    import app

    demo = app.build()
    demo.delete_cache = (1, 2)
    _, url, _ = demo.launch(**app.LAUNCH, prevent_thread_lock=True, quiet=True)
    try:
        files = lambda: {path for path in (tmp_path / "files").rglob("*") if path.is_file()}  # noqa: E731
        at_first = files()
        client = Client(url, verbose=False, download_files=tmp_path / "got")
        client.predict(handle_file(SPACE / "examples" / "coffee.jpg"), api_name="/predict")
        deadline = time.monotonic() + 120
        while (left := files() - at_first) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not left
        assert at_first <= files()  # the examples stay
    finally:
        demo.close()
        sys.modules.pop("app", None)


@pytest.mark.slow
def test_an_adapter_made_meanwhile_is_offered(adapter, tmp_path):
    """Also another one by the same name, as a further training makes it."""
    import shutil

    from safetensors.torch import load_file, save_file

    from engine import Engine

    engine, photo = Engine("cpu"), Image.open(SPACE / "examples" / "coffee.jpg")
    other = shutil.copytree(adapter, tmp_path / "other")
    file = other / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(value) for name, value in load_file(file).items()}, file)

    def saliency():
        return np.asarray(
            engine.detector(engine.models[0], "mine")(photo, outputs=["saliency"])["saliency"], np.float32
        )

    engine.offer("mine", str(adapter))
    assert engine.detector(engine.models[0]).takes_aux is engine.takes_aux(engine.models[0])
    assert "mine" in engine.adapters(engine.models[0])
    first = saliency()
    engine.offer("mine", str(adapter))
    assert np.array_equal(saliency(), first)
    engine.offer("mine", str(other))
    assert np.abs(saliency() - first).mean() > 1
