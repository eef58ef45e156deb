"""What is done when something on the page is clicked."""

import html
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from ..adapting.arguments import MEASURE
from ..adapting.review import write_review
from ..errors import UsodError
from . import process, using
from .choosing import places
from .recent import recent_runs, remember
from .session import FOLDER, TRAIN, Session
from .wall import pages, wall, writing

NO_LABELS = '<p class="wb-quiet">There are no labels yet. Train first.</p>'
TO_WALL = """(...given) => { document.querySelector("#wall").scrollIntoView({ behavior: "smooth" }); return given; }"""


def told(work: Callable[..., Any]) -> Callable[..., Any]:
    """Has what goes wrong be told in a line on the page."""

    @wraps(work)
    def working(*given: Any) -> Any:
        try:
            return work(*given)
        except (UsodError, OSError, ValueError, ModuleNotFoundError) as error:
            message = str(error).strip().splitlines() or [type(error).__name__]
            raise gr.Error(html.escape(message[0]), print_exception=False) from error

    return working


def _session(run: str) -> Session:
    session = Session.open(run)
    if session is None:
        raise gr.Error("Choose a folder of images first.", print_exception=False)
    return session


def path_of(event: gr.EventData) -> str:
    """The folder that was clicked. (What gradio is told as a `path`, it takes for a file of its own.)"""
    return str(event.folder)


def open_last() -> tuple[str, Any, str]:
    """Where one was: the folder of the adaptation, its step, the images."""
    runs = recent_runs()
    return open_run(str(runs[0])) if runs else ("", gr.Tabs(selected=FOLDER), "")


def open_run(run: str) -> tuple[str, Any, str]:
    """The folder of an adaptation that was open before."""
    session = Session.open(run)
    if session is None:
        return "", gr.Tabs(selected=FOLDER), ""
    remember(session.root)
    return str(session.root), gr.Tabs(selected=session.step), str(session.images)


def begin(typed: str, output: str | None) -> Path:
    """Has the default model look at a folder of images, if it has not; the folder of the adaptation.

    Raises:
        UsodError, OSError: naming what is wrong.
    """
    images, run = places(typed, output)
    session = Session.open(run)
    if session is None or not (session.has_looked or session.running):
        process.start(run, images, "--look")
    remember(run)
    return run


@told
def look_at(typed: str, output: str) -> tuple[str, Any, str]:
    """Begins with a folder of images, or goes on where it was."""
    return open_run(str(begin(typed, output)))


@told
def train(run: str) -> Any:
    """Begins with the training, or goes on with it."""
    return _start(_session(run))


def _start(session: Session, *more: str) -> Any:
    if not process.start(session.root, session.images, *more):
        gr.Info("It is running already; this is where it stands.")
    return gr.Tabs(selected=TRAIN)


@told
def halt(run: str) -> None:
    """Asks the training to stop."""
    if process.stop(_session(run).root):
        gr.Info("It saves where it stands and stops in a few seconds.")
    else:
        gr.Info("Nothing is running.")


@told
def show_wall(run: str, source: str | None, page: int = 0) -> tuple[Any, int, Any, Any]:
    """A page of labels, and which further ones there are."""
    session = Session.open(run)
    if session is None or source not in session.sources:
        return NO_LABELS, 0, gr.Button(visible=False), gr.Button(visible=False)
    count = pages(session, source)
    page = max(0, min(page, count - 1))
    later = gr.Button(f"Next (page {page + 2} of {count})", visible=page + 1 < count)
    return wall(session, source, page), page, gr.Button(visible=page > 0), later


def turn(by: int, run: str, source: str, page: int) -> tuple[Any, int, Any, Any]:
    """Another page of labels."""
    return show_wall(run, source, page + by)


@told
def train_on(run: str, source: str) -> Any:
    """Trains a further adapter on what the review leaves."""
    with writing:
        session = _session(run)
        review = session.review_of(source)
        if not review.changes():
            raise gr.Error("Drop or swap at least one label first: with these labels an adapter is trained already.")
        if not session.running:
            write_review(session.root, replace(review, train_on=True))
    return _start(session, "--choose", MEASURE)


@told
def choose_images(run: str, name: str | None) -> Any:
    """The images on which a candidate is compared."""
    session = Session.open(run)
    if session is None or not name:
        return gr.Dropdown([], value=None)
    ids = using.compared(session, name)
    return gr.Dropdown(ids, value=ids[0] if ids else None)


@told
def compare(run: str, name: str | None, id: str | None) -> Any:
    """The default model's map of an image beside a candidate's."""
    session = Session.open(run)
    return using.comparison(session, id, name) if session and name and id else None


@told
def use_this(run: str, name: str | None) -> Any:
    """Has a candidate be the one that is kept."""
    session = _session(run)
    if not name:
        raise gr.Error("Choose one of the list first.", print_exception=False)
    return _start(session, "--choose", name)


@told
def try_photo(run: str, photo: str | None) -> Any:
    """A photo beside its cutout."""
    return using.cut_out(Session.open(run), photo) if photo else None


@told
def publish(run: str, repo: str, base: str, private: bool) -> str:
    """Publishes the adapter; what came of it."""
    return using.publish_adapter(_session(run), repo.strip(), base.strip(), private)


@told
def report(run: str) -> str:
    """The page that the command wrote, inside of this one."""
    file = _session(run).root / "report.html"
    if not Path(file).is_file():
        raise gr.Error("There is no report yet.", print_exception=False)
    page = html.escape(file.read_text(encoding="utf-8"))
    shown = f'<iframe class="wb-report" sandbox="allow-scripts" srcdoc="{page}"></iframe>'
    return f'<p class="wb-quiet">{html.escape(str(file))}</p>{shown}'
