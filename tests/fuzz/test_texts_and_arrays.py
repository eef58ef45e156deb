"""Damaged recipes, stores, checkpoints and results: read, or refused in an error of our own that names them."""

import json
import shutil

import numpy as np
import pytest
import torch
from mutations import mutate
from safetensors.torch import save_file

from hf_usod.conversion.state_dicts import read_state_dict
from hf_usod.errors import ConversionError, DataError, LabelError, PlanError, TableError, UsodError
from hf_usod.evaluation.reading import read_prediction
from hf_usod.evaluation.results import read_entries
from hf_usod.experiments import read_recipe as read_table
from hf_usod.labels.store import LabelStore
from hf_usod.training.plan import make_plan
from hf_usod.training.recipes import parse_set, read_recipe

MUTATIONS = 150

RECIPE = """images: [photos]
output_dir: run
learning_rate: 1e-2
mixed_precision: no
sce: {size: 64, scale_steps: [1, -1], curriculum: off}
sd:
  neck_channels: [8, 8, 8, 8]
  aux: none
"""
TABLE = """title: A table
variants:
  one: {spr: none}
seeds: [0, 1]
evaluate:
  - {name: set, images: "{data}/RGB", masks: "{data}/GT"}
scores: [mae]
"""
ENTRY = {"model": "a", "dataset": "b", "num_images": 2, "mae": 0.1, "published": {"mae": 0.2}}


def damaged(content: bytes, path, salt: int):
    random = np.random.default_rng(salt)
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(content, random))
        yield path


def test_recipes(tmp_path):
    for path in damaged(RECIPE.encode(), tmp_path / "damaged.yaml", 0):
        try:
            settings = read_recipe(path)
        except PlanError as error:
            assert path.name in str(error) and "\n" not in str(error)
            continue
        try:
            make_plan("all", settings)
        except PlanError as error:
            assert "\n" not in str(error)


def test_settings_of_the_command_line():
    random = np.random.default_rng(1)
    for _ in range(MUTATIONS):
        text = mutate(b"sd.scale_steps=[1, -1]", random).decode("latin-1")
        try:
            parse_set([text])
        except PlanError as error:
            assert str(error).startswith("--set ")


def test_table_recipes(tmp_path):
    for path in damaged(TABLE.encode(), tmp_path / "damaged.yaml", 2):
        try:
            assert read_table(path).variants
        except TableError as error:
            assert path.name in str(error) and "\n" not in str(error)


def test_results(tmp_path):
    for path in damaged(json.dumps([ENTRY, ENTRY]).encode(), tmp_path / "damaged.json", 3):
        try:
            entries = read_entries(path)
        except DataError as error:
            assert path.name in str(error)
            continue
        assert all(isinstance(entry["mae"], int | float) or len(entry) > 3 for entry in entries)


def test_arrays(tmp_path):
    np.save(tmp_path / "whole.npy", np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6))
    for path in damaged((tmp_path / "whole.npy").read_bytes(), tmp_path / "damaged.npy", 4):
        try:
            assert read_prediction(path).ndim == 2
        except DataError as error:
            assert path.name in str(error)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl"])
@pytest.mark.filterwarnings("ignore")
def test_checkpoints(tmp_path, suffix):
    tensors = {"one.weight": torch.arange(6.0).reshape(2, 3), "one.bias": torch.zeros(2)}
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, whole)
    elif suffix == ".pth":
        torch.save({"state_dict": tensors}, whole)
    else:
        import pickle

        whole.write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in tensors.items()}))
    for path in damaged(whole.read_bytes(), tmp_path / f"damaged{suffix}", 5):
        try:
            read = read_state_dict(path)
        except ConversionError as error:
            assert path.name in str(error) and "\n" not in str(error)
            continue
        assert all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in read.items())


@pytest.mark.parametrize("file", ["index.json", "labels.npy", "versions.npy"])
def test_label_stores(tmp_path, file):
    whole = LabelStore.create(tmp_path / "whole", ["a", "b/c"], (8, 6), lambda name: np.ones((8, 6)), progress=False)
    random = np.random.default_rng(6)
    for place in range(MUTATIONS):
        folder = tmp_path / f"damaged{place}"
        shutil.copytree(whole.directory, folder)
        (folder / file).write_bytes(mutate((folder / file).read_bytes(), random))
        try:
            store = LabelStore(folder)
            labels = store.read(range(len(store)), epoch=1)
        except UsodError as error:
            assert isinstance(error, LabelError) and folder.name in str(error)
        else:
            assert labels.shape == (len(store), 1, *store.size)
        shutil.rmtree(folder)
