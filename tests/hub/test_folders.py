"""What is refused before anything is sent, and how users are told."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import hf_usod
from hf_usod.cli import main

SPACE = Path(__file__).parents[2] / "space"


@pytest.fixture
def labeled(tmp_path):
    for folder, suffix in (("images", "jpg"), ("labels", "png")):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 6)).save(tmp_path / folder / f"a.{suffix}")
    return tmp_path


def publish(capsys, *arguments, repo="tester/usod-rgb"):
    status = main(["publish", *map(str, arguments), "--repo", repo, "--dry-run"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_dry_run_needs_no_network(capsys):
    status, out, _ = publish(capsys, "model", "usod-rgb-lite")
    assert status == 0
    files = [line.split()[-1] for line in out.splitlines() if line.startswith("+")]
    assert {"README.md", "config.json", "model.safetensors", "pipeline_usod.py", "LICENSE"} <= set(files)
    assert "not compared" in out and "Nothing was sent" in out


def test_weights_that_do_not_fit(capsys, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(hf_usod.checkpoint_path(), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.startswith("decoder."))
    weights["no.such.module"] = weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    status, _, err = publish(capsys, "model", folder)
    assert status == 1 and "do not belong together" in err and name in err and "no.such.module" in err


def test_the_repositorys_own_space(capsys):
    if not (SPACE / "README.md").is_file():
        pytest.skip(f"{SPACE}: is no Space yet")
    status, out, err = publish(capsys, "space", SPACE)
    assert status == 0, err
    files = {line.split()[-1] for line in out.splitlines() if line.startswith("+")}
    assert {"README.md", "app.py", "requirements.txt", "examples/chelsea.jpg"} <= files
    assert not [name for name in files if "__pycache__" in name or name.split("/")[-1].startswith(".")]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["model", "no-such-model"], "no-such-model: is no folder."),
        (["model", "{root}"], "is no model; it needs config.json and model.safetensors"),
        (["adapter", "{root}"], "is no adapter; it needs adapter_config.json"),
        (["space", "{root}"], "is no Space; it needs a README.md with `sdk: gradio`"),
        (["metric", "{root}"], "has no usod-rgb.py"),
        (["model", "usod-rgb-lite", "--card", "{root}/none.md"], "none.md: no card"),
        (["dataset", "{root}/none", "--images", "{root}/images", "--license", "mit"], "none: no such folder"),
    ],
)
def test_refusals(capsys, labeled, arguments, message):
    status, out, err = publish(capsys, *(text.format(root=labeled) for text in arguments))
    assert status == 1 and message in err and out == ""


def test_no_card(capsys, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(hf_usod.checkpoint_path(), folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n[More Information Needed]")
    status, _, err = publish(capsys, "model", folder, repo="tester/mine")
    assert status == 1 and "no card. Write" in err
    (folder / "README.md").write_text("---\nlicense: mit\n---\nMy own.")
    assert publish(capsys, "model", folder, repo="tester/mine")[0] == 0


def test_base_that_only_exists_here(capsys, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "usod-sce-lite"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    status, out, _ = publish(capsys, "adapter", tmp_path, repo="tester/usod-rsi-lite")
    assert status == 0 and "names 'usod-sce-lite' as its base" in out and "--base" in out
    status, out, _ = publish(capsys, "adapter", tmp_path, "--base", "me/base", repo="tester/usod-rsi-lite")
    assert status == 0 and "Note" not in out


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda root: (root / "images" / "a.jpg").rename(root / "images" / "b.jpg"), "no images for 1 labels: a"),
        (lambda root: Image.new("L", (8, 6)).save(root / "images" / "a.png"), "labels cannot tell them apart"),
        (lambda root: Image.new("L", (6, 8)).save(root / "labels" / "a.png"), "a.png: is 6x8, but .*a.jpg is 8x6"),
        (lambda root: (root / "labels" / "a.png").write_bytes(b"text"), "a.png: cannot be read as an image"),
    ],
)
def test_pairs_that_do_not_fit(capsys, labeled, break_it, message):
    break_it(labeled)
    options = ["--images", labeled / "images", "--license", "cc-by-4.0"]
    status, _, err = publish(capsys, "dataset", labeled / "labels", *options)
    assert status == 1 and re.search(message, err)
