"""What a run has logged, as charts."""

from collections.abc import Mapping, Sequence

from ..html import Chart

_SHARES = ("foreground", "hard_samples", "agreement", "label_change")
_RATES = ("learning_rate", "images_per_second", "minutes_left")


def charts(title: str, history: Sequence[Mapping[str, float]]) -> list[Chart]:
    """The loss and its terms in one chart, shares in another; rates and speeds are left out.

    Args:
        history: see `read_history`.
    """
    names = dict.fromkeys(name for record in history for name in record if name not in ("step", *_RATES))
    lines = {name: [(record["step"], record[name]) for record in history if name in record] for name in names}
    losses = {name: line for name, line in lines.items() if name not in _SHARES}
    shares = {name: line for name, line in lines.items() if name in _SHARES}
    drawn = {f"{title}: loss and its terms": losses, f"{title}: shares": shares}
    return [Chart(name, "step", of) for name, of in drawn.items() if of]
