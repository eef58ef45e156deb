"""Checkpoint files are read without running anything in them, and loaded completely or not at all."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_usod.conversion import ConversionError, read_state_dict
from hf_usod.conversion.state_dicts import load_exactly, rename

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(7)}
ARRAYS = {key: value.numpy() for key, value in WEIGHTS.items()}


def _pickle(content, path, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))


# How a file is named, and how it is written
FILES = {
    "torch": ("w.pth", lambda path: torch.save(WEIGHTS, path)),
    "ordered": ("w.pth", lambda path: torch.save(OrderedDict(WEIGHTS), path)),
    "legacy torch": ("w.pth", lambda path: torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)),
    "state_dict inside": ("w.pth.tar", lambda path: torch.save({"epoch": 3, "state_dict": WEIGHTS}, path)),
    "model inside": ("w.pt", lambda path: torch.save({"model": WEIGHTS}, path)),
    "data parallel": ("w.pth", lambda path: torch.save({f"module.{k}": v for k, v in WEIGHTS.items()}, path)),
    "safetensors": ("w.safetensors", lambda path: save_file(WEIGHTS, path)),
    "arrays": ("w.pkl", lambda path: _pickle(ARRAYS, path)),
    "arrays inside": ("w.pkl", lambda path: _pickle({"model": ARRAYS, "__author__": "MOCO"}, path)),
    "arrays, protocol 2": ("w.pkl", lambda path: _pickle(ARRAYS, path, protocol=2)),
    "arrays, protocol 5": ("w.pkl", lambda path: _pickle(ARRAYS, path, protocol=5)),
}


@pytest.mark.parametrize("kind", FILES)
def test_files(kind, tmp_path):
    name, write = FILES[kind]
    write(tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        state_dict = read_state_dict(path)
        assert state_dict.keys() == WEIGHTS.keys()
        assert all(torch.equal(state_dict[key], WEIGHTS[key]) for key in WEIGHTS)


class _Malicious:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("name", ["w.pkl", "w.pth", "w.pth.tar"])
@pytest.mark.parametrize("write", [_pickle, torch.save], ids=["pickle", "torch"])
def test_code_in_a_file_is_refused_and_not_executed(name, write, tmp_path):
    write({"model": {"a": _Malicious(tmp_path / "executed")}}, tmp_path / name)
    with pytest.raises(ConversionError, match=name):
        read_state_dict(tmp_path / name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["torch", "safetensors", "arrays"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\0no" * 99])
def test_damaged_files_are_named(kind, damage, tmp_path):
    name, write = FILES[kind]
    write(tmp_path / name)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(ConversionError, match=name):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.zeros(1)],
        torch.zeros(1),
        {"state_dict": {}},
        {"epoch": 3},
        {"a": torch.zeros(1), "b": "text"},
        {1: torch.zeros(1)},
    ],
    ids=["empty", "list", "tensor", "empty inside", "no tensors", "text beside", "number as key"],
)
def test_contents_that_are_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConversionError, match=r"w.pth"):
        read_state_dict(tmp_path / "w.pth")


def test_array_of_objects_raises(tmp_path):
    _pickle({"a": np.array(["text", None])}, tmp_path / "w.pkl")
    with pytest.raises(ConversionError, match=r"w.pkl"):
        read_state_dict(tmp_path / "w.pkl")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.pth"):
        read_state_dict(tmp_path / "missing.pth")


def test_load_exactly_lists_all_and_leaves_the_module_alone():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    wrong = {
        "0.weight": torch.zeros(3, 2),
        "0.bias": torch.zeros(4),
        "1.weight": torch.zeros(1, 3),
        "2.bias": torch.zeros(1),
    }
    with pytest.raises(ConversionError) as error:
        load_exactly(module, wrong, "a test")
    for part in ("a test", "missing: 1.bias", "unexpected: 2.bias", "0.bias (4,) instead of (3,)"):
        assert part in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_load_exactly_lets_batch_counters_be_missing():
    module = nn.BatchNorm2d(2)
    state_dict = {k: torch.full((2,), 3.0) for k in ("weight", "bias", "running_mean", "running_var")}
    load_exactly(module, state_dict, "a test")
    assert module.running_var.tolist() == [3.0, 3.0]


def test_rules_rename_one_after_the_other_and_never_lose_a_weight():
    weights = {"conv1.weight": torch.ones(1), "other": torch.zeros(1)}
    rules = ((r"^conv(\d)\.", lambda match: f"layers.{int(match[1]) - 1}."), (r"^layers\.", "body."))
    assert rename(weights, rules, "a test") == {"body.0.weight": weights["conv1.weight"], "other": weights["other"]}
    with pytest.raises(ConversionError, match=r"a test\. Keys for the same weight: conv1\.weight, body\.0\.weight"):
        rename(weights | {"body.0.weight": torch.ones(1)}, rules, "a test")
