"""What each part of the page shows, made of a session alone."""

import hashlib
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from ..adapting.candidates import DEFAULT
from . import words
from .recent import recent_runs
from .session import LOOK, Session
from .using import pack

Update = dict[str, Any]  # of a component: its new properties
_HIDDEN: Update = {"visible": False}


def what_is_shown(session: Session | None) -> list[Update]:
    """In the order in which `_Page` lists what is `shown`."""
    runs = [(f"{path.name} (in {path.parent})", str(path)) for path in recent_runs()]
    recent = {"choices": runs, "value": str(session.root) if session else None, "visible": bool(runs)}
    if session is None:
        return [
            {"value": words.look(None)},
            {"interactive": False},
            {"value": words.training(None)},
            *[_HIDDEN] * 4,
            {"value": ""},
            *[_HIDDEN] * 2,
            {"value": words.verdict(None)},
            *[_HIDDEN] * 4,
            recent,
        ]
    idle, begun = not session.running, session.step != LOOK
    sources = session.sources
    names = [name for name in session.detectors if name != DEFAULT]
    label = "Go on" if begun else "Start training"
    reviewed = words.reviewed_source(session)
    source = reviewed if reviewed in sources else next(iter(sources), None)
    return [
        {"value": words.look(session)},
        {"value": label, "interactive": idle and session.has_looked, "visible": not session.is_done},
        {"value": words.training(session)},
        {"value": label, "visible": idle and session.has_looked and not session.is_done},
        {"visible": session.running},
        {"visible": idle and bool(sources)},
        {"visible": idle and session.has_trained},
        {"value": words.log(session)},
        {
            "choices": [(words.label_name(name), name) for name in sources],
            "value": source,
            "visible": len(sources) > 1,
        },
        {"visible": bool(sources), "interactive": idle},
        {"value": words.verdict(session)},
        {"visible": session.has_trained},
        {
            "choices": [(words.candidate_name(name), name) for name in names],
            "value": session.chosen if session.chosen in names else next(reversed(names), None),
            "visible": True,
        },
        {"value": words.usage(session), "visible": True},
        _download(session),
        recent,
    ]


def _download(session: Session) -> Update:
    """The adapter as a ZIP among the files of the app, packed once."""
    if not session.has_trained or session.chosen == DEFAULT:
        return _HIDDEN
    weights = session.root / "adapter" / "adapter_model.safetensors"
    if session.running or not weights.exists():
        return {"visible": True, "interactive": False}
    key = hashlib.sha256(f"{session.root} {weights.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    folder = Path(get_upload_folder()) / key
    packed = next(folder.glob("[!.]*.zip"), None) or pack(session, folder)
    return {"value": str(packed), "visible": True, "interactive": True}
