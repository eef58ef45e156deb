"""The programs in `scripts`: they help, end a mistake in one line, and the benchmarks run."""

import os
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
COMMANDS = {"evaluate.py", "label.py", "publish.py", "train.py"}  # as those of `hf-usod`
OWN = sorted({path.name for path in SCRIPTS.glob("*.py")} - COMMANDS)


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a script as `python scripts/NAME …` does, but in this process, which has imported torch."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [str(SCRIPTS / name), *map(str, words)])
        monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
        with patch.dict(os.environ), pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        return ended.value.code, capsys.readouterr()

    return run


@pytest.mark.parametrize("name", OWN)
def test_help(call, name):
    status, told = call(name, "--help")
    assert status == 0 and told.out.startswith(f"usage: {name} ") and not told.err


@pytest.mark.parametrize(
    "command",
    [
        "adapted.py score {gone} --name x --output {out} -- --images {photos} --masks {photos}",
        "adapted.py alone {gone} --output {out}",
        "adapted.py labels {gone} --name x --masks {photos} --output {out}",
        "adapted.py draw {gone} --table {out} --output {out}",
        "benchmark.py train --images {gone}",
        "benchmark.py predict --images {gone}",
        "benchmark.py predict --images {photos} --count 1 --model {gone}",  # told by a process of its own
        "benchmark_edges.py --photos {gone}",
        "benchmark_export.py {gone}",
        "composites.py cut --images {gone} --output {out}",
        "composites.py train --pieces {gone} --images {photos} --output {out}",
        "composites.py train --pieces {photos} --images {gone} --output {out}",
        "embed.py {gone} usod-rgb-lite",
        "embed.py {photos} {gone}",
        "fuzz.py --resume --output {gone}",
        "gallery.py {gone} --output {out}",
        "gallery.py {photos}/coffee.jpg --model {gone} --output {out}",
        "results.py {gone}",
        "reviewing.py train --name x --train {gone}:{photos} --test {photos}:{gone} --runs {out} --output {out}",
        "reviewing.py train --name x --train {pair} --test {photos}:{gone} --runs {out} --output {out}",
        "reviewing.py draw {gone} --table {out} --output {out}",
        "tiles.py --data x={gone}:{photos} --output {out}",
        "tiles.py --data x={photos}:{gone} --output {out}",
        "tiles.py --table {gone} --output {out}",
        "unlabelled.py --data x={photos}:{gone} --maps {out} --output {out}",
        "unlabelled.py --data x={pair}:{gone} --maps {out} --output {out}",
    ],
)
def test_what_is_not_there_is_told_in_a_line(call, tmp_path, command):
    name, *words = command.split()
    (tmp_path / "masks").mkdir()
    photos = SCRIPTS.parent / "space" / "examples"
    for photo in photos.glob("*.jpg"):
        (tmp_path / "masks" / photo.name).symlink_to(photo)
    places = {
        "gone": tmp_path / "gone",
        "out": tmp_path / "out",
        "photos": photos,
        "pair": f"{photos}:{tmp_path}/masks",
    }
    status, told = call(name, *(word.format(**places) for word in words))
    (line,) = told.err.splitlines()
    assert status == 1 and line.startswith(f"{name}: ") and str(places["gone"]) in line
    assert not places["out"].exists() and not places["gone"].exists()


@pytest.mark.parametrize(
    "command", ["composites.py cut --images {photos} --output {out}", "gallery.py {photos}/a.png --output {out}"]
)
def test_a_photo_that_cannot_be_read_is_named(call, tmp_path, command):
    (tmp_path / "a.png").write_bytes(b"no picture")
    name, *words = command.format(photos=tmp_path, out=tmp_path / "out").split()
    status, told = call(name, *words)
    assert status == 1 and told.err.splitlines()[-1].startswith(f"{name}: {tmp_path / 'a.png'}: cannot be read")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command, expected",
    [
        ("benchmark.py predict --rounds 0", "a whole number of at least 1"),
        ("reviewing.py train --name x --train a --test b:c --runs d --output e", "a: expected IMAGES:MASKS"),
        ("tiles.py --data x=a --output b", "x=a: expected NAME=IMAGES:MASKS"),
        ("tiles.py --data x=a:b --every 0 --output c", "a whole number of at least 1"),
        ("tiles.py --output b", "give --data, or --table"),
        ("unlabelled.py --data x=a --maps b --output c", "x=a: expected NAME=IMAGES:MASKS[:AUX]"),
    ],
)
def test_wrong_arguments(call, command, expected):
    status, told = call(*command.split())
    assert status == 2 and expected in told.err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, parts",
    [
        (
            "train --batch_size 2 --size 192 --num_images 2 --num_epochs 2 --decoder_steps 1 --detector_size 160",
            ["optimizer (ms)", "largest relative difference of a loss", "stage 2: usod-rgb-lite, all of it trained"],
        ),
        ("predict --count 2 --rounds 1 --batch_sizes 1", ["plain loop", "PyTorch no, batch 1"]),
        ("refiner --size 64 --batch_size 1 --repeats 1", ["batch 1: time (ms)", "largest difference of a value"]),
    ],
    ids=["train", "predict", "refiner"],
)
def test_benchmarks_run(call, command, parts):
    status, told = call("benchmark.py", *command.split(), "--threads", "1")
    assert status == 0 and not told.err
    assert all(part in told.out for part in parts)
