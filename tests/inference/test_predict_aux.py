"""Photos with auxiliary maps, from the shell."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel, UsodSdConfig, UsodSdModel
from hf_usod.cli import main


@pytest.fixture(scope="module")
def model(tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = UsodSdConfig(
        backbone_config=tiny_backbone(), aux_backbone_config=tiny_backbone(), neck_channels=[8] * 4, fusion_channels=8
    )
    detector = UsodSdModel(config)
    for name, parameter in detector.named_parameters():
        if parameter.ndim == 4 and "backbone" not in name:  # the initial ones are too small to see an effect of the map
            torch.nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
    detector.save_pretrained(folder)
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def predict(model, tmp_path):
    def run(*arguments, output="out"):
        command = ["predict", *map(str, arguments), "--output", str(tmp_path / output)]
        return main(command if "--model" in arguments else [*command, "--model", str(model)])

    return run


def write(path, seed, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(random).resize(size).convert(mode).save(path)


@pytest.fixture
def photos(tmp_path):
    """Three photos; a map each for the first two."""
    for seed, name in enumerate(("a.jpg", "sub/b.png", "sub/c.png")):
        write(tmp_path / "RGB" / name, seed)
    write(tmp_path / "T" / "a.png", 10, mode="L")
    write(tmp_path / "T" / "sub" / "b.tiff", 11, size=(20, 15), mode="F")
    return tmp_path / "RGB"


def maps(folder):
    return {path.stem: np.asarray(Image.open(path), int) for path in folder.rglob("*.png")}


def test_maps_make_a_difference_to_those_that_have_one(predict, photos, tmp_path, capsys):
    assert predict(photos, "--aux", tmp_path / "T", "--batch_size", 3) == 0
    assert f"1 of 3 photos have no map in {tmp_path / 'T'}" in capsys.readouterr().err
    assert predict(photos, output="without") == 0
    with_maps, without = maps(tmp_path / "out"), maps(tmp_path / "without")
    assert with_maps.keys() == without.keys() == {"a", "b", "c"}
    assert {name for name in without if np.abs(with_maps[name] - without[name]).max() > 1} == {"a", "b"}


def test_one_photo(predict, photos, tmp_path, capsys):
    assert predict(photos / "sub" / "b.png", "--aux", tmp_path / "T" / "sub") == 0
    assert "no map" not in capsys.readouterr().err


def test_wrong_proportions_are_reported_and_the_others_done(predict, photos, tmp_path, capsys):
    write(tmp_path / "T" / "a.png", 10, size=(30, 40))
    assert predict(photos, "--aux", tmp_path / "T") == 1
    errors = capsys.readouterr().err
    assert "30 x 40" in errors and str(photos / "a.jpg") in errors and "1 photo failed" in errors
    assert maps(tmp_path / "out").keys() == {"b", "c"}


def test_unreadable_maps_are_named(predict, photos, tmp_path, capsys):
    (tmp_path / "T" / "a.png").write_text("no image")
    assert predict(photos, "--aux", tmp_path / "T") == 1
    assert f"{tmp_path / 'T' / 'a.png'}: cannot be read" in capsys.readouterr().err
    assert maps(tmp_path / "out").keys() == {"b", "c"}


def test_a_detector_that_is_told_is_told(predict, model, photos, tmp_path, capsys):
    detector = UsodSdModel.from_pretrained(model)
    detector.inform_of_aux_kinds()
    torch.nn.init.normal_(detector.aux_offsets.weight)
    detector.save_pretrained(tmp_path / "told")
    UsodImageProcessor.from_pretrained(model).save_pretrained(tmp_path / "told")
    told, found = ("--model", str(tmp_path / "told"), "--aux", tmp_path / "T"), {}
    for kind in ("thermal", "flow"):
        assert predict(photos, *told, "--aux_kind", kind, output=kind) == 0
        found[kind] = maps(tmp_path / kind)
    changed = {name for name in found["flow"] if not np.array_equal(found["flow"][name], found["thermal"][name])}
    assert changed == {"a", "b"}  # c has no map
    assert predict(photos, *told) == 1
    assert "kinds of maps are depth, thermal, flow" in capsys.readouterr().err


def test_frames_are_told_as_flow(predict, model, photos, tmp_path):
    pytest.importorskip("cv2")
    detector = UsodSdModel.from_pretrained(model)
    detector.inform_of_aux_kinds()
    detector.save_pretrained(tmp_path / "told")
    UsodImageProcessor.from_pretrained(model).save_pretrained(tmp_path / "told")
    assert predict(photos, "--model", str(tmp_path / "told"), "--task", "video") == 0
    assert predict(photos, "--task", "video", output="untold") == 0
    untold = maps(tmp_path / "untold")
    for name, told in maps(tmp_path / "out").items():  # a level off at most, as processors round sums differently
        assert np.abs(told.astype(int) - untold[name]).max() <= 1


def test_errors(predict, photos, tmp_path, tiny_backbone, capsys):
    write(tmp_path / "other" / "z.png", 0)
    UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone())).save_pretrained(tmp_path / "sce")
    UsodImageProcessor().save_pretrained(tmp_path / "sce")
    cases = {
        ("--aux", tmp_path / "none"): "none: no such folder",
        ("--aux", tmp_path / "other"): "holds no map of any",
        ("--aux", tmp_path / "T", "--task", "video"): "leave out --aux",
        ("--aux_kind", "depth"): "--aux_kind says what the maps in --aux are",
        ("--aux", tmp_path / "T", "--aux_kind", "depth"): "treats all maps alike",
        ("--aux", tmp_path / "T", "--model", str(tmp_path / "sce")): "usod_sce model takes no auxiliary maps",
    }
    for arguments, message in cases.items():
        assert predict(photos, *arguments) == (2 if "--aux" in message else 1)
        assert message in capsys.readouterr().err
    write(tmp_path / "T" / "a.bmp", 0)
    assert predict(photos, "--aux", tmp_path / "T") == 1
    assert "a.png: has the same name as a.bmp" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
