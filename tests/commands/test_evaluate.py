"""`hf-usod evaluate`: one line scores any method's maps, or models on data sets."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from peft import get_peft_model
from PIL import Image

from hf_usod import UsodAdapterConfig, UsodImageProcessor, UsodSceConfig, UsodSceModel, UsodSdConfig, UsodSdModel
from hf_usod.cli import main
from hf_usod.data import by_stem
from hf_usod.evaluation import METRICS, SaliencyMetrics


@pytest.fixture
def data(tmp_path):
    """Four photos in two folders with noisy maps, depth and masks: `ECSSD/{RGB,maps,depth,GT}`."""
    random = np.random.default_rng(0)
    for number in range(4):
        mask = np.zeros((40, 60), bool)
        mask[5 + number : 25, 10:40] = True
        levels = np.clip(mask * 170 + 30 + random.normal(0, 40, mask.shape), 0, 255).astype(np.uint8)
        pictures = {
            "RGB": (random.integers(0, 60, (40, 60, 3)) + mask[..., None] * 150).astype(np.uint8),
            "maps": np.dstack([levels // 2, levels // 3, levels // 4, levels]),  # a cutout, as rembg writes it
            "depth": levels,
            "GT": mask * np.uint8(255),
        }
        for kind, picture in pictures.items():
            path = tmp_path / "ECSSD" / kind / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return tmp_path / "ECSSD"


@pytest.fixture
def model(tiny_backbone, tmp_path):
    folder = tmp_path / "model"
    UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).save_pretrained(folder)
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def expected(data):
    metrics = SaliencyMetrics()
    masks = by_stem(data / "GT")
    for stem, path in sorted(by_stem(data / "maps").items()):
        metrics.step(np.asarray(Image.open(path))[..., 3], Image.open(masks[stem]))
    return metrics.results()


def test_maps_of_any_method_in_one_line(data, tmp_path, capsys):
    output = tmp_path / "scores.json"
    command = f"evaluate --predictions {data}/maps --masks {data}/GT --output {output}"
    assert main(command.split()) == 0
    (entry,) = json.loads(output.read_text())
    assert {name: entry[name] for name in METRICS} == expected(data)
    assert (entry["model"], entry["dataset"], entry["num_images"]) == ("maps", "ECSSD", 4)
    shown = capsys.readouterr().out
    assert f"| ECSSD | maps | 4 | {entry['mae']:.3f} |" in shown and "A2S-v3 (paper)" in shown


def test_several_methods_as_a_report(data, tmp_path):
    pytest.importorskip("matplotlib", reason="pip install 'hf_usod[figures]'")
    shutil.copytree(data / "maps", data / "others")
    report = tmp_path / "report"
    command = f"evaluate --predictions {data}/maps {data}/others --masks {data}/GT --name photos --output {report}"
    assert main(command.split()) == 0
    names = {"results.json", "images.csv", "curves.csv", "results.md", "results.tex"}
    assert {path.name for path in report.iterdir()} == names | {"curves-photos.png", "curves-photos.pdf"}
    assert [entry["model"] for entry in json.loads((report / "results.json").read_text())] == ["maps", "others"]
    assert Image.open(report / "curves-photos.png").width > 1000


def test_a_model_and_what_was_left_when_it_stopped(data, model, tmp_path, capsys):
    report = tmp_path / "report"
    command = f"evaluate --model {model} --images {data}/RGB --masks {data}/GT --output {report} --note tiny".split()
    assert main(command) == 0
    (entry,) = json.loads((report / "results.json").read_text())
    assert entry["note"] == "tiny" and entry["num_images"] == 4
    (maps,) = (report / "maps").glob("*/ECSSD")
    assert sorted(path.relative_to(maps).as_posix() for path in maps.rglob("*.png")) == [
        "a/0.png",
        "a/2.png",
        "b/1.png",
        "b/3.png",
    ]
    assert Image.open(maps / "a/0.png").size == (60, 40)
    with (report / "images.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["a/0", "a/2", "b/1", "b/3"]

    # Maps that are there are taken as they are, and those of other weights are made anew.
    Image.new("L", (60, 40)).save(maps / "a/0.png")
    assert main([*command, "--batch_size", "1"]) == 0
    assert json.loads((report / "results.json").read_text())[0]["mae"] != entry["mae"]
    processor = UsodImageProcessor(size={"height": 96, "width": 96})
    processor.save_pretrained(model)
    assert main(command) == 0 and np.asarray(Image.open(maps / "a/0.png")).any()


def test_images_that_have_changed_are_looked_at_again(data, model, tmp_path):
    report = tmp_path / "report"
    command = f"evaluate --model {model} --images {data}/RGB --masks {data}/GT --output {report}".split()
    assert main(command) == 0
    (maps,) = (report / "maps").glob("*/ECSSD")
    before = {path: path.stat().st_mtime_ns for path in maps.rglob("*.png")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in maps.rglob("*.png")} == before
    Image.open(data / "RGB/b/1.png").rotate(180).save(data / "RGB/b/1.png")
    assert main(command) == 0
    assert maps.joinpath("b/1.png").stat().st_mtime_ns > before[maps / "b/1.png"]


@pytest.mark.parametrize("name", ["results.md", "images.csv", "curves-mine.png", "results.json"])
def test_a_report_takes_the_place_of_a_report_and_of_no_other_file(data, name, tmp_path, capsys):
    command = f"evaluate --predictions {data}/maps --masks {data}/GT --output {tmp_path}/report".split()
    assert main(command) == 0 and main(command) == 0
    for path in (tmp_path / "report").iterdir():
        path.unlink()
    (tmp_path / "report" / name).write_text("mine")
    capsys.readouterr()
    assert main(command) != 0
    assert f"holds {name}, of no report" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "report").iterdir()] == ["mine"]


@pytest.mark.parametrize("output", ["quality.json", "quality"])
def test_what_is_said_without_masks_takes_the_place_of_what_was_said(data, model, output, tmp_path):
    command = f"evaluate --unlabelled {data}/RGB --model {model} --output {tmp_path / output}".split()
    assert main(command) == 0 and main(command) == 0


def test_a_page_shows_the_worst_maps_first(data, model, tmp_path, capsys):
    page = tmp_path / "page.html"
    command = f"evaluate --model {model} --images {data}/RGB --masks {data}/GT --num_workers 0 --html {page}"
    assert main([*command.split(), "--output", str(tmp_path / "scores")]) == 0
    text = page.read_text()
    assert f"Written to {tmp_path / 'scores'} and {page}." in capsys.readouterr().out
    with (tmp_path / "scores" / "images.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["f_adaptive"]))
    assert re.findall(r"<figcaption><b>(.*?)</b>", text) == [row["id"] for row in rows]
    assert f"F adaptive&nbsp;{float(rows[0]['f_adaptive']):.3f}" in text and text.count("data:image/jpeg") == 4


def test_a_page_of_maps_that_exist_has_no_photos(data, tmp_path):
    page = tmp_path / "page.html"
    assert main(f"evaluate --predictions {data}/maps --masks {data}/GT --html {page}".split()) == 0
    assert 'data-view="map"' in page.read_text()


def test_an_adapter_beside_its_base(data, model, tmp_path):
    base = UsodSceModel.from_pretrained(model)
    base.name_or_path = str(model)
    adapter = tmp_path / "adapter"
    get_peft_model(base, UsodAdapterConfig()).save_pretrained(adapter)
    command = f"evaluate --images {data}/RGB --masks {data}/GT --adapter {adapter} --output {tmp_path}/s.json".split()
    assert main([*command, "--model", str(model)]) == 0
    before, after = json.loads((tmp_path / "s.json").read_text())
    assert "adapter" not in before and after["adapter"] == str(adapter) and after["mae"] != before["mae"]
    assert main(command) == 0  # alone, on the base that it names
    assert json.loads((tmp_path / "s.json").read_text()) == [after]


def test_maps_as_files_give_the_same_scores(data, model, tmp_path):
    command = f"evaluate --model {model} --images {data}/RGB --masks {data}/GT --output"
    assert main([*command.split(), str(tmp_path / "alone.json")]) == 0
    assert main([*command.split(), str(tmp_path / "report")]) == 0
    assert (tmp_path / "alone.json").read_text() == (tmp_path / "report/results.json").read_text()


def test_a_folder_of_other_files_is_not_written_to(data, model, tmp_path, capsys):
    report = tmp_path / "report"
    precious = report / "maps" / str(model).strip("/").replace("/", "-") / "ECSSD/a/0.png"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    command = f"evaluate --model {model} --images {data}/RGB --masks {data}/GT --output {report}".split()
    assert main(command) == 1 and precious.read_bytes() == b"precious"
    assert "files of another origin" in capsys.readouterr().err


def test_a_model_of_two_streams_sees_the_auxiliary_maps(data, tiny_backbone, tmp_path):
    folder = tmp_path / "sd"
    backbone = tiny_backbone(stem=True)
    config = UsodSdConfig(
        backbone_config=backbone,
        aux_backbone_config=backbone,
        neck_channels=[8, 8, 8, 8],
        fusion_channels=8,
        context_channels=8,
    )
    UsodSdModel(config).save_pretrained(folder)
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    (data / "depth/a/0.png").unlink()  # sees its photo instead
    scores = []
    for extra in ([], ["--aux", f"{data}/depth"]):
        command = f"evaluate --model {folder} --images {data}/RGB --masks {data}/GT --output {tmp_path}/s.json".split()
        assert main([*command, *extra]) == 0
        scores.append(json.loads((tmp_path / "s.json").read_text())[0]["mae"])
    assert scores[0] != scores[1]


def test_a_mask_kept_turned_is_scored_as_the_upright_one(data, model, tmp_path):
    command = f"evaluate --model {model} --images {data}/RGB --masks {data}/GT --output {tmp_path}/".split()
    assert main([*command[:-1], f"{command[-1]}upright.json"]) == 0
    exif = Image.Exif()
    exif[0x0112] = 6
    path = data / "GT/a/0.png"
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    assert main([*command[:-1], f"{command[-1]}turned.json"]) == 0
    assert (tmp_path / "turned.json").read_text() == (tmp_path / "upright.json").read_text()


def test_a_task_and_the_sets_that_are_not_there(data, model, tmp_path, capsys):
    command = f"evaluate --model {model} --task rgb --root {data.parent} --output {tmp_path}/scores.json".split()
    assert main(command) == 0
    (entry,) = json.loads((tmp_path / "scores.json").read_text())
    assert entry["dataset"] == "ECSSD" and entry["published"]["mae"] == 0.038
    told = capsys.readouterr().err
    assert all(name in told for name in ("DUT-O", "DUTS-TE", "HKU-IS", "PASCAL-S")) and "https://" in told
    assert main([*command, "--names", "HKU-IS"]) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ("", "Nothing to evaluate on"),
        ("--predictions {data}/maps", "needs --masks"),
        ("--predictions {data}/maps --masks {data}/GT --model x", "leave out the other inputs"),
        ("--task rgb", "needs --root"),
        ("--task rgb --root . --images {data}/RGB", "not both"),
        ("--images {data}/RGB --masks {data}/GT --partial", "is for --predictions"),
        ("--images {data}/RGB --masks {data}/GT --names a", "--names and --root say where the data sets of a --task"),
        ("--predictions {data}/maps --masks {data}/GT --root {data}", "--names and --root say where the data sets"),
        ("--images {data}/RGB --masks {data}/GT --html page", "give a name that ends in .html"),
    ],
)
def test_wrong_arguments(data, options, message, capsys):
    assert main(["evaluate", *options.format(data=data).split()]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "options, message",
    [
        ("--task none --root {data}", "No task is called 'none'"),
        ("--predictions {data}/RGB --masks {data}/GT", "is in color"),
        ("--predictions {data}/maps/a --masks {data}/GT", "no map for 4 of 4: a/0, a/2, b/1, b/3"),
        ("--predictions {data}/nowhere --masks {data}/GT", "nowhere: no such folder"),
        ("--predictions {data}/RGB/a/0.png --masks {data}/GT", "is a file; a folder is expected"),
        ("--images {data}/RGB --masks {data}/GT --device nonsense", "--device nonsense: no such device"),
        ("--predictions {data}/maps --masks {data}/GT --output {data}/RGB/a/0.png", "a folder is expected"),
        ("--predictions {data}/maps --masks {data}/GT --output {data}/RGB/a/0.png/x.json", "a folder is expected"),
        ("--predictions {data}/maps --masks {data}/GT --output {data}/folder.json", "a file is expected"),
    ],
)
def test_mistakes(data, options, message, capsys):
    (data / "folder.json").mkdir()
    assert main(["evaluate", *options.format(data=data).split()]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_an_output_that_cannot_be_written_is_told_before_anything_is_scored(data, monkeypatch, capsys):
    monkeypatch.setattr("hf_usod.evaluation.scoring.score_image", None)
    command = f"evaluate --predictions {data}/maps --masks {data}/GT --output {data}/RGB/a/0.png/scores.json"
    assert main(command.split()) == 1 and "0.png is a file" in capsys.readouterr().err


def test_maps_that_predict_saved_beside_others(data, tmp_path):
    for path in sorted((data / "maps").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem}_saliency.png"))
    for path in sorted((data / "GT").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    command = f"evaluate --predictions {data}/maps --masks {data}/GT --output {tmp_path}/report"
    assert main(command.split()) == 0
    with (tmp_path / "report/images.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["a/0", "a/2", "b/1", "b/3"]


def test_maps_of_zeros_and_ones_are_refused(data, capsys):
    for path in (data / "maps").rglob("*.png"):
        Image.fromarray((np.asarray(Image.open(path))[..., 3] > 127).astype(np.uint8)).save(path)
    assert main(f"evaluate --predictions {data}/maps --masks {data}/GT".split()) == 1
    assert "none of the 4 maps goes above level 1 of 255" in capsys.readouterr().err


def test_dark_maps_are_pointed_out(data, capsys):
    for path in (data / "maps").rglob("*.png"):
        Image.fromarray((np.asarray(Image.open(path))[..., 3] // 3).astype(np.uint8)).save(path)
    assert main(f"evaluate --predictions {data}/maps --masks {data}/GT".split()) == 0
    assert "no map goes above level" in capsys.readouterr().err


def test_without_masks(data, model, tmp_path, capsys):
    report = tmp_path / "report"
    command = f"evaluate --unlabelled {data}/RGB --model {model} --output {report}"
    assert main(command.split()) == 0
    told = capsys.readouterr().out
    assert f"| {model} | 4 |" in told and "no number without masks says" in told
    (entry,) = json.loads((report / "quality.json").read_text())
    rows = list(csv.DictReader((report / "quality.csv").open()))
    assert [row["id"] for row in rows] == ["a/0", "a/2", "b/1", "b/3"] and entry["num_images"] == 4
    mean = sum(float(row["quality"]) for row in rows) / 4
    assert entry["quality"] == pytest.approx(mean, abs=1e-4)
    for option, value in (("masks", f"{data}/GT"), ("note", "x"), ("name", "x"), ("num_workers", "0")):
        assert main([*command.split(), f"--{option}", value]) == 2
        assert f"leave out --{option}." in capsys.readouterr().err
