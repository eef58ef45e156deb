"""What the page shows, read from the folder of an adaptation each time: no truth is kept in the server."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ..adapting.candidates import CUES, DEFAULT, other_labels
from ..adapting.folder import STATE_FILE
from ..adapting.progress import FLOW, Progress, read_progress
from ..adapting.review import Review, order_by_doubt, parse_review, read_review
from ..assets import checkpoint_source
from ..data.folders import by_stem
from ..errors import DataError, RunError
from ..files import read_json, write_json
from .process import find_problem, is_running

FOLDER, LOOK, TRAIN, REVIEW, USE = 1, 2, 3, 4, 5  # the steps of the page


@dataclass(frozen=True)
class Session:
    """The folder of an adaptation, as it is now.

    Args:
        root: the folder.
        state: what the command keeps in it, see `AdaptFolder`.
        running: whether the command is at work there.
    """

    root: Path
    state: Mapping[str, Any]
    running: bool

    @classmethod
    def open(cls, root: str | Path | None) -> "Session | None":
        """The session of a folder, if it holds one."""
        if not root or not (Path(root) / STATE_FILE).is_file():
            return None
        running = is_running(Path(root))  # before the state is read: what has ended by then is in it
        try:
            state = read_json(Path(root) / STATE_FILE)
            _ = state["asked"]["images"], state["seconds"]
        except (DataError, KeyError, TypeError):
            return None
        return cls(Path(root), state, running)

    @property
    def images(self) -> Path:
        """The folder of images."""
        return Path(self.state["asked"]["images"])

    @cached_property
    def progress(self) -> Progress:
        return read_progress(self.root, self.state)

    @cached_property
    def problem(self) -> str:
        """Why the command failed, in a line; empty if it did not."""
        return "" if self.running else find_problem(self.root)

    @property
    def has_looked(self) -> bool:
        return DEFAULT in self.state.get("quality", {})

    @property
    def has_trained(self) -> bool:
        """Whether something was chosen, at least once."""
        return "chosen" in self.state

    @property
    def is_done(self) -> bool:
        """Whether all that was asked for is done; not where it stopped, or failed, on the way."""
        return self.has_trained and not self.running and not self.state.get("running") and not self.problem

    @property
    def step(self) -> int:
        """The one that is to be shown first."""
        if not self.has_looked:
            return LOOK
        if self.is_done:
            return USE
        begun = {*self.state["seconds"], *self.state.get("unfinished", {})} - {f"maps {DEFAULT}", FLOW}
        return TRAIN if self.running or begun else LOOK

    @property
    def chosen(self) -> str:
        return self.state.get("chosen", DEFAULT)

    @property
    def detectors(self) -> dict[str, dict[str, float]]:
        """The figures of what may be chosen, by name, in the order in which they were tried."""
        listed = self.state.get("candidates", {})
        quality = self.state.get("quality", {})
        return {name: quality[name] for name, about in listed.items() if about["is_detector"] and name in quality}

    def adapter(self, name: str) -> str | None:
        """The folder of a candidate's adapter; None for the default model."""
        adapter = self.state.get("candidates", {}).get(name, {}).get("adapter")
        return checkpoint_source(adapter) if adapter else None

    @property
    def held_out(self) -> dict[str, Path]:
        """The images that candidates are compared on, by id."""
        return self._placed("held_out")

    def _placed(self, name: str) -> dict[str, Path]:
        """By id, but for links to images that are gone."""
        folder = self.root / "images" / name
        is_whole = folder.is_dir() and (self.has_looked or self.state.get("running"))
        found = _by_stem(folder, folder.stat().st_mtime_ns) if is_whole else {}
        return {id: file for id, file in found.items() if file.exists()}

    def map_file(self, candidate: str, id: str) -> Path:
        return self.root / "maps" / candidate / f"{id}.png"

    @property
    def sources(self) -> list[str]:
        """Whose labels can be reviewed: those that are all made, the best first."""
        made = [name for name in self.state.get("sources", []) if f"labels {name}" in self.state["seconds"]]
        quality = self.state.get("quality", {})
        return sorted(made, key=lambda name: -quality.get(name, {}).get("quality", 0.0))

    @property
    def training(self) -> dict[str, Path]:
        """The images that have labels, by id."""
        return self._placed("train")

    def doubtful(self, source: str) -> list[str]:
        """The ids of labels, the most doubtful first; kept until there are images that it does not have or, unless a
        review has begun, other labels to compare with."""
        other = other_labels(source, self.sources)
        file = self.root / "doubts" / f"{source}.json"
        if file.exists():
            kept = read_json(file)
            is_current = kept["beside"] == other or self.review_of(source).decisions
            if is_current and self.training.keys() <= set(kept["order"]):
                return kept["order"]
        labels = self.root / "labels"
        order = order_by_doubt(self.training, labels / source, labels / other if other else None)
        write_json(file, {"beside": other, "order": order})
        return order

    @cached_property
    def review(self) -> Review | None:
        try:
            return read_review(self.root)
        except RunError:  # which the command will tell
            return None

    @property
    def review_waits(self) -> bool:
        """Whether a training on the review was asked for that the command has not taken up yet."""
        taken = [parse_review(entry, self.root / STATE_FILE) for entry in self.state.get("reviews", [])]
        review = self.review
        return bool(review and review.train_on and not any(review.same_labels(other) for other in taken))

    def review_of(self, source: str) -> Review:
        """What was said of the labels of a source so far."""
        return self.review.of(source) if self.review else Review(source, train_on=False)

    @property
    def previews(self) -> list[Path]:
        """The newest pictures of each training, the newest training first."""
        folders = [*(self.root / "runs").glob("*/previews"), self.root / CUES / "previews"]
        newest = [max(found) for folder in folders if (found := list(folder.glob("epoch_*.png")))]
        return sorted(newest, key=lambda path: -path.stat().st_mtime)


@lru_cache(maxsize=16)
def _by_stem(folder: Path, _changed: int) -> dict[str, Path]:
    try:
        return by_stem(folder)
    except (FileNotFoundError, ValueError):
        return {}
