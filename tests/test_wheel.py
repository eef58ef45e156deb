"""The package as it is installed from a wheel, outside the repository: whole, and usable from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hf_usod

ROOT = Path(__file__).parents[1]


def _run(command: list[str | Path], cwd: Path, **environment: str) -> str:
    ran = subprocess.run(list(map(str, command)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _build(folder: Path, **environment: str) -> Path:
    """A wheel, from a copy of what belongs to the repository: building leaves files behind."""
    source, output = folder / "source" / "hf_usod", folder / "wheel"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "*.so", "runs", "out")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "-w", output]
    _run(pip, source, **environment)
    return next(output.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return _build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs the wheel's `hf-usod` in a folder that has nothing to do with the repository."""
    target, cwd = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", target, wheel]
    _run(pip, cwd)

    def run(*words: str | Path) -> str:
        return _run([sys.executable, "-m", "hf_usod", *words], cwd, PYTHONPATH=str(target), PYTHONSAFEPATH="1")

    run.target, run.cwd = target, cwd
    return run


def _compiled(wheel: Path) -> list[str]:
    sources = ("hf_usod/models/_pixel_refiner", "hf_usod/training/_depthwise")
    return [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(sources)]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="no compiler")
def test_what_is_in_c_is_compiled(wheel):
    assert len(_compiled(wheel)) == 2


@pytest.mark.slow
def test_the_package_is_built_without_a_compiler(tmp_path):
    assert not _compiled(_build(tmp_path, CC="no-such-compiler"))


@pytest.mark.slow
def test_the_wheel_is_whole(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, place, kind in (
        ("hf_usod", "hf_usod", "*.py"),
        ("hf_usod", "hf_usod", "*.css"),
        ("hf_usod", "hf_usod", "*.js"),
        ("model_cards", "hf_usod/cards", "*.*"),
        ("scripts/recipes", "hf_usod/recipes", "*.yaml"),
        ("space/examples", "hf_usod/examples", "*.*"),
        ("hf_usod/checkpoints", "hf_usod/checkpoints", "*.*"),
    ):
        files = [path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob(kind)]
        assert files and {f"{place}/{name}" for name in files} <= names
    results = {f"hf_usod/results/{path.name}" for path in (ROOT / "results").glob("*.json")}
    assert results | {"hf_usod/LICENSE", "hf_usod/py.typed"} <= names
    assert f"hf_usod-{hf_usod.__version__}-" in wheel.name


@pytest.mark.slow
def test_the_commands_of_the_readme_work_from_a_wheel(installed, tmp_path):
    assert installed("--version") == f"hf-usod {hf_usod.__version__}\n"
    photo = installed.target / "hf_usod" / "examples" / "chelsea.jpg"
    installed("predict", photo, "--output", tmp_path / "out")
    assert (tmp_path / "out" / "chelsea.png").is_file()
    (tmp_path / "photos").mkdir()
    (tmp_path / "labels").mkdir()
    shutil.copyfile(photo, tmp_path / "photos" / "chelsea.jpg")
    shutil.copyfile(tmp_path / "out" / "chelsea.png", tmp_path / "labels" / "chelsea.png")
    words = ("--images", photo.parent, "--output_dir", tmp_path / "run", "--batch_size", "4", "--dry-run")
    plan = installed("train", "--transfer", "--recipe", "transfer-lite", "--refine", "pixel", *words)
    assert "transfer" in plan and not (tmp_path / "run").exists()
    model = installed("publish", "model", "usod-rgb-lite", "--repo", "me/usod-rgb-lite", "--dry-run")
    assert all(name in model for name in ("LICENSE", "README.md", "examples/chelsea.jpg", "modeling_usod_sd.py"))
    adapter = installed("publish", "adapter", "usod-steel-lite", "--repo", "me/steel", "--dry-run")
    assert "adapter_model.safetensors" in adapter and "LICENSE" in adapter
    words = ("--images", tmp_path / "photos", "--license", "cc-by-4.0", "--repo", "me/labels", "--dry-run")
    assert "train-00000-of-00001.parquet" in installed("publish", "dataset", tmp_path / "labels", *words)


@pytest.mark.slow
def test_recipes_are_found_by_name(installed):
    code = "from hf_usod.assets import recipe_path; print(recipe_path('usod-rgb-lite'), recipe_path('tables/7'))"
    environment = {"PYTHONPATH": str(installed.target), "PYTHONSAFEPATH": "1"}
    paths = _run([sys.executable, "-c", code], installed.cwd, **environment).split()
    recipes = installed.target / "hf_usod" / "recipes"
    assert paths == [str(recipes / "usod-rgb-lite.yaml"), str(recipes / "tables" / "7.yaml")]


@pytest.mark.slow
def test_without_the_extras_predict_works_and_the_others_say_what_to_install(tmp_path):
    absent = ("datasets", "py_sod_metrics", "scipy", "cv2", "av", "matplotlib", "gradio", "tensorboard")
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); from hf_usod.cli import main; sys.exit(main())"

    def run(*words: str | Path) -> tuple[int, str]:
        command = [sys.executable, "-c", code, *map(str, words)]
        ran = subprocess.run(command, capture_output=True, text=True)
        return ran.returncode, ran.stderr

    photo = ROOT / "space" / "examples" / "chelsea.jpg"
    status, message = run("predict", photo, "--output", tmp_path / "out")
    assert status == 0 and (tmp_path / "out" / "chelsea.png").is_file(), message
    status, message = run("evaluate", "--predictions", tmp_path / "out", "--masks", tmp_path / "out")
    assert status == 1 and 'pip install "hf_usod[evaluate]"' in message
    (tmp_path / "clip.mp4").write_bytes(b"")
    status, message = run("predict", tmp_path / "clip.mp4", "--output", tmp_path / "clips")
    assert status == 1 and 'pip install "hf_usod[video]"' in message
    words = ("--images", tmp_path, "--license", "mit", "--repo", "me/labels", "--dry-run")
    status, message = run("publish", "dataset", tmp_path / "out", *words)
    assert status == 1 and 'pip install "hf_usod[evaluate]"' in message
