"""Photos looked at in windows too, by a pipeline whose maps are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import hf_usod
from hf_usod import UsodError, UsodImageProcessor
from hf_usod.cli import main
from hf_usod.inference import Tiled


class Detector:
    """Finds what is bright, in the auxiliary map where there is one, as far as it is told to."""

    def __init__(self, find=lambda levels: levels):
        self.find, self.sizes, self.batches = find, [], []
        self.model = SimpleNamespace(config=SimpleNamespace(takes_aux=True))
        self.image_processor = UsodImageProcessor()

    def __call__(self, inputs, batch_size, outputs):
        self.batches.append((len(inputs), batch_size))
        found = []
        for given in inputs:
            self.sizes.append(given["image"].size)
            levels = torch.from_numpy(np.asarray((given.get("aux") or given["image"]).convert("L")) / np.float32(255))
            if given.get("aux"):
                assert given["aux"].size == given["image"].size or given["image"].size == (400, 300)
            found.append({"predicted_saliency": self.find(levels)})
        return found


def photo_with_dots(size=(1000, 800), count=12, radius=9) -> tuple[Image.Image, torch.Tensor]:
    """Small bright dots on a noisy ground, and where they are."""
    random = np.random.default_rng(0)
    mask = Image.new("L", size)
    for _ in range(count):
        x, y = random.integers(radius, size[0] - radius), random.integers(radius, size[1] - radius)
        ImageDraw.Draw(mask).ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    dots = np.asarray(mask) > 0
    levels = np.where(dots, 220, 70) + random.normal(0, 6, dots.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB"), torch.from_numpy(dots).float()


def test_windows_of_what_is_the_same_change_nothing():
    photo, _ = photo_with_dots((300, 200))
    detector = Detector()
    (plain,) = detector([{"image": photo}], 1, [])
    (found,) = Tiled(detector, 120)([photo], batch_size=3, outputs=["predicted_saliency", "mask"])
    assert (found["predicted_saliency"] - plain["predicted_saliency"]).abs().max() < 1e-5
    assert found["mask"].size == (300, 200) and found.keys() == {"predicted_saliency", "mask"}
    assert set(detector.sizes[2:]) == {(120, 120)} and len(detector.sizes) == 2 + 3 * 2
    assert detector.batches[1:] == [(1, 3), (3, 3), (3, 3)]


def test_a_photo_no_larger_than_a_window_is_seen_once():
    photo, _ = photo_with_dots((100, 80))
    detector = Detector()
    found = Tiled(detector, 100)(photo, outputs=["predicted_saliency"])
    assert found["predicted_saliency"].shape == (80, 100) and detector.sizes == [(100, 80)]


def test_windows_of_auxiliary_maps():
    photo, _ = photo_with_dots((400, 300))
    depth = Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8), (150, 1)))
    (found,) = Tiled(Detector(lambda levels: levels), 300)(
        [{"image": photo, "aux": depth.resize((400, 300))}], outputs=["predicted_saliency"]
    )
    expected = torch.linspace(0, 1, 400).expand(300, 400)
    assert (found["predicted_saliency"] - expected).abs().max() < 0.02
    with pytest.raises(ValueError, match="proportions differ"):
        Tiled(Detector(), 300)([{"image": photo, "aux": depth.resize((10, 300))}])


def whole_is_blind(levels):
    """In what is large, a blob in the middle and no dot; in windows the dots."""
    if max(levels.shape) < 500:
        return (levels > 0.5).float()
    blob = torch.zeros_like(levels)
    blob[300:500, 400:600] = 1
    return blob


def windows_are_blind(levels):
    """As a model that finds something in every window, whatever it shows."""
    if max(levels.shape) > 500:
        return (levels > 0.5).float()
    blob = torch.zeros_like(levels)
    blob[40:160, 50:170] = 1
    return blob


def test_auto_takes_windows_where_they_show_more_and_else_does_not():
    photo, dots = photo_with_dots()
    (found,) = Tiled(Detector(whole_is_blind), "auto")([photo], outputs=["predicted_saliency"])
    assert found["predicted_saliency"][dots > 0].mean() > 0.45
    (found,) = Tiled(Detector(windows_are_blind), "auto")([photo], outputs=["predicted_saliency"])
    assert torch.equal(found["predicted_saliency"], dots)
    (found,) = Tiled(Detector(windows_are_blind), 250)([photo], outputs=["predicted_saliency"])
    assert not torch.equal(found["predicted_saliency"], dots)


def test_ruined_weights_are_told_as_without(model):
    (found,) = Tiled(Detector(lambda levels: levels * float("nan")), "auto")(
        [photo_with_dots()[0]], outputs=["mask"][:0]
    )
    assert found == {}


@pytest.fixture
def photos(tmp_path):
    for name in "ab":
        photo, dots = photo_with_dots((200, 160), radius=20)
        for kind, picture in (("RGB", photo), ("GT", Image.fromarray((dots.numpy() * 255).astype(np.uint8)))):
            (tmp_path / kind).mkdir(exist_ok=True)
            picture.save(tmp_path / kind / f"{name}.png")
    return tmp_path


def test_the_commands(model, photos, as_loaded, tmp_path, capsys):
    told = {}
    for tiles in ("none", "96", "auto"):
        words = ["--model", str(model), "--device", "cpu", "--tiles", tiles]
        out = tmp_path / f"out-{tiles}"
        assert main(["predict", str(photos / "RGB"), "--output", str(out), *words]) == 0
        told[tiles] = np.asarray(Image.open(out / "a.png"))
        report = tmp_path / f"{tiles}.json"
        scored = ["--images", str(photos / "RGB"), "--masks", str(photos / "GT"), "--output", str(report)]
        assert main(["evaluate", *scored, *words]) == 0
        (entry,) = json.loads(report.read_text())
        assert entry.get("tiles") == (None if tiles == "none" else 96 if tiles == "96" else "auto")
    assert told["96"].shape == (160, 200) and (told["96"] != told["none"]).any()
    saliency = hf_usod.detect(photos / "RGB" / "a.png", model=str(model), device="cpu", tiles=96)
    assert (np.asarray(saliency) == told["96"]).all()
    assert ", tiles 96" in capsys.readouterr().out
    assert main(["evaluate", "--unlabelled", str(photos / "RGB"), "--model", str(model), "--tiles", "96"]) == 0
    assert ", tiles 96" in capsys.readouterr().out


@pytest.mark.parametrize("tiles", [0, -3, "some", 1.5])
def test_wrong_tiles(tiles):
    with pytest.raises(UsodError, match="side of a window in pixels, or auto"):
        Tiled(Detector(), tiles)
