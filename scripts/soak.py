"""Does the same thing thousands of times in one process, and watches its memory.

    python scripts/soak.py predict            10,000 photos through `predict`
    python scripts/soak.py space              1,000 requests of four clients to the app

Each writes its part of results/soak.json: how many, how long, what failed, and resident memory over the run in MiB.
Memory counts as flat if its median in the last tenth is at most 5% above that in the second (the first is warming up).
"""

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_usod.cli import exit_status
from hf_usod.commands.common import positive
from hf_usod.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "space" / "examples"
FLAT = 1.05
START_SECONDS = 600
SAMPLES = 1000  # readings of memory that are kept, at most


class Memory:
    """Readings of a process's resident memory in MiB, once a second."""

    def __init__(self, pid: int):
        self.pid = pid
        self.readings: list[float] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.done.wait(1):
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            self.readings.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def __enter__(self) -> "Memory":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()

    def report(self) -> dict[str, Any]:
        tenth = max(1, len(self.readings) // 10)
        early = statistics.median(self.readings[tenth : 2 * tenth] or self.readings)
        late = statistics.median(self.readings[-tenth:])
        kept = self.readings[:: -(-len(self.readings) // SAMPLES)]
        return {
            "memory_second_tenth": round(early),
            "memory_last_tenth": round(late),
            "memory_peak": round(max(self.readings)),
            "flat": late <= FLAT * early,
            "memory": [round(reading) for reading in kept],
        }


def write_photos(folder: Path, count: int) -> None:
    """JPEGs of 160 to 400 pixels a side, cut out of the examples; always the same."""
    examples = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(EXAMPLES.glob("*.jpg"))]
    for number in range(count):
        random = np.random.default_rng(number)
        example = examples[number % len(examples)]
        whole = example.shape[:2]
        height, width = (int(random.integers(160, min(400, side) + 1)) for side in whole)
        top, left = int(random.integers(0, whole[0] - height + 1)), int(random.integers(0, whole[1] - width + 1))
        cut = Image.fromarray(example[top : top + height, left : left + width])
        cut.save(folder / f"{number:05d}.jpg", quality=90)


def soak_predict(args: argparse.Namespace) -> dict[str, Any]:
    from hf_usod.inference import Rendering, predict
    from hf_usod.loading import load_pipeline

    detect = load_pipeline()
    with tempfile.TemporaryDirectory() as folder:
        photos, output = Path(folder) / "photos", Path(folder) / "out"
        photos.mkdir()
        write_photos(photos, args.count)
        start = time.perf_counter()
        with Memory(os.getpid()) as memory:
            report = predict(detect, [photos], output, Rendering(("cutout",)), progress=False)
        seconds = time.perf_counter() - start
        sizes = sum(Image.open(path).size != Image.open(output / f"{path.stem}.png").size for path in photos.iterdir())
    return {
        "photos": report.done,
        "failed": len(report.failed),
        "of_another_size": sizes,
        "seconds": round(seconds),
        **memory.report(),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, app: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(1)
    sys.exit("soak.py: the app did not start.")


def ask(url: str, photos: list[Path], numbers: range) -> Counter[str]:
    """One client's requests; how they ended."""
    from gradio_client import Client, handle_file

    client, ended = Client(url, verbose=False, download_files=False), Counter[str]()
    for number in numbers:
        try:
            client.predict(handle_file(photos[number % len(photos)]), api_name="/predict")
            ended["answered"] += 1
        except Exception as error:  # whatever it is, it is counted
            ended[type(error).__name__] += 1
    return ended


def soak_space(args: argparse.Namespace) -> dict[str, Any]:
    port = free_port()
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), 20)
        photos = sorted(Path(folder).iterdir())
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT / "space", env=os.environ | settings)
        try:
            wait_for(port, app)
            start = time.perf_counter()
            share = [range(client, args.count, args.clients) for client in range(args.clients)]
            with Memory(app.pid) as memory, ThreadPoolExecutor(args.clients) as pool:
                ended = sum(pool.map(lambda mine: ask(f"http://127.0.0.1:{port}", photos, mine), share), Counter())
            seconds = time.perf_counter() - start
        finally:
            app.terminate()
            app.wait(30)
    return {"requests": dict(ended), "clients": args.clients, "seconds": round(seconds), **memory.report()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, count, run in (("predict", 10_000, soak_predict), ("space", 1_000, soak_space)):
        command = commands.add_parser(name)
        command.add_argument("--count", type=positive, default=count)
        command.add_argument("--output", type=Path, default=ROOT / "results" / "soak.json")
        command.set_defaults(run=run)
    command.add_argument("--clients", type=positive, default=4)
    args = parser.parse_args()
    entry = {"python": platform.python_version(), "cores": os.cpu_count(), **args.run(args)}
    results = read_json(args.output) if args.output.exists() else {}
    write_json(args.output, results | {args.name: entry})
    print({name: value for name, value in entry.items() if name != "memory"})


if __name__ == "__main__":
    sys.exit(exit_status("soak.py", main))
