"""What the page says of an adaptation: pieces of HTML, made of a session alone."""

import html
from collections.abc import Mapping

from ..adapting.candidates import AGAIN, CUES, DEFAULT
from ..adapting.page import usage_lines
from ..adapting.progress import Step, in_words
from ..adapting.review import DROP, GOOD, REVIEWED, SWAP
from ..data import evenly_spread
from ..errors import counted
from .pictures import PREVIEW, mask_uri, photo_uri
from .process import read_log
from .session import Session

MOST_LOOKED = 24  # pictures of the default model's maps


def escape(text: object) -> str:
    return html.escape(str(text))


def candidate_name(name: str) -> str:
    """As people say it."""
    if name == DEFAULT:
        return "The default model"
    if name == CUES:
        return "The cue extractor"
    if name.startswith(REVIEWED):
        number = name.removeprefix(REVIEWED).lstrip("-")
        return f"Trained on your review{f' {number}' if number else ''}"
    if name.startswith(AGAIN):
        return f"Trained again{name.removeprefix(AGAIN).replace('-', ', round ')}"
    if name.startswith("trained-by-"):
        return f"Trained on labels by {label_name(name)}"
    return f"{name}, as it comes"


def label_name(source: str) -> str:
    """Whose labels they are, as people say it."""
    if source.startswith(AGAIN):
        return f"the best so far{source.removeprefix(AGAIN).replace('-', ', round ')}"
    maker = source.removeprefix("trained-by-")
    return {CUES: "the cue extractor", DEFAULT: "the default model", "the-best": "the best of these"}.get(maker, maker)


def reviewed_source(session: Session) -> str | None:
    """Whose labels are being reviewed, if any."""
    review = session.review
    return review.labels if review else None


def _step_name(step: Step) -> str:
    _, _, of = step.name.partition(" ")
    if step.kind == "maps":
        return f"Compare: {candidate_name(of)}"
    if step.kind == "labels":
        return f"Labels by {label_name(of)}" if not of.startswith(REVIEWED) else "Take your review"
    if step.kind == "training":
        return candidate_name(of)
    return {CUES: "Learn what stands out in your images", "flow": "Follow what moves"}.get(step.name, step.name)


def problem(session: Session | None) -> str:
    """The one line of what failed."""
    return f'<p class="wb-problem">{escape(session.problem)}</p>' if session and session.problem else ""


def look(session: Session | None) -> str:
    """What the images are, and the default model's maps of some, as they come."""
    if session is None:
        return '<p class="wb-quiet">Choose a folder first.</p>'
    lines = session.state.get("images", {}).get("lines", [])
    parts = [f'<h3 class="wb-folder">{escape(session.images)}</h3>', problem(session)]
    parts += [f"<p>{escape(line)}</p>" for line in lines]
    made = {id: file for id, file in session.held_out.items() if session.map_file(DEFAULT, id).exists()}
    if session.running and not session.has_looked:
        parts.append('<p class="wb-busy">The default model is looking at some of your images …</p>')
    elif session.has_looked:
        quality = session.state["quality"][DEFAULT]
        parts.append(
            f"<p>This is what the default model sees, in color. On {quality['empty']:.0%} of these images it finds "
            "nothing, or takes all for object. Is it what you mean? If not, train.</p>"
        )
    shown = evenly_spread(list(made.items()), MOST_LOOKED)
    cards = "".join(_card(photo_uri(file), mask_uri(session.map_file(DEFAULT, id)), id) for id, file in shown)
    return "".join(parts) + f'<div class="wb-wall">{cards}</div>'


def _card(photo: str, mask: str, name: str) -> str:
    return (
        f'<figure class="wb-card" title="{escape(name)}"><div class="wb-photo"><img src="{photo}" alt="">'
        f'<i style="--mask:url({mask})"></i></div></figure>'
    )


def training(session: Session | None) -> str:
    """Progress, what was tried so far, and previews."""
    if session is None or not session.has_looked:
        return '<p class="wb-quiet">Look at a folder first.</p>'
    progress = session.progress
    left = f"{in_words(progress.seconds_left)} left" if progress.steps else ""
    running = next((step for step in progress.steps if step.name == progress.running), None)
    if session.running:
        what = f"{_step_name(running)}{f', {progress.share:.0%}' if progress.share else ''}" if running else "Starting"
        status = f"<b>{escape(what)}</b><span>{left}</span>"
    elif session.is_done:
        status = "<b>Done.</b><span>Review labels, or use the result.</span>"
    elif progress.done[1:] or running:
        status = f"<b>Stopped.</b><span>{left}; it goes on where it was.</span>"
    else:
        status = f"<b>Not begun.</b><span>{left}</span>"
    share = 1.0 if session.is_done else progress.total_share
    bar = f'<div class="wb-bar"><i style="width:{share:.1%}"></i></div>'
    return (
        f'{problem(session)}<div class="wb-status">{status}</div>{bar}'
        f'<div class="wb-columns"><div>{_steps(session)}</div><div>{_tried(session)}{_previews(session)}</div></div>'
    )


def _steps(session: Session) -> str:
    progress = session.progress
    done = {step.name for step in progress.done}
    items = []
    for step in progress.steps:
        state = "done" if step.name in done else "running" if step.name == progress.running else "waiting"
        if state == "running" and not session.running:
            state = "paused"
        took = f"<span>{progress.seconds[step.name]:.0f} s</span>" if state == "done" else ""
        items.append(f'<li class="wb-{state}">{escape(_step_name(step))}{took}</li>')
    return f'<ol class="wb-steps">{"".join(items)}</ol>'


def _tried(session: Session) -> str:
    rows = "".join(_candidate(session, name, figures) for name, figures in session.detectors.items())
    note = "How well outlines follow the edges of images that nothing was trained on. No mask was looked at."
    return f'<h4>Tried so far</h4><div class="wb-tried">{rows}</div><p class="wb-quiet">{note}</p>'


def _candidate(session: Session, name: str, figures: Mapping[str, float]) -> str:
    chosen = " wb-chosen" if session.has_trained and name == session.chosen else ""
    quality = figures["quality"]
    return (
        f'<div class="wb-candidate{chosen}"><span>{escape(candidate_name(name))}</span>'
        f'<div class="wb-bar"><i style="width:{min(1.0, quality):.1%}"></i></div><b>{quality:.3f}</b></div>'
    )


def _previews(session: Session) -> str:
    found = session.previews[:1]
    if not found:
        return ""
    rows = "photos, their labels now, maps" if "runs" in found[0].parts else "photos, maps"
    epoch = int(found[0].stem.rpartition("_")[2])
    return (
        f'<h4>Preview</h4><img class="wb-preview" src="{photo_uri(found[0], PREVIEW)}" alt="">'
        f'<p class="wb-quiet">After {counted(epoch, "round")} through the images: {rows}.</p>'
    )


def log(session: Session | None) -> str:
    return "\n".join(read_log(session.root)) if session else ""


def review_counts(session: Session, source: str) -> str:
    """How far a review is."""
    decisions = session.review_of(source).decisions
    counts = {kind: sum(decision == kind for decision in decisions.values()) for kind in (GOOD, DROP, SWAP)}
    open_ = len(session.training) - len(decisions)
    return f"{counts[GOOD]} good, {counts[DROP]} dropped, {counts[SWAP]} swapped, {open_} kept as they are"


def verdict(session: Session | None) -> str:
    """What was chosen, and by whom."""
    if session is None or not session.has_trained:
        return '<p class="wb-quiet">Train first. What comes of it is used here.</p>'
    if session.chosen == DEFAULT:
        head = "Keep the default model"
        more = "" if session.state.get("choice") else " An adapter made here may still be chosen below."
    else:
        head, more = candidate_name(session.chosen), ""
    by = "You chose it." if session.state.get("choice") else f"The measure chose it: {session.state['reason']}."
    return f"<h3>{escape(head)}</h3><p>{escape(by)}{more}</p>"


def usage(session: Session) -> str:
    """Three lines to copy."""
    return "\n".join(
        usage_lines(
            session.root,
            session.chosen == DEFAULT,
            session.state["asked"].get("task") == "video",
            session.state.get("tiles"),
        )
    )
