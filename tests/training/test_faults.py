"""What goes wrong in trainings: told in one line, before anything is trained where it can be seen by then."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from hf_usod.cli import main
from hf_usod.data import Sample
from hf_usod.errors import DataError, PlanError, RunError, UsodError
from hf_usod.training import loop, method
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.checks import check_proportions
from hf_usod.training.cue_extractor import CueExtractorStage, train_cue_extractor
from hf_usod.training.locks import lock_folder
from hf_usod.training.loop import linear_decay
from hf_usod.training.photos import join, list_run_samples
from hf_usod.training.schedule import Schedule

WEIGHTS = "model.safetensors"
TRAIN_SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


@pytest.fixture
def own_photos(photos, tmp_path) -> Path:
    """A copy of the photos, to be changed."""
    return Path(shutil.copytree(photos, tmp_path / "img"))


@pytest.fixture
def arguments(short_run, own_photos) -> CueExtractorArguments:
    return replace(short_run, images=[str(own_photos)], save_every=2)


@pytest.fixture
def recipe(backbone, tmp_path) -> Path:
    """Of all stages, tiny."""
    small = {"size": 64, "num_epochs": 1, "batch_size": 4, "scale_steps": [1], "scale_stride": 32, "num_previews": 2}
    widths = {"neck_channels": [8] * 4, "fusion_channels": 8, "context_channels": 8, "backbone": str(backbone)}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.dump({"sce": {**small, "backbone": str(backbone)}, "sd": {**small, **widths}}))
    return file


@pytest.fixture
def refused(recipe, own_photos, tmp_path, monkeypatch, capfd):
    """`refused(*options)`: what a run of all stages says, which must refuse before it trains or writes anything."""

    def untimely(*_):
        raise AssertionError("a stage was trained")

    def run(*options: object) -> str:
        for stage in ("train_cue_extractor", "train_detector", "_label", "_write_flow"):
            monkeypatch.setattr(method, stage, untimely)
        words = ["--recipe", recipe, "--images", own_photos, "--output_dir", tmp_path / "run", "--refine", "none"]
        assert main(["train", *map(str, [*words, *options])]) == 1
        assert not (tmp_path / "run").exists()
        bars, _, message = capfd.readouterr().err.partition("hf-usod: ")
        assert "Traceback" not in bars + message
        return message

    return run


def checkpoints(arguments: CueExtractorArguments) -> set[str]:
    """The newest, if there is any."""
    names = [path.name for path in Path(arguments.output_dir).glob("checkpoint-*")]
    return set(sorted(names, key=lambda name: int(name.removeprefix("checkpoint-")))[-1:])


# --- Before the first step ------------------------------------------------------------------------------------------


def test_a_typo_for_stage_2_is_told_before_stage_1(refused, recipe):
    recipe.write_text(recipe.read_text() + "\n" + "transfer: {num_epoch: 1}\n")
    assert "transfer: there is no argument 'num_epoch'. Did you mean num_epochs?" in refused()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--adapt", "usod-rgb-liet"], "--adapt usod-rgb-liet: nothing is called so"),
        (["--adapt", "usod-rgb-liet"], "Did you mean usod-rgb-lite?"),
        (["--sce", "usod-sce-lit"], "--sce usod-sce-lit: nothing is called so"),
        (["--adapt", "usod-sce-lite"], "It is a UsodSceModel; a UsodSdModel is expected"),
        (["--adapt", "usod-steel-lit"], "Did you mean usod-steel-lite?"),
        (
            ["--set", "sd.start_from=usod-steel-lite"],
            "usod-steel-lite: is an adapter, a model is expected. An adapter is trained on by --adapt.",
        ),
        (["--set", "sd.start_from=nowhere/at-all"], "nowhere/at-all: cannot be loaded"),
        (["--set", "sd.backbone=efficientnet-lite1"], "--backbone efficientnet-lite1: nothing is called so"),
        (["--set", "sd.batch_size=14"], "13 images do not fill a batch of 14. Bring more, or lower --batch_size"),
    ],
)
def test_what_stage_2_cannot_do_is_told_before_stage_1(refused, options, message):
    assert message in refused(*options)


def test_a_precision_that_the_device_does_not_have_is_refused(refused):
    AcceleratorState._reset_state(reset_partial_state=True)  # as in a new process
    try:
        assert "--mixed_precision fp16: needs a GPU. On a CPU, give bf16 or no." in refused("--mixed_precision", "fp16")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_what_refines_labels_must_be_installed(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    assert "hf_usod[crf]" in refused("--refine", "crf")


def test_auxiliary_maps_must_fit_their_images(refused, own_photos, tmp_path):
    aux = tmp_path / "aux"
    aux.mkdir()
    Image.new("L", (96, 80)).save(aux / "photo_00.png")
    Image.new("L", (96, 40)).save(aux / "photo_01.png")
    message = refused("--aux", aux)
    assert f"{aux / 'photo_01.png'} is 96 x 40 and cannot belong to the image {own_photos / 'photo_01.png'}" in message
    (aux / "photo_01.png").rename(aux / "other.png")
    assert f"{aux}: 1 of 2 maps belong to no image" in refused("--aux", aux)
    assert "--aux: 1 folders for 2 folders of --images" in refused("--aux", aux, "--images", own_photos, own_photos)


def test_an_odd_frame_of_a_video_is_named(refused, own_photos):
    pytest.importorskip("cv2")
    Image.new("RGB", (96, 60)).save(own_photos / "photo_05.png")
    assert f"{own_photos / 'photo_05.png'}: is of 96 x 60, the other frames" in refused("--task", "video")


def test_a_dry_run_tells_the_plan_and_writes_nothing(recipe, own_photos, tmp_path, capfd):
    words = ["--recipe", recipe, "--images", own_photos, "--output_dir", tmp_path / "run", "--refine", "none"]
    assert main(["train", *map(str, words), "--dry-run", "--set", "sd.num_epochs=5"]) == 0
    told = capfd.readouterr().out
    assert "sce: 13 images, 3 steps of 4." in told
    assert "sd: 13 images, 15 steps of 4." in told
    assert "num_epochs: 5" in told and "fusion_channels: 8" in told
    assert re.search(r"sce: at most \d+ s an epoch, \d+ s in all\.", told)
    assert re.search(r"labels: about \d+ s\.", told)
    assert re.search(r"sd: about (\d+ s the first epoch, )?\d+ s an epoch, \d+ s in all\.", told)
    assert re.search(r"It takes \d\.\d GiB of memory .*; and 0\.0 GiB of disk", told)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_finds_what_cannot_be_read(refused, own_photos):
    (own_photos / "photo_05.png").write_bytes(b"cut")
    assert f"{own_photos / 'photo_05.png'}: cannot be read as an image" in refused("--dry-run")


# --- Numbers that are not finite ------------------------------------------------------------------------------------


def test_weights_that_are_not_finite_are_not_saved(arguments):
    """Though no line of the log looks at the loss before the end."""
    with pytest.raises(RunError, match=r"weights are not finite after step \d\. Lower --learning_rate"):
        train_cue_extractor(replace(arguments, learning_rate=1e30, num_epochs=1, log_every=100, save_every=100))
    assert not (Path(arguments.output_dir) / "model").exists()
    assert checkpoints(arguments) == set()


@pytest.fixture
def diverging(monkeypatch):
    """The loss is not a number any more from step 4 on, if the learning rate is at least 0.1."""
    original = CueExtractorStage.step

    def step(self, decoder, batch, epoch, number):
        output = original(self, decoder, batch, epoch, number)
        broken = number >= 4 and self.args.learning_rate >= 0.1
        return output._replace(loss=output.loss * float("nan")) if broken else output

    monkeypatch.setattr(CueExtractorStage, "step", step)


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_run_that_diverged_goes_on_from_its_last_checkpoint_with_a_lower_rate(arguments, diverging, log_every):
    arguments = replace(arguments, log_every=log_every)
    with pytest.raises(RunError, match=r"Lower --learning_rate and pass --resume, to go on from step 4"):
        train_cue_extractor(arguments)
    assert checkpoints(arguments) == {"checkpoint-4"}
    with pytest.raises(RunError, match="seed: 0, now 1"):  # the rate alone may be another
        train_cue_extractor(replace(arguments, resume=True, learning_rate=0.01, seed=1))
    model = train_cue_extractor(replace(arguments, resume=True, learning_rate=0.01))
    assert all(value.isfinite().all() for value in load_file(model / "model.safetensors").values())
    assert json.loads((Path(arguments.output_dir) / "arguments.json").read_text())["learning_rate"] == 0.01


def test_a_run_that_did_not_diverge_keeps_its_rate(arguments, monkeypatch):
    monkeypatch.setattr(CueExtractorStage, "end_epoch", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_cue_extractor(arguments)
    with pytest.raises(RunError, match=r"learning_rate: 0\.1, now 0\.01"):
        train_cue_extractor(replace(arguments, resume=True, learning_rate=0.01))


def test_another_rate_is_taken_up_where_the_old_one_stood():
    def scheduler(rate: float):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
        return optimizer, linear_decay(optimizer, 10, 0.2)

    (optimizer, moved), (_, expected) = scheduler(0.1), scheduler(0.01)
    for _ in range(4):
        moved.step()
        expected.step()
    loop.set_rates(moved, [0.01])
    for _ in range(3):
        assert moved.get_last_lr() == pytest.approx(expected.get_last_lr())
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected.get_last_lr()[0])
        moved.step()
        expected.step()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 143999998560 bytes."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_told_in_a_line(arguments, monkeypatch, error):
    def step(*_):
        raise error

    monkeypatch.setattr(CueExtractorStage, "step", step)
    with pytest.raises(RunError, match=r"not enough memory .* --gradient_checkpointing .*--batch_size"):
        train_cue_extractor(arguments)
    assert not (Path(arguments.output_dir) / "model").exists()


# --- Images ---------------------------------------------------------------------------------------------------------


def test_a_runs_own_files_are_no_photos(recipe, own_photos, caplog):
    run = own_photos / "run"
    words = ["--recipe", recipe, "--images", own_photos, "--output_dir", run, "--refine", "none", "--num_workers", 0]
    assert main(["train", *map(str, words)]) == 0
    assert len(list((run / "labels").glob("*.png"))) == 13
    assert json.loads((run / "sd" / "arguments.json").read_text())["num_images"] == 13
    assert "are of trainings, not photos" in caplog.text
    assert len(join(list_run_samples([str(own_photos)]))) == 13
    shutil.rmtree(run / "sd" / "model")
    assert main(["train", *map(str, words), "--resume"]) == 0


def test_images_that_were_renamed_or_changed_are_named(arguments, own_photos):
    stop_after(arguments, 4)
    (own_photos / "photo_02.png").rename(own_photos / "renamed.png")
    with pytest.raises(RunError, match=r"gone: \S*photo_02\.png; new: \S*renamed\.png"):
        train_cue_extractor(replace(arguments, resume=True))
    (own_photos / "renamed.png").rename(own_photos / "photo_02.png")
    content = (own_photos / "photo_03.png").read_bytes()
    (own_photos / "photo_04.png").replace(own_photos / "photo_03.png")
    (own_photos / "photo_04.png").write_bytes(content)
    with pytest.raises(RunError, match=r"changed: \S*photo_03\.png, \S*photo_04\.png; 2 in all"):
        train_cue_extractor(replace(arguments, resume=True))


@pytest.mark.parametrize("name", ["turned.tif", "turned.jpg", "turned.png"])
def test_the_proportions_of_turned_photos_are_those_they_are_seen_in(tmp_path, name):
    """Pillow gives a TIFF file the size that it is shown at, and others that of their rows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / name, exif=exif)
    depth = tmp_path / "depth" / "turned.png"
    depth.parent.mkdir()
    Image.new("L", (40, 60)).save(depth)
    check_proportions([Sample("turned", tmp_path / name, depth)])
    Image.new("L", (60, 40)).save(depth)
    with pytest.raises(DataError, match="their proportions differ"):
        check_proportions([Sample("turned", tmp_path / name, depth)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("name", [b"not utf-8 \xff.png", "Füße 图.png".encode(), b"new\nline.png", b"{brace}%s.png"])
def test_photos_may_be_called_anything(arguments, own_photos, name):
    os.rename(own_photos / "photo_00.png", os.path.join(os.fsencode(own_photos), name))
    stop_after(arguments, 4)
    assert train_cue_extractor(replace(arguments, resume=True)).is_dir()


def test_a_photo_that_changed_between_the_stages_is_named(recipe, own_photos, tmp_path, capfd):
    """Its pseudo-label is of what it was."""
    run = tmp_path / "run"
    words = ["--recipe", recipe, "--images", own_photos, "--output_dir", run, "--refine", "none", "--num_workers", 0]
    assert main(["train", *map(str, words)]) == 0
    shutil.rmtree(run / "sd")
    shutil.copy(own_photos / "photo_05.png", own_photos / "photo_03.png")
    capfd.readouterr()
    assert main(["train", *map(str, words), "--resume"]) == 1
    told = capfd.readouterr().err
    assert "changed: " in told and "photo_03.png" in told
    assert not (run / "sd").exists()


def stop_after(arguments: CueExtractorArguments, step: int) -> None:
    """Trains until a step, which is saved."""
    original = CueExtractorStage.step

    def stop(self, decoder, batch, epoch, number):
        if number == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, decoder, batch, epoch, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CueExtractorStage, "step", stop)
        train_cue_extractor(arguments)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_is_gone_is_told_in_a_line(arguments, own_photos, monkeypatch, num_workers):
    original = CueExtractorStage.start_epoch

    def remove(self, model, epoch):
        if epoch == 2:
            for photo in own_photos.iterdir():
                photo.rename(photo.with_suffix(".away"))
        return original(self, model, epoch)

    monkeypatch.setattr(CueExtractorStage, "start_epoch", remove)
    with pytest.raises(RunError, match=r"an image cannot be read any more: .*photo_\d\d\.png") as stopped:
        train_cue_extractor(replace(arguments, num_workers=num_workers))
    assert "\n" not in str(stopped.value)
    assert checkpoints(arguments) == {"checkpoint-3"}


def test_large_photos_are_trained_on(arguments, own_photos, monkeypatch):
    """Of more pixels than Pillow lets pass by default, as they are predicted."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # each photo has 7680
    assert main(["train", "--stage", "sce", "--num_workers", "1", *map(str, words_of(arguments))]) == 0


def words_of(arguments: CueExtractorArguments) -> list[object]:
    names = ("output_dir", "backbone", "size", "batch_size", "scale_stride", "decoder_channels")
    words = [word for name in names for word in (f"--{name}", getattr(arguments, name))]
    return [*words, "--images", *arguments.images, "--scale_steps", "1", "--num_epochs", "1"]


def test_a_library_call_leaves_pillows_limit_alone(arguments, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    train_cue_extractor(replace(arguments, num_epochs=1))
    assert Image.MAX_IMAGE_PIXELS == 100_000


# --- Folders and processes ------------------------------------------------------------------------------------------


def damage(checkpoint: Path) -> None:
    """Changes a byte in the middle of the weights, which their format does not notice."""
    file = checkpoint / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(arguments, capsys):
    expected = load_file(train_cue_extractor(replace(arguments, output_dir=f"{arguments.output_dir}-whole")) / WEIGHTS)
    stop_after(arguments, 4)
    damage(Path(arguments.output_dir) / "checkpoint-4")
    actual = load_file(train_cue_extractor(replace(arguments, resume=True)) / WEIGHTS)
    told = capsys.readouterr().out
    assert "checkpoint-4: the checkpoint cannot be read (model.safetensors is not what was written)" in told
    assert "Resuming after step 3 of 6" in told
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_a_run_without_a_whole_checkpoint_is_told_in_a_line(arguments):
    stop_after(arguments, 2)
    file = Path(arguments.output_dir) / "checkpoint-2" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"checkpoint-2: .*cannot be read, and there is none before") as refusal:
        train_cue_extractor(replace(arguments, resume=True))
    assert "\n" not in str(refusal.value)
    shutil.rmtree(file.parent)  # as the message says
    assert train_cue_extractor(replace(arguments, resume=True)).is_dir()


FULL_DISK = """
import resource, sys
from hf_usod.cli import main
from hf_usod.training.cue_extractor import CueExtractorStage

step = CueExtractorStage.step

def limited(self, decoder, batch, epoch, number):
    if number == 3:  # from here on no file can be longer than a page
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    return step(self, decoder, batch, epoch, number)

CueExtractorStage.step = limited
sys.exit(main(["train", "--stage", "sce", *sys.argv[1:]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a Unix's")
def test_a_disk_that_is_full_is_told_in_a_line_and_the_last_checkpoint_stays(arguments):
    words = [str(word) for word in words_of(replace(arguments, save_every=4))]
    words[words.index("--num_epochs") + 1] = "2"
    full = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *words, "--save_every", "4"], capture_output=True, text=True
    )
    assert full.returncode == 1
    told = full.stderr.strip().splitlines()[-1]
    assert "Traceback" not in full.stderr
    assert "checkpoint-4: the checkpoint cannot be written" in told and "make room, and pass --resume" in told
    assert {path.name for path in Path(arguments.output_dir).glob("checkpoint-*")} == {"checkpoint-3"}
    assert main(["train", "--stage", "sce", *words, "--save_every", "4", "--resume"]) == 0


@pytest.mark.parametrize("file", ["arguments.json", "images.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"null"])
def test_a_damaged_file_of_a_run_is_told_in_a_line(arguments, file, content):
    stop_after(arguments, 4)
    (Path(arguments.output_dir) / file).write_bytes(content)
    with pytest.raises(RunError, match=rf"{file}: .*begin anew") as refusal:
        train_cue_extractor(replace(arguments, resume=True))
    assert "\n" not in str(refusal.value)


HOLD = """
import sys, time
from pathlib import Path
from hf_usod.training.locks import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_train_in_one_folder(arguments, tmp_path):
    run = Path(arguments.output_dir)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"locked\n"
    try:
        with pytest.raises(RunError, match=rf"another process is training there .process {holder.pid} on "):
            train_cue_extractor(arguments)
        assert [path.name for path in run.iterdir()] == [".lock"]  # what the other has told is as it was
    finally:
        holder.communicate()
    with lock_folder(tmp_path / "other"):
        assert train_cue_extractor(replace(arguments, num_epochs=1)).is_dir()


def test_processes_that_do_not_find_each_other_are_refused(arguments, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="2 processes were started, but Accelerate sees one"):
        train_cue_extractor(arguments)


@pytest.mark.slow
def test_torchrun_makes_one_run_of_two_processes(arguments):
    environment = {name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [str(word) for word in words_of(arguments)]
    told = subprocess.run(
        [*torchrun, str(TRAIN_SCRIPT), "--stage", "sce", *words],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "2 x cpu" in told.stdout
    assert (Path(arguments.output_dir) / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_two_processes_run_all_stages(recipe, own_photos, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = ["--recipe", recipe, "--images", own_photos, "--output_dir", tmp_path / "run", "--refine", "none"]
    subprocess.run([*torchrun, str(TRAIN_SCRIPT), *map(str, words)], check=True)
    assert len(list((tmp_path / "run" / "labels").glob("*.png"))) == 13
    assert (tmp_path / "run" / "sd" / "model" / "model.safetensors").is_file()


# --- Steps ----------------------------------------------------------------------------------------------------------


def test_gradients_are_accumulated(arguments, monkeypatch):
    """Two steps of two images an update are one of four: the same weights, but for rounding."""
    monkeypatch.setattr(CueExtractorStage, "step", _plain_step)
    whole = train_cue_extractor(replace(arguments, num_epochs=1))
    halves = replace(arguments, output_dir=f"{arguments.output_dir}-halves", batch_size=2, num_epochs=1)
    halves = train_cue_extractor(replace(halves, gradient_accumulation_steps=2))
    actual, expected = (load_file(folder / "model.safetensors") for folder in (halves, whole))
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-3, atol=1e-4, msg=name)


def _plain_step(self, decoder, batch, epoch, step):
    """An objective that is a mean over images, with batch norms that do not look at the others."""
    decoder.eval()
    saliency = self.saliency(decoder, batch["pixel_values"])
    loss = (saliency - 0.3).square().mean()
    return loop.StepOutput(loss, {"loss_term": loss}, saliency.detach())


def test_what_accelerate_is_told_is_heeded(arguments, monkeypatch):
    updates = []
    original = Accelerator.no_sync
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    monkeypatch.setattr(Accelerator, "no_sync", lambda self, model: updates.append(0) or original(self, model))
    train_cue_extractor(replace(arguments, num_epochs=1))
    assert len(updates) == 2  # of three steps, the last is an update
    stored = json.loads((Path(arguments.output_dir) / "arguments.json").read_text())
    assert stored["gradient_accumulation_steps"] == 3


def test_a_run_resumes_between_accumulated_steps_to_the_same_weights(arguments):
    arguments = replace(arguments, gradient_accumulation_steps=2, max_steps=5)
    whole = train_cue_extractor(replace(arguments, output_dir=f"{arguments.output_dir}-whole"))
    stop_after(arguments, 4)  # in the middle of an epoch
    actual = load_file(train_cue_extractor(replace(arguments, resume=True)) / "model.safetensors")
    expected = load_file(whole / "model.safetensors")
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_a_run_ends_after_max_steps(arguments):
    train_cue_extractor(replace(arguments, max_steps=4))
    assert checkpoints(arguments) == {"checkpoint-4"}
    assert len(list((Path(arguments.output_dir) / "previews").iterdir())) == 2


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("max_steps", [None, 1, 5, 6, 7])
def test_schedules_count_what_they_do(arguments, accumulation, max_steps):
    schedule = Schedule.of(replace(arguments, num_epochs=3, max_steps=max_steps), 13, 1, accumulation)
    assert schedule.num_steps == min(9, max_steps or 9)
    steps = range(schedule.num_steps)
    assert sum(schedule.is_update(step) for step in steps) == schedule.num_updates
    assert schedule.is_update(schedule.num_steps - 1)
    assert list(schedule.epochs(0)) == sorted({step // 3 + 1 for step in steps})
    assert list(schedule.epochs(schedule.num_steps)) == []


def test_faults_are_the_users_to_mend():
    assert all(issubclass(kind, UsodError) for kind in (PlanError, RunError, DataError))
