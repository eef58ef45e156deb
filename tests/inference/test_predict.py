"""The main job, from files to files, on every kind of file that people have."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel
from hf_usod.cli import main


@pytest.fixture(scope="module")
def model(tiny_backbone, tmp_path_factory):
    """A small model of random weights: what is tested here is the way from file to file."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).save_pretrained(folder)
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def predict(model, tmp_path):
    def run(*arguments, output="out"):
        return main(["predict", *map(str, arguments), "--output", str(tmp_path / output), "--model", str(model)])

    return run


def photo(width=40, height=30, mode="RGB"):
    """A bright disc on a dark ground."""
    image = Image.new("L", (width, height), 30)
    ImageDraw.Draw(image).ellipse([width / 4, height / 4, 3 * width / 4, 3 * height / 4], fill=220)
    return image.convert("RGB").convert(mode)


SIXTEEN_BIT = Image.fromarray((np.asarray(photo(mode="L")).astype(np.uint16)) * 257)
FLOAT = Image.fromarray(np.asarray(photo(mode="L")).astype(np.float32) / 255)


@pytest.mark.parametrize(
    "name, image, size",
    [
        ("rgb.jpg", photo(), (40, 30)),
        ("grey.png", photo(mode="L"), (40, 30)),
        ("palette.gif", photo(mode="P"), (40, 30)),
        ("cmyk.jpg", photo(mode="CMYK"), (40, 30)),
        ("rgba.png", photo(mode="RGBA"), (40, 30)),
        ("grey_alpha.png", photo(mode="LA"), (40, 30)),
        ("one_bit.bmp", photo(mode="1"), (40, 30)),
        ("sixteen_bit.png", SIXTEEN_BIT, (40, 30)),
        ("float.tiff", FLOAT, (40, 30)),
        ("column.png", photo(1, 50), (1, 50)),
        ("row.png", photo(70, 1), (70, 1)),
        ("pixel.webp", photo(1, 1), (1, 1)),
    ],
)
def test_kinds_of_images(predict, tmp_path, name, image, size):
    image.save(tmp_path / name)
    assert predict(tmp_path / name, "--save", "saliency", "mask", "cutout", "overlay") == 0
    made = {path.stem.removeprefix(name.split(".")[0] + "_"): Image.open(path) for path in (tmp_path / "out").iterdir()}
    assert {kind: picture.mode for kind, picture in made.items()} == {
        "saliency": "L",
        "mask": "L",
        "cutout": "RGBA",
        "overlay": "RGB",
    }
    assert {picture.size for picture in made.values()} == {size}
    assert set(np.unique(np.asarray(made["mask"]))) <= {0, 255}
    assert (np.asarray(made["cutout"])[..., 3] == np.asarray(made["saliency"])).all()


def test_greyscale_and_sixteen_bit_are_the_same_photo(predict, tmp_path):
    photo(mode="L").save(tmp_path / "eight.png")
    SIXTEEN_BIT.save(tmp_path / "sixteen.png")
    assert predict(tmp_path / "*.png") == 0
    eight, sixteen = (np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) for name in ("eight", "sixteen"))
    assert (eight == sixteen).all()


def test_upright_as_exif_says(predict, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    photo(40, 30).save(tmp_path / "phone.jpg", exif=exif)
    assert predict(tmp_path / "phone.jpg", "--save", "cutout") == 0
    assert Image.open(tmp_path / "out" / "phone.png").size == (30, 40)


def test_large_image(predict, tmp_path):
    photo(9000, 6000).save(tmp_path / "large.jpg")
    assert predict(tmp_path / "large.jpg", "--save", "mask") == 0
    assert Image.open(tmp_path / "out" / "large.png").size == (9000, 6000)


def test_damaged_files_are_named_and_the_others_done(predict, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "z.jpg"):
        photo(400, 300).save(folder / name)
    whole = (folder / "b.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").touch()
    assert predict(folder) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "z.png"]
    errors = capsys.readouterr().err
    assert all(str(folder / name) in errors for name in ("b.jpg", "text.png", "empty.png"))
    assert "3 photos failed" in errors and str(folder / "a.jpg") not in errors


def test_existing_outputs_are_kept_unless_told(predict, tmp_path, capsys):
    photo().save(tmp_path / "a.jpg")
    (tmp_path / "out").mkdir()
    kept = tmp_path / "out" / "a_mask.png"
    kept.write_bytes(b"precious")
    assert predict(tmp_path / "a.jpg", "--save", "mask", "saliency") == 0
    assert kept.read_bytes() == b"precious" and (tmp_path / "out" / "a_saliency.png").exists()
    assert "1 outputs existed and were kept" in capsys.readouterr().out
    assert predict(tmp_path / "a.jpg", "--save", "mask", "saliency", "--overwrite") == 0
    assert Image.open(kept).size == (40, 30)


def test_batches_do_not_change_the_result(predict, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(5):
        photo(30 + 7 * index, 40 - 3 * index).save(folder / f"{index}.png")
    assert predict(folder, "--batch_size", 1, output="single") == 0
    assert predict(folder, "--batch_size", 3, output="batched") == 0
    for index in range(5):
        single, batched = (np.asarray(Image.open(tmp_path / o / f"{index}.png"), int) for o in ("single", "batched"))
        assert single.shape == (40 - 3 * index, 30 + 7 * index)
        assert np.abs(single - batched).max() <= 1


def test_threshold(predict, tmp_path):
    photo().save(tmp_path / "a.png")
    areas = []
    for threshold in (0.1, 0.5, 0.9):
        assert predict(tmp_path / "a.png", "--save", "mask", "--threshold", threshold, "--overwrite") == 0
        areas.append((np.asarray(Image.open(tmp_path / "out" / "a.png")) > 0).sum())
    assert areas[0] >= areas[1] >= areas[2] and areas[0] > areas[2]


def test_no_traces_of_unfinished_writes(predict, tmp_path):
    photo().save(tmp_path / "a.png")
    (tmp_path / "out" / "a.png").mkdir(parents=True)  # cannot be replaced by a file
    assert predict(tmp_path / "a.png", "--overwrite") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.jpg"], "nothing.jpg: no such file"),
        ([".", "--model", "no/such/model"], "no/such/model: cannot be loaded"),
    ],
)
def test_errors_are_messages(predict, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    photo().save(tmp_path / "a.png")
    given, *options = arguments
    code = main(["predict", given, "--output", "out", *options]) if options else predict(given)
    assert code == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--threshold", "2"], ["--batch_size", "0"], ["--save", "everything"]])
def test_bad_options(predict, options):
    with pytest.raises(SystemExit):
        predict("in", *options)


@pytest.mark.slow
def test_as_a_module(model, tmp_path):
    photo().save(tmp_path / "a.png")
    command = [sys.executable, "-m", "hf_usod.cli", "predict", "a.png", "--output", "out", "--model", str(model)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 photos done" in done.stdout and (tmp_path / "out" / "a.png").exists()
