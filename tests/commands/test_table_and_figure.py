"""`hf-usod table` and `hf-usod figure`: mistakes end in a line that says the way out, before anything is made."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import hf_usod.commands
from hf_usod.assets import checkpoint_path
from hf_usod.cli import main

EXTREMES = "extremes --images {data}/RGB --masks {data}/GT --maps {data}/maps --scores"
LIGHT = ("argparse", "collections", "csv", "logging", "os", "pathlib", "shlex", "sys", "tempfile", "typing")


@pytest.fixture
def data(tmp_path):
    """Four photos, masks and maps; a table of labels that are there, and scores of images."""
    random = np.random.default_rng(0)
    for number in range(4):
        mask = np.zeros((20, 30), bool)
        mask[3:12, 4 : 20 + number] = True
        for folder, levels in (
            ("RGB", random.integers(0, 256, (20, 30, 3))),
            ("GT", mask * 255),
            ("maps", mask * 200 + random.integers(0, 50, mask.shape)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(levels.astype(np.uint8)).save(tmp_path / f"{folder}/{number}.png")
    recipe = {
        "title": "Labels",
        "variants": {"one": "say {here}"},
        "seeds": [0, 1],
        "evaluate": [{"name": "photos", "predictions": "{data}/maps", "masks": "{data}/GT"}],
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(recipe))
    rows = [f"m,photos,{number},0.{number}" for number in range(4)]
    (tmp_path / "images.csv").write_text("\n".join(["model,dataset,id,mae", *rows, "n,photos,0,0.1"]) + "\n")
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "run").mkdir()
    return tmp_path


def run(data, words):
    return main(words.format(data=data).split())


def test_a_table_of_labels(data, capsys):
    words = f"table {data}/table.yaml --data {data} --output {data}/out --launcher".split()
    assert main([*words, f"{sys.executable} -c pass"]) == 0
    (cell,) = json.loads((data / "out/cells.json").read_text())
    assert cell["seeds"] == [0, 1] and 0 < cell["mae"]["mean"] < 0.5 and cell["mae"]["spread"] == 0
    shown = capsys.readouterr().out
    assert f"one, seed 1: hf-usod say {data}/out/runs/one-seed1" in shown
    assert (data / "out/table.md").read_text() in shown and (data / "out/table.tex").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ("{data}/nowhere.yaml --output {data}/out", "nowhere.yaml: is no file, and no recipe of the package"),
        ("{data} --output {data}/out", "is no file, and no recipe of the package"),
        ("{data}/file --output {data}/out", "expected lines of `field: value`"),
        ("{data}/RGB/0.png --output {data}/out", "0.png"),
        ("{data}/table.yaml --output {data}/file", "a folder is expected"),
        ("{data}/table.yaml --output {data}/file/below", "a folder is expected"),
        ("{data}/table.yaml --output {data}/out", "Give --data"),
        ("{data}/table.yaml --output {data}/out --data {data}/nowhere", "nowhere: no such folder"),
        ("{data}/table.yaml --output {data}/out --data {data} --images {data}/file", "file: no such folder"),
        ("{data}/table.yaml --output {data}/out --data {data}/RGB", "Is --data right?"),
        ("{data}/table.yaml --output {data}/out --data {data} --set size", "expected name=value"),
        ("{data}/table.yaml --output {data}/out --data {data} --seeds -1", "not negative"),
        ("{data}/table.yaml --output {data}/out --data {data} --launcher no-such-command", "cannot be run"),
    ],
)
def test_mistakes_with_tables(data, words, message, capsys):
    assert run(data, f"table {words}") == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("hf-usod: ") and message in last
    assert not (data / "out").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ("compare --images {data}/nowhere --maps a={data}/GT", "no such folder"),
        ("compare --images {data}/RGB --maps a={data}/file", "is a file; a folder is expected"),
        ("compare --images {data}/RGB --maps a={data}/GT --names x", "there is no x; there are 0, 1, 2, 3"),
        ("compare --images {data}/RGB --maps a={data}/RGB", "is in color"),
        ("labels --images {data}/RGB --stages a={data}/GT --names x", "photos: 0, 1, 2, 3"),
        ("hard --images {data}/RGB --run {data}/run", "arguments.json: cannot be read"),
        ("{extremes} {data}/nowhere", "cannot be read"),
        (
            "{extremes} {data}/RGB/0.png",
            "cannot be read",
        ),
        ("{extremes} {data}/file", "is no images.csv"),
        (
            "{extremes} {data}/images.csv --by mae",
            "choose with --model (m, n)",
        ),
        (
            "{extremes} {data}/images.csv --by mae --model x",
            "Its models: m, n",
        ),
    ],
)
def test_mistakes_with_figures(data, words, message, capsys):
    pytest.importorskip("matplotlib", reason="pip install 'hf_usod[figures]'")
    words = words.replace("{extremes}", EXTREMES)
    assert run(data, f"figure {words} --output {{data}}/out") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("hf-usod: ") and message in line
    assert not (data / "out.png").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ("compare --images {data}/RGB --maps a={data}/GT a={data}/maps", "two folders are called a"),
        (f"{EXTREMES} {{data}}/images.csv", "it has mae"),
    ],
)
def test_wrong_arguments_of_figures(data, words, message, capsys):
    pytest.importorskip("matplotlib", reason="pip install 'hf_usod[figures]'")
    assert run(data, f"figure {words} --output {{data}}/out") == 2
    assert message in capsys.readouterr().err


def test_the_kinds_of_figures(data):
    pytest.importorskip("matplotlib", reason="pip install 'hf_usod[figures]'")
    (data / "run/arguments.json").write_text(json.dumps({"num_epochs": 3}))
    (data / "run/epochs").mkdir()
    (data / "run/epochs/2").symlink_to(checkpoint_path("usod-sce-lite"))
    figures = (
        "compare --images {data}/RGB --maps truth={data}/GT ours={data}/maps --most 2",
        "labels --images {data}/RGB --stages initial={data}/maps --names 0 3",
        "hard --images {data}/RGB --run {data}/run --names 1",
        f"{EXTREMES} {{data}}/images.csv --by mae --model m",
    )
    for number, words in enumerate(figures):
        assert run(data, f"figure {words} --output {{data}}/out{number}") == 0
        assert Image.open(data / f"out{number}.png").width > 200 and (data / f"out{number}.pdf").exists()
    assert run(data, f"figure {figures[2]} --epochs 1 --output {{data}}/none") == 1


def test_a_figure_that_cannot_be_written_is_not_drawn(data, capsys):
    words = "figure compare --images {data}/RGB --maps a={data}/GT --output {data}/file/out"
    assert run(data, words) == 1 and "a folder is expected" in capsys.readouterr().err


def test_a_figure_takes_the_place_of_a_figure_and_of_no_other_file(data, capsys):
    pytest.importorskip("matplotlib", reason="pip install 'hf_usod[figures]'")
    words = "figure compare --images {data}/RGB --maps a={data}/GT"
    for output in ("out", "out.png", "out.pdf"):
        assert run(data, f"{words} --output {{data}}/{output}") == 0
    assert {path.name for path in data.glob("out*")} == {"out.png", "out.pdf"}
    before = (data / "RGB/0.png").read_bytes()
    capsys.readouterr()
    assert run(data, f"{words} --output {{data}}/RGB/0") == 1
    assert "0.png exists and is no figure" in capsys.readouterr().err
    assert (data / "RGB/0.png").read_bytes() == before and not (data / "RGB/0.pdf").exists()


@pytest.mark.parametrize("name", ["table", "figure", "evaluate", "outputs"])
def test_the_modules_of_the_commands_import_nothing_heavy(name):
    tree = ast.parse((Path(hf_usod.commands.__file__).parent / f"{name}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] in LIGHT for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            ours = {(1, "common"), (1, "outputs"), (2, "errors"), (2, "constants")}
            assert (node.level, node.module) in ours or (node.level == 0 and node.module.split(".")[0] in LIGHT)
