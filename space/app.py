"""The app: `python space/app.py` from a clone, or a Gradio Space as it is."""

import atexit
import contextlib
import ctypes
import os
import shutil
import tempfile

# Before gradio reads it: a folder of the app's own for what users bring and get, which goes when the app does.
if "GRADIO_TEMP_DIR" not in os.environ:
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="usod-space-")
    atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)

from pathlib import Path
from typing import Any

import gradio as gr

import batch_tab
import image_tab
import training_tab
import video_tab
from engine import Engine
from files import MAX_FILE_MB, explained
from hf_usod.workbench.theme import CSS, THEME
from jobs import Jobs

HERE = Path(__file__).parent
KEEP_SECONDS = 3600  # files of users
MAX_WAITING = 64  # requests in line; further ones are told to come back

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h

_HEADER = """
# Cut out what stands out
Drop a photo: its objects come out by themselves. The model learned this without a single hand-drawn mask.
"""
_FOOTER = f"""
Photos and results are removed after {KEEP_SECONDS // 60} minutes. *hf_usod*, after "Unified Unsupervised Salient Object
Detection via Knowledge Transfer" (IJCAI 2024).
"""


def return_memory() -> None:
    """Has glibc give the memory of pictures back to the system as soon as they are gone; called before threads start.

    Its heaps, one for each few threads, else keep what twenty requests took, and more of it with every twenty. Other C
    libraries have no such function.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**20)


def build(engine: Engine | None = None) -> gr.Blocks:
    """The app, to be launched with `LAUNCH`."""
    engine, jobs = engine or Engine(), Jobs()
    engine.load(engine.models[0])  # a model that cannot be loaded should be noticed now
    with gr.Blocks(title="Cut out what stands out", delete_cache=(300, KEEP_SECONDS), analytics_enabled=False) as demo:
        gr.Markdown(_HEADER, elem_id="header")
        with gr.Tab("Image", id="image") as image:
            model, adapter = image_tab.build(engine)
        with gr.Tab("Video", id="video"):
            video_tab.build(engine, jobs)
        with gr.Tab("Batch", id="batch"):
            batch_tab.build(engine, jobs)
        with gr.Tab("Train", id="training"):
            training_tab.build(engine)
        gr.Markdown(_FOOTER, elem_id="footer")

        def models() -> dict:
            """The models, each with its adapters and whether it takes depth or thermal maps."""
            return {
                name: {"adapters": engine.adapters(name), "takes_map": engine.takes_aux(name)} for name in engine.models
            }

        def leave(request: gr.Request) -> None:
            jobs.stop(request.session_hash)

        for component in demo.blocks.values():
            if isinstance(component, gr.components.Component):
                explained(component)
        image.select(
            lambda name: gr.Dropdown(choices=engine.adapters(name)),  # the workbench may have made one
            model,
            adapter,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        gr.api(models, api_name="models", queue=False)
        demo.unload(leave)
    return demo.queue(max_size=MAX_WAITING, default_concurrency_limit=4)


# No folder is allowed beyond the app's temporary one; its own source is not served either.
LAUNCH: dict[str, Any] = {
    "allowed_paths": [],
    "blocked_paths": [str(HERE)],
    "max_file_size": f"{MAX_FILE_MB}mb",
    "theme": THEME,
    "head": f"<style>{CSS}{(HERE / 'style.css').read_text()}</style>",
    "ssr_mode": False,
    "footer_links": ["api", "settings"],
}

if __name__ == "__main__":
    return_memory()
    build().launch(**LAUNCH)
