"""The page: five steps, of which each shows what the folder of the adaptation holds."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from . import actions, choosing, words
from .session import FOLDER, LOOK, REVIEW, TRAIN, USE, Session
from .shown import what_is_shown
from .wall import SCRIPT as WALL_SCRIPT
from .wall import decide

SECONDS = 2  # between two looks at the folder
_INTRO = """A model of **your** images, without drawing a mask: choose a folder, look, train, use. The images never
leave this machine."""
_REVIEW = """Labels made by a model teach the adapter. Here they are, **the most doubtful first**; the object is in
color. Say what is wrong: **good** keeps a label, **drop** leaves it out, **swap** exchanges object and ground; what you
do not judge is kept. Keys: arrows, **g**, **d**, **s**; the same again takes it back."""
_FOLDERS = '<p class="wb-quiet"></p><div class="wb-folders"></div>'
Offer = Callable[[str, str], None]


def build(offer: Offer | None = None) -> None:
    """The workbench, inside of `gr.Blocks`.

    Args:
        offer: is told the name and the folder of an adapter that was chosen, for other parts of an app to use.
    """
    _Page(offer).build()


class _Page:
    def __init__(self, offer: Offer | None):
        self.offer = offer

    def build(self) -> None:
        """Makes the components and what happens to them."""
        self.run = gr.State("")
        self.seen = gr.State({})
        self.page = gr.State(0)
        gr.Markdown(_INTRO, elem_classes="wb-intro")
        with gr.Tabs(selected=FOLDER, elem_id="workbench") as self.steps:
            with gr.Tab("1 Folder", id=FOLDER):
                self._folder_step()
            with gr.Tab("2 Look", id=LOOK):
                self._look_step()
            with gr.Tab("3 Train", id=TRAIN):
                self._train_step()
            with gr.Tab("4 Review", id=REVIEW):
                self._review_step()
            with gr.Tab("5 Use", id=USE):
                self._use_step()
        self._events()

    def _folder_step(self) -> None:
        gr.Markdown("### Choose a folder of images of one kind", elem_classes="wb-head")
        self.typed = gr.Textbox(
            label="Folder of images", placeholder="/home/me/my-images", elem_id="folder", max_lines=1
        )
        self.browser = gr.HTML(
            _FOLDERS,
            js_on_load=choosing.SCRIPT,
            server_functions=[choosing.list_folders],
            apply_default_css=False,
        )
        with gr.Accordion("Where the result is kept", open=False):
            self.output = gr.Textbox(
                label="Folder of the result",
                placeholder="beside the images, with -usod after its name",
                elem_id="output",
            )
        self.look_at = gr.Button("Look at these images", variant="primary", elem_id="look_at")
        self.recent = gr.Radio([], label="Or go on with", visible=False, elem_id="recent")

    def _look_step(self) -> None:
        self.train = gr.Button("Start training", variant="primary", interactive=False, elem_id="train")
        self.looked = gr.HTML(words.look(None), elem_id="looked", apply_default_css=False)

    def _train_step(self) -> None:
        with gr.Row(elem_classes="wb-buttons"):
            self.go_on = gr.Button("Start training", variant="primary", elem_id="go_on", visible=False)
            self.halt = gr.Button("Stop", variant="stop", elem_id="halt", visible=False)
            self.to_review = gr.Button("Review labels", elem_id="to_review", visible=False)
            self.to_use = gr.Button("Use the result", variant="primary", elem_id="to_use", visible=False)
        self.trained = gr.HTML(words.training(None), elem_id="trained", apply_default_css=False)
        with gr.Accordion("What the command says", open=False):
            self.log = gr.Code(language=None, show_label=False, interactive=False, wrap_lines=True, elem_id="log")

    def _review_step(self) -> None:
        gr.Markdown(_REVIEW, elem_classes="wb-intro")
        with gr.Row(elem_id="judge"):
            self.source = gr.Dropdown([], label="Labels by", visible=False, elem_id="source", interactive=True)
            self.train_on = gr.Button("Train on with these", variant="primary", visible=False, elem_id="train_on")
        self.wall = gr.HTML(
            actions.NO_LABELS,
            js_on_load=WALL_SCRIPT,
            server_functions=[decide],
            elem_id="wall",
            apply_default_css=False,
        )
        with gr.Row(elem_id="pages"):
            self.earlier = gr.Button("Back", visible=False)
            self.later = gr.Button("Next", visible=False, elem_id="later")

    def _use_step(self) -> None:
        self.verdict = gr.HTML(words.verdict(None), elem_id="verdict", apply_default_css=False)
        with gr.Column(visible=False) as self.useful:
            with gr.Row():
                self.download = gr.DownloadButton("Download the adapter", variant="primary", elem_id="download")
                self.again = gr.Button("Review labels and train on", elem_id="again")
            with gr.Tabs():
                with gr.Tab("Compare"), gr.Row(equal_height=False):
                    with gr.Column(scale=3, min_width=300):
                        self.slider = gr.ImageSlider(
                            label="Left the default model, right the chosen one",
                            interactive=False,
                            max_height=520,
                            elem_id="compare",
                        )
                    with gr.Column(scale=2, min_width=260):
                        self.candidate = gr.Radio([], label="Compare the default model with", elem_id="candidate")
                        self.image = gr.Dropdown(
                            [], label="Image, the most different first", interactive=True, elem_id="image"
                        )
                        self.use_this = gr.Button("Use this one", elem_id="use_this")
                with gr.Tab("Try it on a photo"), gr.Row(equal_height=False):
                    self.photo = gr.Image(
                        type="filepath", sources=["upload", "clipboard"], label="A photo", height=360, elem_id="try"
                    )
                    self.cutout = gr.ImageSlider(
                        label="What it cuts out", interactive=False, format="png", max_height=360, elem_id="tried"
                    )
                with gr.Tab("Use it elsewhere"):
                    self.usage = gr.Code(
                        language="shell", label="Three lines to copy", interactive=False, elem_id="usage"
                    )
                with gr.Tab("Publish"):
                    gr.Markdown("On the Hugging Face Hub, for others or for you alone. You must be logged in there.")
                    with gr.Row():
                        self.repo = gr.Textbox(label="Name", placeholder="me/my-adapter", elem_id="repo")
                        self.base = gr.Textbox(label="Base model on the Hub", placeholder="me/usod-rgb-lite")
                    self.private = gr.Checkbox(True, label="Private")
                    self.publish = gr.Button("Publish", elem_id="publish")
                    self.published = gr.Markdown()
                with gr.Tab("Report"):
                    self.show_report = gr.Button("Show the report", elem_id="show_report")
                    self.report = gr.HTML(elem_id="report")

    def _events(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        shown: list[Any] = [
            self.looked, self.train, self.trained, self.go_on, self.halt, self.to_review, self.to_use, self.log,
            self.source, self.train_on, self.verdict, self.useful, self.candidate, self.usage, self.download,
            self.recent,
        ]  # fmt: skip
        refresh: dict[str, Any] = {"fn": self.refresh, "inputs": [self.run, self.seen], "outputs": [self.seen, *shown]}

        def then(event: Any) -> None:
            """What an event changes is seen at once."""
            event.then(**refresh, **quiet)

        then(gr.on(None, actions.open_last, None, [self.run, self.steps, self.typed], **quiet))
        gr.Timer(SECONDS).tick(**refresh, **quiet)
        self.browser.select(actions.path_of, None, self.typed, **quiet)
        then(
            gr.on(
                [self.look_at.click, self.typed.submit],
                actions.look_at,
                [self.typed, self.output],
                [self.run, self.steps, self.typed],
                **quiet,
            )
        )
        then(self.recent.input(actions.open_run, self.recent, [self.run, self.steps, self.typed], **quiet))
        for button in (self.train, self.go_on):
            then(button.click(actions.train, self.run, self.steps, **quiet))
        then(self.halt.click(actions.halt, self.run, None, **quiet))
        for button, step in ((self.to_review, REVIEW), (self.again, REVIEW), (self.to_use, USE)):
            button.click(partial(gr.Tabs, selected=step), None, self.steps, **quiet)
        walled = [self.wall, self.page, self.earlier, self.later]
        gr.on([self.run.change, self.source.change], actions.show_wall, [self.run, self.source], walled, **quiet)
        turn: dict[str, Any] = {"inputs": [self.run, self.source, self.page], "outputs": walled}
        self.earlier.click(partial(actions.turn, -1), **turn, **quiet)
        self.later.click(partial(actions.turn, 1), **turn, js=actions.TO_WALL, **quiet)
        then(self.train_on.click(actions.train_on, [self.run, self.source], self.steps, **quiet))
        pair: dict[str, Any] = {"inputs": [self.run, self.candidate, self.image], "outputs": self.slider}
        chosen = [self.run.change, self.candidate.change]
        listed = gr.on(chosen, actions.choose_images, [self.run, self.candidate], self.image, **quiet)
        for event in (listed.then, self.image.input):
            event(actions.compare, **pair, **quiet)
        then(self.use_this.click(actions.use_this, [self.run, self.candidate], self.steps, **quiet))
        self.photo.change(actions.try_photo, [self.run, self.photo], self.cutout, api_visibility="private")
        self.publish.click(
            actions.publish, [self.run, self.repo, self.base, self.private], self.published, api_visibility="private"
        )
        self.show_report.click(actions.report, self.run, self.report, api_visibility="private")

    def refresh(self, run: str, seen: dict[str, str]) -> list[Any]:
        """What has changed in the folder since it was last looked at."""
        session = Session.open(run)
        updates = what_is_shown(session)
        if self.offer and session and not session.running and (adapter := session.adapter(session.chosen)):
            self.offer(session.images.name, adapter)
        told = {str(place): _digest(update) for place, update in enumerate(updates)}
        news = [
            gr.skip() if seen.get(place) == digest else gr.update(**update)
            for (place, digest), update in zip(told.items(), updates, strict=True)
        ]
        return [told, *news]


def _digest(update: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(update).encode()).hexdigest()
