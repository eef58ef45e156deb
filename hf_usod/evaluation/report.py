"""Scores as files: JSON, CSV, Markdown, LaTeX, and curves. Every file is written whole or not at all."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .. import text_tables
from ..files import write_json, write_text
from ..inference.tiled import model_label
from .published import PAPER, published_scores
from .results import Entry, Evaluation, entries_of
from .usod_saliency.saliency_metrics import CURVES, METRICS, NUM_THRESHOLDS

LEGEND = (
    "M: mean absolute error, lower is better; the others: higher is better. F: beta^2 = 0.3. Adaptive: at the "
    "threshold min(2 mean(S), 1), mean over images; mean and max: of the mean curve over 256 thresholds."
)
STRETCHED = " Each map was stretched to the full range first, as PySODMetrics does by default."


def legend(entries: Sequence[Entry]) -> str:
    """What the scores of a table are."""
    return LEGEND + (STRETCHED if any(entry.get("normalize") for entry in entries) else "")


def entry_label(entry: Entry) -> str:
    """The model's name in tables."""
    return model_label(entry["model"], entry.get("adapter"), entry.get("tiles"))


def format_score(value: float | None, signed: bool = False) -> str:
    """Three digits, as in the field's tables; a dash for what is not there."""
    return "-" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def table_rows(entries: Sequence[Entry], columns: Sequence[str], published: bool = True) -> list[list[str]]:
    """Rows of a table: the entries by data set and, under those with published scores, these and the difference."""
    notes = any(entry.get("note") for entry in entries)
    rows = []
    for dataset in dict.fromkeys(entry["dataset"] for entry in entries):
        measured = [entry for entry in entries if entry["dataset"] == dataset]
        paper = published_scores(dataset) if published else None
        for entry in measured:
            head = [dataset, entry_label(entry), str(entry["num_images"])]
            note = [entry.get("note", "")] if notes else []
            rows.append(head + note + [format_score(entry.get(name)) for name in columns])
            if paper:
                deltas = {key: entry[key] - value for key, value in paper._asdict().items() if key in entry}
                cells = [format_score(deltas.get(name), signed=True) for name in columns]
                rows.append([dataset, f"{entry_label(entry)} minus {PAPER}", "", *([""] if notes else []), *cells])
        if paper:
            cells = [format_score(paper._asdict().get(name)) for name in columns]
            rows.append([dataset, PAPER, "", *(["ResNet-50, MoCo-v2"] if notes else []), *cells])
    return rows


def _head(entries: Sequence[Entry], headings: Iterable[str]) -> list[str]:
    note = ["about the model"] if any(entry.get("note") for entry in entries) else []
    return ["data set", "model", "images", *note, *headings]


def markdown_table(entries: Sequence[Entry], columns: Sequence[str] = tuple(METRICS), published: bool = True) -> str:
    """A Markdown table of entries; `columns` are names of scores."""
    head = _head(entries, [METRICS[key].column for key in columns])
    return text_tables.markdown_table(head, table_rows(entries, columns, published), len(head) - len(columns))


def latex_table(entries: Sequence[Entry], columns: Sequence[str] = tuple(METRICS), published: bool = True) -> str:
    """As `markdown_table`, for LaTeX with the booktabs package, without notes; a rule between data sets."""
    plain = [{key: value for key, value in entry.items() if key != "note"} for entry in entries]
    head = _head(plain, [METRICS[key].latex for key in columns])
    return text_tables.latex_table(head, table_rows(plain, columns, published), 2)


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *rows])
    return text.getvalue()


def image_csv(evaluations: Sequence[Evaluation]) -> str:
    """A line an image and model: scores whose means are the table's, and the share of object in the ground truth."""
    scores = [name for name in METRICS if not name.endswith("_max")] + ["foreground"]
    rows = (
        [evaluation.label, evaluation.dataset, row["id"], *(row[name] for name in scores)]
        for evaluation in evaluations
        for row in evaluation.metrics.rows
    )
    return _csv(["model", "dataset", "id", *scores], rows)


def curve_csv(evaluations: Sequence[Evaluation]) -> str:
    """The mean curves: a line a threshold k/255 and model."""
    rows = []
    for evaluation in evaluations:
        curves = evaluation.metrics.curves()
        for level in range(NUM_THRESHOLDS):
            values = [curves[name][level] for name in CURVES]
            rows.append([evaluation.label, evaluation.dataset, f"{level}/255", *values])
    return _csv(["model", "dataset", "threshold", *CURVES], rows)


def write_report(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Writes results.json, images.csv, curves.csv, results.md and results.tex; for pictures see `figures`."""
    entries = entries_of(evaluations)
    write_json(folder / "results.json", entries)
    write_text(folder / "images.csv", image_csv(evaluations))
    write_text(folder / "curves.csv", curve_csv(evaluations))
    write_text(folder / "results.md", f"{markdown_table(entries)}\n{legend(entries)}\n")
    write_text(folder / "results.tex", latex_table(entries))
