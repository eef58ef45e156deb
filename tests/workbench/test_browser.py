"""The workbench in a real Chromium: from a folder to a downloaded adapter, killed in the middle and opened again."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the workbench needs gradio: pip install 'hf_usod[demo]'")
pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).parent / "quick.py"
FOLDER_IS = "path => document.querySelector('#folder textarea, #folder input').value === path"
PATIENCE = 300  # seconds, for a busy machine


@pytest.fixture
def serve(tmp_path):
    """Begins a server; returns its address and process."""
    servers = []

    def serve(*words):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with open(tmp_path / "server.log", "a") as log:
            command = [sys.executable, str(PROGRAM), "workbench", *words, "--no_browser", "--port", str(port)]
            servers.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{url}/config", timeout=30).close()
                return url, servers[-1]
            except (urllib.error.URLError, OSError):
                if servers[-1].poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"The workbench did not start:\n{(tmp_path / 'server.log').read_text()}")
                time.sleep(0.3)

    yield serve
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture
def visit(browser):
    """Opens the page in a window of its own."""
    contexts = []

    def visit(url, width=1280):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        contexts[-1].set_default_timeout(1000 * PATIENCE)
        page = contexts[-1].new_page()
        page.goto(url)
        page.wait_for_selector("#workbench")
        return page

    yield visit
    for context in contexts:
        context.close()


def is_open(page, tab):
    page.wait_for_function(
        "tab => document.querySelector('[role=tab][aria-selected=true]')?.innerText.includes(tab)", arg=tab
    )


def open_tab(page, tab):
    """Once the page is where one was."""
    page.wait_for_function("() => document.querySelector('[role=tab][aria-selected=true]')?.innerText !== '1 Folder'")
    page.get_by_role("tab", name=tab).click()


def test_from_a_folder_to_an_adapter(serve, visit, photos, tmp_path):
    url, server = serve()
    page = visit(url)
    is_open(page, "1 Folder")
    page.fill("#folder textarea, #folder input", str(photos / "nothing"))
    page.click("#look_at")
    page.get_by_text("there is no such folder").wait_for()

    # By clicking: the list begins in the folder where the server was started
    page.locator(".wb-folders button", has_text="photos").click()
    page.wait_for_function(
        "path => document.querySelector('#folder textarea, #folder input').value === path", arg=str(photos)
    )
    page.click("#look_at")
    is_open(page, "2 Look")
    page.wait_for_selector("#looked .wb-card")
    page.wait_for_selector("#train:not([disabled])")
    run = tmp_path / "photos-usod"
    page.click("#train")
    is_open(page, "3 Train")
    page.wait_for_selector("#halt")

    # Another tab shows the one that runs and cannot begin a second; nor is it lost with the server
    other = visit(url, 400)
    is_open(other, "3 Train")
    other.wait_for_selector("#halt")
    assert other.evaluate("document.documentElement.scrollWidth") <= 400
    held = (run / ".workbench").read_text()
    server.send_signal(signal.SIGKILL)
    server.wait()
    url, server = serve()
    page = visit(url)
    open_tab(page, "3 Train")
    page.wait_for_selector("#to_use")
    assert (run / ".workbench").read_text() == held  # the same process, to its end
    assert (run / "report.html").is_file() and (run / "workbench.log").is_file()

    # A review, by a click and by keys, which a reload keeps
    page.click("#to_review")
    is_open(page, "4 Review")
    page.wait_for_selector("#wall .wb-card")
    page.locator("#wall .wb-card").first.locator("[data-say=drop]").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    page.keyboard.press("g")
    page.get_by_text("1 good, 1 dropped, 1 swapped").wait_for()
    page.reload()
    open_tab(page, "4 Review")
    page.get_by_text("1 good, 1 dropped, 1 swapped").wait_for()
    decisions = [card.get_attribute("data-decision") for card in page.locator("#wall .wb-card").all()]
    assert decisions[:4] == ["drop", "swap", "good", ""]
    page.click("#train_on")
    is_open(page, "3 Train")
    page.wait_for_selector("#halt")
    page.wait_for_selector("#to_use")
    assert "trained-by-review" in json.loads((run / "adapt.json").read_text())["quality"]

    # Compare, choose by hand, download
    page.click("#to_use")
    is_open(page, "5 Use")
    page.locator("#candidate label", has_text="Trained on your review").click()
    page.wait_for_selector("#compare img")
    page.click("#use_this")
    page.wait_for_selector("#halt")
    page.wait_for_selector("#to_use")
    page.click("#to_use")
    page.get_by_text("You chose it.").wait_for()
    page.wait_for_selector("#download:not([disabled])")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "photos-adapter.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        names = {Path(name).name for name in archive.namelist()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names

    page.get_by_role("tab", name="Try it on a photo").click()
    page.set_input_files("#try input[type=file]", sorted(photos.iterdir())[0])
    page.wait_for_selector("#tried img")

    # Nothing but what is shown is served
    for file in (run / "adapt.json", sorted(photos.iterdir())[0], Path("/etc/hostname")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/gradio_api/file={urllib.request.quote(str(file))}", timeout=30)
        assert refused.value.code in (403, 404)
