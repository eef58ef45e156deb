"""The page in a real Chromium, from a file: the slider shows more of the right map, views change, nothing is loaded."""

import io

import numpy as np
import pytest
from PIL import Image

from hf_usod.html import Comparison, Comparisons, Page, write_page


@pytest.fixture
def shown(browser, tmp_path):
    """The page of a red photo, of which the left map takes nothing and the right one all; what it asks for and says."""
    Image.new("RGB", (120, 80), (250, 10, 10)).save(tmp_path / "red.png")
    nothing, everything = np.zeros((80, 120), np.uint8), np.full((80, 120), 255, np.uint8)
    items = [
        Comparison(name, nothing, everything, tmp_path / "red.png", {"F": score})
        for name, score in (("a", 0.7), ("b", 0.2), ("c", 0.5))
    ]
    path = write_page(Page("t", walls=[Comparisons("w", "left", "right", items)]), tmp_path / "page.html")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    yield page, asked, said
    page.close()


def redness(page):
    """The share of the first picture that is red."""
    picture = Image.open(io.BytesIO(page.locator(".stage").first.screenshot())).convert("RGB")
    pixels = np.asarray(picture).astype(int)
    return ((pixels[..., 0] > 200) & (pixels[..., 1] < 60)).mean()


def test_sliders_views_and_order(shown):
    page, asked, said = shown
    assert redness(page) == pytest.approx(0.5, abs=0.06)
    page.locator(".slider").first.fill("10")
    assert redness(page) == pytest.approx(0.9, abs=0.06)
    page.locator(".slider").first.press("ArrowRight")
    assert page.locator(".slider").first.input_value() == "11"
    page.locator(".all").fill("80")
    assert redness(page) == pytest.approx(0.2, abs=0.06)
    page.get_by_label("photo", exact=True).check()
    assert redness(page) > 0.93
    page.get_by_label("map", exact=True).check()
    assert redness(page) == 0
    page.locator(".order").select_option("up")
    assert page.locator(".cards figcaption b").all_inner_texts() == ["b", "c", "a"]
    page.locator(".order").select_option("given")
    assert page.locator(".cards figcaption b").all_inner_texts() == ["a", "b", "c"]
    assert said == [] and not [url for url in asked if not url.startswith(("file:", "data:"))]
