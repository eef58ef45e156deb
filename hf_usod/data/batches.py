"""One way for many things to go through a model: read ahead, run in batches, write behind."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import nn

from ..errors import DataError, UsodError, is_out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BYTES = 2**28  # of decoded pictures, with what is made of them, that are held at a time
BYTES_A_PIXEL = 8  # a photo and its map
_FAULTS = (UsodError, ValueError, OSError)  # of a file, not of the program


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item, and what became of it."""

    item: Item
    result: Result


@dataclass(frozen=True)
class Failed(Generic[Item]):
    """An item that could not be read or has no result, or whose result could not be written, and why."""

    item: Item
    error: Exception
    writing: bool = False


@dataclass(eq=False)
class _Entry:
    place: int
    item: Any
    cost: int
    future: Future


def _fault(error: Exception) -> Exception:
    """What to tell of an error, if it is a file's and not the program's, which is raised."""
    if is_out_of_memory(error):
        return DataError("memory does not suffice for it")
    if isinstance(error, _FAULTS):
        return error
    raise error


def default_num_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def picture_bytes(path: str | Path) -> int:
    """What a photo and its map will take, by its header; 0 for a file that cannot be read, which reading will say."""
    try:
        with Image.open(path) as image:
            return image.width * image.height * BYTES_A_PIXEL
    except Exception:  # Pillow's readers raise almost anything on damaged files
        return 0


def lanes_of(model: nn.Module, batch_size: int) -> tuple[int, int]:
    """In how many threads a model is best run side by side, and how many images to run at a time in all of them.

    On a CPU it is an image in each of PyTorch's threads: half again as fast as all threads on every operation of the
    same images, and in less memory. Accelerators and other runtimes share their work out themselves.

    Args:
        model: in evaluation mode; of another runtime, if it has no parameters.
        batch_size: images at most.
    """
    weight = next(model.parameters(), None)
    lanes = min(torch.get_num_threads(), batch_size) if weight is not None and weight.device.type == "cpu" else 1
    return lanes, lanes if lanes > 1 else batch_size


def _compute_on(threads: int) -> None:
    """How many threads PyTorch takes for what the calling thread computes."""
    torch.get_num_threads()  # once asked, a thread no longer takes what others set
    torch.set_num_threads(threads)


def open_lanes(count: int) -> Executor:
    """So many threads that share PyTorch's among them: each computes on its share alone."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=_compute_on, initargs=(max(1, threads // count),))
    started = Barrier(count + 1)
    for _ in range(count):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(threads)  # threads that are yet to come take what was set last, in whatever thread
    return pool


def through(
    items: Iterable[Item],
    read: Callable[[Item], Any],
    run: Callable[[list[Item], list[Any]], Iterable[Any]],
    write: Callable[[Item, Any], Result] | None = None,
    *,
    batch_size: int = 1,
    lanes: int = 1,
    cost: Callable[[Item], int] = lambda _: 0,
    max_bytes: int = MAX_BYTES,
    link: Callable[[Iterator[tuple[Item, Any]]], Iterable[tuple[Item, Any]]] = iter,
    writers: Executor | None = None,
    behind: int | None = None,
) -> Iterator[Done[Item, Result] | Failed[Item]]:
    """Takes items through a model: the next batch is read, and results are written, while one is run.

    Ends cleanly whether it is exhausted, closed, interrupted, or `run` raises: what was begun is finished, so that
    nothing is half-written, and what was not begun is dropped.

    Args:
        items: taken as they are needed, in the calling thread.
        read: makes an item what `run` takes, in other threads.
        run: makes of a batch, the items and what was read of each, one result each. A result that is a `UsodError` says
            why there is none.
        write: disposes of an item's result, in other threads; without it `Done.result` is what `run` made.
        batch_size: items that are run at a time. Where memory allows, as many are read ahead.
        lanes: threads in which parts of a batch are run side by side, each with its share of PyTorch's threads and with
            the calling thread's context variables, which is how what `run` calls knows whom it works for.
        cost: bytes that an item takes from being read until it is written.
        max_bytes: by `cost`; an item that takes more goes alone.
        link: replaces the results in their order, perhaps later than they come (see `agree`).
        writers: what `write` is done in, if it is not to be the readers' threads; it is left open.
        behind: items that wait for `write` at most (by default `batch_size`).

    Yields:
        In the order of the items, `Done`, or `Failed` where `read` or `write` raised a `UsodError`, `ValueError` or
        `OSError`, or memory did not suffice for them, or where `run` made a `UsodError` of it. With `link`, items that
        fail come before those that it holds back.
    """
    with ExitStack() as pools:
        runners = pools.enter_context(open_lanes(lanes)) if lanes > 1 else None
        readers = pools.enter_context(ThreadPoolExecutor())
        engine = _Engine(iter(items), read, run, batch_size, lanes, cost, max_bytes, readers, runners)
        try:
            for item, result in link(engine.results()):
                if write is None:
                    engine.finish(item, result)
                else:
                    engine.submit(writers or readers, write, item, result)
                    engine.settle(batch_size if behind is None else behind)
                yield from engine.in_order()
            engine.settle(0)
            yield from engine.in_order()
        finally:
            engine.cancel()


class _Engine:
    """The state of one `through`: what is being read, run and written, and what it takes."""

    def __init__(
        self,
        source,
        read,
        run,
        batch_size: int,
        lanes: int,
        cost,
        max_bytes: int,
        readers: Executor,
        runners: Executor | None,
    ):
        self.source, self.read, self.run, self.cost = enumerate(source), read, run, cost
        self.readers, self.runners, self.max_bytes = readers, runners, max_bytes
        self.batch_size, self.share = batch_size, -(-batch_size // lanes)  # of a lane
        self.begun = lanes + 1 if runners else 1  # batches at most: no lane waits while another is done
        self.used = 0  # bytes
        self.waiting: tuple[int, Any, int] | None = None  # for memory: an item's place, the item, what it takes
        self.reading: deque[_Entry] = deque()
        self.running: deque[_Entry] = deque()  # read, and not yet with `write`
        self.writing: deque[_Entry] = deque()
        self.outcomes: dict[int, Done | Failed] = {}
        self.place = 0  # of the next outcome

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Items with what `run` made of them, but for those that cannot be read."""
        begun: deque[tuple[list, Callable[[], Iterable]]] = deque()
        while True:
            while len(begun) < self.begun and (batch := self._read_batch(at_least=0 if begun else 1)):
                begun.append((batch[0], self._begin(*batch)))
            if not begun:
                return
            items, results = begun.popleft()
            for item, result in zip(items, results(), strict=True):
                if isinstance(result, UsodError):
                    self._conclude(item, Failed(item, result))
                else:
                    yield item, result

    def _begin(self, items: list, inputs: list) -> Callable[[], Iterable]:
        """Has a batch run; what gives its results, for which it may wait."""
        if self.runners is None:
            return partial(self.run, items, inputs)
        return self.runners.submit(copy_context().run, lambda: list(self.run(items, inputs))).result

    def _read_batch(self, at_least: int) -> tuple[list, list] | None:
        """The next items that can be read, with what was read of them; None if there are no more, or memory does not
        allow for more than `at_least`."""
        items: list = []
        inputs: list = []
        while not items:
            self._read_ahead(at_least)
            batch = [self.reading.popleft() for _ in range(min(self.share, len(self.reading)))]
            if not batch:
                return None
            for entry in batch:
                try:
                    inputs.append(entry.future.result())
                    items.append(entry.item)
                    self.running.append(entry)
                except Exception as error:
                    self.outcomes[entry.place] = Failed(entry.item, _fault(error))
                    self.used -= entry.cost
            self._read_ahead()
        return items, inputs

    def _read_ahead(self, at_least: int = 0) -> None:
        while len(self.reading) < self.batch_size and self._pull():
            assert self.waiting is not None
            place, item, cost = self.waiting
            while self.used + cost > self.max_bytes and self.writing:
                self.settle(len(self.writing) - 1)
            if self.used and self.used + cost > self.max_bytes and len(self.reading) >= at_least:
                return
            self.used += cost
            self.reading.append(_Entry(place, item, cost, self.readers.submit(self.read, item)))
            self.waiting = None

    def _pull(self) -> bool:
        if self.waiting is None:
            for place, item in self.source:
                self.waiting = (place, item, self.cost(item))
                break
        return self.waiting is not None

    def _take(self, item) -> _Entry:
        entry = next(entry for entry in self.running if entry.item is item)
        self.running.remove(entry)
        return entry

    def submit(self, pool: Executor, write, item, result) -> None:
        entry = self._take(item)
        self.writing.append(_Entry(entry.place, item, entry.cost, pool.submit(write, item, result)))

    def finish(self, item, result) -> None:
        self._conclude(item, Done(item, result))

    def _conclude(self, item, outcome: Done | Failed) -> None:
        entry = self._take(item)
        self.used -= entry.cost
        self.outcomes[entry.place] = outcome

    def settle(self, limit: int) -> None:
        """Waits until no more than `limit` items are being written."""
        while len(self.writing) > limit:
            entry = self.writing[0]
            try:
                self.outcomes[entry.place] = Done(entry.item, entry.future.result())
            except Exception as error:
                self.outcomes[entry.place] = Failed(entry.item, _fault(error), writing=True)
            self.used -= entry.cost
            self.writing.popleft()

    def in_order(self) -> Iterator[Done | Failed]:
        while self.place in self.outcomes:
            self.place += 1
            yield self.outcomes.pop(self.place - 1)

    def cancel(self) -> None:
        for entry in (*self.reading, *self.writing):
            entry.future.cancel()
        if self.runners is not None:
            self.runners.shutdown(cancel_futures=True)
