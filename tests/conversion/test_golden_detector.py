"""A converted detector gives the logits of the authors' released program."""

import importlib.util
from pathlib import Path

import pytest
import torch

from hf_usod.conversion import convert_a2s_checkpoint, convert_checkpoint

_spec = importlib.util.spec_from_file_location("golden_detector", Path(__file__).with_name("golden_detector.py"))
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


def relative_error(logits):
    expected = golden.golden_logits()
    return ((logits - expected).norm() / expected.norm()).item()


@torch.no_grad()
def test_converted_detector_gives_the_released_logits():
    model = convert_a2s_checkpoint(golden.golden_state_dict())
    image, aux = golden.golden_inputs()
    assert relative_error(model(image, aux).logits) < 1e-4


@torch.no_grad()
def test_the_order_of_the_global_block_matters(monkeypatch):
    """The columns of its last block in any other order give other logits: the numbers above would show it."""
    state_dict = golden.golden_state_dict()
    name = "decoder.global_info.fus.0.weight"
    state_dict[name] = state_dict[name].roll(256, dims=1)
    image, aux = golden.golden_inputs()
    assert relative_error(convert_a2s_checkpoint(state_dict)(image, aux).logits) > 0.1


@pytest.mark.slow
@torch.no_grad()
def test_from_file_to_folder_and_back(tmp_path):
    from transformers import AutoModel

    torch.save({"state_dict": golden.golden_state_dict()}, tmp_path / "sd.pth")
    convert_checkpoint(tmp_path / "sd.pth").save_pretrained(tmp_path / "sd")
    image, aux = golden.golden_inputs()
    assert relative_error(AutoModel.from_pretrained(tmp_path / "sd").eval()(image, aux).logits) < 1e-4
