"""The workbench as an app of its own, on this machine alone."""

import atexit
import os
import shutil
import tempfile

HOST = "127.0.0.1"


def is_private() -> bool:
    """Whether an app that is begun here, by what the environment tells gradio, is for this machine alone."""
    shared = os.environ.get("GRADIO_SHARE", "").lower() in ("1", "true")
    host = os.environ.get("GRADIO_SERVER_NAME", HOST)
    return "SPACE_ID" not in os.environ and not shared and host in (HOST, "localhost")


def serve(port: int | None = None, browser: bool = True) -> None:
    """Serves the workbench until the process is stopped.

    Args:
        port: None for the first free one from 7860 on.
        browser: whether to open the page.

    Raises:
        OSError: if the port is taken.
    """
    if "GRADIO_TEMP_DIR" not in os.environ:  # before gradio reads it: what is shown goes when the app does
        os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="usod-workbench-")
        atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    import gradio as gr

    from .page import build
    from .theme import CSS, THEME

    with gr.Blocks(title="Workbench", delete_cache=(3600, 86400), analytics_enabled=False) as demo:
        gr.Markdown("# Workbench")
        build()
    demo.queue().launch(
        server_name=HOST,
        server_port=port,
        inbrowser=browser,
        share=False,
        quiet=True,
        theme=THEME,
        head=f"<style>{CSS}</style>",
        allowed_paths=[],
        ssr_mode=False,
        footer_links=[],
        prevent_thread_lock=True,
    )
    print(f"The workbench is at {demo.local_url} (Ctrl-C ends it; a training goes on by itself).", flush=True)
    demo.block_thread()
