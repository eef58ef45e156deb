"""What can be asked of the pictures that `hf-usod predict` writes: format, crop, opacity, lines of JSON, pipes."""

import importlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from hf_usod.cli import main
from hf_usod.errors import DataError
from hf_usod.inference import Rendering
from hf_usod.inference.encoding import made_of


@pytest.fixture
def photos(tmp_path):
    """Two JPEGs, one of them with EXIF data, orientation and resolution, in `in`."""
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Orientation] = 6
    for name, options in (("a", {"exif": exif, "dpi": (300, 300)}), ("b", {})):
        image = Image.new("RGB", (60, 40), (30, 40, 50))
        ImageDraw.Draw(image).ellipse([15, 10, 40, 30], fill=(220, 200, 180))
        image.save(tmp_path / "in" / f"{name}.jpg", quality=95, **options)
    return tmp_path / "in"


@pytest.fixture
def predict(model, photos, tmp_path):
    def run(*options, inputs=None, output=None):
        words = ["predict", inputs or photos, "--output", output or tmp_path / "out", "--model", model, *options]
        return main(list(map(str, [*words, "--device", "cpu"])))

    return run


@pytest.mark.parametrize("kind", ["webp", "jpg"])
def test_formats_keep_what_png_keeps(predict, tmp_path, kind):
    assert predict("--save", "cutout", "mask", "--format", kind, "--background", "white", "--quality", "80") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{name}_{what}.{kind}" for name in "ab" for what in ("cutout", "mask")
    ]
    with Image.open(tmp_path / "out" / f"a_cutout.{kind}") as picture:
        assert picture.format == {"jpg": "JPEG", "webp": "WEBP"}[kind] and picture.size == (40, 60)  # upright
        exif = picture.getexif()
        assert exif[ExifTags.Base.Make] == "Maker" and ExifTags.Base.Orientation not in exif
        if kind == "jpg":
            assert picture.info["dpi"] == (300, 300)


def test_quality_decides_on_the_size_and_100_is_lossless_in_webp(predict, photos, tmp_path):
    sizes = {}
    for quality in (20, 95, 100):
        assert (
            predict("--save", "side_by_side", "--format", "webp", "--quality", quality, output=tmp_path / f"{quality}")
            == 0
        )
        sizes[quality] = (tmp_path / f"{quality}" / "b.webp").stat().st_size
    assert sizes[20] < sizes[95]
    shown = np.asarray(Image.open(tmp_path / "100" / "b.webp"))[:, :60]
    assert (shown == np.asarray(Image.open(photos / "b.jpg"))).all()


def test_transparency_survives_in_webp(predict, tmp_path):
    assert predict("--save", "cutout", "--format", "webp") == 0
    with Image.open(tmp_path / "out" / "b.webp") as picture:
        assert picture.mode == "RGBA" and picture.getextrema()[3][0] < 255


@pytest.mark.parametrize(
    "options, message",
    [
        (["--save", "cutout", "--format", "jpg"], "jpg has no transparency; give cutouts a background"),
        (["--quality", "80"], "PNGs keep every pixel"),
        (["--json", "{tmp}"], "is a folder; a file is expected"),
        (["--save", "cutout", "--background", "nosuchcolor"], "nosuchcolor: is neither a color"),
        (["--aux_kind", "depth"], "--aux_kind says what the maps in --aux are"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(predict, tmp_path, options, message, capsys):
    assert predict(*(option.format(tmp=tmp_path) for option in options)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_crop_is_the_object_and_its_margin():
    photo = Image.fromarray(np.arange(30 * 40 * 3, dtype=np.uint32).astype(np.uint8).reshape(30, 40, 3))
    saliency = torch.zeros(30, 40)
    saliency[10:20, 15:35] = 0.9
    saliency[2, 2] = 0.4  # below the threshold
    cropped, part = Rendering(crop=0.1, edges="none").shown(photo, saliency)
    assert cropped.size == (24, 14) and torch.equal(part, saliency[8:22, 13:37])
    assert (np.asarray(cropped) == np.asarray(photo)[8:22, 13:37]).all()
    assert Rendering(crop=1).shown(photo, saliency)[0].size == (40, 30)  # never beyond the photo
    assert Rendering(crop=0).shown(photo, torch.zeros(30, 40))[0] is photo
    assert Rendering(edges="none").shown(photo, saliency) == (photo, saliency)


def test_crops_of_all_kinds_are_alike(predict, tmp_path):
    assert predict("--save", "saliency", "cutout", "--crop", "0", "--threshold", "0.5") == 0
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes["b_saliency.png"] == sizes["b_cutout.png"]


def test_lines_of_json(predict, photos, tmp_path, capsys):
    (photos / "c.jpg").write_bytes(b"no photo")
    lines = tmp_path / "lines.jsonl"
    assert predict("--save", "mask", "--json", lines) == 1
    records = {entry["input"]: entry for entry in map(json.loads, lines.read_text().splitlines())}
    assert records.keys() == {str(photos / name) for name in ("a.jpg", "b.jpg", "c.jpg")}
    one = records[str(photos / "a.jpg")]
    assert one["outputs"] == {"mask": str(tmp_path / "out" / "a.png")} and one["size"] == [40, 60]
    assert 0 < one["seconds"] < 60
    failed = records[str(photos / "c.jpg")]
    assert "c.jpg" in failed["error"] and failed["outputs"] == {} and "seconds" not in failed
    capsys.readouterr()
    assert predict("--save", "mask", "--json", "-", "--overwrite") == 1
    out = capsys.readouterr()
    assert len([json.loads(line) for line in out.out.splitlines()]) == 3 and "2 photos done" in out.err


def test_a_second_run_opens_no_more_than_the_first_of_its_results(predict, tmp_path, monkeypatch, capsys):
    assert predict("--save", "mask", "saliency") == 0
    opened = []
    module = importlib.import_module("hf_usod.inference.predict")
    monkeypatch.setattr(module, "made_of", lambda path: opened.append(path) or made_of(path))
    monkeypatch.setattr(module, "OPENED", 3)
    assert predict("--save", "mask", "saliency") == 0
    assert len(opened) == 3 and "4 outputs existed and were kept" in capsys.readouterr().out


def test_from_standard_input_to_standard_output(model, photos, predict, tmp_path):
    assert predict("--save", "cutout") == 0
    command = [sys.executable, "-m", "hf_usod", "predict", "-", "--output", "-", "--save", "cutout", "--device", "cpu"]
    data = (photos / "a.jpg").read_bytes()
    done = subprocess.run([*command, "--model", model], input=data, capture_output=True, check=True)
    with Image.open(io.BytesIO(done.stdout)) as piped, Image.open(tmp_path / "out" / "a.png") as written:
        # In a batch of another size, the same but for rounding
        difference = np.asarray(piped).astype(int) - np.asarray(written)
        assert piped.mode == "RGBA" and np.abs(difference).max() <= 1
    broken = subprocess.run([*command, "--model", model], input=data[:200], capture_output=True)
    assert broken.returncode == 1 and broken.stdout == b"" and len(broken.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words, message",
    [
        ("- --output out", "has no name; write it to standard output"),
        ("a.jpg b.jpg --output -", "takes one picture"),
        ("a.jpg --output - --save mask cutout", "takes one picture"),
        ("a.jpg --output - --json -", "is for one photo alone"),
        (". --output -", "takes one photo, and . is a folder"),
        ("*.jpg --output -", "takes one photo, and *.jpg is a pattern"),
        ("c.mp4 --output -", "takes one photo, and c.mp4 is a clip"),
    ],
)
def test_what_does_not_go_through_a_pipe(words, message, capsys):
    assert main(["predict", *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_does_not_go_through_a_pipe_is_named(predict, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no photo")
    for name, message in (("none.jpg", "no such file"), ("notes.txt", "cannot be read as an image (its kind is")):
        assert predict(inputs=tmp_path / name, output="-") == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "hf-usod" in line]
        assert line.startswith(f"hf-usod: {tmp_path / name}: {message}")


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
def test_every_format_carries_the_profile_and_the_name_of_its_photo(predict, photos, tmp_path, capsys, kind):
    profile = bytes(16) + b"RGB " + bytes(108)
    with Image.open(photos / "a.jpg") as image:
        image.save(photos / "c & d.jpg", icc_profile=profile)
        image.save(tmp_path / "c & d.png")
    options = ["--format", kind, "--save", "overlay", "mask"]
    assert predict(*options, inputs=photos / "c & d.jpg") == 0
    with Image.open(tmp_path / "out" / f"c & d_overlay.{kind}") as picture:
        assert picture.info["icc_profile"] == profile
    with Image.open(tmp_path / "out" / f"c & d_mask.{kind}") as picture:
        assert "icc_profile" not in picture.info  # of gray pictures it is none
    capsys.readouterr()
    assert predict(*options, inputs=photos / "c & d.jpg") == 0
    assert "was made of" not in capsys.readouterr().err
    assert predict(*options, inputs=tmp_path / "c & d.png") == 0
    assert f"c & d_mask.{kind}: was made of c & d.jpg, not of c & d.png" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
@pytest.mark.parametrize("name", [b"caf\xe9", b"a\x07b", b"a\nb", "日本 <&>".encode()])
def test_photos_of_any_name(predict, photos, tmp_path, capsys, kind, name):
    folder = tmp_path / "names"
    folder.mkdir()
    try:
        (folder / os.fsdecode(name + b".jpg")).write_bytes((photos / "a.jpg").read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    lines = tmp_path / "lines.jsonl"
    for _ in range(2):
        assert predict("--format", kind, "--json", lines, "--overwrite", inputs=folder) == 0
    (line,) = lines.read_text().splitlines()
    assert os.fsencode(json.loads(line)["outputs"]["saliency"]).endswith(name + b"." + kind.encode())
    capsys.readouterr()
    assert predict("--format", kind, inputs=folder) == 0  # kept, and known as of this photo
    assert "was made of" not in capsys.readouterr().err


def test_lines_do_not_replace_a_photo(predict, photos, capsys):
    before = (photos / "a.jpg").read_bytes()
    assert predict("--json", photos / "a.jpg", inputs=photos / "b.jpg") == 2
    assert (photos / "a.jpg").read_bytes() == before
    assert "a.jpg: exists and holds no lines of JSON" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['{"mine": 1}\n', "{\n", '{"input": 1, "outputs": 2', '["input", "outputs"]\n'])
def test_lines_do_not_replace_other_json(predict, tmp_path, capsys, text):
    (tmp_path / "mine.json").write_text(text)
    for overwrite in ([], ["--overwrite"]):
        assert predict("--json", tmp_path / "mine.json", *overwrite) == 2
        assert "mine.json: exists and holds no lines of JSON" in capsys.readouterr().err
    assert (tmp_path / "mine.json").read_text() == text and not (tmp_path / "out").exists()


def test_lines_of_the_same_command_that_goes_on(predict, photos, tmp_path):
    lines = tmp_path / "out" / "new" / "lines.jsonl"

    def inputs():
        return [os.path.basename(json.loads(line)["input"]) for line in lines.read_text().splitlines()]

    assert predict("--json", lines, inputs=photos / "a.jpg") == 0 and inputs() == ["a.jpg"]
    assert predict("--json", lines) == 0 and inputs() == ["a.jpg", "b.jpg"]
    for overwrite in ([], ["--overwrite"]):
        assert predict("--json", lines, *overwrite, inputs=tmp_path / "nothere") == 1
        assert inputs() == ["a.jpg", "b.jpg"]
    lines.write_text(lines.read_text() + '{"input": "torn')
    assert predict("--json", lines, "--save", "mask", output=tmp_path / "masks") == 0
    assert [line[:1] + line[-1:] for line in lines.read_text().splitlines()] == ["{}", "{}", "{n", "{}", "{}"]
    assert predict("--json", lines, "--overwrite") == 0 and inputs() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "options",
    [
        {"kinds": ("msk",)},
        {"alpha": "hrd"},
        {"edges": "fin"},
        {"threshold": 2.0},
        {"threshold": float("nan")},
        {"crop": -0.1},
        {"crop": 1.01},
        {"crop": float("nan")},
    ],
)
def test_a_rendering_that_there_is_not_is_refused(options):
    (name,) = options
    with pytest.raises(DataError, match=name):
        Rendering(**options)


def test_a_precision_that_a_pipe_does_not_have_is_no_option(predict, photos, capsys):
    assert predict("--mixed_precision", "bf16", inputs=photos / "a.jpg", output="-") == 2
    assert "leave out --mixed_precision" in capsys.readouterr().err


def noise(path, seed, size=(60, 40), **options):
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
def test_results_of_another_photo_of_that_name_are_told(predict, tmp_path, capsys, kind):
    """BMPs of one size and height have as many bytes."""
    for folder, seed in (("one", 1), ("two", 2)):
        noise(tmp_path / folder / "a.bmp", seed)
    assert predict("--format", kind, inputs=tmp_path / "one") == 0
    capsys.readouterr()
    (tmp_path / "one").rename(tmp_path / "moved")
    os.utime(tmp_path / "moved" / "a.bmp", (0, 0))
    assert predict("--format", kind, inputs=tmp_path / "moved") == 0
    assert "was made of" not in capsys.readouterr().err
    before = (tmp_path / "out" / f"a.{kind}").read_bytes()
    assert predict("--format", kind, inputs=tmp_path / "two") == 0
    assert f"a.{kind}: was made of another a.bmp, and is kept; --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / f"a.{kind}").read_bytes() == before


def test_results_of_another_kind_are_told_and_a_few_of_them_one_by_one(predict, tmp_path, capsys):
    for number in range(13):
        noise(tmp_path / "many" / f"{number:02}.png", number)
    assert predict(inputs=tmp_path / "many") == 0
    capsys.readouterr()
    assert predict("--save", "mask", inputs=tmp_path / "many") == 0
    told = capsys.readouterr()
    assert "13 outputs existed and were kept" in told.out
    lines = [line for line in told.err.splitlines() if "holds the saliency of" in line]
    assert len(lines) == 10 and lines[0].endswith(
        "00.png: holds the saliency of 00.png, not the mask, and is kept; --overwrite replaces it."
    )
    assert "3 more of the files that are kept are not of these photos, or of other kinds." in told.err


def test_results_of_earlier_versions_count_as_done(predict, photos, tmp_path, capsys):
    earlier = PngInfo()
    earlier.add_text("Source", "a.jpg")
    (tmp_path / "out").mkdir()
    Image.new("L", (40, 60)).save(tmp_path / "out" / "a.png", pnginfo=earlier)
    assert predict(inputs=photos / "a.jpg") == 0
    told = capsys.readouterr()
    assert "1 output existed and was kept" in told.out and "a.png" not in told.err


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
def test_results_in_the_input_are_no_photos_unless_they_are_named(predict, photos, tmp_path, capsys, kind):
    assert predict("--save", "mask", "--format", kind, output=photos / "masks") == 0
    for number, given in enumerate((photos, photos / "**" / "*.*")):
        lines = tmp_path / f"{number}.jsonl"
        capsys.readouterr()
        assert predict("--save", "cutout", "--json", lines, inputs=given, output=photos / f"cutouts{number}") == 0
        told = capsys.readouterr()
        assert "2 photos done" in told.out
        assert f"Passed over: {(2, 4)[number]} results of hf-usod; give the files' names" in told.err
        assert len(lines.read_text().splitlines()) == 2
    assert predict(inputs=photos / "masks" / f"a.{kind}") == 0
    assert "1 photo done" in capsys.readouterr().out and (tmp_path / "out" / "a.png").exists()
