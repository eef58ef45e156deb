"""The app in a real Chromium: a first visit on a desktop and on a phone, and what is seen there.

With `USOD_SCREENSHOTS=docs` the pictures for the README are written: `space.png` and `space_phone.png`.
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "space" / "examples"
SCREENSHOTS = os.environ.get("USOD_SCREENSHOTS")
PATIENCE = 180_000  # milliseconds


@pytest.fixture
def visit(browser, app):
    """Opens the app in a window of a size, as someone who was never there."""
    contexts = []

    def visit(width, height):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=1))
        contexts[-1].set_default_timeout(PATIENCE)
        page = contexts[-1].new_page()
        page.goto(app.url)
        page.wait_for_selector("#photo input[type=file]", state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()


def seen(page, selector):
    """The pixels of an element on screen."""
    picture = page.locator(selector).first.screenshot()
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def wait_for_picture(page, selector, other_than=None):
    """Until an image is there and decoded; its address."""
    page.wait_for_function(
        """([selector, old]) => { const image = document.querySelector(selector);
           return image && image.complete && image.naturalWidth > 0 && image.src !== old; }""",
        arg=[selector, other_than],
    )
    return page.locator(selector).first.get_attribute("src")


def opacities(page):
    """The opacity of the cutout as the browser has it, 32 x 32, in [0, 1]."""
    values = page.evaluate(
        """() => { const canvas = document.createElement('canvas');
           canvas.width = canvas.height = 32;
           const context = canvas.getContext('2d');
           context.drawImage(document.querySelector('#cutout img'), 0, 0, 32, 32);
           return [...context.getImageData(0, 0, 32, 32).data].filter((_, index) => index % 4 == 3); }"""
    )
    return np.array(values) / 255


def screenshot(page, name):
    if SCREENSHOTS:
        page.wait_for_timeout(1500)  # what fades, has faded
        page.screenshot(path=Path(SCREENSHOTS) / name, full_page=True)


def upload(page, name):
    page.set_input_files("#photo input[type=file]", EXAMPLES / f"{name}.jpg")
    wait_for_picture(page, "#slider img")


def move_slider(page, share):
    """Drags the handle from the middle to a share of the width."""
    box = page.locator("#slider img").first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * share, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(300)


def test_a_first_visit(visit, adapter):
    """Upload, look, move, download: the result comes by itself, and follows the threshold and the adapter."""
    page = visit(1280, 900)
    upload(page, "chelsea")
    page.wait_for_timeout(500)
    before = seen(page, "#slider")
    screenshot(page, "space.png")
    move_slider(page, 0.9)
    moved = seen(page, "#slider")
    changed = np.abs(moved - before).max(axis=-1) > 30
    width = changed.shape[1]
    assert changed[:, width // 2 :].mean() > 0.05 and changed[:, : width // 3].mean() < 0.01

    with page.expect_download() as download:
        page.click("#get_cutout")
    assert download.value.suggested_filename == "chelsea_cutout.png"
    with Image.open(download.value.path()) as cutout:
        assert cutout.mode == "RGBA" and cutout.size == Image.open(EXAMPLES / "chelsea.jpg").size
        assert cutout.getpixel((200, 150))[3] == 255 and cutout.getpixel((440, 10))[3] == 0

    page.get_by_role("tab", name="Cutout").click()
    first = wait_for_picture(page, "#cutout img")
    soft = opacities(page)
    page.locator("#threshold input[type=range]").fill("0.2")
    second = wait_for_picture(page, "#cutout img", first)
    assert np.abs(opacities(page) - soft).max() < 0.02  # the threshold is the mask's, and that of sharp edges

    page.click("#more button")
    page.locator(".adapter input").first.click()
    page.get_by_role("option", name=adapter.name).click()
    wait_for_picture(page, "#cutout img", second)
    assert np.abs(opacities(page) - soft).mean() > 0.01


def test_an_example_on_a_phone(visit):
    page = visit(390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#examples button img, #examples button").first.click()
    wait_for_picture(page, "#slider img")
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#slider img").first.bounding_box()["width"] > 250
    screenshot(page, "space_phone.png")


def test_a_bad_file_is_a_message(visit, tmp_path):
    page = visit(1280, 900)
    (tmp_path / "notes.jpg").write_text("I am no photo.")
    page.set_input_files("#photo input[type=file]", tmp_path / "notes.jpg")
    page.get_by_text("notes.jpg cannot be read as an image").wait_for()
    assert page.locator("#slider img").count() == 0
    upload_again = page.locator("#photo").get_by_role("button", name="Clear")
    if upload_again.count():
        upload_again.first.click()
    upload(page, "coffee")
