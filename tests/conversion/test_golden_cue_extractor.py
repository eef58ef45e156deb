"""A converted cue extractor gives what the authors' released program gives, with and without adapter."""

import pytest
import torch
from peft import PeftModel

from hf_usod.conversion import convert_a2s_checkpoint


@pytest.fixture(scope="module")
def expected(released):
    return released.numbers("conversion/golden/sce_logits.npz")  # every other row and column


def logits(model, released):
    with torch.no_grad():
        return model(pixel_values=released.cue_extractor_inputs()).logits[..., ::2, ::2]


def without_adapter(state_dict):
    return {key: value for key, value in state_dict.items() if not key.startswith("adapter.")}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_converted_cue_extractor_gives_the_released_logits(released, expected, prefix):
    weights = {prefix + key: value for key, value in without_adapter(released.state_dict("sce")).items()}
    model = convert_a2s_checkpoint(weights)
    assert released.relative_error(logits(model, released), expected["plain"]) < 1e-4


def test_a_map_with_positive_corners_is_flipped(released, expected):
    weights = without_adapter(released.state_dict("sce"))
    weights["decoder.fusion.ad0.1.bias"] = weights["decoder.fusion.ad0.1.bias"] + 3
    assert released.relative_error(logits(convert_a2s_checkpoint(weights), released), expected["flipped"]) < 1e-4


def test_adapter_gives_the_released_logits_and_switches_off(released, expected):
    model = convert_a2s_checkpoint(released.state_dict("sce"))
    assert isinstance(model, PeftModel)
    assert released.relative_error(logits(model, released), expected["adapted"]) < 1e-4
    with model.disable_adapter():
        assert released.relative_error(logits(model, released), expected["plain"]) < 1e-4
    assert released.relative_error(expected["adapted"], expected["plain"]) > 0.3
