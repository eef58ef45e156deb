"""Pseudo-labels of folders, from files to files."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel, UsodSdConfig, UsodSdModel
from hf_usod.cli import main
from hf_usod.labels import label_images, labeling, make_pseudo_label


@pytest.fixture(scope="module")
def model(tiny_backbone):
    torch.manual_seed(0)
    return UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).eval()


@pytest.fixture(scope="module")
def image_processor():
    return UsodImageProcessor(size={"height": 64, "width": 64})


@pytest.fixture(scope="module")
def saved(model, image_processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return folder


def photo(seed, size=(50, 40)):
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 60, (*size[::-1], 3), dtype=np.uint8))
    ImageDraw.Draw(image).ellipse([10, 8, 12 + 5 * seed, 30], fill=(220, 200, 40 * seed))
    return image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "more/a.jpg", "more/a.png", "more/c.png")):
        photo(seed, (50 + seed, 40)).save(folder / name)
    return folder


LABELS = ["a.png", "b.png", "more/a.jpg.png", "more/a.png.png", "more/c.png"]


def made(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def label(saved, photos, tmp_path):
    """Runs the command without worker processes, whose start takes seconds."""

    def run(*options, output="labels"):
        command = ["label", str(photos), "--output", str(tmp_path / output), "--model", str(saved)]
        return main([*command, "--num_workers", "0", "--device", "cpu", *options])

    return run


@pytest.mark.parametrize("refine", ["pixel", "none"])
def test_labels_are_those_of_each_photo(label, photos, model, image_processor, tmp_path, refine):
    assert label("--refine", refine, "--batch_size", "2") == 0
    assert made(tmp_path / "labels") == LABELS
    for name, source in zip(LABELS, ("a.png", "b.png", "more/a.jpg", "more/a.png", "more/c.png"), strict=True):
        image = np.array(Image.open(photos / source))
        with torch.inference_mode():
            outputs = model(**image_processor(Image.fromarray(image), return_tensors="pt"))
        saliency = image_processor.post_process_saliency(outputs, [image.shape[:2]])[0].numpy()
        written = Image.open(tmp_path / "labels" / name)
        assert written.mode == "L"
        differs = np.asarray(written) != 255 * make_pseudo_label(saliency, image, refine)
        assert differs.mean() < 0.01  # a batch sums in another order


def test_a_detector_sees_the_auxiliary_maps(tiny_backbone, image_processor, photos, tmp_path, label, capsys):
    backbone = tiny_backbone(stem=True)
    widths = {"neck_channels": [8] * 4, "fusion_channels": 8, "context_channels": 8}
    torch.manual_seed(0)
    model = UsodSdModel(UsodSdConfig(backbone_config=backbone, aux_backbone_config=backbone, **widths)).eval()
    model.save_pretrained(tmp_path / "sd")
    image_processor.save_pretrained(tmp_path / "sd")
    depth = Image.linear_gradient("L").resize((50, 40))
    (tmp_path / "depth").mkdir()
    depth.save(tmp_path / "depth" / "a.png")  # the other photos have none

    words = ["--model", str(tmp_path / "sd"), "--refine", "none", "--aux", str(tmp_path / "depth")]
    assert label(*words) == 0
    for name, aux in (("a.png", depth), ("b.png", None)):
        image = Image.open(photos / name)
        with torch.inference_mode():
            outputs = model(**image_processor(image, aux_images=[aux], return_tensors="pt"))
        saliency = image_processor.post_process_saliency(outputs, [image.size[::-1]])[0].numpy()
        expected = 255 * make_pseudo_label(saliency, np.array(image), "none")
        assert (np.asarray(Image.open(tmp_path / "labels" / name)) != expected).mean() < 0.01
    assert label("--aux", str(tmp_path / "depth"), output="other") == 1
    assert "takes no auxiliary maps" in capsys.readouterr().err


def test_existing_labels_are_kept_unless_told(label, tmp_path, capsys):
    (tmp_path / "labels").mkdir()
    kept = tmp_path / "labels" / "b.png"
    kept.write_bytes(b"precious")
    assert label("--refine", "none") == 0
    assert kept.read_bytes() == b"precious" and made(tmp_path / "labels") == LABELS
    printed = capsys.readouterr().out
    assert "4 photos labeled" in printed and "1 label existed and was kept" in printed
    assert label("--refine", "none", "--overwrite") == 0
    assert Image.open(kept).size == (51, 40)


def test_photos_that_differ_in_the_suffix_only_are_told(label, photos, capsys):
    """Of which `publish dataset` takes no labels."""
    assert label("--refine", "none") == 0
    pair = f"{photos / 'more' / 'a.jpg'} and {photos / 'more' / 'a.png'}"
    assert f"{pair}: differ in the suffix only, so that their labels keep it" in capsys.readouterr().err
    (photos / "more" / "a.jpg").unlink()
    assert label("--refine", "none", output="fewer") == 0
    assert "suffix" not in capsys.readouterr().err


def test_damaged_photos_are_named_and_the_others_labeled(label, photos, tmp_path, capsys):
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:900])
    (photos / "text.jpg").write_text("no image")
    (tmp_path / "labels" / "more" / "c.png" / "folder").mkdir(parents=True)
    assert label("--refine", "none", "--overwrite") == 1
    assert made(tmp_path / "labels") == ["a.png", "more/a.jpg.png", "more/a.png.png"]
    errors = capsys.readouterr().err
    assert all(str(photos / name) in errors for name in ("b.png", "text.jpg", "more/c.png"))
    assert "3 photos failed" in errors


def test_a_missing_crf_is_a_message(label, monkeypatch, capsys):
    for name in ("pydensecrf", "pydensecrf.densecrf", "pydensecrf.utils"):  # those that were imported before, too
        monkeypatch.setitem(sys.modules, name, None)
    assert label() == 1
    assert 'pip install "hf_usod[crf]"' in capsys.readouterr().err


def test_photos_are_never_overwritten(model, image_processor, photos):
    before = (photos / "a.png").read_bytes()
    with pytest.raises(ValueError, match=r"a\.png: is a photo that a label would overwrite"):
        label_images(model, image_processor, [(photos / "a.png", photos / "a.png")], "none", overwrite=True)
    assert (photos / "a.png").read_bytes() == before
    shared = photos / "label.png"
    with pytest.raises(ValueError, match="share the label"):
        label_images(model, image_processor, [(photos / name, shared) for name in ("a.png", "b.png")], "none")


def test_large_photos_are_labeled_at_their_own_size(model, image_processor, tmp_path, monkeypatch):
    monkeypatch.setattr(labeling, "MAX_SIDE", 60)
    photo(3, (50, 40)).resize((500, 400)).save(tmp_path / "large.jpg")
    label_images(model, image_processor, [(tmp_path / "large.jpg", tmp_path / "out.png")], "pixel", num_workers=0)
    written = np.asarray(Image.open(tmp_path / "out.png"))
    assert written.shape == (400, 500) and set(np.unique(written)) <= {0, 255}


def test_processes_share_the_cores_of_their_machine(model, image_processor, photos, tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(labeling, "default_num_workers", lambda: 8)
    monkeypatch.setattr(labeling, "_workers", lambda count: counts.append(count) or ThreadPoolExecutor(1))
    jobs = [(photos / "a.png", tmp_path / "out" / f"{number}.png") for number in range(4)]
    label_images(model, image_processor, jobs, "pixel", shard=(0, 4), progress=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of two machines
    label_images(model, image_processor, jobs, "pixel", shard=(1, 4), progress=False)
    assert counts == [2, 4]


def test_shards_make_up_the_whole(model, image_processor, photos, tmp_path):
    jobs = [(path, tmp_path / "labels" / f"{index}.png") for index, path in enumerate(sorted(photos.rglob("*.*")))]
    reports = [
        label_images(model, image_processor, jobs, "none", shard=(index, 3), progress=False) for index in range(3)
    ]
    assert [report.done for report in reports] == [2, 2, 1]
    assert len(made(tmp_path / "labels")) == 5


def command(photos, output, saved, *options):
    words = [sys.executable, "-m", "hf_usod.cli", "label", photos, "--output", output, "--model", saved, *options]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_worker_processes_survive_a_kill_and_finish_when_called_again(photos, saved, tmp_path):
    for seed in range(50):
        photo(seed % 6, (400, 400)).save(photos / f"{seed}.png")
    output = tmp_path / "labels"
    process = command(photos, output, saved, "--refine", "pixel", "--num_workers", "1")
    while not (output.is_dir() and len(list(output.glob("[0-9]*.png"))) > 3):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for path in output.rglob("[!.]*.png"):
        Image.open(path).load()  # whole
    before = len(made(output))
    assert before < 55

    resumed = command(photos, output, saved, "--refine", "pixel", "--num_workers", "1")
    printed, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert "labels existed and were kept" in printed
    assert len(list(output.rglob("[!.]*.png"))) == 55
    assert children and not any(os.path.exists(f"/proc/{child}") for child in children)  # none is left behind


@pytest.mark.slow
def test_distributed(photos, saved, tmp_path):
    script = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "label.py")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    words += [photos, "--output", tmp_path / "labels", "--model", saved, "--refine", "none"]
    (photos / "text.jpg").write_text("no image")
    done = subprocess.run(
        list(map(str, words)), env={**os.environ, "ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True
    )
    assert done.returncode != 0  # for the damaged one
    assert done.stdout.count("5 photos labeled") == 1 and done.stderr.count("text.jpg: cannot be read") == 1
    assert made(tmp_path / "labels") == LABELS
