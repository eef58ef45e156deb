"""Stage 1 from end to end on a tiny network and synthetic photos: runs, interruptions, resuming, refusals."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoImageProcessor, AutoModel

from hf_usod.cli import main
from hf_usod.data import EpochSampler, second_scale
from hf_usod.errors import RunError
from hf_usod.models.modeling_usod import resize
from hf_usod.models.modeling_usod_sce import UsodSceModel
from hf_usod.objectives import btm_loss
from hf_usod.training import processes
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.cue_extractor import CueExtractorStage, build_model, texture, train_cue_extractor
from hf_usod.training.loop import linear_decay
from hf_usod.training.monitoring import CollapseWatch
from hf_usod.training.processes import make_accelerator, stop_requests
from hf_usod.training.run_folder import RunFolder

TRAIN_SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
NUM_IMAGES = 13  # of the `photos` fixture: three batches of four, and one left over
NUM_STEPS = 6


@pytest.fixture(scope="module")
def settings(photos, backbone) -> CueExtractorArguments:
    """Six steps in two epochs, with checkpoints after steps 2, 3, 4 and 6."""
    return CueExtractorArguments(
        images=[str(photos)],
        output_dir="",
        backbone=str(backbone),
        size=128,
        num_epochs=2,
        batch_size=4,
        scale_steps=[-1, 1],
        decoder_channels=8,
        num_workers=0,
        log_every=1,
        save_every=2,
        num_previews=3,
    )


@pytest.fixture
def arguments(settings, tmp_path) -> CueExtractorArguments:
    return replace(settings, output_dir=str(tmp_path / "run"))


@pytest.fixture(scope="module")
def uninterrupted(settings, tmp_path_factory) -> Path:
    """A run to the end, by the command."""
    run = tmp_path_factory.mktemp("uninterrupted")
    assert main(["train", "--stage", "sce", *command_line(replace(settings, output_dir=str(run)))]) == 0
    return run


@pytest.fixture
def when_step(monkeypatch) -> Callable[[int, Callable[[], None]], None]:
    """`when_step(n, action)`: the action, once, as step n (from 0) begins."""
    original = CueExtractorStage.step

    def arrange(number: int, action: Callable[[], None]) -> None:
        pending = [action]

        def step(self, decoder, batch, epoch, step):
            if step == number and pending:
                pending.pop()()
            return original(self, decoder, batch, epoch, step)

        monkeypatch.setattr(CueExtractorStage, "step", step)

    return arrange


@pytest.fixture
def own_workers() -> Callable[[], list[int]]:
    """The processes begun since the test began: those of another test, which nobody has collected yet, are not its."""
    others = {worker.pid for worker in multiprocessing.active_children()}
    return lambda: [worker.pid for worker in multiprocessing.active_children() if worker.pid not in others]


def command_line(arguments: CueExtractorArguments) -> list[str]:
    """The arguments as `hf-usod train` is given them."""
    words: list[str] = []
    for name, value in asdict(arguments).items():
        if value not in (None, []):
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def weights(run: str | Path) -> dict[str, torch.Tensor]:
    """Those of the trained model."""
    return load_file(Path(run) / "model" / "model.safetensors")


def assert_same_weights(run: str | Path, other: str | Path) -> None:
    actual, expected = weights(run), weights(other)
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def checkpoints(run: str | Path) -> set[str]:
    """The newest, and what is left of others that were being written."""
    found = {path.name for path in Path(run).glob("checkpoint-*")}
    whole = {name for name in found if name.removeprefix("checkpoint-").isdigit()}
    return found - whole | set(sorted(whole, key=lambda name: int(name.removeprefix("checkpoint-")))[-1:])


def fail() -> None:
    raise ZeroDivisionError("as if the machine had failed")


# --- A run to the end -----------------------------------------------------------------------------------------------


def test_run_writes_a_model_that_loads(uninterrupted, photos):
    model = AutoModel.from_pretrained(uninterrupted / "model")
    image_processor = AutoImageProcessor.from_pretrained(uninterrupted / "model")
    assert isinstance(model, UsodSceModel)
    assert (image_processor.size["height"], image_processor.size["width"]) == (128, 128)
    outputs = model(**image_processor(photos / "photo_00.png", return_tensors="pt"))
    assert outputs.logits.shape == (1, 1, 128, 128)
    assert outputs.logits.isfinite().all()


def test_run_writes_previews(uninterrupted):
    assert sorted(path.name for path in (uninterrupted / "previews").iterdir()) == ["epoch_001.png", "epoch_002.png"]
    with Image.open(uninterrupted / "previews" / "epoch_002.png") as preview:
        assert preview.size == (3 * 128, 2 * 128)
        maps = np.asarray(preview)[128:]
    assert (maps[..., 0] == maps[..., 1]).all()
    assert maps.std() > 1


def test_run_keeps_its_last_checkpoint_only(uninterrupted):
    assert {path.name for path in uninterrupted.glob("checkpoint-*")} == {f"checkpoint-{NUM_STEPS}"}


def test_run_logs_to_tensorboard(uninterrupted):
    log = EventAccumulator(str(uninterrupted / "log")).Reload()
    assert set(log.Tags()["scalars"]) == {
        *("loss", "pcl_sd", "btm", "sc"),
        *("foreground", "hard_samples", "learning_rate", "images_per_second", "minutes_left"),
    }
    terms = {name: [event.value for event in log.Scalars(name)] for name in ("loss", "pcl_sd", "btm", "sc")}
    assert [event.step for event in log.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    for loss, pcl_sd, btm, sc in zip(*terms.values(), strict=True):
        assert loss == pytest.approx(pcl_sd + 0.05 * btm + sc, rel=1e-5)


def test_run_trains_the_decoder_alone(uninterrupted, backbone, settings):
    trained, initial = weights(uninterrupted), build_model(settings)[0].state_dict()
    for name, value in load_file(backbone / "model.safetensors").items():
        assert torch.equal(trained[f"backbone.{name}"], value), name
    unchanged = [name for name in trained if name.startswith("decoder.") and torch.equal(trained[name], initial[name])]
    assert unchanged == []


def test_a_seed_gives_the_same_weights(arguments, uninterrupted):
    train_cue_extractor(replace(arguments, num_workers=2, log_every=4, num_previews=1))  # these make no difference
    assert_same_weights(arguments.output_dir, uninterrupted)


def test_texture_matching_looks_at_auxiliary_maps_too(arguments, uninterrupted, photos, tmp_path, monkeypatch):
    maps = tmp_path / "maps"
    maps.mkdir()
    for index in range(NUM_IMAGES - 1):  # the last one has none
        noise = np.random.default_rng(index).integers(0, 256, (80, 96), dtype=np.uint8)
        Image.fromarray(noise).save(maps / f"photo_{index:02d}.png")
    steps = []
    original = CueExtractorStage.step

    def step(self, decoder, batch, epoch, step):
        output = original(self, decoder, batch, epoch, step)
        if not steps:
            side = second_scale(self.args.size, self.args.scale_steps, self.args.scale_stride, self.args.seed, step)
            with torch.no_grad():
                views = [batch["pixel_values"], resize(batch["pixel_values"], (side, side))]
                own = [(self.saliency(decoder, view[:, :3]), view) for view in views]
                expected = sum(btm_loss(saliency, texture(view, self.image_processor)) for saliency, view in own)
                alone = sum(btm_loss(saliency, texture(view[:, :3], self.image_processor)) for saliency, view in own)
            steps.append((batch["pixel_values"], output.terms["btm"].item(), expected.item(), alone.item()))
        return output

    monkeypatch.setattr(CueExtractorStage, "step", step)
    train_cue_extractor(replace(arguments, aux=[str(maps)]))
    batch, matching, expected, alone = steps[0]
    assert batch.shape == (4, 6, 128, 128)
    assert batch[:, 3:].min() >= 0 and 0.4 < batch[:, 3:].amax() <= 1
    assert matching == pytest.approx(expected, rel=1e-4)
    assert alone - expected > 0.1 * alone  # a noisy map leaves few neighbors that are alike
    trained, plain = weights(arguments.output_dir), weights(uninterrupted)
    assert any(not torch.equal(trained[name], plain[name]) for name in plain)


def test_folders_without_auxiliary_maps_train_as_before(arguments, uninterrupted):
    train_cue_extractor(replace(arguments, aux=[None]))
    assert_same_weights(arguments.output_dir, uninterrupted)


# --- Interruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step, last", [(1, None), (2, 2), (3, 3), (5, 4)])
def test_a_failed_run_resumes_to_the_same_weights(arguments, uninterrupted, when_step, step, last):
    when_step(step, fail)
    with pytest.raises(ZeroDivisionError):
        train_cue_extractor(arguments)
    assert checkpoints(arguments.output_dir) == ({f"checkpoint-{last}"} if last else set())
    train_cue_extractor(replace(arguments, resume=True))
    assert_same_weights(arguments.output_dir, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_its_step_and_resumes_to_the_same_weights(
    arguments, uninterrupted, when_step, capfd, number
):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    when_step(4, lambda: os.kill(os.getpid(), number))
    assert main(["train", "--stage", "sce", *command_line(arguments)]) == 128 + number
    assert "Stopped after step 5; pass --resume to go on." in capfd.readouterr().err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert checkpoints(arguments.output_dir) == {"checkpoint-5"}
    assert main(["train", "--stage", "sce", *command_line(replace(arguments, resume=True))]) == 0
    assert_same_weights(arguments.output_dir, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_that_goes_to_all_processes_saves_the_step(arguments, when_step, own_workers, capfd, number):
    """As a terminal's Ctrl-C, or a cluster that ends a job."""

    def stop():
        # From their parent it would be a request of its own
        subprocess.run(["kill", f"-{number}", *map(str, own_workers())], check=True)
        time.sleep(1)  # time enough to die of it
        os.kill(os.getpid(), number)

    when_step(4, stop)
    assert main(["train", "--stage", "sce", *command_line(replace(arguments, num_workers=2))]) == 128 + number
    assert "Stopped after step 5; pass --resume to go on." in capfd.readouterr().err
    assert checkpoints(arguments.output_dir) == {"checkpoint-5"}


def test_a_worker_that_is_killed_is_told_in_a_line(arguments, when_step, own_workers, capfd):
    def kill():
        for worker in own_workers():
            os.kill(worker, signal.SIGKILL)
        time.sleep(1)

    when_step(3, kill)
    assert main(["train", "--stage", "sce", *command_line(replace(arguments, num_workers=1))]) == 1
    told = capfd.readouterr().err
    assert "A process that reads images was ended" in told and "fewer --num_workers" in told
    assert "Traceback" not in told
    assert checkpoints(arguments.output_dir) == {"checkpoint-3"}


def test_a_run_stopped_at_the_end_of_an_epoch_has_its_preview(arguments, when_step):
    when_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train_cue_extractor(arguments)
    assert (Path(arguments.output_dir) / "previews" / "epoch_001.png").exists()


KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
from accelerate import Accelerator
from hf_usod.cli import main

save_state = Accelerator.save_state

def save_half(self, folder, *args, **kwargs):
    if "checkpoint-4" in folder:
        Path(folder).mkdir()
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return save_state(self, folder, *args, **kwargs)

Accelerator.save_state = save_half
main(["train", "--stage", "sce", *sys.argv[1:]])
"""


def test_a_run_killed_while_saving_resumes_to_the_same_weights(arguments, uninterrupted):
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_SAVING, *command_line(arguments)])
    assert killed.returncode == -signal.SIGKILL
    assert checkpoints(arguments.output_dir) == {"checkpoint-3", "checkpoint-4.writing"}
    train_cue_extractor(replace(arguments, resume=True))
    assert_same_weights(arguments.output_dir, uninterrupted)
    assert checkpoints(arguments.output_dir) == {f"checkpoint-{NUM_STEPS}"}


def test_batch_statistics_change_the_backbones_buffers_alone_and_resume(arguments, backbone, when_step, tmp_path):
    arguments = replace(arguments, backbone_batch_norm="train")
    whole = replace(arguments, output_dir=str(tmp_path / "whole"), num_previews=1)
    train_cue_extractor(whole)
    trained = weights(whole.output_dir)
    changed = {
        name
        for name, value in load_file(backbone / "model.safetensors").items()
        if not torch.equal(trained[f"backbone.{name}"], value)
    }
    assert changed
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}

    when_step(5, fail)
    with pytest.raises(ZeroDivisionError):
        train_cue_extractor(arguments)
    train_cue_extractor(replace(arguments, resume=True))
    assert_same_weights(arguments.output_dir, whole.output_dir)


def test_a_second_stop_request_stops_at_once(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    with stop_requests() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # the same request, passed on by `torchrun`
        assert received[0] == signal.SIGTERM
        time.sleep(0.2)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


# --- Refusals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(arguments, when_step) -> CueExtractorArguments:
    """The arguments of a run that failed in its second epoch."""
    when_step(4, fail)
    with pytest.raises(ZeroDivisionError):
        train_cue_extractor(arguments)
    return arguments


def test_a_run_is_not_overwritten(begun, capfd):
    assert main(["train", "--stage", "sce", *command_line(begun)]) == 1
    assert "holds a run already. Pass --resume to continue it" in capfd.readouterr().err


def test_resuming_with_other_arguments_is_refused(begun):
    with pytest.raises(RunError, match=r"btm_weight: 0\.05, now 0\.1; seed: 0, now 1\)\. Resume with the same"):
        train_cue_extractor(replace(begun, resume=True, seed=1, btm_weight=0.1))


def test_resuming_with_other_images_is_refused(begun, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    with pytest.raises(RunError, match="images: "):
        train_cue_extractor(replace(begun, resume=True, images=[str(tmp_path / "photos")]))


def test_a_finished_run_is_left_alone(uninterrupted, settings):
    model = uninterrupted / "model" / "model.safetensors"
    written = model.stat().st_mtime_ns
    finished = replace(settings, output_dir=str(uninterrupted))
    assert train_cue_extractor(replace(finished, resume=True)) == uninterrupted / "model"
    with pytest.raises(RunError, match="holds a run already"):
        train_cue_extractor(finished)
    assert model.stat().st_mtime_ns == written


def test_a_folder_of_something_else_is_refused(arguments):
    Path(arguments.output_dir).mkdir()
    (Path(arguments.output_dir) / "thesis.tex").touch()
    with pytest.raises(RunError, match="is not empty and holds no run"):
        train_cue_extractor(arguments)


def test_too_few_images_are_refused_and_the_run_can_begin_anew(arguments):
    with pytest.raises(RunError, match=r"13 images do not fill a batch of 14\. Bring more, or lower --batch_size"):
        train_cue_extractor(replace(arguments, batch_size=14))
    assert train_cue_extractor(replace(arguments, num_epochs=1)).is_dir()


def test_unreadable_images_are_named_and_can_be_skipped(arguments, photos, tmp_path, uninterrupted, capfd, caplog):
    damaged = tmp_path / "more" / "cut_short.png"
    damaged.parent.mkdir()
    damaged.write_bytes((photos / "photo_00.png").read_bytes()[:2000])
    arguments = replace(arguments, images=[*arguments.images, str(damaged.parent)])
    assert main(["train", "--stage", "sce", *command_line(arguments)]) == 1
    message = capfd.readouterr().err
    assert f"{damaged}: cannot be read as an image" in message
    assert "1 of 14 images cannot be read (above). Repair or remove them, or pass --skip_unreadable." in message
    train_cue_extractor(replace(arguments, skip_unreadable=True))
    assert str(damaged) in caplog.text
    assert_same_weights(arguments.output_dir, uninterrupted)


def test_folders_without_images_are_refused(arguments, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        train_cue_extractor(replace(arguments, images=[str(tmp_path / "nowhere")]))
    assert not Path(arguments.output_dir).exists()


def test_collapsed_maps_stop_the_run(arguments, monkeypatch):
    monkeypatch.setattr(CollapseWatch, "bounds", (1.5, 2.0))  # every map is background then
    with pytest.raises(RunError, match=r"collapsed: for 4 steps they were all background.*Usual reasons"):
        train_cue_extractor(replace(arguments, collapse_patience=3, log_every=2))


def test_collapse_watch_counts_steps_in_a_row():
    watch = CollapseWatch(patience=30)
    for foreground in (0.0, 0.005, 0.3, 0.0, 0.0, 0.94, 0.96, 0.97):
        watch.update(foreground, 10)
    with pytest.raises(RunError, match="for 30 steps they were all foreground"):
        watch.update(1.0, 10)


def test_a_loss_that_is_not_finite_stops_the_run(arguments):
    with pytest.raises(RunError, match=r"not finite after step \d\. Lower --learning_rate"):
        train_cue_extractor(replace(arguments, learning_rate=1e30))


# --- Parts ----------------------------------------------------------------------------------------------------------


def test_linear_decay():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = linear_decay(optimizer, num_steps=10, final_ratio=0.2)
    rates = []
    for _ in range(12):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.1 - 0.008 * step for step in range(11)] + [0.02])


def test_epoch_sampler_shuffles_every_epoch_anew():
    sampler = EpochSampler(50, seed=3)
    epochs = []
    for epoch in (1, 2, 1):
        sampler.start_epoch(epoch)
        epochs.append(list(sampler))
        assert sorted(index for index, _ in epochs[-1]) == list(range(50))
    first, second, again = epochs
    assert first == again
    assert [index for index, _ in first] != [index for index, _ in second]
    assert first != list(EpochSampler(50, seed=4))


def test_epoch_sampler_resumes_within_an_epoch():
    sampler = EpochSampler(50, seed=3)
    sampler.start_epoch(2)
    whole = list(sampler)
    sampler.start_epoch(2, seen=17)
    assert list(sampler) == whole[17:]


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_epoch_sampler_flips(probability):
    flips = [flipped for _, flipped in EpochSampler(2000, seed=0, flip_probability=probability)]
    assert np.mean(flips) == pytest.approx(probability, abs=0.05 if probability == 0.5 else 0)


def test_second_scale():
    sides = [second_scale(320, [-2, -1, 1, 2], 64, 0, step) for step in range(400)]
    assert set(sides) == {192, 256, 384, 448}
    assert all(sides.count(side) == pytest.approx(100, abs=30) for side in set(sides))
    assert sides == [second_scale(320, [-2, -1, 1, 2], 64, 0, step) for step in range(400)]
    assert sides != [second_scale(320, [-2, -1, 1, 2], 64, 1, step) for step in range(400)]


def test_half_written_checkpoints_are_ignored(arguments):
    folder = RunFolder(arguments.output_dir, {}, False, make_accelerator(arguments))
    assert folder.checkpoints.newest() is None
    for name in ("checkpoint-30.writing", "checkpoint-9", "checkpoint-10", "checkpoint-old"):
        (folder.root / name).mkdir(parents=True)
    assert folder.checkpoints.newest() == (folder.root / "checkpoint-10", 10)


# --- Two processes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_train_what_one_trains(arguments, tmp_path):
    train_cue_extractor(arguments)
    two = replace(arguments, output_dir=str(tmp_path / "two"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*torchrun, str(TRAIN_SCRIPT), "--stage", "sce", *command_line(two)], check=True)
    actual, expected = weights(two.output_dir), weights(arguments.output_dir)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-3, atol=1e-3, msg=name)
