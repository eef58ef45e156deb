"""A filled table as Markdown and LaTeX."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import text_tables
from ..evaluation.published import PAPER, published_scores
from ..evaluation.report import format_score
from ..evaluation.usod_saliency.saliency_metrics import METRICS
from ..files import write_text
from .cells import BEST
from .recipes import TableRecipe

BEST_NOTE = (
    "Best: the epoch with the highest adaptive F on the very images it is scored on, chosen anew for each seed and "
    "data set, so that it flatters; it is what reports of best epochs mean. Last: the epoch that training ends with."
)

_TEXTS = ("data set", "variant", "epoch")


def _cell_text(cell: dict[str, float | None]) -> str:
    mean, spread = format_score(cell["mean"]), cell["spread"]
    return mean if spread is None else f"{mean} ± {format_score(spread)}"


def _rows(table: TableRecipe, cells: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for cell in cells:
        values = [_cell_text(cell[name]) for name in table.scores]
        yield [cell["dataset"], cell["variant"], cell["epoch"], str(len(cell["seeds"])), *values]
    for dataset in dict.fromkeys(spec["name"] for spec in table.evaluate):
        if paper := published_scores(dataset):
            values = [format_score(paper._asdict().get(name)) for name in table.scores]
            yield [dataset, PAPER, "the paper's", "", *values]
    for dataset in dict.fromkeys(name for rows in table.published.values() for name in rows):
        for variant, rows in table.published.items():
            if scores := rows.get(dataset):
                values = [format_score(scores.get(name)) for name in table.scores]
                yield [dataset, variant, "the paper's", "", *values]


def table_markdown(table: TableRecipe, cells: Sequence[dict[str, Any]]) -> str:
    """The table with its title, the paper's rows under ours, and what the numbers are."""
    head = [*_TEXTS, "seeds", *(METRICS[key].column for key in table.scores)]
    text = text_tables.markdown_table(head, list(_rows(table, cells)), len(_TEXTS))
    notes = ["Mean ± standard deviation over seeds. F and E without another word: adaptive threshold, beta² = 0.3."]
    if any(cell["epoch"] == BEST for cell in cells):
        notes.append(BEST_NOTE)
    return f"**{table.title}**\n\n{text}\n{' '.join(notes)}\n"


def table_latex(table: TableRecipe, cells: Sequence[dict[str, Any]]) -> str:
    """The rows for LaTeX with the booktabs package."""
    head = [*_TEXTS, "seeds", *(METRICS[key].latex for key in table.scores)]
    return text_tables.latex_table(head, list(_rows(table, cells)), len(_TEXTS))


def write_table(table: TableRecipe, cells: Sequence[dict[str, Any]], output: Path) -> None:
    """Writes table.md and table.tex."""
    write_text(output / "table.md", table_markdown(table, cells))
    write_text(output / "table.tex", table_latex(table, cells))
