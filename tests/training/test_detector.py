"""Stage 2 on a tiny network and synthetic photos: the objective, the rectification of labels, runs and resuming."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel

from hf_usod import UsodSdModel
from hf_usod.cli import main
from hf_usod.data import Sample, jitter_colors, second_scale, zoom, zoom_boxes
from hf_usod.errors import LoadingError, RunError
from hf_usod.labels import LabelError, LabelStore, PixelRefiner, rectify
from hf_usod.loading import base_of
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.modeling_usod import SaliencyOutput
from hf_usod.reports import run_page
from hf_usod.training import detector
from hf_usod.training.arguments import DetectorArguments
from hf_usod.training.detector import DetectorStage, fold_frozen, prepare_detector, train_detector, view_size
from hf_usod.training.plan import Plan
from hf_usod.training.rehearsal import rehearse

SIZE, STEPS_PER_EPOCH = 96, 3
VIEWS = {"zoom_probability": 0.5, "color_jitter": 0.2}  # of the runs: resumed, they must see the same again


@pytest.fixture(scope="module")
def labels(photos, tmp_path_factory) -> Path:
    """A folder of pseudo-labels: what is bright."""
    folder = tmp_path_factory.mktemp("labels")
    for photo in photos.iterdir():
        Image.open(photo).convert("L").point(lambda level: 255 * (level > 120)).save(folder / photo.name)
    return folder


@pytest.fixture(scope="module")
def settings(photos, labels, backbone) -> DetectorArguments:
    """Nine steps in three epochs, of which the last two rectify labels and train the backbones."""
    return DetectorArguments(
        images=[str(photos)],
        labels=[str(labels)],
        output_dir="",
        backbone=str(backbone),
        neck_channels=[8, 8, 8, 8],
        fusion_channels=8,
        context_channels=8,
        size=SIZE,
        num_epochs=3,
        batch_size=4,
        scale_steps=[1],
        scale_stride=32,
        learning_rate=0.05,
        num_workers=0,
        log_every=1,
        save_every=2,
        num_previews=2,
    )


@pytest.fixture
def arguments(settings, tmp_path) -> DetectorArguments:
    return replace(settings, output_dir=str(tmp_path / "run"), **VIEWS)


@pytest.fixture(scope="module")
def uninterrupted(settings, tmp_path_factory) -> Path:
    """A run to the end, by the command."""
    run = tmp_path_factory.mktemp("uninterrupted")
    arguments = replace(settings, output_dir=str(run), keep_epochs=True, **VIEWS)
    assert main(["train", "--stage", "sd", *command_line(arguments)]) == 0
    return run


def command_line(arguments: DetectorArguments) -> list[str]:
    words: list[str] = []
    for field in fields(arguments):
        value = getattr(arguments, field.name)
        if value not in (None, []) and arguments.start in field.metadata.get("starts", (arguments.start,)):
            words += [f"--{field.name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def weights(run: str | Path, model: str = "model") -> dict[str, torch.Tensor]:
    return load_file(Path(run) / model / "model.safetensors")


def stored(run: str | Path) -> np.ndarray:
    store = LabelStore(Path(run) / "labels")
    return np.stack([store.latest(index) for index in range(len(store))])


def assert_same_run(run: str | Path, other: str | Path) -> None:
    actual, expected = weights(run), weights(other)
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
    assert (stored(run) == stored(other)).all()


# --- The objective --------------------------------------------------------------------------------------------------


class _Detector(torch.nn.Module):
    """Gives set logits, at the sizes of a detector's."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.maps = {
            size: (
                torch.randn(2, 1, size, size, generator=random),
                torch.randn(2, 1, size // 4, size // 4, generator=random),
            )
            for size in (SIZE, SIZE + 32)
        }

    def forward(self, pixel_values, aux_pixel_values):
        assert pixel_values.shape == aux_pixel_values.shape
        logits, side = self.maps[pixel_values.shape[-1]]
        return SaliencyOutput(logits=logits, side_logits=(side, side + 1, side + 2))


def make_stage(settings, tmp_path, **changes) -> tuple[DetectorStage, dict[str, torch.Tensor]]:
    """A stage with the labels of two samples, and a batch of them of which the second is flipped."""
    random = np.random.default_rng(0)
    initial = {name: random.random((SIZE, SIZE)).astype(np.float32) for name in "ab"}
    store = LabelStore.create(tmp_path / "store", list(initial), (SIZE, SIZE), initial.get, progress=False)
    batch = {
        "pixel_values": torch.randn(2, 3, SIZE, SIZE),
        "aux_pixel_values": torch.rand(2, 3, SIZE, SIZE),
        "index": torch.tensor([0, 1]),
        "flipped": torch.tensor([False, True]),
        "has_aux": torch.tensor([False, True]),
    }
    image_processor = UsodImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    samples = [Sample(name, Path(name)) for name in initial]
    return DetectorStage(replace(settings, **changes), _Detector(), image_processor, samples, store), batch


def _iou(saliency, target):
    """Section 6 of the method, one image at a time."""
    losses = [
        1 - (s * g).sum() / ((s + g - s * g).sum() + 1e-7)
        for s, g in zip(saliency.double(), target.double(), strict=True)
    ]
    return sum(losses) / len(losses)


def _resized(maps, size):
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=True)


def _enlarged(maps, size):
    """Side maps, as they are compared with labels."""
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("loss", ["iou+sc", "iou", "bce", "iou+bce"])
def test_losses_are_the_methods(settings, tmp_path, loss):
    stage, batch = make_stage(settings, tmp_path, loss=loss)
    detector = _Detector()
    output = stage.step(detector, batch, epoch=1, step=0)

    side = second_scale(SIZE, [1], 32, 0, 0)
    label = stage.labels.read([0, 1], 1)
    target = (torch.stack([label[0], label[1].flip(-1)]) > 0.5).float()
    (first, first_side), (second, second_side) = detector.maps[SIZE], detector.maps[side]
    second_target = F.interpolate(target, size=(side, side), mode="nearest")
    compared = [
        (1.0, first, target),
        (0.2, _enlarged(first_side, SIZE), target),
        (0.5, second, second_target),
        (0.1, _enlarged(second_side, side), second_target),
    ]
    expected = {
        "iou": sum(w * _iou(logits.sigmoid(), g) for w, logits, g in compared),
        "bce": sum(w * F.binary_cross_entropy(logits.sigmoid(), g) for w, logits, g in compared),
        "sc": (second.sigmoid() - _resized(first, side).sigmoid()).square().mean(),
    }
    assert set(output.terms) == set(loss.split("+"))
    for name, value in output.terms.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-5), name
    assert output.loss.item() == pytest.approx(sum(expected[name].item() for name in loss.split("+")), rel=1e-5)
    assert torch.equal(output.saliency, first.sigmoid())


def test_a_second_view_of_a_part_is_compared_with_that_part(settings, tmp_path):
    stage, batch = make_stage(settings, tmp_path, zoom_probability=1.0)
    batch |= {"pixel_values": torch.randn(2, 3, 144, 144), "aux_pixel_values": torch.rand(2, 3, 144, 144)}
    detector, seen = _Detector(), []
    output = stage.step(lambda **views: seen.append(views) or detector(**views), batch, epoch=1, step=0)

    label = stage.labels.read([0, 1], 1)
    target = (torch.stack([label[0], label[1].flip(-1)]) > 0.5).float()
    side = SIZE + 32
    boxes = zoom_boxes(target, 1.0, settings.seed, 0)
    assert (boxes[:, 2] < 1).all()  # half of each label is object: both samples are shown in part
    part = partial(zoom, boxes=boxes, size=(side, side))  # of the image in detail
    assert seen[0]["pixel_values"].shape[-2:] == (SIZE, SIZE) and view_size(stage.args) == 144
    torch.testing.assert_close(seen[1]["pixel_values"], part(batch["pixel_values"]))
    torch.testing.assert_close(seen[1]["aux_pixel_values"], part(batch["aux_pixel_values"]))
    (first, first_side), (second, second_side) = detector.maps[SIZE], detector.maps[side]
    shown = part(target, mode="nearest")
    iou = _iou(first.sigmoid(), target) + 0.2 * _iou(_enlarged(first_side, SIZE).sigmoid(), target)
    iou += 0.5 * _iou(second.sigmoid(), shown) + 0.1 * _iou(_enlarged(second_side, side).sigmoid(), shown)
    assert output.terms["iou"].item() == pytest.approx(iou.item(), rel=1e-5)
    assert output.terms["sc"].item() == pytest.approx(
        (second.sigmoid() - part(first).sigmoid()).square().mean().item(), rel=1e-5
    )


def test_colors_vary_and_auxiliary_maps_keep_theirs(settings, tmp_path):
    stage, batch = make_stage(settings, tmp_path, color_jitter=0.5)
    images = torch.rand(2, 3, SIZE, SIZE)
    batch["pixel_values"] = (images - 0.5) / 0.25
    batch["aux_pixel_values"][0] = images[0]
    aux = batch["aux_pixel_values"][1].clone()
    detector, seen = _Detector(), []
    stage.step(lambda **views: seen.append(views) or detector(**views), batch, epoch=1, step=3)
    jittered = jitter_colors(images, 0.5, settings.seed, 3)
    torch.testing.assert_close(seen[0]["pixel_values"], (jittered - 0.5) / 0.25)
    torch.testing.assert_close(seen[0]["aux_pixel_values"], torch.stack([jittered[0], aux]))
    with pytest.raises(ValueError, match="--color_jitter must be at least 0 and below 1"):
        replace(settings, color_jitter=1.0)


@pytest.mark.parametrize("spr", ["both", "posterior", "none"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_labels_are_rectified_from_the_second_epoch_on(settings, tmp_path, spr, epoch):
    stage, batch = make_stage(settings, tmp_path, spr=spr, spr_weights=[0.1, 0.7, 0.2])
    detector, before = _Detector(), stage.labels.read([0, 1], epoch)
    stage.step(detector, batch, epoch, step=0)
    after = stage.labels.read([0, 1], epoch + 1)
    if spr == "none" or epoch == 1:
        assert torch.equal(after, before)
        return
    saliency = detector.maps[SIZE][0].sigmoid()
    prior = PixelRefiner()(batch["pixel_values"], saliency) if spr == "both" else None
    expected = rectify(saliency, torch.stack([before[0], before[1].flip(-1)]), prior, (0.1, 0.7, 0.2))
    torch.testing.assert_close(after[0], expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(after[1], expected[1].flip(-1), atol=1e-5, rtol=0)


# --- Runs -----------------------------------------------------------------------------------------------------------


def test_run_writes_a_detector_that_loads(uninterrupted):
    model = AutoModel.from_pretrained(uninterrupted / "model")
    assert isinstance(model, UsodSdModel)
    assert sorted(path.name for path in (uninterrupted / "previews").iterdir()) == [
        f"epoch_00{epoch}.png" for epoch in (1, 2, 3)
    ]
    with Image.open(uninterrupted / "previews" / "epoch_003.png") as preview:
        assert preview.size == (2 * SIZE, 3 * SIZE)  # photos, labels, maps


def test_backbones_rest_in_the_first_epoch(uninterrupted, settings):
    initial = prepare_detector(settings)[0]
    backbones = [n for n, _ in initial.named_parameters() if n.startswith(("backbone.", "aux_backbone."))]
    epochs = [initial.state_dict(), *(weights(uninterrupted, f"epochs/{epoch}") for epoch in (1, 2))]
    still = [sum(torch.equal(a[name], b[name]) for name in backbones) for a, b in pairwise(epochs)]
    assert still[0] == len(backbones)
    assert still[1] == 0
    assert not torch.equal(epochs[0]["decoder.score.weight"], epochs[1]["decoder.score.weight"])


def test_run_rectifies_its_own_labels_and_leaves_the_given_ones(uninterrupted, labels, photos):
    store = LabelStore(uninterrupted / "labels")
    given = np.stack(
        [np.asarray(Image.open(labels / f"{name}.png").resize((SIZE, SIZE), 2)) / 255 for name in store.ids]
    )
    changed = np.abs(stored(uninterrupted) - given).max(axis=(1, 2)) > 0.01
    assert changed.sum() >= 12  # one of 13 photos is left out of each epoch
    for label in labels.iterdir():
        photo = Image.open(photos / label.name).convert("L")
        assert Image.open(label).tobytes() == photo.point(lambda level: 255 * (level > 120)).tobytes()


KILLED = """
import os, signal, sys
from hf_usod.cli import main
from hf_usod.labels import LabelStore

write, count = LabelStore.write, [0]

def write_and_die(self, indices, epoch, labels):
    count[0] += 1
    if count[0] == 5:
        write(self, indices[:2], epoch, labels[:2])  # half of a batch
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, indices, epoch, labels)

LabelStore.write = write_and_die
main(["train", "--stage", "sd", *sys.argv[1:]])
"""


def test_a_killed_run_resumes_to_the_same_weights_and_labels(arguments, uninterrupted):
    killed = subprocess.run([sys.executable, "-c", KILLED, *command_line(replace(arguments, save_every=100))])
    assert killed.returncode == -signal.SIGKILL  # in the third epoch's second step
    assert (Path(arguments.output_dir) / f"checkpoint-{2 * STEPS_PER_EPOCH}").exists()
    train_detector(replace(arguments, resume=True))
    assert_same_run(arguments.output_dir, uninterrupted)


def test_a_stopped_run_resumes_to_the_same_weights_and_labels(arguments, uninterrupted, monkeypatch):
    step = DetectorStage.step

    def stop(self, model, batch, epoch, number):
        if number == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, model, batch, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(DetectorStage, "step", stop)
        with pytest.raises(KeyboardInterrupt, match="after step 5"):
            train_detector(arguments)
    train_detector(replace(arguments, resume=True))
    assert_same_run(arguments.output_dir, uninterrupted)


def test_a_run_that_lacked_memory_goes_on_with_less(arguments, uninterrupted, monkeypatch):
    step = DetectorStage.step

    def fail(self, model, batch, epoch, number):
        if number == 4:
            raise MemoryError
        return step(self, model, batch, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(DetectorStage, "step", fail)
        with pytest.raises(RunError, match="not enough memory"):
            train_detector(arguments)
    told = Path(arguments.output_dir) / "arguments.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "gradient_checkpointing": False}))  # as once it was
    train_detector(replace(arguments, resume=True, gradient_checkpointing=True, collapse_patience=7))
    assert_same_run(arguments.output_dir, uninterrupted)


def test_a_missing_label_is_named(arguments, labels, tmp_path):
    shutil.copytree(labels, tmp_path / "labels")
    (tmp_path / "labels" / "photo_03.png").unlink()
    with pytest.raises(LabelError, match=r"photo_03\.png: no such label"):
        train_detector(replace(arguments, labels=[str(tmp_path / "labels")]))
    assert not (Path(arguments.output_dir) / "labels").exists()


def test_folders_and_labels_must_be_as_many(settings):
    with pytest.raises(ValueError, match="--labels: 1 folders for 2 folders of --images"):
        replace(settings, images=[*settings.images, "more"])


def test_a_trained_detector_is_trained_on(arguments, uninterrupted):
    start = uninterrupted / "model"
    before = load_file(start / "model.safetensors")
    arguments = replace(arguments, start_from=str(start), backbone="no/such/backbone", num_epochs=1)
    model, processor = prepare_detector(arguments)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert processor.size["height"] == SIZE
    after = load_file(train_detector(arguments) / "model.safetensors")
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {"decoder.score.weight", "neck.0.conv.weight"} <= changed
    assert torch.equal(load_file(start / "model.safetensors")["decoder.score.weight"], before["decoder.score.weight"])


def test_a_run_that_computes_activations_again_is_the_same(arguments, uninterrupted):
    train_detector(replace(arguments, gradient_checkpointing=True))
    assert_same_run(arguments.output_dir, uninterrupted)


def test_a_detector_may_refine_its_maps(arguments, uninterrupted):
    model, _ = prepare_detector(replace(arguments, refine_maps=True))
    assert model.config.refine_maps
    model, _ = prepare_detector(replace(arguments, start_from=str(uninterrupted / "model")))
    assert not model.config.refine_maps
    with pytest.raises(ValueError, match="--refine_maps is a property of a detector"):
        replace(arguments, adapt="a", refine_maps=True)


def test_a_detector_is_told_the_kinds_of_maps(arguments, uninterrupted, photos):
    others = shutil.copytree(photos, Path(arguments.output_dir).with_name("others"))
    told = {"images": [str(photos), str(others)], "labels": arguments.labels * 2, "aux": [None, str(photos)]}
    arguments = replace(arguments, **told, aux_kinds=[None, "thermal"], num_epochs=1)
    start = replace(arguments, start_from=str(uninterrupted / "model"))
    assert not prepare_detector(start)[0].aux_offsets.weight.any()
    for each in (replace(arguments, output_dir=f"{arguments.output_dir}-new"), start):
        folder = train_detector(each)
        assert UsodSdModel.from_pretrained(folder).config.modality_informed
        moved = load_file(folder / "model.safetensors")["aux_offsets.weight"].any(dim=1)
        assert moved.tolist() == [True, False, True, False]


def test_a_run_that_is_told_kinds_is_rehearsed_and_shown_with_them(arguments, photos, monkeypatch):
    arguments = replace(arguments, aux=[str(photos)], aux_kinds=["thermal"], num_epochs=1)
    tried = []
    with monkeypatch.context() as patch:
        patch.setattr(detector, "prepare_detector", lambda args: tried.append(args.aux_kinds) or prepare_detector(args))
        rehearse(Plan(arguments.output_dir, False, sd=arguments))
    assert tried == [["thermal"]]
    train_detector(arguments)
    (maps, *_) = run_page(Path(arguments.output_dir), 2, "cpu").walls  # beside those of a model that is told nothing
    assert len(maps.items) == 2


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["depth"], "--aux_kinds: 1 folders for 2"),
        ([None, "infrared"], "--aux_kinds: invalid choice: 'infrared' .choose from depth, thermal, flow"),
        ([None, None], "none for maps in b"),
        (["flow", "flow"], "flow for maps in none"),
    ],
)
def test_wrong_kinds_of_maps(settings, kinds, message):
    two = {"images": ["a", "b"], "labels": ["a", "b"], "aux": [None, "b"]}
    with pytest.raises(ValueError, match=message):
        replace(settings, **two, aux_kinds=kinds)


def test_a_detector_is_trained_on_or_adapted(settings):
    with pytest.raises(ValueError, match="--adapt trains an adapter of a detector, --start_from the detector itself"):
        replace(settings, adapt="a", start_from="b")


# --- Transfer -------------------------------------------------------------------------------------------------------


def test_an_adapter_is_all_that_transfer_trains(arguments, uninterrupted):
    arguments = replace(arguments, adapt=str(uninterrupted / "model"), num_epochs=2)
    folder = train_detector(arguments)
    base = AutoModel.from_pretrained(uninterrupted / "model").eval()
    adapted = AutoModel.from_pretrained(uninterrupted / "model").eval()
    adapted.load_adapter(str(folder))
    photo = torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = base(photo).logits
        assert not torch.equal(adapted(photo).logits, expected)
        adapted.disable_adapters()
        assert torch.equal(adapted(photo).logits, expected)
    assert not (folder / "model.safetensors").exists()


def test_an_adapter_is_trained_on(arguments, uninterrupted, tmp_path):
    first = train_detector(replace(arguments, adapt=str(uninterrupted / "model"), num_epochs=1))
    stays = replace(arguments, adapt=str(first), learning_rate=1e-30, weight_decay=0, output_dir=str(tmp_path / "same"))
    moves = replace(stays, learning_rate=arguments.learning_rate, output_dir=str(tmp_path / "moved"))
    before, same, moved = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (first, train_detector(stays), train_detector(moves))
    )
    trained = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(same[name], before[name]) for name in trained)
    assert sum(not torch.equal(moved[name], before[name]) for name in trained) > len(trained) / 2
    assert base_of(str(tmp_path / "moved" / "model")) == base_of(str(first)) == str(uninterrupted / "model")


def test_statistics_of_batch_norms_stay_if_told_so(arguments, uninterrupted, tmp_path):
    first = train_detector(replace(arguments, adapt=str(uninterrupted / "model"), num_epochs=1))
    for part, start, file in (
        ("adapter", {"adapt": str(first)}, "adapter_model.safetensors"),
        ("whole", {"start_from": str(uninterrupted / "model")}, "model.safetensors"),
    ):
        before = load_file(Path(*start.values()) / file)
        told = replace(arguments, **start, batch_norm="eval", num_epochs=1, output_dir=str(tmp_path / part))
        after = load_file(train_detector(told) / file)
        statistics = {name for name in before if "running_" in name}
        assert statistics and all(torch.equal(after[name], before[name]) for name in statistics)
        assert any(not torch.equal(after[name], before[name]) for name in set(before) - statistics)


@pytest.mark.parametrize(("precision", "tolerance"), [("no", 1e-4), ("bf16", 2e-2)])
def test_what_is_frozen_trains_the_same_adapter_at_its_cheapest(
    arguments, uninterrupted, tmp_path, monkeypatch, precision, tolerance
):
    """The norms of the base, in evaluation mode, as parts of their convolutions, and its backbones in low precision:
    the same adapter but for rounding."""
    norms = []

    def fold(model, _):
        folded = fold_frozen(model, precision)
        norms.append([sum(isinstance(m, nn.BatchNorm2d) for m in of.modules()) for of in (model, folded)])
        return folded

    runs = {}
    for name, how in (("folded", fold), ("plain", lambda model, _: model)):
        monkeypatch.setattr("hf_usod.training.detector.fold_frozen", how)
        args = replace(arguments, adapt=str(uninterrupted / "model"), output_dir=str(tmp_path / name))
        runs[name] = load_file(train_detector(args) / "adapter_model.safetensors")
    (before, after), *others = norms
    assert before > 20 and after == 2 and not others  # those of the adapter itself
    assert runs["folded"].keys() == runs["plain"].keys()
    for key, expected in runs["plain"].items():
        torch.testing.assert_close(runs["folded"][key], expected, rtol=10 * tolerance, atol=tolerance, msg=key)


def test_only_a_detector_is_adapted(arguments, tmp_path):
    with pytest.raises(LoadingError, match="nowhere: cannot be loaded"):
        train_detector(replace(arguments, adapt=str(tmp_path / "nowhere")))
