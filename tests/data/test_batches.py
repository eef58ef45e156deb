"""Reading ahead, running and writing behind: order, faults, memory, and a clean stop."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
import torch
from PIL import Image
from torch import nn

from hf_usod.data.batches import BYTES_A_PIXEL, Done, lanes_of, picture_bytes, through
from hf_usod.errors import DataError


def square(items, inputs):
    return [number * number for number in inputs]


def outcomes(results):
    return [(each.item, each.result if isinstance(each, Done) else (str(each.error), each.writing)) for each in results]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
@pytest.mark.parametrize("pool", [None, 1, 4])
def test_order_is_kept_whatever_takes_long(batch_size, pool):
    def read(number):
        time.sleep(0.002 * (number % 3))
        return number

    def write(number, result):
        time.sleep(0.002 * (number % 4))
        return -result

    with ThreadPoolExecutor(pool or 1) as writers:
        results = through(
            range(13), read, square, write, batch_size=batch_size, writers=writers if pool else None, behind=5
        )
        assert outcomes(results) == [(number, -number * number) for number in range(13)]


def test_batches_are_of_successive_items():
    batches = []

    def run(items, inputs):
        batches.append(items)
        return inputs

    list(through("abcdefgh", str, run, batch_size=3))
    assert batches == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]


@pytest.mark.parametrize("fault", [OSError, ValueError, DataError])
def test_faults_are_values_in_their_place(fault):
    def read(number):
        if number in (0, 4, 5):
            raise fault(f"read {number}")
        return number

    def write(number, result):
        if number == 2:
            raise fault("write 2")
        return result

    expected = {0: ("read 0", False), 1: 1, 2: ("write 2", True), 3: 9, 4: ("read 4", False), 5: ("read 5", False)}
    for size in (1, 2, 6):
        assert outcomes(through(range(6), read, square, write, batch_size=size)) == list(expected.items())


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_memory_that_does_not_suffice_for_an_item_is_a_fault_of_that_item(error):
    def read(number):
        if number == 1:
            raise error
        return number

    def write(number, result):
        if number == 2:
            raise error
        return result

    told = "memory does not suffice for it"
    expected = [(0, 0), (1, (told, False)), (2, (told, True)), (3, 9)]
    assert outcomes(through(range(4), read, square, write, batch_size=2)) == expected


def test_an_error_of_the_program_is_no_fault_of_an_item():
    def write(number, result):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(through(range(4), int, square, write))


def test_a_link_may_hold_results_back_and_replace_them():
    def link(stream):
        held = list(stream)  # more than memory is thought to hold
        return ((item, result + 100) for item, result in held)

    def read(number):
        if number == 3:
            raise ValueError("bad")
        return number

    made = through(range(6), read, square, lambda _, r: r, batch_size=2, link=link, cost=lambda _: 10, max_bytes=20)
    assert outcomes(made) == [(0, 100), (1, 101), (2, 104), (3, ("bad", False)), (4, 116), (5, 125)]


@pytest.mark.parametrize("write_seconds", [0, 0.01])
def test_memory_is_bounded_by_what_items_take(write_seconds):
    held, most, lock = 0, 0, threading.Lock()

    def take(number):
        nonlocal held, most
        with lock:
            held += number
            most = max(most, held)
        return number

    def write(number, result):
        nonlocal held
        time.sleep(write_seconds)
        with lock:
            held -= number
        return result

    sizes = [30, 60, 50, 10, 10, 10, 250, 20, 90, 90, 5, 5]
    made = through(sizes, take, square, write, batch_size=4, cost=lambda size: size, max_bytes=100)
    assert [each.item for each in made] == sizes
    assert most == 250  # which is more than there should be, and went alone


def test_what_is_read_ahead_is_no_more_than_a_batch():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = through(items(), int, square, batch_size=4)
    next(results)
    assert len(taken) <= 9
    results.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_finishes_what_was_begun_and_drops_the_rest(error):
    begun, finished = [], []

    def run(items, inputs):
        if 6 in items:
            raise error
        return inputs

    def write(number, result):
        begun.append(number)
        time.sleep(0.02)
        finished.append(number)

    threads = threading.active_count()
    with pytest.raises(error):
        list(through(range(100), int, run, write, batch_size=2))
    assert begun and set(begun) == set(finished) <= set(range(6))
    assert threading.active_count() == threads


def test_a_consumer_that_leaves_ends_it():
    finished = []
    results = through(range(100), int, square, lambda number, _: finished.append(number), batch_size=2)
    next(results)
    threads = threading.active_count()
    results.close()
    assert len(finished) < 20 and threading.active_count() <= threads


def test_results_and_items_must_match():
    with pytest.raises(ValueError, match="shorter"):
        list(through(range(4), int, lambda items, inputs: inputs[:1], batch_size=2))


def test_the_bytes_of_a_picture_are_told_by_its_header(tmp_path):
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    assert picture_bytes(tmp_path / "a.png") == 40 * 30 * BYTES_A_PIXEL
    assert picture_bytes(tmp_path / "b.png") == picture_bytes(tmp_path / "none.png") == 0


def test_a_result_may_be_why_there_is_none():
    def run(items, inputs):
        return [DataError(f"no {number}") if number % 3 == 1 else number for number in inputs]

    def link(results):
        pairs = list(results)
        assert pairs == [(number, number) for number in (0, 2, 3, 5, 6)]
        return pairs

    results = through(range(7), int, run, batch_size=2, cost=lambda _: 1, max_bytes=100, link=link)
    assert sorted(outcomes(results)) == [
        (number, (f"no {number}", False) if number % 3 == 1 else number) for number in range(7)
    ]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield 6
    torch.set_num_threads(before)


def test_lanes_run_side_by_side_with_their_share_of_the_threads(threads):
    together, seen = threading.Barrier(3, timeout=10), []

    def run(items, inputs):
        if len(seen) < 3:  # the first three must be here at a time
            seen.append((threading.current_thread(), torch.get_num_threads()))
            together.wait()
        return [-number for number in inputs]

    made = through(range(12), int, run, batch_size=6, lanes=3)
    assert outcomes(made) == [(number, -number) for number in range(12)]
    assert len({thread for thread, _ in seen}) == 3 and {count for _, count in seen} == {2}
    assert torch.get_num_threads() == threads
    fresh = []
    (newcomer := threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))).start()
    newcomer.join()
    assert fresh == [threads]


@pytest.mark.parametrize("lanes", [1, 3])
def test_lanes_work_for_whom_the_caller_works(lanes):
    """Gradio, for one, tells by a context variable whose progress is reported."""
    user = ContextVar("user")
    user.set("me")
    made = through(range(6), int, lambda items, inputs: [user.get(None)] * len(items), batch_size=3, lanes=lanes)
    assert [done.result for done in made] == ["me"] * 6


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_lanes_keep_order_faults_and_memory(lanes):
    held, most = set(), []

    def read(number):
        if number % 5 == 3:
            raise DataError(f"read {number}")
        held.add(number)
        most.append(len(held))
        return number

    def run(items, inputs):
        time.sleep(0.002 * (items[0] % 3))
        return [DataError("none") if number == 6 else -number for number in inputs]

    def write(number, result):
        held.discard(number)
        return result

    made = through(range(20), read, run, write, batch_size=4, lanes=lanes, cost=lambda _: 10, max_bytes=50)
    special = {6: ("none", False)} | {number: (f"read {number}", False) for number in (3, 8, 13, 18)}
    assert outcomes(made) == [(number, special.get(number, -number)) for number in range(20)]
    assert max(most) <= 6  # 50 bytes, and 6, which has no result


def test_lanes_end_with_what_fails(threads):
    def run(items, inputs):
        if 4 in items:
            raise RuntimeError("of the program")
        return inputs

    with pytest.raises(RuntimeError, match="of the program"):
        list(through(range(1000), int, run, batch_size=2, lanes=2))
    results = through(range(1000), int, lambda items, inputs: inputs, batch_size=2, lanes=2)
    next(results)
    results.close()
    assert torch.get_num_threads() == threads


def test_a_cpu_has_lanes(threads):
    model = nn.Linear(1, 1)
    assert lanes_of(model, 4) == (4, 4) and lanes_of(model, 100) == (6, 6) and lanes_of(model, 1) == (1, 1)
    assert lanes_of(model.to("meta"), 8) == (1, 8)
    assert lanes_of(nn.Identity(), 8) == (1, 8)
