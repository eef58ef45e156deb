"""Mistakes that commands tell before they do anything."""

import os
import subprocess
import sys

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from hf_usod.cli import main
from hf_usod.errors import counted
from hf_usod.evaluation.reading import list_maps


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "command, message",
    [
        ("label {root}/clip.mp4 --output {root}/out", "clip.mp4: is a clip; label takes photos"),
        ("label {photos} --output {root}/dangling", "dangling is a link to what is not there"),
        (
            "publish dataset {photos} --images {photos} --license mit --repo a/b --dry-run --card nowhere",
            "--card nowhere: no such file",
        ),
        ("table tables/7 --images {photos} --output {root}/out --set sd.size=-1", "sd.size=-1: --size must be"),
        ("table tables/7 --images {photos} --output {root}/out --set mixed_precision=fp8", "invalid choice: 'fp8'"),
        ("table tables/7 --images {photos} --output {root}/dangling", "is a link to what is not there"),
        ("evaluate --predictions {photos} --masks {photos} --output {root}/dangling", "is a link to what is not there"),
        ("export usod-sce-lite --images {root}/torn --output {root}/out", "a.png: cannot be read as an image"),
        ("predict {photos} --output {root}/out --device nothing", "--device nothing: no such device. Give cpu"),
    ],
)
def test_told_at_once(photos, tmp_path, capsys, command, message):
    (tmp_path / "clip.mp4").write_bytes(b"no clip")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.png").write_bytes(b"no picture")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert main([word.format(root=tmp_path, photos=photos) for word in command.split()]) in (1, 2)
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and message in told[0], told
    assert not (tmp_path / "out").exists()


def test_one_photo_is_no_photos(photos, tmp_path, capsys):
    (photos / "a.png").write_bytes(b"none")
    command = ["predict", str(photos), "--model", "usod-sce-lite", "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "1 photo done" in said.out and "1 photo failed" in said.err
    assert counted(0, "clip") == "0 clips"


def test_maps_are_found_through_links(photos, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "linked").symlink_to(photos)
    (tmp_path / "maps" / "round").symlink_to(tmp_path / "maps")
    np.save(tmp_path / "maps" / "c.npy", np.zeros((4, 4)))
    assert set(list_maps(tmp_path / "maps")) == {"linked/a", "linked/b", "c"}


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "2"},
        {"RANK": "1"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "-1"},
    ],
)
def test_a_place_that_no_process_has_leaves_no_photo_out(photos, tmp_path, monkeypatch, capsys, environment):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["predict", str(photos), "--output", str(tmp_path / "out"), "--json", str(tmp_path / "l.jsonl")]) == 1
    assert "in the environment are no place among several processes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_of_few_letters_gets_the_table(photos, encoding):
    command = [sys.executable, "-m", "hf_usod.cli", "evaluate", "--predictions", str(photos), "--masks", str(photos)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr.decode(encoding)
    assert r"M \u2193" in done.stdout.decode(encoding)


@pytest.mark.parametrize(
    "option, name, own", [("--html", "page.html", "<!doctype html>"), ("--output", "scores.json", '[{"id": 1}]')]
)
def test_evaluate_replaces_what_it_wrote_and_nothing_else(photos, tmp_path, capsys, option, name, own):
    command = ["evaluate", "--predictions", str(photos), "--masks", str(photos), option, str(tmp_path / name)]
    (tmp_path / name).write_text(own)
    assert main(command) == 1
    assert f"{option} {tmp_path / name}: exists and " in capsys.readouterr().err
    assert (tmp_path / name).read_text() == own
    (tmp_path / name).unlink()
    assert main(command) == 0
    written = (tmp_path / name).read_bytes()
    assert main(command) == 0 and (tmp_path / name).read_bytes() == written


def test_a_report_replaces_no_file_of_the_users(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "notes.html").write_text("mine")
    assert main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "notes.html")]) == 1
    assert "exists and is no page of hf-usod" in capsys.readouterr().err
    assert (tmp_path / "notes.html").read_text() == "mine"


@pytest.mark.parametrize(
    "name, value", [("USE_CPU", "maybe"), ("DYNAMO_BACKEND", "zzz"), ("GRADIENT_ACCUMULATION_STEPS", "many")]
)
@pytest.mark.parametrize("command", ["train --images {photos} --output_dir {out}", "label {photos} --output {out}"])
def test_a_variable_that_accelerate_cannot_read_is_named(photos, tmp_path, monkeypatch, capsys, command, name, value):
    AcceleratorState._reset_state(reset_partial_state=True)
    for number in range(8):
        Image.new("RGB", (32, 32)).save(photos / f"{number}.png")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv(f"ACCELERATE_{name}", value)
    assert main(command.format(photos=photos, out=tmp_path / "out").split()) == 1
    AcceleratorState._reset_state(reset_partial_state=True)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-usod: ")]
    assert len(told) == 1 and f"ACCELERATE_{name}" in told[0] and "--mixed_precision" not in told[0], told
