"""Runs that are killed at random instants, in either stage, and go on to the very weights and labels of one that was
not."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hf_usod.labels import LabelStore

NUM_KILLS = int(os.environ.get("HF_USOD_KILLS", "3"))

# Trains in forks of this process, which do not load everything anew: first one that is left alone, whose time says
# when others are killed; then others, each killed again and again until it is through. Arguments: how often to kill,
# the two folders, a seed, the command line.
KILLS = """
import os, random, shutil, signal, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)  # threads do not live on in a fork
import hf_usod.training.method
from hf_usod.cli import main

kills, whole, killed, seed, *words = sys.argv[1:]

def begin(*more):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(main(["train", *words, *more]))
    return child

def result(run):
    return (Path(run) / "model" / "model.safetensors").read_bytes()

began = time.monotonic()
assert os.waitpid(begin("--output_dir", whole), 0)[1] == 0
length = time.monotonic() - began
chance, hits = random.Random(int(seed)), 0
while hits < int(kills):
    shutil.rmtree(killed, ignore_errors=True)
    ended = False
    while not ended:
        child = begin("--output_dir", killed, "--resume")
        end = time.monotonic() + chance.uniform(0, length)
        while not ended and (hits == int(kills) or time.monotonic() < end):
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.001)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            hits += 1
    assert status == 0, status
    assert result(killed) == result(whole)
print("killed", hits)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
@pytest.mark.parametrize("stage", ["sce", "sd"])
def test_a_run_killed_at_random_instants_comes_to_the_same_weights(stage, photos, backbone, tmp_path):
    words = ["--stage", stage, "--images", photos, "--backbone", backbone, "--size", "64", "--num_epochs", "3"]
    words += ["--batch_size", "4", "--scale_steps", "1", "--scale_stride", "32", "--num_workers", "0"]
    words += ["--log_every", "1", "--save_every", "2", "--num_previews", "2"]
    if stage == "sd":
        labels = tmp_path / "labels"
        labels.mkdir()
        for photo in photos.iterdir():
            Image.open(photo).convert("L").point(lambda level: 255 * (level > 120)).save(labels / photo.name)
        words += ["--labels", labels, "--neck_channels", *"8888", "--fusion_channels", "8", "--context_channels", "8"]
    else:
        words += ["--decoder_channels", "8"]
    runs = [tmp_path / "whole", tmp_path / "killed"]
    told = subprocess.run(
        [sys.executable, "-c", KILLS, str(NUM_KILLS), *map(str, runs), "0", *map(str, words)],
        capture_output=True,
        text=True,
    )
    assert told.stdout.splitlines()[-1:] == [f"killed {NUM_KILLS}"], told.stdout + told.stderr
    if stage == "sd":
        stores = [LabelStore(run / "labels") for run in runs]
        assert all((stores[0].latest(index) == stores[1].latest(index)).all() for index in range(len(stores[0])))
    left = {path.name for path in runs[1].iterdir()} - {path.name for path in runs[0].iterdir()}
    assert left == set()


def test_labels_of_a_run_that_never_saved_are_made_anew(photos, backbone, tmp_path):
    """A run that was killed before its first checkpoint may be told other labels."""
    from hf_usod.cli import main

    words = ["--stage", "sd", "--images", photos, "--backbone", backbone, "--size", "64", "--num_epochs", "1"]
    words += ["--batch_size", "4", "--scale_steps", "1", "--scale_stride", "32", "--num_workers", "0", "--spr", "none"]
    words += ["--neck_channels", *"8888", "--fusion_channels", "8", "--context_channels", "8"]
    run = tmp_path / "run"
    for name, level in (("dark", 0), ("bright", 255)):
        (tmp_path / name).mkdir()
        for photo in photos.iterdir():
            Image.new("L", (96, 80), level).save(tmp_path / name / photo.name)
    told = [*words, "--output_dir", run, "--labels"]
    assert main(["train", *map(str, [*told, tmp_path / "dark"])]) == 0
    for path in [*run.glob("checkpoint-*"), run / "model"]:
        os.rename(path, path.with_name(f"{path.name}.gone"))
    assert main(["train", *map(str, [*told, tmp_path / "bright"])]) == 0
    store = LabelStore(run / "labels")
    assert np.mean([store.latest(index).mean() for index in range(len(store))]) == 1
