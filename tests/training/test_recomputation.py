"""Gradient checkpointing is the plain computation in less memory."""

import copy
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_usod import UsodAdapterConfig, UsodSdConfig, UsodSdModel
from hf_usod.cli import main
from hf_usod.models.configuration_usod import backbone_preset
from hf_usod.training.recomputation import recompute_activations

WIDTHS = {"neck_channels": [8, 8, 8, 8], "fusion_channels": 8, "context_channels": 8}


@pytest.fixture(params=["tiny-resnet", "efficientnet-lite0", "adapter"])
def model(request, tiny_backbone) -> torch.nn.Module:
    torch.manual_seed(0)
    preset = (
        backbone_preset("efficientnet-lite0") if request.param == "efficientnet-lite0" else tiny_backbone(stem=True)
    )
    made = UsodSdModel(UsodSdConfig(backbone_config=preset, aux_backbone_config=preset, **WIDTHS))
    if request.param == "adapter":
        made.requires_grad_(False)
        made.add_adapter(UsodAdapterConfig())
    return made.train()


def backward(model: torch.nn.Module) -> tuple[list[torch.Tensor], int]:
    """Maps of two views, whose loss goes backward, and the bytes that are kept for that."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[torch.UntypedStorage, int]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage, storage.nbytes()
        return tensor

    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = [model(pixel_values=images), model(pixel_values=images[..., :64, :64])]
    maps = [value for output in outputs for value in (output.logits, *output.side_logits.values())]
    sum(value.square().mean() for value in maps).backward()
    return maps, sum(size for _, size in kept.values())


def test_maps_gradients_and_statistics_are_the_same_and_less_is_kept(model):
    plain = copy.deepcopy(model)
    recompute_activations(model)
    expected, plainly_kept = backward(plain)
    maps, kept = backward(model)
    assert kept < plainly_kept / 2
    torch.testing.assert_close(maps, expected, rtol=0, atol=0)
    assert model.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0, msg=name)
    for (name, parameter), (_, other) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-5, atol=1e-8, msg=name)


FREED = r"""
import re, torch
from hf_usod.training.processes import prepare_cpu
prepare_cpu(spare_memory={spare})
maps = torch.ones(200 << 18)  # 200 MiB
del maps
most, now = (int(re.search(name + r":\s+(\d+) kB", open("/proc/self/status").read())[1]) for name in ("VmHWM", "VmRSS"))
print(most - now >> 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not Path("/proc/self/status").exists(), reason="needs glibc")
@pytest.mark.parametrize("spare", [True, False])
def test_what_is_to_be_spared_is_given_back(spare):
    """MiB that a process has had and has no more."""
    command, environment = (
        [sys.executable, "-c", FREED.format(spare=spare)],
        os.environ | {"ACCELERATE_USE_CPU": "true"},
    )
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (int(result.stdout) > 150) == spare


@pytest.mark.parametrize("asked", [True, False])
def test_the_command_spares_memory_where_it_is_asked_to(asked, monkeypatch, tmp_path):
    spared = []
    monkeypatch.setattr("hf_usod.training.processes.prepare_cpu", lambda spare_memory: spared.append(spare_memory))
    more = ["--gradient_checkpointing"] if asked else []
    assert main(["train", "--images", str(tmp_path / "none"), "--output_dir", str(tmp_path / "run"), *more]) == 1
    assert spared == [asked]
