"""What a run has logged, as charts."""

from collections.abc import Mapping, Sequence

from ..html import Chart, Point

POINTS = 300  # of a curve at most, each a mean
_SHARES = ("foreground", "hard_samples", "agreement", "label_change")
_RATES = ("learning_rate", "images_per_second", "minutes_left")


def charts(history: Sequence[Mapping[str, float]], stage: str = "") -> list[Chart]:
    """The loss and its terms in one chart, shares in another; rates and speeds are left out.

    Args:
        history: see `read_history`.
        stage: what titles begin with.
    """
    names = dict.fromkeys(name for record in history for name in record if name not in ("step", *_RATES))
    lines = {name: _thinned([(one["step"], one[name]) for one in history if name in one]) for name in names}
    losses = {name: line for name, line in lines.items() if name not in _SHARES}
    shares = {name: line for name, line in lines.items() if name in _SHARES}
    drawn = {"loss and its terms": losses, "shares": shares}
    return [Chart(f"{stage}: {name}" if stage else name, "step", of) for name, of in drawn.items() if of]


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Means of as many points in a row as leave `POINTS` of them."""
    width = -(-len(points) // POINTS) or 1
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
