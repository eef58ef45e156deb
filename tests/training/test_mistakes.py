"""Mistakes of training that are told in a line, and what keeps a ruined model from being one."""

import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from hf_usod.errors import DataError, PlanError, RunError
from hf_usod.hub import build_model
from hf_usod.training import loop
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.checks import check_plan
from hf_usod.training.cue_extractor import train_cue_extractor
from hf_usod.training.photos import list_run_samples
from hf_usod.training.plan import Plan


@pytest.fixture
def arguments(photos, backbone, tmp_path):
    return CueExtractorArguments(
        images=[str(photos)],
        output_dir=str(tmp_path / "run"),
        backbone=str(backbone),
        decoder_channels=8,
        size=128,
        scale_steps=[-1, 1],
        scale_stride=32,
        batch_size=4,
        num_epochs=1,
        num_workers=0,
        num_previews=2,
        log_every=1,
    )


@pytest.mark.parametrize("spelled", ["same", "link", "parent of links"])
def test_images_given_twice_are_named(photos, tmp_path, spelled):
    other = photos if spelled == "same" else tmp_path / "link"
    if spelled == "link":
        other.symlink_to(photos)
    elif spelled == "parent of links":
        other.mkdir()
        (other / "again.png").symlink_to(photos / "photo_03.png")
    with pytest.raises(DataError, match=r"share \d+ images? \(.*Give each folder once"):
        list_run_samples([str(photos), str(other)])


def test_an_output_that_is_a_link_to_nowhere(arguments, tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / "dangling")
    for folder in (tmp_path / "dangling", tmp_path / "dangling" / "run"):
        args = replace(arguments, output_dir=str(folder))
        with pytest.raises(PlanError, match="dangling is a link to what is not there"):
            check_plan(Plan(args.output_dir, False, args))


def test_a_photo_more_is_named_when_a_finished_stage_is_resumed(arguments, photos, tmp_path):
    own = tmp_path / "photos"
    own.mkdir()
    for path in photos.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    arguments = replace(arguments, images=[str(own)])
    train_cue_extractor(arguments)
    (own / "one_more.png").write_bytes((own / "photo_00.png").read_bytes())
    with pytest.raises(RunError, match=r"new: .*one_more\.png"):
        train_cue_extractor(replace(arguments, resume=True))


def test_weights_of_another_order_are_not_kept(arguments, tmp_path):
    original = loop.Loop._step

    def explode(self, *args):
        original(self, *args)
        with torch.no_grad():
            for parameter in self.bare_model.parameters():
                parameter.mul_(1e3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_step", explode)
        with pytest.raises(RunError, match=r"times as large as at first after step 3\. Lower --learning_rate"):
            train_cue_extractor(arguments)
    assert not list((tmp_path / "run").glob("checkpoint-*")) and not (tmp_path / "run" / "model").exists()


def test_what_was_trained_is_published_with_the_card_that_training_wrote(arguments, tmp_path):
    model = train_cue_extractor(arguments)
    build_model(model, tmp_path / "repository", "me/mine")
    card = (tmp_path / "repository" / "README.md").read_text()
    assert "on 13 images" in card and "learning_rate: 0.1" in card and "[More" not in card
    assert str(tmp_path) not in card  # nobody's folders
    assert load_file(model / "model.safetensors")
