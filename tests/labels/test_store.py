"""The label store: versions, precision, and what is left of it after a kill."""

import hashlib
import pickle
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod.labels import LabelError, LabelStore, read_label

SIZE = (6, 8)
IDS = ["a", "folder/b", "folder/c", "d.x"]
STEP = 1 / 65535


def initial(name, size=SIZE):
    return np.random.default_rng(IDS.index(name)).uniform(0, 1, size)


def filled(value, count=1):
    return torch.full((count, 1, *SIZE), value)


@pytest.fixture
def store(tmp_path):
    return LabelStore.create(tmp_path / "labels", IDS, SIZE, initial, progress=False)


def test_begins_with_the_initial_labels(store):
    assert len(store) == 4 and store.ids == IDS and store.size == SIZE
    labels = store.read(torch.tensor([2, 0]), 1)
    assert labels.shape == (2, 1, *SIZE) and labels.dtype == torch.float32
    for label, name in zip(labels, ("folder/c", "a"), strict=True):
        np.testing.assert_allclose(label[0], initial(name), atol=STEP)


def test_an_epoch_reads_what_earlier_epochs_wrote(store):
    before = store.read([0], 1)
    store.write([0], 1, filled(0.25))
    assert torch.equal(store.read([0], 1), before)  # the same all through the epoch
    assert store.read([0], 2).allclose(filled(0.25), atol=STEP)
    np.testing.assert_allclose(store.latest(0), 0.25, atol=STEP)
    store.write([0], 2, filled(0.5))
    store.write([0], 5, filled(0.75))  # left out of batches in epochs 3 and 4
    assert all(store.read([0], epoch).allclose(filled(0.5), atol=STEP) for epoch in (3, 4, 5))
    assert all(store.read([0], epoch).allclose(filled(0.75), atol=STEP) for epoch in (6, 7))
    assert torch.equal(store.read([1], 7)[0, 0], torch.from_numpy(store.latest(1)))  # never written
    np.testing.assert_allclose(store.latest(1), initial("folder/b"), atol=STEP)


def test_an_epoch_that_is_no_longer_kept_is_an_error(store):
    store.write([0], 1, filled(0.25))
    store.write([0], 2, filled(0.5))
    for attempt in (lambda: store.read([0], 1), lambda: store.write([0], 1, filled(0.0))):
        with pytest.raises(LabelError, match=r"a that epoch 1 began with is no longer kept.*later checkpoint"):
            attempt()
    assert store.read([0], 3).allclose(filled(0.5), atol=STEP)


def test_small_updates_do_not_erode(store):
    """Many updates, each smaller than a level of 8 bits, against the same in float64."""
    target = np.random.default_rng(100).uniform(0, 1, (1, 1, *SIZE))
    reference = store.read([0], 1).double().numpy()
    for epoch in range(1, 401):
        reference = 0.998 * reference + 0.002 * target
        store.write([0], epoch, 0.998 * store.read([0], epoch) + 0.002 * torch.from_numpy(target).float())
    error = np.abs(store.read([0], 401).numpy() - reference).max()
    assert error < 1e-3
    assert np.abs(reference - initial("a")).max() > 0.1  # they did add up


def test_is_opened_again_and_by_other_processes(store):
    store.write([3], 1, filled(0.125))
    for other in (LabelStore(store.directory), pickle.loads(pickle.dumps(store))):
        assert torch.equal(other.read([0, 3], 2), store.read([0, 3], 2))
    assert len(pickle.dumps(store)) < 1000


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(np.eye(6, 8, dtype=bool), id="bool"),
        pytest.param(np.eye(6, 8, dtype=np.uint8), id="mask of 0 and 1"),
        pytest.param(np.eye(6, 8, dtype=np.uint8) * 255, id="8 bits"),
        pytest.param(np.eye(6, 8, dtype=np.uint16) * 65535, id="16 bits"),
        pytest.param(np.eye(6, 8, dtype=np.float64), id="float"),
    ],
)
def test_kinds_of_labels(tmp_path, label):
    store = LabelStore.create(tmp_path / "labels", ["a"], SIZE, lambda _: label, progress=False)
    np.testing.assert_array_equal(store.latest(0), np.eye(6, 8))


def test_other_sizes_are_resized(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 200).astype(np.uint8), (90, 1))
    store = LabelStore.create(tmp_path / "labels", ["a"], SIZE, lambda _: ramp, progress=False)
    np.testing.assert_allclose(store.latest(0), np.tile((np.arange(8) + 0.5) / 8, (6, 1)), atol=0.02)


@pytest.mark.parametrize(
    "label, message",
    [
        (np.full(SIZE, np.nan), "expected float values"),
        (np.full(SIZE, 255.0), r"in \[0, 1\], got 255"),
        (np.zeros((*SIZE, 3)), "got the shape"),
        (np.zeros(SIZE, np.int64), "got int64"),
    ],
)
def test_what_is_no_label_is_named_and_nothing_is_left(tmp_path, label, message):
    labels = {"good": np.zeros(SIZE), "bad": label}
    with pytest.raises(LabelError, match=f"bad: is no label: .*{message}"):
        LabelStore.create(tmp_path / "labels", list(labels), SIZE, labels.__getitem__, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ids, message", [(["a", "a"], "two samples"), (["../a"], "'..'"), (["/a"], "relative")])
def test_bad_ids(tmp_path, ids, message):
    with pytest.raises(LabelError, match=message):
        LabelStore.create(tmp_path / "labels", ids, SIZE, lambda _: np.zeros(SIZE), progress=False)


def test_open_or_create(store):
    def fail(_):
        raise AssertionError("the initial labels are read once")

    store.write([0], 1, filled(0.5))
    again = LabelStore.open_or_create(store.directory, IDS, SIZE, fail)
    assert again.read([0], 2).allclose(filled(0.5), atol=STEP)
    assert again.fingerprint == store.fingerprint
    with pytest.raises(LabelError, match="labels of 6x8, not of 8x8"):
        LabelStore.open_or_create(store.directory, IDS, (8, 8), fail)
    with pytest.raises(LabelError, match="'folder/c' where now is 'other'"):
        LabelStore.open_or_create(store.directory, ["a", "folder/b", "other", "d.x"], SIZE, fail)
    with pytest.raises(LabelError, match="4 other samples than the 3 given"):
        LabelStore.open_or_create(store.directory, IDS[:3], SIZE, fail)
    with pytest.raises(FileExistsError):
        LabelStore.create(store.directory, IDS, SIZE, fail)


def test_fingerprint_is_of_the_initial_labels(store, tmp_path):
    other = LabelStore.create(tmp_path / "other", IDS, SIZE, lambda name: 1 - initial(name), progress=False)
    assert other.fingerprint != store.fingerprint


def test_missing_and_damaged_stores(store, tmp_path):
    with pytest.raises(LabelError, match="holds no labels"):
        LabelStore(tmp_path / "nothing")
    for file in ("labels.npy", "versions.npy", "index.json"):
        path = store.directory / file
        whole = path.read_bytes()
        path.write_bytes(whole[:-4])
        with pytest.raises(LabelError, match=r"labels: damaged labels .*start anew"):
            LabelStore(store.directory)
        path.write_bytes(whole)
    assert LabelStore(store.directory).ids == IDS


@pytest.mark.parametrize("shape", [(1, *SIZE), (2, 1, *SIZE), (1, 1, 8, 6)])
def test_labels_of_another_shape(store, shape):
    with pytest.raises(ValueError, match="expected"):
        store.write([0], 1, torch.zeros(shape))


def test_labels_that_are_not_finite(store):
    with pytest.raises(LabelError, match="diverges"):
        store.write([0], 1, filled(float("nan")))
    np.testing.assert_allclose(store.read([0], 2)[0, 0], initial("a"), atol=STEP)


def test_a_full_disk_is_an_error_at_creation(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1000, 500, 500))
    with pytest.raises(OSError, match="no room for labels of") as error:
        LabelStore.create(tmp_path / "labels", IDS, SIZE, initial)
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_initial_files_are_not_touched(tmp_path):
    files = {name: tmp_path / "initial" / f"{name}.png" for name in IDS}
    for name, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((initial(name, (20, 30)) * 255).astype(np.uint8)).save(path)
        path.chmod(0o444)
    before = {path: (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) for path in files.values()}
    store = LabelStore.create(tmp_path / "labels", IDS, SIZE, lambda name: read_label(files[name]), progress=False)
    for epoch in (1, 2, 3):
        store.write(range(4), epoch, filled(0.3, 4))
    store.flush()
    after = {path: (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) for path in files.values()}
    assert after == before


@pytest.mark.parametrize(
    "mode, dtype, full", [("L", np.uint8, 255), ("1", bool, 1), ("I;16", np.uint16, 65535), ("RGB", np.uint8, 255)]
)
def test_read_label(tmp_path, mode, dtype, full):
    half = np.zeros((4, 4), dtype)
    half[:, 2:] = full
    image = Image.fromarray(half).convert("RGB") if mode == "RGB" else Image.fromarray(half)
    image.save(tmp_path / "label.png")
    assert Image.open(tmp_path / "label.png").mode == mode
    np.testing.assert_array_equal(read_label(tmp_path / "label.png"), half / full)


def test_read_label_names_the_file(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(LabelError, match=r"text.png: cannot be read as a label"):
        read_label(tmp_path / "text.png")
    with pytest.raises(LabelError, match=r"none.png: no such label"):
        read_label(tmp_path / "none.png")


TRAIN = """
    import sys
    import time
    import torch
    from hf_usod.labels import LabelStore

    store = LabelStore(sys.argv[1])
    first, last = int(sys.argv[2]), int(sys.argv[3])
    samples = range(*map(int, sys.argv[4].split(":")))
    for epoch in range(first, last + 1):
        for index in samples:
            print(epoch, index, flush=True)
            label = store.read([index], epoch)
            store.write([index], epoch, 0.9 * label + 0.1 * ((index + epoch) % 7) / 7)
            time.sleep(float(sys.argv[5]))
"""


def train(*arguments, pause=0.0):
    """Label updates that depend on what is read, in a process of their own, with a pause in seconds after each."""
    command = [sys.executable, "-c", textwrap.dedent(TRAIN), *map(str, arguments), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_and_resume_store(folder, name):
    ids, size = list(map(str, range(40))), (96, 96)
    return LabelStore.create(folder / name, ids, size, lambda i: np.full(size, int(i) / 40), progress=False)


@pytest.mark.slow
def test_a_killed_run_replays_its_epoch_to_the_same_labels(tmp_path):
    straight, killed = (kill_and_resume_store(tmp_path, name) for name in ("straight", "killed"))
    uninterrupted = train(straight.directory, 1, 5, "0:40")
    uninterrupted.communicate(timeout=900)
    assert uninterrupted.returncode == 0

    start = 1  # the checkpoint at the end of an epoch
    for steps in (63, 57, 90):  # to be killed in the midst of an epoch
        process = train(killed.directory, start, 5, "0:40", pause=0.02)  # or it may end before it is killed
        for _, line in zip(range(steps), process.stdout, strict=False):
            start = int(line.split()[0])
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        for line in process.stdout.read().splitlines():
            start = int(line.split()[0])
    resumed = train(killed.directory, start, 5, "0:40")
    resumed.communicate(timeout=900)
    assert resumed.returncode == 0
    final = LabelStore(killed.directory).read(range(40), 6)
    assert torch.equal(final, straight.read(range(40), 6))
    assert not torch.equal(final, straight.read(range(40), 5))


def test_a_write_that_was_cut_short_is_never_read(store, monkeypatch):
    """At every instant of a write: between its three assignments, and in the midst of the data."""
    store.write([0], 1, filled(0.25))
    store.write([0], 2, filled(0.5))
    whole = store.read([0], 3)

    class Killed(BaseException):
        pass

    class CutShort:
        def __init__(self, array):
            self.array = array

        def __getitem__(self, key):
            return self.array[key]

        def __setitem__(self, key, value):
            self.array[key][: SIZE[0] // 2] = value[: SIZE[0] // 2]
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store, "_labels", CutShort(store._labels))
        with pytest.raises(Killed):
            store.write([0], 3, filled(0.75))
    reopened = LabelStore(store.directory)
    assert torch.equal(reopened.read([0], 3), whole)
    np.testing.assert_allclose(reopened.latest(0), 0.5, atol=STEP)
    assert torch.equal(reopened.read([0], 4), whole)
    reopened.write([0], 3, filled(0.75))
    assert reopened.read([0], 4).allclose(filled(0.75), atol=STEP)


@pytest.mark.slow
def test_processes_write_side_by_side(tmp_path):
    alone, shared = (kill_and_resume_store(tmp_path, name) for name in ("alone", "shared"))
    jobs = [train(alone.directory, 1, 4, "0:40"), *(train(shared.directory, 1, 4, f"{i}:40:2") for i in (0, 1))]
    for job in jobs:
        job.communicate(timeout=900)
        assert job.returncode == 0
    assert torch.equal(shared.read(range(40), 5), alone.read(range(40), 5))
