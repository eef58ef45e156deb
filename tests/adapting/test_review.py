"""What a person says of labels, in files; and in which order they are shown."""

import numpy as np
from PIL import Image

from hf_usod.adapting.review import Review, order_by_doubt, read_review, settle_reviews, write_review


def write_label(path, box):
    label = np.zeros((72, 80), np.uint8)
    top, bottom, left, right = box
    label[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label).save(path)


def test_what_is_written_is_read(tmp_path):
    assert read_review(tmp_path) is None
    review = Review("trained-by-cues", {"a/1": "good", "b": "swap"}, train_on=False)
    write_review(tmp_path, review)
    assert read_review(tmp_path) == review


def test_a_review_that_trained_nothing_is_replaced(tmp_path):
    state = {"seconds": {"maps default": 1.0}, "unfinished": {}}
    for decisions in ({"a": "drop"}, {"a": "drop", "b": "good"}, {"a": "swap"}):
        write_review(tmp_path, Review("x", decisions))
        state["seconds"]["labels trained-by-review"] = state["unfinished"]["training trained-by-review"] = 2.0
        ((name, review),) = settle_reviews(tmp_path, state)
        assert name == "trained-by-review"
    assert review.decisions == {"a": "swap"}
    assert state["seconds"] == {"maps default": 1.0} and state["unfinished"] == {}
    (tmp_path / "runs" / "trained-by-review" / "model").mkdir(parents=True)
    write_review(tmp_path, Review("x", {"b": "drop"}))
    assert [name for name, _ in settle_reviews(tmp_path, state)] == ["trained-by-review", "trained-by-review-2"]
    write_review(tmp_path, Review("x", {"a": "swap", "b": "good"}))  # the first one's labels
    (tmp_path / "runs" / "trained-by-review-2" / "model").mkdir(parents=True)
    assert len(settle_reviews(tmp_path, state)) == 2


def test_the_most_doubtful_come_first(tmp_path):
    images = {}
    for name in ("fits", "beside", "empty", "all", "none"):
        photo = np.full((72, 80, 3), 40, np.uint8)
        photo[20:50, 20:60] = 220
        images[name] = tmp_path / f"{name}.png"
        Image.fromarray(photo).save(images[name])
    for name, box in {
        "fits": (20, 50, 20, 60),
        "beside": (5, 15, 5, 75),
        "empty": (0,) * 4,
        "all": (0, 72, 0, 80),
    }.items():
        write_label(tmp_path / "labels" / f"{name}.png", box)
    order = order_by_doubt(images, tmp_path / "labels")
    assert set(order[:2]) == {"empty", "all"} and order[2:] == ["beside", "fits"]


def test_labels_that_others_contradict_are_doubtful(tmp_path):
    """Of a label that fits and one that does not, the former where another finds something else."""
    boxes = {"beside": (5, 15, 5, 75), "fits": (20, 50, 20, 60), "fits too": (20, 50, 20, 60)}
    images = {name: tmp_path / f"{name}.png" for name in boxes}
    for name, box in boxes.items():
        write_label(images[name], boxes["fits"])
        write_label(tmp_path / "labels" / f"{name}.png", box)
        other = {"fits": (55, 70, 20, 60), "fits too": (20, 35, 20, 60)}.get(name, box)  # none, half, all of it
        write_label(tmp_path / "others" / f"{name}.png", other)
    labels, others = tmp_path / "labels", tmp_path / "others"
    assert order_by_doubt(images, labels)[0] == "beside"
    assert order_by_doubt(images, labels, others)[0] == "fits"
    (others / "beside.png").unlink()
    assert order_by_doubt(images, labels, others)[0] == "beside"
