"""In what precision that is computed which is not trained."""

from types import SimpleNamespace

import pytest
import torch

from hf_usod.training import frozen
from hf_usod.training.frozen import frozen_precision


@pytest.mark.parametrize(
    ("asked", "told", "device", "knows", "expected"),
    [
        (None, "no", "cpu", True, "bf16"),
        (None, "no", "cpu", False, "no"),
        (None, "no", "cuda", True, "no"),
        (None, "bf16", "cpu", False, "bf16"),
        ("no", "no", "cpu", True, "no"),
        ("fp16", "fp16", "cuda", True, "fp16"),
    ],
)
def test_bf16_is_taken_where_it_is_fast_and_nothing_else_was_asked_for(
    monkeypatch, asked, told, device, knows, expected
):
    monkeypatch.setattr(frozen, "cpu_knows_bf16", lambda: knows)
    accelerator = SimpleNamespace(mixed_precision=told, device=torch.device(device))
    assert frozen_precision(asked, accelerator) == expected
