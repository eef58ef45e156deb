"""One file that opens offline, escapes what it is given, stays below its size, and draws what the numbers say."""

import re

import numpy as np
import pytest
from PIL import Image

from hf_usod.html import Chart, Comparison, Comparisons, Page, Table, histogram, write_page
from hf_usod.html.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, round_step, ticks


def noise(height, width, channels=None, seed=0):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(noise(900, 1200, 3)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def page(photo, count=2, **content):
    items = [
        Comparison(f"<b>{number}</b>", noise(90, 120), noise(90, 120, seed=1), photo, {"F": number / 10})
        for number in range(count)
    ]
    wall = Comparisons("Maps & more", "default", "adapter", items)
    return Page("A <title>", walls=[wall], **content)


def test_a_page_stands_alone_and_escapes_what_it_shows(photo, tmp_path):
    tables = [Table("Scores", ["model", "F"], [["<script>alert(1)</script>", "0.5"]], marked=[0])]
    path = write_page(page(photo, tables=tables, settings={"seed": "<0>"}), tmp_path / "page.html")
    text = path.read_text()
    assert "<script>alert" not in text and "&lt;script&gt;" in text and "A &lt;title&gt;" in text
    assert "<b>1</b>" not in text and "&lt;0&gt;" in text
    assert not re.findall(r"(?:src|href)=|https?://", text)
    assert text.count("data:image/jpeg") == 2 and text.count("data:image/webp") == 4


def test_pictures_are_as_sharp_as_the_size_allows(photo, tmp_path):
    sizes = [write_page(page(photo), tmp_path / "a.html", largest).stat().st_size for largest in (10**7, 10**6)]
    assert 10**6 < sizes[0] < 10**7 and sizes[1] < 10**6
    with pytest.raises(ValueError, match="show fewer"):
        write_page(page(photo), tmp_path / "none.html", 20_000)
    assert not (tmp_path / "none.html").exists()


def test_a_wall_without_photos_shows_maps(tmp_path):
    maps = Comparisons("Maps", "a", "b", [Comparison("one", noise(5, 7), noise(5, 7))])
    text = write_page(Page("t", walls=[maps]), tmp_path / "page.html").read_text()
    assert 'data-view="map"' in text and "--photo: none" in text and "jpeg" not in text


def test_points_stand_where_their_numbers_say():
    chart = Chart("t", "x", {"a": [(0, 0), (5, 0.5), (10, 1)]})
    assert chart.place((0, 0)) == (LEFT, HEIGHT - BOTTOM) and chart.place((10, 1)) == (WIDTH - RIGHT, TOP)
    middle = chart.place((5, 0.5))
    assert middle == ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)
    assert chart.drawn[0].path == f"M{LEFT}.0 {HEIGHT - BOTTOM}.0L{middle[0]} {middle[1]}L{WIDTH - RIGHT}.0 {TOP}.0"


def test_what_is_not_finite_leaves_a_gap():
    chart = Chart("t", "x", {"a": [(0, 0), (1, float("nan")), (2, 1), (3, 1)]})
    assert re.findall("[ML]", chart.drawn[0].path) == ["M", "M", "L"]
    assert Chart("t", "x", {"a": []}).drawn[0].path == "" and Chart("t", "x", {"a": [(1, 1)]}).y_ticks


@pytest.mark.parametrize("extent, step", [(1, 0.2), (0.9, 0.2), (7, 2), (100, 20), (0.034, 0.01), (0, 1)])
def test_steps_are_round(extent, step):
    assert round_step(extent) == pytest.approx(step)


def test_ticks_are_written_with_the_digits_that_they_need():
    assert [text for _, text in ticks(0, 1)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [text for _, text in ticks(0, 40)] == ["0", "10", "20", "30", "40"]


def test_a_histogram_shows_shares():
    points = histogram("t", "x", {"a": [0, 0.01, 0.5, 1, 2]}, 0, 1).lines["a"]
    assert points[:2] == [(0, 0.4), (0.05, 0.4)] and points[-1] == (1, 0.4)
    assert sum(y for _, y in points[::2]) == pytest.approx(1)
