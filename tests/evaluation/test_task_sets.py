"""The test sets of the tasks, opened with their ground truth; nothing that trains or labels knows where that is."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest
from PIL import Image

import hf_usod
from hf_usod.data import TASKS
from hf_usod.evaluation import task_sets

PACKAGE = Path(hf_usod.__file__).parent
WITHOUT_GROUND_TRUTH = ("data", "labels", "training", "objectives", "models", "adapters", "conversion")
MASKS = {"video": "Annotations"}  # GT elsewhere


@pytest.fixture
def root(tmp_path):
    """A test set of three images a task."""
    for task, layout in TASKS.items():
        for stem in ("bear/01", "bear/02", "boat/01") if task == "video" else ("a", "b", "c"):
            for folder, suffix in ((layout.images, "jpg"), (MASKS.get(task, "GT"), "png")):
                path = tmp_path / layout.test[0] / folder / f"{stem}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 6), 255).save(path)
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
def test_samples_with_their_ground_truth(root, task):
    (dataset,), missing = task_sets(task, root)
    name = TASKS[task].test[0]
    assert dataset.name == name and len(missing) == len(TASKS[task].test) - 1
    stems = ["bear/01", "bear/02", "boat/01"] if task == "video" else ["a", "b", "c"]
    assert [sample.id for sample in dataset.samples] == stems
    for sample in dataset.samples:
        assert sample.mask == root / name / MASKS.get(task, "GT") / f"{sample.id}.png"
        assert sample.image == root / name / TASKS[task].images / f"{sample.id}.jpg"


def test_frames_without_annotation_are_left_out(root):
    (root / "DAVSOD" / "Annotations" / "bear" / "02.png").unlink()
    (dataset,), _ = task_sets("video", root)
    assert [sample.id for sample in dataset.samples] == ["bear/01", "boat/01"]


def test_images_without_mask_are_an_error_elsewhere(root):
    (root / "DUT-O" / "GT" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"DUT-O/GT: no ground truth for 1 of 3: b"):
        task_sets("rgb", root)


def _modules(room):
    package = importlib.import_module(f"hf_usod.{room}")
    names = [f"hf_usod.{room}", *(f"hf_usod.{room}.{module.name}" for module in pkgutil.iter_modules(package.__path__))]
    return [name for name in names if importlib.util.find_spec(name).origin.endswith(".py")]  # not what is compiled


def _imports(name, tree):
    """The modules, and what is taken from them, that a module of the package imports anywhere in it."""
    file = importlib.util.find_spec(name).origin
    package = name if file.endswith("__init__.py") else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else ""
            base = base or node.module
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", WITHOUT_GROUND_TRUTH)
def test_no_other_room_imports_evaluation_or_names_folders_of_ground_truth(room):
    for name in _modules(room):
        tree = ast.parse(Path(importlib.util.find_spec(name).origin).read_text())
        imported = list(_imports(name, tree))
        assert not [module for module in imported if module.startswith(("hf_usod.evaluation", "hf_usod.experiments"))]
        constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        parts = {part for value in constants if isinstance(value, str) for part in value.split("/")}
        assert not parts & {"GT", "Annotations", "GroundTruth"}, name


def test_the_walk_over_imports_finds_those_of_evaluation():
    tree = ast.parse("def f():\n    from ..evaluation import sets\nfrom ..evaluation.sets import task_sets\n")
    assert list(_imports("hf_usod.training.loop", tree)) == [
        "hf_usod.evaluation.sets.task_sets",
        "hf_usod.evaluation.sets",
    ]


def test_experiments_stand_above_evaluation():
    for name in _modules("evaluation"):
        tree = ast.parse(Path(importlib.util.find_spec(name).origin).read_text())
        assert not [module for module in _imports(name, tree) if "experiments" in module]
