"""The wall of labels that a person reviews: pages of thumbnails, one click or key a decision."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..adapting.review import DECISIONS, write_review
from .pictures import mask_uri, photo_uri
from .session import Session
from .words import escape, review_counts

PAGE = 60  # labels
KEYS = {"good": "g", "drop": "d", "swap": "s"}
SCRIPT = (Path(__file__).parent / "wall.js").read_text(encoding="utf-8")
writing = threading.Lock()  # held from reading the review to writing it


def pages(session: Session, source: str) -> int:
    return max(1, -(-len(session.doubtful(source)) // PAGE))


def wall(session: Session, source: str, page: int) -> str:
    """The labels of a page, from 0."""
    decisions = session.review_of(source).decisions
    images = session.training
    ids = session.doubtful(source)[page * PAGE : (page + 1) * PAGE]
    cards = "".join(
        _card(
            id, photo_uri(images[id]), mask_uri(session.root / "labels" / source / f"{id}.png"), decisions.get(id, "")
        )
        for id in ids
        if id in images
    )
    return (
        f'<div class="wb-review" data-root="{escape(session.root)}" data-labels="{escape(source)}" tabindex="0">'
        f'<p class="wb-counts">{escape(review_counts(session, source))}</p><div class="wb-wall">{cards}</div></div>'
    )


def _card(id: str, photo: str, mask: str, decision: str) -> str:
    buttons = "".join(
        f'<button type="button" data-say="{kind}" title="{kind} ({KEYS[kind]})" aria-label="{kind}">{kind}</button>'
        for kind in DECISIONS
    )
    return (
        f'<figure class="wb-card" data-id="{escape(id)}" data-decision="{decision}" title="{escape(id)}">'
        f'<div class="wb-photo"><img src="{photo}" alt=""><i style="--mask:url({mask})"></i></div>'
        f'<div class="wb-say">{buttons}</div></figure>'
    )


def decide(said: dict[str, Any]) -> str:
    """Keeps a decision, or takes it back; what the browser calls. A training that was asked for and has not begun stays
    asked for.

    Args:
        said: `root`, `labels`, the image's `id`, and `decision`, empty to take it back.

    Returns:
        How far the review is.
    """
    with writing:
        session = Session.open(said.get("root"))
        source, id, decision = said.get("labels"), said.get("id"), said.get("decision")
        if session is None or source not in session.sources or id not in session.training:
            return "This label is not there any more. Reload the page."
        before = session.review_of(source)
        decisions = {other: said for other, said in before.decisions.items() if other != id}
        if decision in DECISIONS:
            decisions[id] = decision
        review, waits = session.review, session.review_waits
        if review and waits and review.labels != source:
            after = replace(review, others={**review.others, source: decisions})
        else:
            after = replace(before, decisions=decisions, train_on=waits)
        try:
            write_review(session.root, after)
        except OSError as error:
            return f"It cannot be kept: {error.strerror}."
        return review_counts(replace(session), source)
