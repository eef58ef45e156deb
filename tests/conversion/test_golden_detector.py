"""A converted detector gives the released program's fused and side logits, with and without adapter."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from hf_usod.conversion import convert_a2s_checkpoint, convert_checkpoint

# Computed here in double precision: the error is then the released program's own rounding, on any processor. Its
# logits of the RGB side alone, sums of large terms that cancel, are off by 2.4e-4; in float32 that depends on the
# processor.
SIDES = {"rgb": 1e-3, "aux": 1e-4, "context": 1e-4}


@pytest.fixture(scope="module")
def expected(released):
    logits = released.numbers("conversion/golden/sd_logits.npz")["logits"]
    return released.numbers("conversion/golden/sd_more.npz") | {"logits": logits}


@pytest.fixture(scope="module")
def inputs(released):
    image, aux = released.detector_inputs()
    return {"pixel_values": image.double(), "aux_pixel_values": aux.double()}


@torch.no_grad()
def test_converted_detector_gives_the_released_logits(released, inputs, expected):
    outputs = convert_a2s_checkpoint(released.state_dict("sd")).double()(**inputs)
    assert released.relative_error(outputs.logits, expected["logits"]) < 1e-4
    for side, tolerance in SIDES.items():
        assert released.relative_error(outputs.side_logits[side], expected[side]) < tolerance, side


@torch.no_grad()
def test_the_order_of_the_global_block_matters(released, inputs, expected):
    """The columns of its last block in any other order give other logits: the numbers above would show it."""
    state_dict = released.state_dict("sd")
    name = "decoder.global_info.fus.0.weight"
    state_dict[name] = state_dict[name].roll(256, dims=1)
    logits = convert_a2s_checkpoint(state_dict).double()(**inputs).logits
    assert released.relative_error(logits, expected["logits"]) > 0.1


@torch.no_grad()
def test_adapter_gives_the_released_logits_and_switches_off(released, inputs, expected):
    model = convert_a2s_checkpoint(released.state_dict("sd") | released.detector_adapter()).double()
    assert isinstance(model, PeftModel)
    outputs = model(**inputs)
    assert released.relative_error(outputs.logits[..., ::4, ::4], expected["adapted"]) < 1e-4
    for side, tolerance in SIDES.items():
        assert released.relative_error(outputs.side_logits[side], expected[f"adapted_{side}"]) < tolerance, side
    with model.disable_adapter():
        assert released.relative_error(model(**inputs).logits, expected["logits"]) < 1e-4
    assert released.relative_error(expected["adapted"], expected["logits"][..., ::4, ::4]) > 0.5


@torch.no_grad()
def test_an_adapter_like_the_global_block_doubles_it(released, inputs):
    """T + Ta with Ta = T is 2 T: the base alone with its last norm's scale and shift doubled: ReLU(2x) = 2 ReLU(x)."""
    base = released.state_dict("sd")
    start = "decoder.global_info."
    copy = {"adapter." + key.removeprefix(start): value for key, value in base.items() if key.startswith(start)}
    doubled = base | {f"{start}fus.1.{name}": 2 * base[f"{start}fus.1.{name}"] for name in ("weight", "bias")}
    adapted, expected = (convert_a2s_checkpoint(weights).double()(**inputs) for weights in (base | copy, doubled))
    assert released.relative_error(adapted.logits, expected.logits) < 1e-5
    assert released.relative_error(adapted.side_logits.context, expected.side_logits.context) < 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_from_file_to_folder_and_back(released, inputs, expected, tmp_path):
    torch.save({"state_dict": released.state_dict("sd")}, tmp_path / "sd.pth")
    convert_checkpoint(tmp_path / "sd.pth").save_pretrained(tmp_path / "sd")
    logits = AutoModel.from_pretrained(tmp_path / "sd").eval().double()(**inputs).logits
    assert released.relative_error(logits, expected["logits"]) < 1e-4
