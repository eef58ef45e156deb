"""Features that are kept from epoch to epoch: which, and that nothing else changes."""

import errno
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ResNetBackbone

from hf_usod.data import EpochSampler, second_scale
from hf_usod.errors import RunError
from hf_usod.training import feature_cache
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.cue_extractor import CueExtractorStage, train_cue_extractor
from hf_usod.training.feature_cache import FeatureCache, choose_views, count_views
from hf_usod.training.frozen import FrozenBackbone
from hf_usod.training.plan import Plan
from hf_usod.training.rehearsal import rehearse


@pytest.fixture
def arguments(photos, backbone, tmp_path) -> CueExtractorArguments:
    """Twelve steps in four epochs, with a checkpoint after each."""
    return CueExtractorArguments(
        images=[str(photos)],
        output_dir=str(tmp_path / "run"),
        backbone=str(backbone),
        size=128,
        num_epochs=4,
        batch_size=4,
        scale_steps=[-1, 1],
        decoder_channels=8,
        num_workers=0,
        num_previews=1,
    )


@pytest.fixture
def passes(monkeypatch) -> list[torch.Size]:
    """The shapes of what goes through backbones."""
    shapes: list[torch.Size] = []
    original = FrozenBackbone.__call__
    monkeypatch.setattr(
        FrozenBackbone, "__call__", lambda self, images: shapes.append(images.shape) or original(self, images)
    )
    return shapes


def weights(arguments: CueExtractorArguments) -> dict[str, torch.Tensor]:
    return load_file(f"{arguments.output_dir}/model/model.safetensors")


def assert_same(arguments: CueExtractorArguments, other: CueExtractorArguments) -> None:
    actual, expected = weights(arguments), weights(other)
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_views_are_counted_as_a_run_sees_them(arguments):
    seen: Counter[tuple[int, int, bool]] = Counter()
    sampler = EpochSampler(13, 0)
    for epoch in range(1, 5):
        sampler.start_epoch(epoch)
        for position, (index, flipped) in enumerate(list(sampler)[:12]):
            step = 3 * (epoch - 1) + position // 4
            for side in (128, second_scale(128, [-1, 1], 64, 0, step)):
                seen[side, index, flipped] += 1
    counts = count_views(arguments, 13)
    assert {
        (side, int(index), bool(flipped)): int(views[index, flipped])
        for side, views in counts.items()
        for index, flipped in np.argwhere(views)
    } == seen
    assert sum(views.sum() for views in count_views(replace(arguments, max_steps=5), 13).values()) == 5 * 4 * 2


def test_what_comes_most_often_is_kept_within_the_budget():
    counts = {64: np.array([[5, 1], [2, 0]]), 128: np.array([[3, 2], [1, 1]])}
    offsets, total = choose_views(counts, {64: 100, 128: 400}, 550)
    assert offsets[64].tolist() == [[0, -1], [-1, -1]]
    assert offsets[128].tolist() == [[100, -1], [-1, -1]] and total == 500
    assert choose_views(counts, {64: 100, 128: 400}, 10**6)[1] == 100 + 400 + 100 + 400  # what comes once is not kept
    assert choose_views(counts, {64: 100, 128: 400}, 0)[1] == 0


@pytest.mark.parametrize("gigabytes", [1.0, 2e-4])
def test_a_run_with_cache_trains_what_one_without_trains(arguments, passes, tmp_path, gigabytes):
    arguments = replace(arguments, num_epochs=8, scale_steps=[-1])
    plain = replace(arguments, output_dir=str(tmp_path / "plain"), feature_cache=0.0)
    train_cue_extractor(plain)
    computed = sum(shape[0] for shape in passes)
    passes.clear()
    train_cue_extractor(replace(arguments, feature_cache=gigabytes))
    again = sum(shape[0] for shape in passes)
    assert again < (0.5 if gigabytes == 1 else 0.9) * computed
    assert_same(arguments, plain)
    assert list((tmp_path / "run").glob("*.cache*")) == []


def test_a_run_with_cache_resumes_to_the_same_weights(arguments, tmp_path, monkeypatch):
    whole = replace(arguments, output_dir=str(tmp_path / "whole"))
    train_cue_extractor(whole)
    original = CueExtractorStage.step

    def step(self, decoder, batch, epoch, step):
        if step == 8:
            raise ZeroDivisionError
        return original(self, decoder, batch, epoch, step)

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(CueExtractorStage, "step", step)
        train_cue_extractor(arguments)
    train_cue_extractor(replace(arguments, resume=True, feature_cache=1e-4))  # the budget may be another
    assert_same(arguments, whole)


def test_a_full_disk_is_told_before_the_first_step(arguments, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache.os, "posix_fallocate", full, raising=False)
    with pytest.raises(RunError, match=r"--feature_cache: no room for .*No space left on device.*or 0"):
        train_cue_extractor(replace(arguments, feature_cache=1.0))


def test_a_file_system_that_reserves_nothing_keeps_features_too(arguments, passes, tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(feature_cache.os, "posix_fallocate", unsupported, raising=False)
    train_cue_extractor(replace(arguments, output_dir=str(tmp_path / "plain"), feature_cache=0.0))
    computed = len(passes)
    train_cue_extractor(replace(arguments, feature_cache=1.0))
    assert len(passes) - computed < computed
    assert_same(arguments, replace(arguments, output_dir=str(tmp_path / "plain")))


def test_the_disk_that_features_take_is_told_before(arguments, monkeypatch):
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=12 * 2**30))
    for asked, told in ((None, "and up to 6.0 GiB more while"), (1.0, "and up to 0.9 GiB more while"), (0.0, "disk (")):
        (*_, line) = rehearse(Plan(arguments.output_dir, False, replace(arguments, num_epochs=1, feature_cache=asked)))
        assert told in line, line


def test_low_precision_is_kept_as_it_is(arguments, tiny_backbone, tmp_path):
    features = FrozenBackbone(ResNetBackbone(tiny_backbone()), "bf16")
    accelerator = SimpleNamespace(
        is_local_main_process=True, device=torch.device("cpu"), wait_for_everyone=lambda: None, print=print
    )
    often = replace(arguments, num_epochs=40)  # so that every view comes again
    cache = FeatureCache(features, often, 13, tmp_path, 1.0, accelerator)
    images, index, flipped = torch.rand(4, 3, 128, 128), torch.arange(4), torch.tensor([False, True, False, True])
    filled, kept = cache(images, index, flipped), cache(torch.zeros_like(images), index, flipped)
    for level, own, again in zip(features(images)[1:], filled[1:], kept[1:], strict=True):
        assert own.dtype == torch.bfloat16 and own.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(own, level) and torch.equal(again, level)
    assert filled[0].shape == features(images)[0].shape
