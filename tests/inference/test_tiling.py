"""Windows over a photo, blended: nothing is left out, nothing shows where they meet, and little is held."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch

from hf_usod.inference.tiling import Blend, shares, starts


@pytest.mark.parametrize("length", [1, 7, 99, 100, 101, 175, 176, 640, 1999])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_windows_cover_a_length_and_overlap(length, overlap):
    places = starts(length, 100, overlap)
    assert places[0] == 0 and places[-1] == max(0, length - 100)
    steps = [after - before for before, after in pairwise(places)]
    assert all(0 < step <= 100 * (1 - overlap) for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1


@pytest.mark.parametrize("length, side, overlap", [(1, 5, 0.25), (5, 5, 0), (640, 100, 0.25), (333, 32, 0.5)])
def test_the_shares_of_a_pixel_are_one(length, side, overlap):
    total = torch.zeros(length)
    for place, share in zip(starts(length, side, overlap), shares(length, side, overlap), strict=True):
        assert share.min() > 0
        total[place : place + len(share)] += share
    assert (total - 1).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (40, 300), (97, 203), (200, 100)])
def test_maps_that_agree_give_themselves(size):
    whole = torch.rand(size)
    blend = Blend(torch.zeros(size), 64)
    for window in blend.windows:
        blend.add(window, window.of(whole).clone())
    assert (blend.total - whole).abs().max() < 1e-6


def test_no_seam_where_maps_disagree():
    """Of windows that are each all object or all ground, a step is no more than that of a slope over the overlap."""
    blend = Blend(torch.zeros(300, 300), 100)
    for number, window in enumerate(blend.windows):
        blend.add(window, torch.full((100, 100), float(number % 2)))
    assert blend.total.min() >= 0 and blend.total.max() <= 1 + 1e-6
    assert blend.total.max() - blend.total.min() > 0.99
    assert max(blend.total.diff(dim=dim).abs().max() for dim in (0, 1)) < 2.5 / 33  # they overlap by 33 pixels


def test_a_hundred_megapixels_take_one_map():
    pytest.importorskip("resource", reason="Windows")
    code = """
import resource, torch
from hf_usod.inference.tiling import Blend
blend = Blend(torch.zeros(10, 10), 5)
for window in blend.windows:
    blend.add(window, torch.ones(5, 5))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blend = Blend(torch.zeros(10_000, 10_000), 2_500)
for window in blend.windows:
    blend.add(window, torch.ones(2_500, 2_500))
assert (blend.total[::500, ::500] - 1).abs().max() < 1e-6
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(run.stdout) * unit < 4 * 10_000**2 + 5 * 4 * 2_500**2
