"""Several processes, on one machine and on two, compute what one does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from hf_usod.cli import main
from hf_usod.labels import LabelStore
from hf_usod.training.page import HISTORY_FILE
from hf_usod.training.whole_batch import CpuSyncBatchNorm

TRAIN_SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def detector(photos, backbone, tmp_path_factory) -> list[str]:
    """The command line of stage 2, but for its folder: nine steps in three epochs, with labels that change."""
    labels = tmp_path_factory.mktemp("labels")
    for photo in photos.iterdir():
        Image.open(photo).convert("L").point(lambda level: 255 * (level > 120)).save(labels / photo.name)
    words = ["--stage", "sd", "--images", photos, "--labels", labels, "--backbone", backbone, "--size", "64"]
    words += ["--num_epochs", "3", "--batch_size", "4", "--scale_steps", "1", "--scale_stride", "32"]
    words += ["--neck_channels", *"8888", "--fusion_channels", "8", "--context_channels", "8", "--num_workers", "0"]
    words += ["--log_every", "1", "--save_every", "2", "--num_previews", "2", "--learning_rate", "0.05"]
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def alone(detector, tmp_path_factory) -> Path:
    """Its run in one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", *detector, "--output_dir", str(run)]) == 0
    return run


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / HISTORY_FILE).read_text().splitlines()]


def assert_same(run: Path, other: Path, labels: str = "labels") -> None:
    """Weights and labels, but for rounding."""
    expected, actual = (load_file(folder / "model" / "model.safetensors") for folder in (run, other))
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-3, atol=1e-3, msg=name)
    stores = LabelStore(run / "labels"), LabelStore(other / labels)
    for index in range(len(stores[0])):
        assert abs(stores[0].latest(index) - stores[1].latest(index)).max() < 0.01


# --- One machine ----------------------------------------------------------------------------------------------------

NORMS = """
import sys
import torch
from torch import distributed, nn
from timm.layers.norm_act import BatchNormAct2d
from hf_usod.training.whole_batch import share_of_mean, synchronize_batch_norms

distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.manual_seed(0)
norms = nn.Sequential(nn.BatchNorm2d(3), BatchNormAct2d(3, act_layer=nn.ReLU6))
maps = 5 + 3 * torch.randn(6, 3, 4, 5)
part = maps[3 * rank : 3 * rank + 3].clone().requires_grad_()
synchronized = synchronize_batch_norms(norms)
output = synchronized(part)
output.square().mean().backward()
gradient = part.grad / 2  # of the mean over both
weights = {name: parameter.grad.clone() for name, parameter in synchronized.named_parameters()}
for grad in weights.values():
    distributed.all_reduce(grad)
    grad /= 2
share = share_of_mean(lambda: torch.tensor(3 + rank))
torch.save((output, gradient, weights, synchronized.state_dict(), share), f"{sys.argv[1]}/{rank}")
"""


def test_batch_norms_are_those_of_the_whole_batch(tmp_path):
    script = tmp_path / "norms.py"
    script.write_text(NORMS)
    subprocess.run([*TORCHRUN, "--standalone", "--nproc_per_node", "2", script, tmp_path], check=True, env=ENVIRONMENT)
    parts = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    torch.manual_seed(0)
    norms = nn.Sequential(nn.BatchNorm2d(3), BatchNormAct2d(3, act_layer=nn.ReLU6))
    maps = (5 + 3 * torch.randn(6, 3, 4, 5)).requires_grad_()
    output = norms(maps)
    output.square().mean().backward()
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), output)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), maps.grad, rtol=1e-4, atol=1e-6)
    for _, _, weights, state, _ in parts:
        for name, parameter in norms.named_parameters():
            torch.testing.assert_close(weights[name], parameter.grad, rtol=1e-4, atol=1e-6)
        assert state.keys() == norms.state_dict().keys()
        for name, value in norms.state_dict().items():
            torch.testing.assert_close(state[name], value)
    assert [part[4].item() for part in parts] == pytest.approx([2 * 3 / 7, 2 * 4 / 7])


def test_a_synchronized_norm_evaluates_as_the_plain_one():
    norm = BatchNormAct2d(3, act_layer=nn.ReLU6).eval()
    norm.running_mean += 1
    maps = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(CpuSyncBatchNorm(norm)(maps), norm(maps))


@pytest.mark.parametrize("more", [[], ["--gradient_checkpointing"]])
def test_two_processes_have_the_losses_weights_and_labels_of_one(detector, alone, tmp_path, more):
    run = tmp_path / "run"
    subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc_per_node", "2", TRAIN_SCRIPT, *detector, *more, "--output_dir", run],
        check=True,
        env=ENVIRONMENT,
    )
    assert losses(run) == pytest.approx(losses(alone), rel=1e-3)
    assert_same(alone, run)


def test_two_processes_that_are_asked_to_stop_save_and_go_on(detector, alone, tmp_path):
    run = tmp_path / "run"
    command = [*TORCHRUN, "--standalone", "--nproc_per_node", "2", TRAIN_SCRIPT, *detector, "--output_dir", run]
    stopped = subprocess.Popen([*command, "--save_every", "100"], env=ENVIRONMENT, start_new_session=True)
    while not (run / HISTORY_FILE).exists() or len(losses(run)) < 2:
        assert stopped.poll() is None
        time.sleep(0.01)
    os.killpg(stopped.pid, signal.SIGTERM)  # as a cluster does it: `torchrun` and both processes
    assert stopped.wait() != 0
    assert list(run.glob("checkpoint-*")) and not (run / "model").exists()
    subprocess.run([*command, "--resume"], check=True, env=ENVIRONMENT)
    assert_same(alone, run)


# --- Two machines ---------------------------------------------------------------------------------------------------


@contextmanager
def two_hosts() -> Iterator[list[list[str]]]:
    """What to put before a command to run it on either of two hosts: network namespaces, connected by a cable."""
    if not shutil.which("ip"):
        pytest.skip("there is no `ip` (iproute2)")
    names = [f"usod-{os.getpid()}-{number}" for number in range(2)]
    cable = [f"usod{os.getpid() % 100000}{letter}" for letter in "ab"]
    try:
        commands = [["netns", "add", name] for name in names]
        commands += [["link", "add", cable[0], "type", "veth", "peer", "name", cable[1]]]
        for number, name in enumerate(names):
            commands += [["link", "set", cable[number], "netns", name]]
            commands += [["-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", cable[number]]]
            commands += [["-n", name, "link", "set", device, "up"] for device in ("lo", cable[number])]
        for command in commands:
            made = subprocess.run(["ip", *command], capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"no network namespaces can be made here: {made.stderr.strip()}")
        yield [
            ["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={cable[number]}"]
            for number, name in enumerate(names)
        ]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def start_on(hosts: list[list[str]], runs: list[Path], words: list[str]) -> list[subprocess.Popen]:
    """Starts a training on hosts, each with its folder."""
    processes = []
    for number, (host, run) in enumerate(zip(hosts, runs, strict=True)):
        nodes = ["--nnodes", "2", "--node_rank", str(number), "--nproc_per_node", "1"]
        nodes += ["--master_addr", "10.77.0.1", "--master_port", "29512"]
        command = [*host, *TORCHRUN, *nodes, str(TRAIN_SCRIPT), *words, "--output_dir", str(run)]
        processes.append(subprocess.Popen(command, env=ENVIRONMENT))
    return processes


def kill_after(steps: int, run: Path, processes: list[subprocess.Popen]) -> None:
    """Kills both hosts once a run has come so far."""
    while not (run / HISTORY_FILE).exists() or len(losses(run)) < steps:
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.01)
    for process in processes:
        for worker in psutil.Process(process.pid).children(recursive=True):
            worker.kill()
        process.kill()
        process.wait()


def test_two_hosts_that_share_no_folder_each_have_all_of_the_run(detector, alone, tmp_path):
    """Also after both were killed in the second epoch, and the one that was the second goes on as the first."""
    runs = [tmp_path / "here", tmp_path / "there"]
    with two_hosts() as hosts:
        kill_after(5, runs[0], start_on(hosts, runs, detector))
        assert [(run / "model").exists() for run in runs] == [False, False]
        assert {path.name for run in runs for path in run.glob("labels*")} == {"labels"}
        finished = start_on(hosts, runs[::-1], [*detector, "--resume"])
        assert [process.wait() for process in finished] == [0, 0]
    for run in runs:
        assert_same(alone, run)


def test_two_hosts_with_a_folder_in_common_share_a_run(detector, alone, tmp_path):
    run = tmp_path / "run"
    with two_hosts() as hosts:
        assert [process.wait() for process in start_on(hosts, [run, run], detector)] == [0, 0]
    assert losses(run) == pytest.approx(losses(alone), rel=1e-3)
    assert_same(alone, run)
    assert_same(alone, run, labels="labels-1")
