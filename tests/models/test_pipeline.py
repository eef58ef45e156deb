"""The pipeline: one image or many, with maps or without, what it returns and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline

from hf_usod import SalientObjectDetectionPipeline, checkpoint_path
from hf_usod.models.edge_refiner import foreground_colors, refine_edges

TASK = "salient-object-detection"
MODES = {"saliency": "L", "mask": "L", "cutout": "RGBA"}


def _photo(seed: int, width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))


PHOTOS = [_photo(0, 70, 50), _photo(1, 40, 90), _photo(2, 64, 64)]


@pytest.fixture(scope="module")
def detect(checkpoint) -> SalientObjectDetectionPipeline:
    return pipeline(TASK, model=checkpoint, device="cpu")


@pytest.fixture(scope="module")
def detect_with_map(sd_checkpoint) -> SalientObjectDetectionPipeline:
    return pipeline(TASK, model=sd_checkpoint, device="cpu")


def _assert_same(output: dict, expected: dict):
    assert output.keys() == {"predicted_saliency", *MODES} and output.keys() >= expected.keys() >= MODES.keys()
    for key, mode in MODES.items():
        assert (output[key].mode, output[key].size) == (mode, expected[key].size)
        assert np.array_equal(output[key], expected[key])


@torch.no_grad()
def test_outputs_are_the_models(detect, checkpoint):
    photo = PHOTOS[0]
    processor = AutoImageProcessor.from_pretrained(checkpoint)
    outputs = AutoModel.from_pretrained(checkpoint)(**processor(photo, return_tensors="pt"))
    (saliency,) = processor.post_process_saliency(outputs, [(photo.height, photo.width)])
    levels = (saliency * 255).round().to(torch.uint8).numpy()
    assert levels.std() > 10
    assert torch.equal(detect(photo)["predicted_saliency"], saliency)
    cutout = photo.convert("RGBA")
    cutout.putalpha(Image.fromarray(levels))
    mask = Image.fromarray(np.where(saliency > 0.5, 255, 0).astype(np.uint8))
    assert isinstance(detect, SalientObjectDetectionPipeline)
    _assert_same(detect(photo), {"saliency": Image.fromarray(levels), "mask": mask, "cutout": cutout})


@pytest.mark.parametrize("kind", ["path", "str"])
def test_paths(detect, kind, tmp_path):
    path = tmp_path / "photo.png"
    PHOTOS[0].save(path)
    _assert_same(detect(str(path) if kind == "str" else path), detect(PHOTOS[0]))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_lists(detect, batch_size):
    outputs = detect(PHOTOS, batch_size=batch_size)
    assert len(outputs) == 3
    for output, photo in zip(outputs, PHOTOS, strict=True):
        assert {key: (output[key].mode, output[key].size) for key in MODES} == {
            key: (mode, photo.size) for key, mode in MODES.items()
        }
        assert output["predicted_saliency"].shape == photo.size[::-1]
        # Convolutions may sum in another order for another batch size
        alone = np.asarray(detect(photo)["saliency"], dtype=int)
        assert np.abs(np.asarray(output["saliency"], dtype=int) - alone).max() <= 1


@pytest.mark.parametrize("threshold", [0, 0.3, 0.7, 1])
def test_threshold(detect, threshold):
    output = detect(PHOTOS[0], threshold=threshold)
    saliency, mask = np.asarray(output["saliency"], dtype=float), np.asarray(output["mask"])
    assert set(np.unique(mask)) <= {0, 255}
    sure = np.abs(saliency - 255 * threshold) > 1  # levels are rounded
    assert np.array_equal(mask[sure] == 255, saliency[sure] > 255 * threshold)


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_wrong_threshold(detect, threshold):
    with pytest.raises(ValueError, match="threshold"):
        detect(PHOTOS[0], threshold=threshold)


def test_grayscale_and_transparent_photos(detect):
    for mode in ("L", "RGBA", "P"):
        output = detect(PHOTOS[0].convert(mode))
        assert {key: (output[key].mode, output[key].size) for key in MODES} == {
            key: (mode, (70, 50)) for key, mode in MODES.items()
        }


def test_missing_file(detect, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.png"):
        detect(tmp_path / "missing.png")


@pytest.mark.parametrize("kind", ["path", "pil"])
def test_rotated_photo_comes_out_upright(detect, kind, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    PHOTOS[0].save(tmp_path / "photo.png", exif=exif)
    source = tmp_path / "photo.png" if kind == "path" else Image.open(tmp_path / "photo.png")
    _assert_same(detect(source), detect(PHOTOS[0].transpose(Image.Transpose.ROTATE_270)))


def test_saved_pipeline_needs_no_trust_where_the_package_is_imported(detect, tmp_path):
    detect.save_pretrained(tmp_path)
    loaded = pipeline(TASK, model=str(tmp_path), device="cpu")
    assert type(loaded) is SalientObjectDetectionPipeline
    _assert_same(loaded(PHOTOS[0]), detect(PHOTOS[0]))


DEPTH = Image.fromarray(np.random.default_rng(3).integers(0, 256, (25, 35), dtype=np.uint8))


@torch.no_grad()
def test_auxiliary_map(detect_with_map, sd_checkpoint):
    photo = PHOTOS[0]
    processor = AutoImageProcessor.from_pretrained(sd_checkpoint)
    outputs = AutoModel.from_pretrained(sd_checkpoint)(**processor(photo, aux_images=[DEPTH], return_tensors="pt"))
    (saliency,) = processor.post_process_saliency(outputs, [(photo.height, photo.width)])
    expected = (saliency * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(detect_with_map({"image": photo, "aux": DEPTH})["saliency"], expected)
    assert not np.array_equal(detect_with_map(photo)["saliency"], expected)


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_images_with_and_without_maps(detect_with_map, batch_size):
    rows = [{"image": PHOTOS[0], "aux": DEPTH}, PHOTOS[0], {"id": "2", "image": PHOTOS[2], "aux": None}, *PHOTOS[1:]]
    outputs = detect_with_map(rows, batch_size=batch_size)
    for output, row in zip(outputs, rows, strict=True):
        alone = np.asarray(detect_with_map(row)["saliency"], dtype=int)
        assert np.abs(np.asarray(output["saliency"], dtype=int) - alone).max() <= 1


def test_maps_from_files(detect_with_map, tmp_path):
    for name, image in (
        ("photo.jpg", PHOTOS[0]),
        ("photo.png", DEPTH),
        ("other.png", DEPTH),
        ("turned.png", PHOTOS[1]),
    ):
        image.save(tmp_path / name)
    photo = tmp_path / "photo.jpg"
    expected = detect_with_map({"image": Image.open(photo), "aux": DEPTH})
    _assert_same(detect_with_map({"image": photo, "aux": tmp_path / "photo.png"}), expected)
    _assert_same(detect_with_map({"image": str(photo), "aux": str(tmp_path / "photo.png")}), expected)
    for name in ("other.png", "turned.png"):
        with pytest.raises(ValueError, match=rf"{name}.*photo\.jpg"):
            detect_with_map({"image": photo, "aux": tmp_path / name})


def test_a_model_of_one_stream_takes_no_map(detect):
    with pytest.raises(ValueError, match=r"usod_sce model takes no auxiliary map"):
        detect({"image": PHOTOS[0], "aux": DEPTH})
    _assert_same(detect({"image": PHOTOS[0], "aux": None}), detect(PHOTOS[0]))


@pytest.mark.parametrize("row", [{"aux": DEPTH}, {"image": PHOTOS[0], "depth": DEPTH}])
def test_wrong_rows(detect_with_map, row):
    with pytest.raises(ValueError, match="dict of `image` and `aux`"):
        detect_with_map(row)


@pytest.mark.parametrize("outputs", [["mask"], ("saliency", "predicted_saliency"), []])
def test_only_what_is_asked_for_is_made(detect, outputs, monkeypatch):
    expected = detect(PHOTOS[0])
    monkeypatch.setattr("hf_usod.models.pipeline_usod.cut_out", lambda *_: pytest.fail("a cutout is made"))
    output = detect(PHOTOS[0], outputs=outputs)
    assert list(output) == list(outputs)
    assert all(np.array_equal(output[kind], expected[kind]) for kind in outputs)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"treshold": 0.3}, TypeError),
        ({"outputs": ["matte"]}, ValueError),
        ({"outputs": "mask"}, ValueError),
    ],
)
def test_options_that_there_are_not_are_named(detect, options, error):
    (name,) = options
    with pytest.raises(error, match=rf"{name}.*there are|`outputs` is a list of .*ma"):
        detect(PHOTOS[0], **options)


def test_a_photo_that_is_transparent_itself(detect):
    photo = PHOTOS[0].convert("RGBA")
    alpha = np.tile(np.linspace(0, 255, 70).astype(np.uint8), (50, 1))
    photo.putalpha(Image.fromarray(alpha))
    output = detect(photo)
    cutout, saliency = np.asarray(output["cutout"]), np.asarray(output["saliency"]).astype(float)
    assert np.array_equal(cutout[..., :3], np.asarray(photo)[..., :3])
    assert np.abs(cutout[..., 3] - saliency * alpha / 255).max() <= 1


def test_edges(detect):
    photo = PHOTOS[0]
    plain, fine = detect(photo, edges="none"), detect(photo, edges="fine")
    _assert_same(plain, detect(photo))
    saliency = refine_edges(photo, plain["predicted_saliency"])
    assert torch.equal(fine["predicted_saliency"], saliency) and not torch.equal(saliency, plain["predicted_saliency"])
    assert np.array_equal(np.asarray(fine["mask"]) > 0, saliency > 0.5)
    cutout = foreground_colors(photo, saliency)
    cutout.putalpha(fine["saliency"])
    assert np.array_equal(fine["cutout"], cutout)
    with pytest.raises(ValueError, match="`edges` is one of fine, none"):
        detect(photo, edges="soft")


def test_without_a_model_it_is_the_default_one(tmp_path):
    detect = pipeline(TASK, device="cpu")
    assert Path(detect.model.name_or_path) == checkpoint_path()
    detect.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())["custom_pipelines"][TASK]
    assert told == {"impl": "pipeline_usod.SalientObjectDetectionPipeline", "pt": ["AutoModel"], "type": "image"}
