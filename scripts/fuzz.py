"""Reads many damaged pictures as the models do, in processes that may die or hang: `python scripts/fuzz.py`.

Writes results/fuzz.json: how many were read at the size they have, how many were refused in an error that names the
file, and everything else by its kind (another error, a crash, a timeout), with what makes it again. `--seconds` and
`--resume` do it in pieces.
"""

import argparse
import json
import multiprocessing
import platform
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fuzz")]

from mutations import mutate, seeds  # noqa: E402

from hf_usod.cli import exit_status  # noqa: E402
from hf_usod.files import read_json, write_json  # noqa: E402

TIMEOUT = 20  # seconds a picture


def damaged(number: int) -> tuple[str, bytes]:
    """The name and content of one of the pictures, always the same."""
    files = seeds()
    name = sorted(files)[number % len(files)]
    return name, mutate(files[name], np.random.default_rng([7, number]))


def outcome(path: Path) -> str:
    """What becomes of a picture: "read", "refused", or what should not happen."""
    from hf_usod.models.image_processing_usod import UsodImageProcessor
    from hf_usod.models.reading_usod import read_photo

    processor = UsodImageProcessor(size={"height": 32, "width": 32})
    try:
        photo = read_photo(path)
        pixels = processor(str(path), return_tensors="pt")["pixel_values"]
    except (ValueError, OSError) as error:
        return "refused" if path.name in str(error) else f"an error without the file's name: {type(error).__name__}"
    except Exception as error:
        return f"another error: {type(error).__name__}"
    right = photo.mode in ("RGB", "RGBA") and pixels.shape == (1, 3, 32, 32) and bool(pixels.isfinite().all())
    return "read" if right else f"read wrong: {photo.mode} {tuple(pixels.shape)}"


def work(connection, folder: str) -> None:
    """Answers the numbers that come with their pictures' outcomes."""
    from PIL import Image

    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = 20_000_000  # a damaged header may ask for any number of them
    while (number := connection.recv()) is not None:
        name, content = damaged(number)
        path = Path(folder) / f"{number}-{name}"
        path.write_bytes(content)
        connection.send(outcome(path))
        path.unlink()


class Worker:
    """A process that reads pictures, started anew when one ends it or takes too long."""

    def __init__(self, folder: str):
        self.context, self.folder = multiprocessing.get_context("spawn"), folder
        self.start()

    def start(self) -> None:
        self.connection, other = self.context.Pipe()
        self.process = self.context.Process(target=work, args=(other, self.folder), daemon=True)
        self.process.start()
        other.close()
        self.fresh = True

    def ask(self, number: int) -> str:
        self.connection.send(number)
        try:
            if self.connection.poll(120 if self.fresh else TIMEOUT):  # a new process imports torch first
                answer = self.connection.recv()
                self.fresh = False
                return answer
            result = f"no answer in {TIMEOUT} s"
        except EOFError:
            self.process.join()
            result = f"crash: exit status {self.process.exitcode}"
        self.process.kill()
        self.start()
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20_000, help="pictures (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first, to make one again")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which to end early")
    parser.add_argument("--resume", action="store_true", help="go on after the pictures of --output")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "fuzz.json")
    args = parser.parse_args()
    before: dict[str, Any] = read_json(args.output) if args.resume else {"pictures": 0, "seconds": 0}
    counts: Counter[str] = Counter(before.get("outcomes"))
    by_file = {name: Counter(found) for name, found in before.get("by_file", {}).items()}
    examples: dict[str, list[int]] = before.get("numbers_of_the_unexpected", {})
    begun = time.perf_counter()
    names = sorted(seeds())
    with tempfile.TemporaryDirectory(prefix="hf-usod-fuzz-") as folder:
        worker = Worker(folder)
        for number in range(args.first + before["pictures"], args.first + args.number):
            if time.perf_counter() - begun > args.seconds:
                break
            result = worker.ask(number)
            counts[result] += 1
            by_file.setdefault(names[number % len(names)], Counter())[result] += 1
            if result not in ("read", "refused") and len(examples.setdefault(result, [])) < 5:
                examples[result].append(number)
        worker.process.kill()
    report = {
        "pictures": counts.total(),
        "outcomes": dict(counts.most_common()),
        "by_file": {name: dict(found.most_common()) for name, found in sorted(by_file.items())},
        "numbers_of_the_unexpected": examples,
        "seconds": round(before["seconds"] + time.perf_counter() - begun, 1),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
    }
    write_json(args.output, report)
    print(json.dumps({name: report[name] for name in ("pictures", "outcomes", "numbers_of_the_unexpected")}, indent=2))


if __name__ == "__main__":
    sys.exit(exit_status("fuzz.py", main))
