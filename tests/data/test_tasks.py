"""The five tasks' data sets: found in the community's layouts, opened lazily, and without ground truth for training."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import concatenate_datasets
from datasets.distributed import split_dataset_by_node
from PIL import Image

from hf_usod.data import TASKS, find_datasets, open_task, task_samples
from hf_usod.evaluation import task_sets

MASKS = {"video": "Annotations"}  # GT elsewhere


def write(path: Path, value: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), value).save(path)


@pytest.fixture
def root(tmp_path) -> Path:
    """Data sets of three images and of two sequences; extensions are mixed, and one map is missing."""
    for task, layout in TASKS.items():
        for name in (layout.train[0], layout.test[0]):
            stems = ("bear/01", "bear/02", "boat/01") if task == "video" else ("a", "b", "c")
            for place, (stem, suffix) in enumerate(zip(stems, ("jpg", "png", "bmp"), strict=True)):
                write(tmp_path / name / layout.images / f"{stem}.{suffix}", 10 * place)
                write(tmp_path / name / MASKS.get(task, "GT") / f"{stem}.png", 255, "L")
                if layout.aux and place != 1:
                    write(tmp_path / name / layout.aux / f"{stem}.png", 7, "L")
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
def test_samples(root, task):
    layout = TASKS[task]
    (name,) = layout.train
    stems = ["bear/01", "bear/02", "boat/01"] if task == "video" else ["a", "b", "c"]
    samples = task_samples(task, root)
    assert [sample.id for sample in samples] == [f"{name}/{stem}" for stem in stems]
    assert [sample.image.suffix for sample in samples] == [".jpg", ".png", ".bmp"]
    assert [sample.aux is None for sample in samples] == ([False, True, False] if layout.aux else [True] * 3)
    assert [sample.id for sample in task_samples(task, root, split="test")] == [f"{layout.test[0]}/{s}" for s in stems]


@pytest.mark.parametrize("task", TASKS)
def test_open_for_training(root, task):
    dataset = open_task(task, root)
    assert dataset.column_names == ["image", "aux", "id"]
    rows = list(dataset)
    assert [row["image"].size for row in rows] == [(8, 6)] * 3
    assert [row["aux"] is None for row in rows] == ([False, True, False] if TASKS[task].aux else [True] * 3)


_touched: list[str] | None = None


def _watch(event: str, args: tuple) -> None:
    if _touched is not None and event in ("open", "os.listdir", "os.scandir"):
        _touched.append(str(args[0]))


sys.addaudithook(_watch)


def _paths_touched(action) -> list[str]:
    global _touched
    _touched = []
    try:
        action()
        return _touched
    finally:
        _touched = None


@pytest.mark.parametrize("task", TASKS)
def test_training_never_touches_ground_truth(root, task):
    folder = root / TASKS[task].train[0] / MASKS.get(task, "GT")

    def train():
        list(open_task(task, root))
        task_samples(task, root)

    touched = _paths_touched(train)
    assert any(str(folder.parent / TASKS[task].images) in path for path in touched)
    assert not [path for path in touched if str(folder) in path]
    evaluated = _paths_touched(lambda: task_sets(task, root, [TASKS[task].train[0]]))
    assert [path for path in evaluated if str(folder) in path]
    shutil.rmtree(folder)
    assert len(open_task(task, root)) == 3


def test_opening_decodes_nothing(root):
    for path in root.rglob("DUTS-TR/RGB/*"):
        path.write_bytes(b"not an image")
    dataset = open_task("rgb", root)
    assert len(dataset) == 3 and dataset["id"][0] == "DUTS-TR/a"
    with pytest.raises(Exception, match="image"):
        dataset[0]


def test_sixteen_bit_maps_keep_their_depth(root):
    Image.fromarray(np.full((6, 8), 2345, np.uint16)).save(root / "RGBD-TR" / "depth" / "a.png")
    assert np.asarray(open_task("rgbd", root)[0]["aux"]).max() == 2345


def test_data_sets_of_any_name_and_place(root):
    (root / "mine").mkdir()
    shutil.move(root / "VT5000-TR", root / "mine" / "dev")
    assert [s.id for s in task_samples("rgbt", root, ["mine/dev"])] == [f"mine/dev/{stem}" for stem in "abc"]
    both = task_samples("rgbt", root, ["VT5000", "mine/dev"])
    assert len(both) == 6 == len({sample.id for sample in both})
    (dataset,), missing = task_sets("rgbt", root, ["mine/dev"])
    assert (dataset.name, len(dataset.samples), missing) == ("mine/dev", 3, [])


def test_a_missing_folder_of_maps_is_said(root, caplog):
    shutil.rmtree(root / "VSOD-TR" / "optical")
    assert all(sample.aux is None for sample in task_samples("video", root))
    assert "VSOD-TR/optical" in caplog.text


def test_maps_of_no_image_are_an_error(root):
    write(root / "RGBD-TR" / "depth" / "z.png")
    with pytest.raises(ValueError, match=r"RGBD-TR/depth.*: z"):
        task_samples("rgbd", root)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("depth",), ValueError, "rgb, rgbd, rgbt, video, rsi"),
        (("rgb", ["DUTS"]), FileNotFoundError, r"DUTS/RGB/.*There are .*DUTS-TR.*github.com/moothes"),
        (("rsi", ["ORSSD", "RSI"]), FileNotFoundError, r"no RSI/RGB/.*EORSSD-dataset"),
        (("rgb", None, "validation"), ValueError, "'train' or 'test'"),
    ],
)
def test_errors(root, arguments, error, message):
    task, *rest = arguments
    with pytest.raises(error, match=message):
        find_datasets(task, root, *rest)


def test_empty_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no DUTS-TR/RGB/.*no data set in this layout.*moothes"):
        open_task("rgb", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_task("rgb", tmp_path / "none")


def test_joint_streamed_and_sharded(root):
    joint = concatenate_datasets([open_task(task, root) for task in ("rgb", "rgbd", "rgbt")])
    assert Counter(name.split("/")[0] for name in joint["id"]) == {"DUTS-TR": 3, "RGBD-TR": 3, "VT5000-TR": 3}
    stream = joint.to_iterable_dataset(num_shards=3).shuffle(seed=0, buffer_size=4)
    assert sorted(row["id"] for row in stream) == sorted(joint["id"])
    for dataset in (joint, joint.to_iterable_dataset(num_shards=2)):
        parts = [[row["id"] for row in split_dataset_by_node(dataset, rank, 2)] for rank in range(2)]
        assert sorted(parts[0] + parts[1]) == sorted(joint["id"]) and all(len(part) > 3 for part in parts)
