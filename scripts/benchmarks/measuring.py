"""Seconds and memory of what runs in a process of its own."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import wraps
from multiprocessing import get_context
from typing import Any


class Stopwatch:
    """Seconds spent in named parts."""

    def __init__(self):
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def timed(self, name: str, function: Callable) -> Callable:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return wrapper


def peak_memory() -> float:
    """The most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def convolve_plainly() -> None:
    """From here on this process resizes maps before it convolves them, and not the other way round."""
    from hf_usod.models.resized_convolution import ResizedConv

    setattr(ResizedConv, "_is_saved", lambda *_: False)  # noqa: B010 (a method)


def alone(function: Callable, *args: Any) -> Any:
    """Calls a function in a new process.

    A process starts with the peak memory of its parent on Linux, so that this one must not do any work itself.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
