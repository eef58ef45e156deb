"""Figures show what they say they show."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="pip install 'hf_usod[figures]'")

from hf_usod.cli import main
from hf_usod.evaluation import map_samples, score_maps
from hf_usod.evaluation.curves import save_figure
from hf_usod.evaluation.figures import (
    HARD_COLOR,
    choose,
    compare,
    extremes,
    hard_sample_grid,
    hard_samples,
    label_evolution,
)
from hf_usod.labels import LabelStore


def pictures(figure):
    """The pictures of a figure, row by row."""
    return [axes.images[0].get_array() if axes.images else None for axes in figure.axes]


def headings(figure, columns):
    return [axes.get_title() for axes in figure.axes[:columns]]


def test_comparison(data, tmp_path):
    (data / "maps/b/001.png").unlink()
    figure = compare(data / "RGB", {"truth": data / "GT", "ours": data / "maps"}, most=5)
    shown = pictures(figure)
    assert len(shown) == 15 and headings(figure, 3) == ["photo", "truth", "ours"]
    np.testing.assert_array_equal(shown[1], np.asarray(Image.open(data / "GT/a/000.png")))
    named = pictures(compare(data / "RGB", {"ours": data / "maps"}, ["b/001"]))
    assert named[0].shape == (40, 60, 3) and named[1] is None
    with pytest.raises(FileNotFoundError, match="there is no c/1"):
        compare(data / "RGB", {"ours": data / "maps"}, ["c/1"])
    paths = save_figure(figure, tmp_path / "figure.v1")
    assert [path.name for path in paths] == ["figure.v1.png", "figure.v1.pdf"]
    assert paths[1].read_bytes().startswith(b"%PDF") and Image.open(paths[0]).width > 500


def test_the_photos_of_a_grid_are_spread_over_all():
    photos = {f"{place:02d}": Path(f"{place:02d}.png") for place in range(11)}
    assert choose(photos, None, 6, Path("photos")) == ["00", "01", "03", "05", "07", "09"]


def test_label_evolution_reads_folders_and_stores(data, tmp_path):
    ids = ["a/000", "b/001"]
    store = LabelStore.create(tmp_path / "store", ids, (8, 8), lambda _: np.full((8, 8), 51, np.uint8), False)
    figure = label_evolution(data / "RGB", {"initial": data / "GT", "epoch 1": store.directory})
    shown = pictures(figure)
    assert len(shown) == 6 and (shown[2] == 51).all() and shown[1].max() == 255
    with pytest.raises(FileNotFoundError, match="not all there"):
        label_evolution(data / "RGB", {"epoch 1": store.directory}, ["a/002"])


def test_hard_samples_are_the_undecided_pixels():
    photo = np.full((1, 4, 3), 100, np.uint8)
    shown = hard_samples(photo, np.array([[0.0, 0.39, 0.45, 1.0]]), margin=0.11)
    assert (shown[0, 0] == 100).all() and (shown[0, 3] == 100).all()
    assert np.allclose(shown[0, 1], 35 + 0.65 * HARD_COLOR, atol=1) and (shown[0, 1] == shown[0, 2]).all()
    figure = hard_sample_grid([photo], {1: [np.full((1, 4), 0.5)], 9: [np.full((1, 4), 0.5)]}, num_epochs=9)
    _, _, first, _, last = pictures(figure)
    assert not (first == 100).all() and (last == 100).all()  # the curriculum ends after a third


def test_best_and_worst_cases(data):
    Image.new("L", (60, 40)).save(data / "maps/b/003.png")
    Image.open(data / "GT/a/004.png").save(data / "maps/a/004.png")
    rows = score_maps(*map_samples(data / "maps", data / "GT"), progress=False).rows
    for score, worst in (("f_weighted", "0.000"), ("mae", None)):
        figure = extremes(rows, data / "RGB", data / "GT", data / "maps", score, count=1)
        shown = pictures(figure)
        np.testing.assert_array_equal(shown[1], np.asarray(Image.open(data / "GT/a/004.png")))
        assert worst is None or (shown[5] == 0).all()
        labels = [axes.get_ylabel() for axes in figure.axes[::3]]
        assert labels[0].startswith("best") and labels[1].startswith("worst")


def draw(*words):
    """Runs `hf-usod figure` in this process; returns its exit status."""
    return main(["figure", *map(str, words)])


def test_the_command(data, tmp_path, capsys):
    words = ["compare", "--images", data / "RGB", "--output", tmp_path / "out", "--maps"]
    assert draw(*words, f"mask={data / 'GT'}") == 0
    assert (tmp_path / "out.png").exists() and (tmp_path / "out.pdf").exists()
    assert draw(*words, f"mask={data / 'nowhere'}") == 1
    assert "no such folder" in capsys.readouterr().err


def test_hard_samples_need_kept_epochs(data, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/arguments.json").write_text(json.dumps({"num_epochs": 3}))
    words = ["hard", "--images", data / "RGB", "--run", tmp_path / "run", "--output", tmp_path / "out"]
    assert draw(*words) == 1 and "--keep_epochs" in capsys.readouterr().err
