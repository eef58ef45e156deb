"""`scripts/composites.py train`, as a user runs it: what a run that was stopped goes on from."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from hf_usod.data.composites import Cutout, write_cutout, write_ground

SCRIPT = Path(__file__).parents[2] / "scripts" / "composites.py"


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Four photos and what was cut out of them, as `cut` leaves it."""
    folder, random = tmp_path_factory.mktemp("pieces"), np.random.default_rng(0)
    for kind in ("photos", "objects", "grounds", "labels"):
        (folder / kind).mkdir()
    disc = np.hypot(*(np.mgrid[:320, :320] - 160)) < 90
    entries = []
    for number in range(4):
        photo = random.integers(0, 255, (320, 320, 3), dtype=np.uint8)
        Image.fromarray(photo).save(folder / "photos" / f"{number}.png")
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / "labels" / f"{number:05d}.png")
        write_cutout(folder / "objects" / f"{number:05d}.png", Cutout(np.dstack([photo, disc.astype(np.uint8) * 255])))
        write_ground(folder / "grounds" / f"{number:05d}_0.png", photo[:80])
        entries.append({"photo": f"0/{number}.png", "agreement": 0.95})
    (folder / "photos.json").write_text(json.dumps(entries))
    return folder


def train(pieces, output, *options):
    command = [sys.executable, SCRIPT, "train", "--pieces", pieces, "--images", pieces / "photos", "--output", output]
    small = ["--batch_size", "3", "--composites", "1", "--sides", "64", "96", "--save_steps", "2"]
    return subprocess.run([*map(str, command), *small, *options], capture_output=True, text=True, timeout=300)


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_a_run_goes_on_from_its_last_checkpoint_to_the_bit(pieces, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(pieces, whole, "--steps", "3").returncode == 0
    assert train(pieces, parts, "--steps", "2").returncode == 0
    assert sorted(path.name for path in whole.iterdir()) == ["checkpoint-2", "checkpoint-3"]

    resumed = train(pieces, parts, "--steps", "3", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    expected, other = weights(whole / "checkpoint-3"), weights(whole / "checkpoint-2")
    found = weights(parts / "checkpoint-3")
    assert all(found[name].equal(value) for name, value in expected.items())
    assert any(not other[name].equal(value) for name, value in expected.items())

    again = train(pieces, parts, "--steps", "4")
    assert again.returncode == 1 and "holds checkpoints" in again.stderr and "--resume" in again.stderr
    changed = train(pieces, parts, "--steps", "4", "--resume", "--seed", "5")
    assert changed.returncode == 1 and "other seed" in changed.stderr
    assert "Traceback" not in again.stderr + changed.stderr


def test_half_a_checkpoint_is_nothing_to_resume(pieces, tmp_path):
    (tmp_path / "run" / "checkpoint-2.writing").mkdir(parents=True)
    result = train(pieces, tmp_path / "run", "--resume")
    assert result.returncode == 1 and "no checkpoint" in result.stderr and "Traceback" not in result.stderr
