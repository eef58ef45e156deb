"""Maps that agree along the motion of a textured square on a textured ground."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod.inference.agreement import LOOK_AHEAD, MEMORY, agree, agreed

pytest.importorskip("cv2", reason="needs the extra `video`")
HEIGHT, WIDTH, SIDE, STEP = 96, 128, 40, 3
FRAMES = LOOK_AHEAD + 6
random = np.random.default_rng(0)
GROUND = np.asarray(Image.fromarray(random.integers(0, 90, (24, 32, 3), np.uint8)).resize((WIDTH, HEIGHT)))
THING = np.asarray(Image.fromarray(random.integers(120, 256, (10, 10, 3), np.uint8)).resize((SIDE, SIDE)))


def truth(index: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[28 : 28 + SIDE, 10 + STEP * index : 10 + STEP * index + SIDE] = True
    return mask


def image(index: int) -> Image.Image:
    pixels = GROUND.copy()
    pixels[truth(index)] = THING.reshape(-1, 3)
    return Image.fromarray(pixels)


def level(probability) -> torch.Tensor:
    return torch.from_numpy(np.asarray(probability, np.float32))


def right(index: int) -> torch.Tensor:
    return level(np.where(truth(index), 0.8, 0.2))


def test_a_frame_that_misses_the_object_is_corrected_where_the_object_is():
    missed = FRAMES // 2
    maps = [level(np.full((HEIGHT, WIDTH), 0.2)) if t == missed else right(t) for t in range(FRAMES)]
    result = list(agree((image(t), maps[t]) for t in range(FRAMES)))
    assert len(result) == FRAMES
    found = result[missed].numpy() > 0.5
    overlap = (found & truth(missed)).sum() / (found | truth(missed)).sum()
    assert overlap > 0.85


def test_maps_that_agree_grow_surer():
    result = list(agree((image(t), right(t)) for t in range(FRAMES)))
    for t in (0, FRAMES // 2, FRAMES - 1):
        inner = truth(t)
        assert result[t].numpy()[inner].mean() > 0.9
        assert result[t].numpy()[~inner].mean() < 0.1
        assert result[t].shape == (HEIGHT, WIDTH)


def test_still_frames_as_the_formula_says():
    """Without motion every link passes `MEMORY`: the logit is the weighted sum over the root of the sum of weights."""
    probabilities = [0.2, 0.6, 0.9]
    maps = [level(np.full((HEIGHT, WIDTH), p)) for p in probabilities]
    logits = np.array([np.log(p / (1 - p)) for p in probabilities])
    for t, result in enumerate(agree((image(0), one) for one in maps)):
        weights = MEMORY ** np.abs(np.arange(3) - t)
        expected = 1 / (1 + np.exp(-(weights @ logits) / np.sqrt(weights.sum())))
        assert result.numpy() == pytest.approx(expected, abs=1e-4)


def test_a_cut_carries_nothing_over():
    """After a cut to another scene colors do not match, but by chance: the maps of the old one have hardly a say."""
    other = Image.fromarray(255 - np.asarray(image(0)))
    empty, full = level(np.full((HEIGHT, WIDTH), 0.1)), level(np.full((HEIGHT, WIDTH), 0.9))
    result = list(agree([*[(image(0), empty)] * 3, *[(other, full)] * 3]))
    assert result[2].mean() < 0.05 and result[3].mean() > 0.95


def test_frames_of_another_size_begin_anew():
    small = image(0).resize((64, 48))
    frames = [(image(0), right(0)), (small, level(np.full((48, 64), 0.9))), (image(0), right(0))]
    result = list(agree(frames))
    assert [tuple(one.shape) for one in result] == [(HEIGHT, WIDTH), (48, 64), (HEIGHT, WIDTH)]
    assert result[1].numpy() == pytest.approx(0.9, abs=0.01)
    assert result[0].numpy() == pytest.approx(result[2].numpy())


def test_a_lone_frame_keeps_its_map():
    (result,) = agree([(image(0), right(0))])
    assert result.numpy() == pytest.approx(right(0).numpy(), abs=0.01)


def test_holds_no_more_than_it_looks_ahead():
    taken = []
    frames = ((taken.append(t) or image(t), right(t)) for t in range(FRAMES))
    next(agree(frames))
    assert len(taken) == LOOK_AHEAD + 1


def test_no_frame_is_believed_without_bounds():
    """A map of zeros and ones would else have infinite logits, which none could outvote."""
    maps = [level(np.full((HEIGHT, WIDTH), p)) for p in (0.3, 1.0, 0.3)]
    logits = [np.log(p / (1 - p)) for p in (0.3, 254 / 255, 0.3)]
    expected = sum(w * x for w, x in zip((MEMORY, 1, MEMORY), logits, strict=True)) / np.sqrt(1 + 2 * MEMORY)
    assert list(agree((image(0), each) for each in maps))[1].logit().numpy() == pytest.approx(expected, abs=1e-3)


def test_the_agreed_maps_take_the_place_of_the_frames_own():
    frames = [(f"frame {t}", (image(t), right(t))) for t in range(3)]
    maps = list(agree((image(t), right(t)) for t in range(3)))
    for t, (name, (picture, saliency)) in enumerate(agreed(iter(frames))):
        assert name == f"frame {t}" and picture is frames[t][1][0]
        assert saliency.equal(maps[t]) and not saliency.equal(right(t))
