"""Every argument of every command, with values that it cannot have: one line, a status, and nothing written.

The parsers are walked: an option that is new must be classified here before the tests pass.
"""

import argparse
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel, cli
from hf_usod.training.arguments import STAGES
from hf_usod.training.fields import ArgumentField, argument_fields

SECONDS = 30  # more than a refusal takes on a busy machine, and less than what is refused would
Words = dict[str, list[str]]

# For each command a call that works, by option (positional arguments by their name)
VALID: dict[tuple[str, ...], Words] = {
    ("predict",): {"inputs": ["photos"], "--model": ["tiny"], "--output": ["out"]},
    ("adapt",): {"images": ["photos"], "--output": ["out"]},
    ("workbench",): {"images": ["photos"], "--output": ["out"]},
    ("label",): {"images": ["photos"], "--model": ["tiny"], "--output": ["out"], "--refine": ["none"]},
    ("evaluate",): {"--images": ["photos"], "--masks": ["masks"], "--model": ["tiny"], "--output": ["out"]},
    ("convert",): {"checkpoint": ["efficientnet-lite0"], "--output": ["out"]},
    ("publish", "model"): {"source": ["usod-rgb-lite"], "--repo": ["some/name"], "--dry-run": []},
    ("publish", "adapter"): {"source": ["usod-rsi-lite"], "--repo": ["some/name"], "--dry-run": []},
    ("publish", "space"): {"source": ["space"], "--repo": ["some/name"], "--dry-run": []},
    ("publish", "metric"): {"source": ["metric"], "--repo": ["some/name"], "--dry-run": []},
    ("publish", "dataset"): {
        "source": ["masks"],
        "--images": ["photos"],
        "--license": ["mit"],
        "--repo": ["some/name"],
        "--dry-run": [],
    },
    ("table",): {"table": ["tables/7"], "--images": ["photos"], "--data": ["photos"], "--output": ["out"]},
    ("figure", "compare"): {"--images": ["photos"], "--maps": ["ours=masks"], "--output": ["picture"]},
    ("figure", "labels"): {"--images": ["photos"], "--stages": ["first=masks"], "--output": ["picture"]},
    ("figure", "hard"): {"--images": ["photos"], "--run": ["run"], "--output": ["picture"]},
    ("figure", "extremes"): {
        "--images": ["photos"],
        "--masks": ["masks"],
        "--maps": ["masks"],
        "--scores": ["images.csv"],
        "--output": ["picture"],
    },
    ("train",): {"--images": ["photos"], "--output_dir": ["out"]},
    ("export",): {"model": ["tiny"], "--output": ["out"]},
    ("report",): {"run_folder": ["run"], "--output": ["page.html"]},
}
# Calls in which an argument has a meaning, where it has none in the one above
INSTEAD: dict[tuple[str, str], Words] = {
    ("evaluate", "predictions"): {"--masks": ["masks"]},
    ("evaluate", "task"): {"--root": ["photos"]},
    ("evaluate", "unlabelled"): {"--model": ["tiny"], "--output": ["out"]},
    ("evaluate", "root"): {"--task": ["rgb"]},
    ("evaluate", "names"): {"--task": ["rgb"], "--root": ["photos"]},
}

NUMBERS = ["", "x", "nan", "inf", "1e400", "0x10", "1,5"]
BY_TYPE = {
    "positive": [*NUMBERS, "0", "-1", "1.5"],
    "not_negative": [*NUMBERS, "-1", "1.5"],
    "int": [*NUMBERS, "1.5"],
    "percentage": [*NUMBERS, "0", "101", "1.5"],
    "margin": [*NUMBERS, "-1", "101", "1.5"],
    "unit_interval": [*NUMBERS[:4], "-0.1", "1.1", "inf"],
    "tiles": ["", "x", "nan", "inf", "0", "-1", "1.5", "Auto"],
    "_named_folder": ["", "nothing", "=", "heading=", "heading=nowhere", "heading=note.txt", "heading=empty"],
}
FOLDER = ["", "nowhere", "note.txt", "empty"]  # where a folder of pictures is expected
OUTPUT = ["", "note.txt", "note.txt/below"]  # where a folder is to be written
MODEL = ["", "nowhere", "note.txt", "empty", "some/nothing", "no such name", "a/b/c/d"]
FILE = ["", "nowhere", "empty", "note.txt"]
FREE = [""]  # any other text will do

BY_NAME: dict[tuple[str, str], list[str]] = {
    ("predict", "inputs"): ["", "nowhere", "empty", "*.nothing"],
    ("predict", "json"): ["", "empty", "note.txt/below"],
    ("label", "images"): ["", "nowhere", "empty", "*.nothing"],
    ("adapt", "images"): FOLDER,
    ("adapt", "choose"): FREE,
    ("workbench", "images"): ["", "nowhere", "note.txt"],
    ("evaluate", "images"): FOLDER,
    ("evaluate", "unlabelled"): FOLDER,
    ("evaluate", "masks"): FOLDER,
    ("evaluate", "predictions"): FOLDER,
    ("evaluate", "root"): FOLDER,
    ("evaluate", "task"): ["", "nothing"],
    ("evaluate", "name"): FREE,
    ("evaluate", "note"): [],  # empty by default
    ("evaluate", "names"): ["", "nothing"],
    ("evaluate", "html"): ["", "page", "note.txt/below.html"],
    ("export", "images"): FOLDER,
    ("report", "run_folder"): ["", "nowhere", "note.txt", "empty"],
    ("report", "output"): ["", "empty", "note.txt/below"],
    ("convert", "checkpoint"): [*FILE, "photos/a.png"],
    ("table", "table"): [*FILE, "tables/99", "photos/a.png"],
    ("table", "images"): ["", "nowhere", "note.txt"],
    ("table", "data"): ["", "nowhere", "note.txt"],
    ("table", "set"): ["", "nothing", "=", "nothing=1", "size=", "size=x", "sd.size=x", "x.size=64"],
    ("table", "launcher"): ["", "'"],
    ("publish", "source"): FILE,
    ("publish", "repo"): ["", "one name", "a/b/c", "/", "a/", "-a/b", "a/b.git"],
    ("publish", "card"): ["", "nowhere", "empty"],
    ("publish", "images"): FOLDER,
    ("publish", "license"): FREE,
    ("publish", "about"): FREE,
    ("publish", "message"): FREE,
    ("publish", "base"): FREE,
    ("figure", "images"): FOLDER,
    ("figure", "masks"): FOLDER,
    ("figure", "maps"): FOLDER,
    ("figure", "run_folder"): FOLDER,
    ("figure", "scores"): [*FILE, "photos/a.png"],
    ("figure", "output"): ["", "note.txt/below"],
    ("figure", "by"): ["", "nothing"],
    ("figure", "model"): ["", "nothing"],
    ("figure", "names"): ["", "nothing"],
    ("*", "output"): OUTPUT,
    ("*", "model"): MODEL,
    ("*", "adapter"): MODEL,
    ("*", "aux"): FOLDER,
    ("*", "device"): ["", "nothing", "cuda:x", "cuda:99", "cpu:-1", "meta"],
    ("predict", "background"): ["", "nothing", "empty", "#12", "rgb(1,2)"],
}


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list]]:
    """The commands, each with the actions of its parser."""
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not subparsers:
        yield words, [action for action in parser._actions if action.dest != "help"]
    for choices in (action.choices for action in subparsers):
        for name, command in choices.items():
            yield from leaves(command, (*words, name))


def wrong_values(command: tuple[str, ...], action: argparse.Action) -> list[str]:
    if action.choices:
        return ["", "nothing"]
    by_type = BY_TYPE.get(getattr(action.type, "__name__", ""))
    if by_type is not None:
        return by_type
    named = BY_NAME.get((command[0], action.dest), BY_NAME.get(("*", action.dest)))
    assert named is not None, f"{' '.join(command)}: say in BY_NAME what {action.dest} cannot be"
    return named


def words_with(command: tuple[str, ...], action: argparse.Action, value: str) -> list[str]:
    """The call that works, but for one value."""
    words = INSTEAD.get((command[0], action.dest), VALID[command])
    option = action.option_strings[0] if action.option_strings else action.dest
    words = {**words, option: [value]}
    positional = [value for name, values in words.items() if not name.startswith("-") for value in values]
    options = [f"{name}={values[0]}" if values else name for name, values in words.items() if name.startswith("-")]
    return [*command, *positional, *options]


def cases() -> Iterator[list[str]]:
    for command, actions in leaves(cli.parser()):
        for action in actions if command != ("train",) else []:
            if action.nargs != 0:  # no flag
                for value in wrong_values(command, action):
                    yield words_with(command, action, value)


# Values that the types and bounds of training arguments rule out
OF_KIND = {
    int: ["", "x", "nan", "inf", "1.5", "0x10"],
    float: ["", "x", "nan", "inf", "-inf", "1e400"],
    bool: ["maybe"],
}
HUGE = "9" * 30


def wrong_training_values(field: ArgumentField) -> list[str]:
    values = list(OF_KIND.get(field.kind, [""]))
    if field.metadata.get("choices"):
        return [*values, "nothing"]
    for name, step in (("at_least", -1), ("above", 0), ("at_most", 1), ("below", 0)):
        if (bound := field.metadata.get(name)) is not None:
            values.append(str(field.kind(bound + step)))
    return values


def training_cases() -> Iterator[list[str]]:
    for stage in STAGES:
        for name, field in argument_fields(stage).items():
            for value in wrong_training_values(field):
                others = VALID["train",] | ({"--labels": ["masks"]} if stage == "sd" else {})
                words = [f"{option}={values[0]}" for option, values in others.items() if option != f"--{name}"]
                yield ["train", "--stage", stage, *words, f"--{name}={value}"]
    whole = ["train", *(f"{option}={values[0]}" for option, values in VALID["train",].items())]
    for text in ("", "=", "size", "size=", "size=x", "size=[1", "size={}", "size=null", "size=1e3", "siez=64"):
        for prefix in ("", "sce.", "sd.", "nothing."):  # the values are YAML
            yield [*whole, "--set", prefix + text]


@pytest.fixture(scope="module")
def tiny(tiny_backbone, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).save_pretrained(folder)
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def room(tiny, tmp_path, monkeypatch) -> Path:
    """The working folder, with what the calls that work need."""
    root = tmp_path / "room"
    for name in ("photos", "masks", "empty", "run", "space", "metric"):
        (root / name).mkdir(parents=True)
    for name in "abcd":
        photo = np.zeros((64, 64, 3), np.uint8)
        photo[8:40, 8:40] = 200
        Image.fromarray(photo).save(root / "photos" / f"{name}.png")
        Image.fromarray(np.where(photo[..., 0] > 0, 255, 0).astype(np.uint8)).save(root / "masks" / f"{name}.png")
    (root / "note.txt").write_text("a note\n")
    (root / "images.csv").write_text("model,dataset,id,mae,f_weighted\nm,d,a,0.1,0.9\nm,d,b,0.2,0.8\n")
    (root / "tiny").symlink_to(tiny)
    monkeypatch.chdir(root)
    return root


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


BAR = re.compile(r"^.*(\d+%\||\bit/s\]).*$")


def check_refusal(words: list[str], room: Path, capfd) -> None:
    before, begun = contents(room), time.perf_counter()
    try:
        status = cli.main(words)
    except SystemExit as ended:  # argparse
        status = ended.code
    took = time.perf_counter() - begun
    told = capfd.readouterr().err.replace("\r", "\n").splitlines()
    lines = [line for line in told if line.strip() and not BAR.match(line)]
    assert status in (1, 2)
    assert lines[-1].startswith("hf-usod"), lines
    if lines[0].startswith("usage: hf-usod"):
        assert "error: " in lines[-1] and status == 2
    else:
        assert len(lines) == 1, lines
        assert len(lines[0]) < 700 and not re.match(r"hf-usod: [\s:.']*$", lines[0])
    assert contents(room) == before
    assert took < SECONDS


@pytest.mark.parametrize("words", list(cases()), ids=" ".join)
def test_a_wrong_value_is_told_in_a_line(words, room, capfd):
    check_refusal(words, room, capfd)


@pytest.mark.parametrize("words", list(training_cases()), ids=" ".join)
def test_a_wrong_training_value_is_told_in_a_line(words, room, capfd):
    check_refusal(words, room, capfd)


@pytest.mark.parametrize("command", VALID, ids=" ".join)
def test_an_option_without_its_value_is_told(command, room, capfd):
    for words, actions in leaves(cli.parser()):
        for action in actions if words == command else []:
            if action.option_strings and action.nargs in (None, "+"):
                check_refusal([*command, action.option_strings[0]], room, capfd)
