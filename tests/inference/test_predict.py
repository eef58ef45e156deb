"""The main job, from files to files, on every kind of file that people have."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from hf_usod import UsodSceModel
from hf_usod.cli import main
from hf_usod.models.reading_usod import read_photo


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
        ("gray.png", photo(mode="L"), (40, 30)),
        ("palette.gif", photo(mode="P"), (40, 30)),
        ("cmyk.jpg", photo(mode="CMYK"), (40, 30)),
        ("rgba.png", photo(mode="RGBA"), (40, 30)),
        ("gray_alpha.png", photo(mode="LA"), (40, 30)),
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


def test_grayscale_and_sixteen_bit_are_the_same_photo(predict, tmp_path):
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
    assert "1 output existed and was kept" in capsys.readouterr().out
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


@pytest.mark.parametrize(
    "option, value, expected",
    [
        ("--crop", "2.5", "a whole number from 0 to 100, in percent, got 2.5"),
        ("--crop", "101", "a whole number from 0 to 100, in percent, got 101"),
        ("--threshold", "50%", "a number in [0, 1], such as 0.5, got 50%"),
        ("--threshold", "nan", "a number in [0, 1], such as 0.5, got nan"),
        ("--batch_size", "four", "a whole number of at least 1, got four"),
        ("--quality", "high", "a whole number from 1 to 100, got high"),
        ("--tiles", "0", "a number of pixels, auto or none, got 0"),
        ("--tiles", "all", "a number of pixels, auto or none, got all"),
    ],
)
def test_a_number_that_is_none_is_told_what_was_expected(predict, capsys, option, value, expected):
    with pytest.raises(SystemExit) as ended:
        predict("in", option, value)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: argument {option}: must be {expected}\n")


@pytest.mark.slow
def test_as_a_module(model, tmp_path):
    photo().save(tmp_path / "a.png")
    command = [sys.executable, "-m", "hf_usod.cli", "predict", "a.png", "--output", "out", "--model", str(model)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 photo done" in done.stdout and (tmp_path / "out" / "a.png").exists()


def test_a_long_name(predict, tmp_path):
    for letter in ("n", "é"):
        name = letter * (240 // len(letter.encode()))
        photo().save(tmp_path / f"{name}.jpg")
        assert predict(tmp_path / f"{name}.jpg", "--save", "mask", "cutout") == 0
        assert (tmp_path / "out" / f"{name}_mask.png").exists()
    assert not list((tmp_path / "out").glob(".*"))


def test_a_link_to_the_photos_folder_as_output(predict, tmp_path, capsys):
    (tmp_path / "r").mkdir()
    photo().save(tmp_path / "r" / "q.png")
    (tmp_path / "link").symlink_to(tmp_path / "r")
    before = (tmp_path / "r" / "q.png").read_bytes()
    assert predict(tmp_path / "r" / "q.png", "--overwrite", output="link") == 1
    assert (tmp_path / "r" / "q.png").read_bytes() == before
    assert "q.png: is an input" in capsys.readouterr().err


def test_outputs_in_a_linked_folder_are_no_inputs(predict, tmp_path, capsys):
    (tmp_path / "p").mkdir()
    photo().save(tmp_path / "p" / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "p")
    for _ in range(2):
        assert predict(tmp_path / "link", "--overwrite", output="p/out") == 0
        assert "1 photo done" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "p" / "out").iterdir()] == ["a.png"]


def test_a_photo_of_the_same_stem_in_a_later_run_is_told(predict, tmp_path, capsys):
    photo().save(tmp_path / "a.jpg")
    photo(30, 40).save(tmp_path / "a.png")
    assert predict(tmp_path / "a.jpg") == 0
    capsys.readouterr()
    assert predict(tmp_path / "a.jpg") == 0
    assert "a.jpg" not in capsys.readouterr().err
    assert predict(tmp_path / "a.png") == 0
    assert f"{tmp_path / 'out' / 'a.png'}: was made of a.jpg, not of a.png, and is kept" in capsys.readouterr().err
    assert Image.open(tmp_path / "out" / "a.png").size == (40, 30)


@pytest.mark.parametrize("save", ["cutout", "saliency"])
def test_backgrounds_of_photos(predict, tmp_path, save):
    photo().save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), (0, 200, 0)).save(tmp_path / "ground.png")
    assert predict(tmp_path / "a.png", "--save", save) == 0
    plain = np.asarray(Image.open(tmp_path / "out" / "a.png")).astype(float)
    for background, color in (("white", 255), (tmp_path / "ground.png", (0, 200, 0)), ("#102030", (16, 32, 48))):
        assert predict(tmp_path / "a.png", "--save", save, "--background", background, "--overwrite") == 0
        made = np.asarray(Image.open(tmp_path / "out" / "a.png"))
        if save == "saliency":
            assert np.array_equal(made, plain)
            continue
        opacity = plain[..., 3:] / 255
        assert np.abs(made - (plain[..., :3] * opacity + np.array(color) * (1 - opacity))).max() <= 1


def test_a_bad_background_is_told_before_anything_is_done(predict, tmp_path, capsys):
    photo().save(tmp_path / "a.png")
    assert predict(tmp_path / "a.png", "--save", "cutout", "--background", "nothing.png") == 2
    assert "nothing.png: is neither a color" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_transparent_photos_keep_their_colors_and_transparency(predict, tmp_path):
    image = photo(mode="RGBA")
    image.putalpha(100)
    image.save(tmp_path / "a.png")
    assert (
        predict(tmp_path / "a.png", "--save", "cutout", "saliency", "overlay", "side_by_side", "--edges", "none") == 0
    )
    cutout, saliency = (np.asarray(Image.open(tmp_path / "out" / f"a_{k}.png")) for k in ("cutout", "saliency"))
    assert np.array_equal(cutout[..., :3], np.asarray(image)[..., :3])
    assert np.abs(cutout[..., 3] - saliency * (100 / 255)).max() <= 1


@pytest.mark.parametrize(
    "mode, space, kept", [("RGB", b"RGB ", True), ("RGBA", b"RGB ", True), ("CMYK", b"CMYK", False)]
)
def test_results_carry_a_profile_that_fits_them(predict, tmp_path, mode, space, kept):
    profile = bytes(16) + space + bytes(108)
    name = "a.jpg" if mode == "CMYK" else "a.png"
    image = photo(mode=mode)
    if mode == "RGBA":
        image.putalpha(200)
    image.save(tmp_path / name, icc_profile=profile)
    kinds = ["saliency", "mask", "cutout", "overlay", "side_by_side"]
    assert predict(tmp_path / name, "--save", *kinds) == 0
    profiles = {kind: Image.open(tmp_path / "out" / f"a_{kind}.png").info.get("icc_profile") for kind in kinds}
    assert profiles == {kind: profile if kept and kind not in ("saliency", "mask") else None for kind in kinds}
    assert predict(tmp_path / name, "--save", "cutout", "--background", "red", output="red") == 0
    assert Image.open(tmp_path / "red" / "a.png").info.get("icc_profile") == (profile if kept else None)


def test_outputs_do_not_replace_auxiliary_maps(tmp_path):
    from hf_usod.inference.jobs import check_untouched, plan_jobs

    for folder in ("RGB", "T"):
        (tmp_path / folder).mkdir()
        photo().save(tmp_path / folder / "a.png")
    plan = plan_jobs([tmp_path / "RGB"], tmp_path / "T", ["saliency"])
    with pytest.raises(ValueError, match=r"a\.png: is an auxiliary map"):
        check_untouched(plan.jobs, [tmp_path / "T" / "a.png"], "an auxiliary map")


def test_an_interruption_says_what_is_kept(predict, tmp_path, monkeypatch, capsys):
    from hf_usod import SalientObjectDetectionPipeline

    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(6):
        photo(30 + index).save(folder / f"{index}.png")
    call, calls = SalientObjectDetectionPipeline.__call__, []

    def interrupted(self, inputs, **options):
        calls.append(inputs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return call(self, inputs, **options)

    monkeypatch.setattr(SalientObjectDetectionPipeline, "__call__", interrupted)
    assert predict(folder, "--batch_size", 2) == 130
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "stopped. " in message and f"photos done and kept in {tmp_path / 'out'}" in message
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names and names <= {f"{index}.png" for index in range(4)}
    assert all(Image.open(tmp_path / "out" / name).size[1] == 30 for name in names)


def test_a_background_that_cannot_be_read_is_told_at_once(predict, tmp_path, capsys):
    photo().save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture")
    for background in (tmp_path / "notes.txt", tmp_path, "#ff000080", "bluish"):
        assert predict(tmp_path / "a.png", "--save", "cutout", f"--background={background}") == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "hf-usod" in line]
        assert str(background) in line and ("background" in line or "opaque color" in line)
    assert not (tmp_path / "out").exists()


def test_a_background_without_cutouts_is_told(predict, tmp_path, capsys):
    photo().save(tmp_path / "a.png")
    assert predict(tmp_path / "a.png", "--save", "mask", "--background", "red") == 0
    assert "The background is behind cutouts, and none is made" in capsys.readouterr().err


def test_transparent_is_what_photos_have_anyway(predict, tmp_path):
    photo().save(tmp_path / "a.png")
    assert predict(tmp_path / "a.png", "--save", "cutout", output="plain") == 0
    assert predict(tmp_path / "a.png", "--save", "cutout", "--background", "transparent") == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "plain" / "a.png").read_bytes()


def exif_of_a_camera(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = orientation, "Camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] = 35.0
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):  # in TIFFs, Pillow writes no others
        exif[tag] = exif.get_ifd(tag)
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".avif", ".tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_a_photo_tells_is_kept(predict, tmp_path, suffix, orientation):
    resolution = {} if suffix in (".webp", ".avif") else {"dpi": (300, 300)}
    photo().save(tmp_path / f"a{suffix}", exif=exif_of_a_camera(orientation), **resolution)
    kinds = ["saliency", "mask", "cutout", "overlay", "side_by_side"]
    assert predict(tmp_path / f"a{suffix}", "--save", *kinds, "--edges", "none") == 0
    upright = np.asarray(read_photo(tmp_path / f"a{suffix}"))
    for kind in kinds:
        with Image.open(tmp_path / "out" / f"a_{kind}.png") as made:
            if resolution:
                assert made.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            exif = made.getexif()
            if kind in ("saliency", "mask"):
                assert not exif
                continue
            assert exif[ExifTags.Base.Make] == "Camera" and ExifTags.Base.Orientation not in exif
            assert ExifTags.Base.StripOffsets not in exif  # which is of the file, and not of the photo
            assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] == 35
            assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
            if kind == "cutout":
                assert np.array_equal(np.asarray(made)[..., :3], upright)


def test_exif_that_is_a_text_is_kept(predict, tmp_path):
    """As ImageMagick wrote PNGs."""
    data, text = exif_of_a_camera(6).tobytes(), PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    photo().save(tmp_path / "a.png", pnginfo=text)
    assert predict(tmp_path / "a.png", "--save", "overlay") == 0
    with Image.open(tmp_path / "out" / "a.png") as made:
        assert made.size == (30, 40) and made.getexif()[ExifTags.Base.Make] == "Camera"
        assert ExifTags.Base.Orientation not in made.getexif()


def test_exif_that_does_not_fit_into_a_file_costs_no_result(predict, tmp_path):
    exif = exif_of_a_camera(1)
    exif[ExifTags.Base.ImageDescription] = "x" * 70000
    photo().save(tmp_path / "a.webp", exif=exif)
    for kind, length in (("jpg", 0), ("webp", 70000), ("png", 70000)):
        assert predict(tmp_path / "a.webp", "--save", "overlay", "--format", kind) == 0
        with Image.open(tmp_path / "out" / f"a.{kind}") as made:
            assert made.size == (40, 30) and len(made.getexif().get(ExifTags.Base.ImageDescription, "")) == length


@pytest.mark.parametrize(
    "kind, save, size, room",
    [
        ("webp", "mask", (16384, 2), 16383),
        ("webp", "side_by_side", (8192, 2), 16383),
        ("jpg", "mask", (2, 65501), 65500),
    ],
)
def test_a_picture_that_a_format_has_no_room_for_is_told_before_the_model_runs(
    predict, tmp_path, monkeypatch, capsys, kind, save, size, room
):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with monkeypatch.context() as without:
        without.setattr(UsodSceModel, "forward", None)
        assert predict(tmp_path / "a.png", "--save", save, "--format", kind) == 1
        made = (2 * size[0], size[1]) if save == "side_by_side" else size
        told = f"{kind} has room for {room} pixels a side, and the picture is {made[0]} x {made[1]}; choose png."
        assert f"{tmp_path / 'a.png'}: {told}" in capsys.readouterr().err
    smaller = [min(side, room // (2 if save == "side_by_side" else 1)) for side in size]
    Image.new("RGB", smaller).save(tmp_path / "b.png")
    assert predict(tmp_path / "b.png", "--save", save, "--format", kind) == 0


def test_damaged_exif_costs_no_result(predict, tmp_path):
    photo().save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    photo().save(tmp_path / "b.webp", exif=b"nonsense")
    assert predict(tmp_path / "?.*", "--save", "cutout") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}


def test_a_map_of_no_numbers_is_refused(predict, as_loaded, tmp_path, monkeypatch, capsys):
    forward = UsodSceModel.forward

    def broken(self, pixel_values, **kwargs):
        outputs = forward(self, pixel_values, **kwargs)
        outputs.logits[1] = torch.nan
        return outputs

    for name in "abc":
        photo().save(tmp_path / f"{name}.png")
    monkeypatch.setattr(UsodSceModel, "forward", broken)
    assert predict(*(tmp_path / f"{name}.png" for name in "abc")) == 1
    assert f"{tmp_path / 'b.png'}: the model gives NaN for it" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "c.png"}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] data. DefaultCPUAllocator: not enough memory: you tried to"),
        MemoryError(),
    ],
    ids=["cuda", "linux", "windows", "python"],
)
@pytest.mark.parametrize("fits", [3, 1, 0])
def test_a_batch_that_does_not_fit_in_memory_is_halved(predict, as_loaded, tmp_path, monkeypatch, capsys, error, fits):
    forward, sizes = UsodSceModel.forward, []

    def limited(self, pixel_values, **kwargs):
        sizes.append(len(pixel_values))
        if len(pixel_values) > fits:
            raise error
        return forward(self, pixel_values, **kwargs)

    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(6):
        photo(30 + index).save(folder / f"{index}.png")
    assert predict(folder, "--batch_size", 4, output="whole") == 0
    monkeypatch.setattr(UsodSceModel, "forward", limited)
    assert predict(folder, "--batch_size", 4) == (0 if fits else 1)
    errors = capsys.readouterr().err
    if fits == 0:
        assert sum("memory does not suffice for it" in line for line in errors.splitlines()) == 6
        assert not (tmp_path / "out").exists()
        return
    assert sizes == {3: [4, 2, 2, 2], 1: [4, 2, 1, 1, 1, 1, 1, 1]}[fits]
    assert errors.count("Memory does not suffice for 4 images at a time; it was done with 2.") == 1
    for index in range(6):
        made, expected = (np.asarray(Image.open(tmp_path / o / f"{index}.png"), int) for o in ("out", "whole"))
        assert np.abs(made - expected).max() <= 1


def test_a_photo_too_large_for_the_memory_when_written_does_not_stop_the_others(
    predict, model, tmp_path, monkeypatch, capsys
):
    from hf_usod.inference import rendering

    folder, refine = tmp_path / "in", rendering.refine_edges
    folder.mkdir()
    for name, width in (("a", 500), ("b", 501), ("c", 500)):
        photo(width, 20).save(folder / f"{name}.png")

    def limited(image, saliency):
        if image.width > 500:
            raise MemoryError
        return refine(image, saliency)

    monkeypatch.setattr(rendering, "refine_edges", limited)
    assert predict(folder, folder / "b.png", "--save", "cutout") == 1
    assert (
        f"{folder / 'b.png'}: its output cannot be written (memory does not suffice for it)" in capsys.readouterr().err
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert main(["predict", str(folder / "b.png"), "--output", "-", "--model", str(model)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "hf-usod" in line]
    assert line == f"hf-usod: {folder / 'b.png'}: memory does not suffice for it."


def test_a_link_to_nowhere_is_a_photo_that_fails(predict, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    photo().save(folder / "a.png")
    (folder / "z.jpg").symlink_to(tmp_path / "annex" / "object")
    assert predict(folder) == 1
    told = capsys.readouterr()
    assert "1 photo done" in told.out and "1 photo failed" in told.err
    assert f"{folder / 'z.jpg'}: cannot be read as an image (it is a link to what is not there)" in told.err


def test_other_errors_of_the_program_are_no_lack_of_memory(predict, tmp_path, monkeypatch):
    def wrong(self, pixel_values, **kwargs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    photo().save(tmp_path / "a.png")
    monkeypatch.setattr(UsodSceModel, "forward", wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        predict(tmp_path / "a.png")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_ends_it_in_one_line(predict, tmp_path, monkeypatch, capsys, number):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(40):
        photo().save(folder / f"{index:02}.png")
    save, saved = Image.Image.save, []

    def full(self, path, *arguments, **options):
        if len(saved) == 5:
            Path(path).write_bytes(b"half")
            raise OSError(number, os.strerror(number))
        saved.append(path)
        save(self, path, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    assert predict(folder, "--batch_size", 2) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "|" not in line and line.strip()]
    assert line.startswith(f"hf-usod: {tmp_path / 'out'}: the disk is full. 5 photos done and kept there")
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(names) == 5 and not any(name.startswith(".") for name in names)
    monkeypatch.undo()
    assert all(Image.open(tmp_path / "out" / name).size == (40, 30) for name in names)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_of_an_animation_the_first_picture_is_read_and_that_is_told(tmp_path, suffix, caplog):
    first, second = photo(), photo(mode="L").point(lambda level: 255 - level).convert("RGB")
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second], lossless=True)
    first.save(tmp_path / f"b{suffix}", lossless=True)
    with caplog.at_level("WARNING"):
        moving, still = (read_photo(tmp_path / f"{name}{suffix}") for name in "ab")
    assert np.abs(np.asarray(moving, int) - np.asarray(first)).max() <= 3
    assert np.array_equal(moving, still)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{tmp_path / f'a{suffix}'}: holds several pictures; the first is read."


def test_an_animation_that_is_damaged_after_its_first_picture(tmp_path):
    photo().save(tmp_path / "a.gif", save_all=True, append_images=[photo(mode="L").rotate(9)] * 3)
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[: len(content) // 2])
    assert read_photo(tmp_path / "a.gif").size == (40, 30)


def test_heif_photos(predict, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra `heif`")
    pillow_heif.from_pillow(photo(400, 300)).save(tmp_path / "a.HEIC", exif=exif_of_a_camera(1).tobytes())
    assert predict(tmp_path, "--save", "cutout") == 0
    with Image.open(tmp_path / "out" / "a.png") as made:
        assert made.size == (400, 300) and made.getexif()[ExifTags.Base.Make] == "Camera"
        assert np.abs(np.asarray(made, int)[..., :3] - np.asarray(photo(400, 300))).mean() < 3


def test_a_heif_photo_without_its_reader_says_what_to_install(predict, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hf_usod.models.reading_usod.pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(bytes(4) + b"ftypheic" + bytes(50))
    assert predict(tmp_path / "a.heic") == 1
    assert f"{tmp_path / 'a.heic'}: cannot be read as an image (it is a HEIF file; `pip install pillow-heif`" in (
        capsys.readouterr().err
    )


def test_edges(predict, tmp_path):
    photo(600, 450).save(tmp_path / "a.png")
    kinds = ["saliency", "mask", "cutout", "overlay", "side_by_side"]
    assert predict(tmp_path / "a.png", "--save", *kinds, "--edges", "none", output="none") == 0
    assert predict(tmp_path / "a.png", "--save", *kinds, output="fine") == 0
    made = {
        edges: {k: np.asarray(Image.open(tmp_path / edges / f"a_{k}.png")) for k in kinds} for edges in ("none", "fine")
    }
    for kind in kinds:
        assert (made["fine"][kind] != made["none"][kind]).any()
    assert np.array_equal(made["fine"]["cutout"][..., 3], made["fine"]["saliency"])
    assert np.array_equal(made["fine"]["side_by_side"][:, 600:, 0], made["fine"]["saliency"])
