"""Losses, rectification and the refiner give the numbers, and the gradients, of the authors' released program."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hf_usod.labels import RELEASED_WEIGHTS, PixelRefiner, rectify
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.modeling_usod import SaliencyOutput, SideLogits
from hf_usod.objectives import btm_loss, consistency_loss, pcl_sd_loss
from hf_usod.training.arguments import CueObjectiveArguments, DetectorArguments
from hf_usod.training.cue_extractor import CueExtractorStage
from hf_usod.training.detector import DetectorStage
from hf_usod.training.loop import linear_decay

SIZE, RESCALED = 64, 96


@pytest.fixture(scope="module")
def expected(released):
    return released.numbers("objectives/golden/released.npz")


def views(released, channels):
    """Logits and textures of a first and a second view; as leaves."""
    maps = [(3 * released.waves(tag, [2, 1, side, side])) for tag, side in (("first", SIZE), ("second", RESCALED))]
    texture = released.waves("texture", [2, channels, SIZE, SIZE], 1.0) * 0.15
    rescaled = F.interpolate(texture, (RESCALED, RESCALED), mode="bilinear", align_corners=True)
    return [m.requires_grad_() for m in maps], (texture, rescaled)


def close(actual, wanted, tolerance=1e-5):
    """Relative to the largest entry."""
    torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance * wanted.abs().max().item())


@pytest.mark.parametrize(
    "name, epoch, curriculum, channels",
    [
        ("stage1_1_pcl_c", 1, True, 3),
        ("stage1_5_pcl_c", 5, True, 3),
        ("stage1_20_pcl_c", 20, True, 3),
        ("stage1_5_all_c", 5, False, 3),
        ("stage1_3_pcl_cdt", 3, True, 9),
    ],
)
def test_stage_1_losses(released, expected, name, epoch, curriculum, channels):
    logits, textures = views(released, channels)
    first, second = (m.sigmoid() for m in logits)
    terms = [
        sum(pcl_sd_loss(s, epoch, 20, "released", curriculum) for s in (first, second)),
        0.05 * sum(btm_loss(s, t) for s, t in zip((first, second), textures, strict=True)),
        consistency_loss(first, second),
    ]
    torch.testing.assert_close(torch.stack(terms), expected[name], rtol=1e-5, atol=0)
    if f"{name}_grad1" in expected:
        sum(terms).backward()
        close(logits[0].grad, expected[f"{name}_grad1"])
        close(logits[1].grad, expected[f"{name}_grad2"])


class ImagesAsFeatures:
    batch_statistics = False

    def __call__(self, images):
        return images


@pytest.mark.parametrize("name, epoch, channels", [("stage1_5_pcl_c", 5, 3), ("stage1_3_pcl_cdt", 3, 9)])
def test_stage_1_as_a_step_of_training(released, expected, name, epoch, channels):
    """Both views, made from the first, and the weights of the terms; of photos, and with depth and thermal maps."""
    logits, textures = views(released, channels)
    by_size = {m.shape[-1]: m for m in logits}
    arguments = CueObjectiveArguments(images=[""], output_dir="", size=SIZE, scale_steps=[1], scale_stride=32)
    network = SimpleNamespace(decoder=nn.Identity())
    stage = CueExtractorStage(arguments, network, UsodImageProcessor(), [], ImagesAsFeatures())
    output = stage.step(lambda images: by_size[images.shape[-1]], {"pixel_values": textures[0]}, epoch, step=0)
    assert arguments.num_epochs == 20
    terms = torch.stack([output.terms["pcl_sd"], 0.05 * output.terms["btm"], output.terms["sc"]])
    torch.testing.assert_close(terms, expected[name], rtol=1e-4, atol=0)
    output.loss.backward()
    for number, leaf in enumerate(logits, 1):
        close(leaf.grad, expected[f"{name}_grad{number}"], tolerance=1e-4)


def test_stage_2_as_a_step_of_training(released, expected):
    """The fused and the RGB decoder's map, on both views, against labels; and what gradients they get."""
    score, side = ((3 * released.waves(f"score{i}", [2, 1, 16, 16])).requires_grad_() for i in (0, 1))
    score2, side2 = ((3 * released.waves(f"rescaled{i}", [2, 1, 24, 24])).requires_grad_() for i in (0, 1))
    by_size = {SIZE: (score, side), RESCALED: (score2, side2)}

    def detector(pixel_values, aux_pixel_values):
        fused, rgb = by_size[pixel_values.shape[-1]]
        logits = F.interpolate(fused, pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        return SaliencyOutput(logits=logits, side_logits=SideLogits(rgb, rgb + 1, rgb + 2))

    label = 0.5 + 0.5 * released.waves("label", [2, 1, SIZE, SIZE])
    arguments = DetectorArguments(
        images=[""], labels=[""], output_dir="", size=SIZE, scale_steps=[1], scale_stride=32, batch_size=2
    )
    labels = SimpleNamespace(read=lambda index, epoch: label)
    stage = DetectorStage(arguments, nn.Identity(), UsodImageProcessor(), [], labels)
    images = torch.zeros(2, 3, SIZE, SIZE)
    batch = {"pixel_values": images, "aux_pixel_values": images, "index": torch.tensor([0, 1])}
    batch |= {"flipped": torch.tensor([False, False]), "has_aux": torch.tensor([False, False])}
    output = stage.step(detector, batch, epoch=1, step=0)
    terms = torch.stack([output.terms["iou"], output.terms["sc"]])
    torch.testing.assert_close(terms.detach(), expected["stage2"], rtol=1e-5, atol=0)
    output.loss.backward()
    for name, leaf in {"score": score, "side": side, "score2": score2, "side2": side2}.items():
        close(leaf.grad, expected[f"stage2_grad_{name}"])


def rectified_inputs(released):
    """Images with an edge, predictions, and previous labels of 0 to 1."""
    images = released.waves("spr-image", [3, 3, 48, 40])
    images = images + 0.05 * torch.from_numpy(released.normal("spr-noise", [3, 3, 48, 40]))
    images[:, :, 10:30, 8:24] += 1.0
    prediction = torch.sigmoid(4 * released.waves("spr-pred", [3, 1, 48, 40]))
    previous = 0.5 + 0.5 * released.waves("spr-gt", [3, 1, 48, 40])
    low, high = previous.amin((2, 3), True), previous.amax((2, 3), True)
    return images, prediction, (previous - low) / (high - low)


def test_pixel_refiner(released, expected):
    images, prediction, _ = rectified_inputs(released)
    torch.testing.assert_close(PixelRefiner()(images, prediction), expected["refined"], rtol=0, atol=1e-4)


def test_rectified_labels(released, expected):
    """0.7 of the prediction, 0.2 of the previous label, 0.1 of the prior; the second sample is a flipped one."""
    images, prediction, previous = rectified_inputs(released)
    stored = {}
    flipped = torch.tensor([False, True, False])
    arguments = DetectorArguments(images=[""], labels=[""], output_dir="", spr_weights=list(RELEASED_WEIGHTS))
    labels = SimpleNamespace(write=lambda index, epoch, label: stored.update(label=label))
    stage = DetectorStage(arguments, nn.Identity(), UsodImageProcessor(), [], labels)
    batch = {"index": torch.arange(3), "flipped": flipped}
    stage.rectify_labels(batch, 2, images, prediction, previous)
    torch.testing.assert_close(stored["label"], expected["rectified"], rtol=0, atol=1e-5)
    direct = rectify(prediction, previous, PixelRefiner()(images, prediction), RELEASED_WEIGHTS)
    torch.testing.assert_close(direct[1].flip(-1), expected["rectified"][1], rtol=0, atol=1e-5)


def test_learning_rates_are_the_released_ones_one_step_later():
    """Step i of N, from 1, has (1 - i / N) 0.8 + 0.2 of the rate in the program; here the first step has all of it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = linear_decay(optimizer, num_steps=50, final_ratio=0.2)
    rates = []
    for _ in range(50):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    program = [0.1 * ((1 - i / 50) * (1 - 0.2) + 0.2) for i in range(1, 51)]
    assert rates == pytest.approx([0.1, *program[:-1]])
