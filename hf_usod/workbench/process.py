"""The command `hf-usod adapt` as a process of its own: begun once, seen and stopped by whoever opens the page."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..adapting.arguments import AdaptArguments
from ..adapting.folder import STATE_FILE, AdaptFolder
from ..errors import RunError
from ..training.locks import LOCK_FILE

try:
    import fcntl
except ImportError:  # not a Unix: only the server that started a training knows of it
    fcntl = None  # type: ignore[assignment]

LOG_FILE = "workbench.log"
RUNNING_FILE = ".workbench"  # locked by the process that was started, from before its start to its end
COMMAND = [sys.executable, "-m", "hf_usod"]
_TRIES, _PAUSE = 5, 0.02  # as whoever looks holds a lock for a moment
_started: dict[Path, subprocess.Popen[bytes]] = {}
_one_at_a_time = threading.Lock()


def start(root: Path, images: Path, *more: str) -> bool:
    """Has the adaptation of a folder of images begin, or go on as it was begun; False if one is at work in its folder
    already.

    It outlives this process, and whoever looks after its end finds it by its lock.

    Args:
        more: further options of the command.

    Raises:
        UsodError, OSError: if the folder holds something else, or cannot be written.
    """
    with _one_at_a_time:
        if is_running(root):
            return False
        args = _begun_with(root, images)
        folder = AdaptFolder(root, args.asked, resume=True)
        if root.resolve().is_relative_to(images.resolve()):
            raise RunError(f"{root}: lies among the images. Choose a folder elsewhere.")
        if not (root / STATE_FILE).exists():
            folder.save()
        handle = os.open(root / RUNNING_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(handle):
                return False
            with open(root / LOG_FILE, "wb") as log:
                words = ["adapt", str(images), "--output", str(root), *_options(args), "--resume", *more]
                process = subprocess.Popen(
                    [*COMMAND, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                    start_new_session=True,
                    pass_fds=[handle] if fcntl else (),
                )
            os.ftruncate(handle, 0)
            os.write(handle, f"process {process.pid} on {socket.gethostname()}\n".encode())
        finally:
            os.close(handle)
        _started[root] = process
    return True


def _begun_with(root: Path, images: Path) -> AdaptArguments:
    """What an adaptation was told when it was begun, here or in a terminal; but for the images."""
    asked = AdaptFolder(root, {}, resume=True).state["asked"]
    aux = Path(asked["aux"]) if asked.get("aux") else None
    return AdaptArguments(images, root, aux, asked.get("task") == "video", seed=asked.get("seed", 0))


def _options(args: AdaptArguments) -> list[str]:
    """As the command has them."""
    aux = ["--aux", str(args.aux)] if args.aux else []
    task = ["--task", "video"] if args.video else []
    return [*aux, *task, *(["--seed", str(args.seed)] if args.seed else [])]


def _environment() -> dict[str, str]:
    """This package is found from wherever it is run."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}


def _lock(handle: int) -> bool:
    if fcntl is None:
        return True
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(_PAUSE)
    return False


def is_running(root: Path) -> bool:
    """Whether an adaptation is at work in a folder, begun here or in a terminal."""
    return _holder(root) is not None


def _holder(root: Path) -> Path | None:
    """The locked file."""
    process = _started.get(root)
    if process is not None and process.poll() is None:  # which also buries it when it has ended
        return root / RUNNING_FILE
    return next((root / name for name in (RUNNING_FILE, LOCK_FILE) if _is_locked(root / name)), None)


def _is_locked(file: Path) -> bool:
    if fcntl is None or not file.exists():
        return False
    with open(file, "rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def stop(root: Path) -> bool:
    """Asks the adaptation in a folder to save where it stands and end; False if none is at work.

    Raises:
        RunError: if it is at work on another machine, as locks hold over network file systems, and numbers of
            processes do not.
    """
    file = _holder(root)
    if file is None:
        return False
    held = re.match(r"process (\d+) on (.+)", file.read_text(encoding="utf-8", errors="replace"))
    if held is None:
        return False
    process, machine = held.groups()
    if machine != socket.gethostname():
        raise RunError(f"{root}: is worked on by process {process} on {machine}. Stop it there.")
    try:
        os.kill(int(process), signal.SIGTERM)
    except OSError:  # gone by now
        return False
    return True


def read_log(root: Path, lines: int = 30) -> list[str]:
    """The last lines of what the command has said; of bars, what they show now."""
    file = root / LOG_FILE
    if not file.exists():
        return []
    with open(file, "rb") as opened:
        opened.seek(max(0, file.stat().st_size - 200_000))
        text = opened.read().decode(errors="replace")
    shown = (line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return [line for line in shown if line][-lines:]


def find_problem(root: Path) -> str:
    """Why the last one ended, if it failed; empty otherwise, and if it was only stopped."""
    told = [line.removeprefix("hf-usod: ") for line in read_log(root) if line.startswith("hf-usod: ")]
    return told[-1] if told and not told[-1].lower().startswith("stopped") else ""
