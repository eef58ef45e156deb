"""What became of the photos and clips of a prediction."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import counted


@dataclass
class Report:
    """What became of the images of a prediction."""

    done: int = 0  # images with at least one file written
    clips: int = 0  # clips that were done to their end
    kept: list[Path] = field(default_factory=list)  # outputs that existed and were left as they are
    failed: dict[Path, str] = field(default_factory=dict)  # what could not be read or written (to its end), and why
    notes: list[str] = field(default_factory=list)  # what else should be known
    passed_over: int = 0  # pictures and clips in folders and of patterns that are results of earlier runs

    def __str__(self) -> str:
        counts = [counted(count, name) for count, name in ((self.done, "photo"), (self.clips, "clip")) if count]
        return " and ".join(counts) or "no photos"


@dataclass(frozen=True)
class Record:
    """What became of one photo or clip.

    Args:
        outputs: the files that were written, by kind.
        size: of the photo as it is read, width and height in pixels.
        seconds: of work on it: to read, its share of its batch, to make and write the files. Several photos are worked
            on at a time, so that the sum is more than what passes.
        error: why there is no result.
    """

    input: Path
    outputs: dict[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    seconds: float | None = None
    error: str | None = None

    def entry(self) -> dict[str, Any]:
        """As a line of JSON; what is not known is left out."""
        entry = {name: value for name, value in asdict(self).items() if value is not None}
        outputs = {kind: str(path) for kind, path in self.outputs.items()}
        rounded = {} if self.seconds is None else {"seconds": round(self.seconds, 4)}
        return {**entry, "input": str(self.input), "outputs": outputs, **rounded}


Tell = Callable[[Record], object]
