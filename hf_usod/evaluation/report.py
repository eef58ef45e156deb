"""Scores as files: JSON, CSV, Markdown, LaTeX, and curves. Every file is written whole or not at all."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from .benchmark import Evaluation
from .published import PAPER, published_scores
from .usod_saliency.saliency_metrics import CURVES, METRICS, NUM_THRESHOLDS

Entry = dict[str, Any]

HEADINGS = {
    "mae": "M ↓",
    "f_adaptive": "F adaptive",
    "f_mean": "F mean",
    "f_max": "F max",
    "e_adaptive": "E adaptive",
    "e_mean": "E mean",
    "e_max": "E max",
    "s_alpha": "S alpha",
    "f_weighted": "F weighted",
}
_LATEX_HEADINGS = {
    "mae": r"$M\downarrow$",
    "f_adaptive": r"$F_\beta^{\mathrm{adp}}\uparrow$",
    "f_mean": r"$F_\beta^{\mathrm{mean}}\uparrow$",
    "f_max": r"$F_\beta^{\mathrm{max}}\uparrow$",
    "e_adaptive": r"$E_\xi^{\mathrm{adp}}\uparrow$",
    "e_mean": r"$E_\xi^{\mathrm{mean}}\uparrow$",
    "e_max": r"$E_\xi^{\mathrm{max}}\uparrow$",
    "s_alpha": r"$S_\alpha\uparrow$",
    "f_weighted": r"$F_\beta^w\uparrow$",
}
LEGEND = (
    "M: mean absolute error, lower is better; the others: higher is better. F: beta^2 = 0.3. Adaptive: at the "
    "threshold min(2 mean(S), 1), mean over images; mean and max: of the mean curve over 256 thresholds."
)
STRETCHED = " Each map was stretched to the full range first, as PySODMetrics does by default."


def legend(entries: Sequence[Entry]) -> str:
    """What the scores of a table are."""
    return LEGEND + (STRETCHED if any(entry.get("normalize") for entry in entries) else "")


def read_entries(path: Path) -> list[Entry]:
    """The entries of a results file.

    Raises:
        ValueError: naming the file, if it is none.
    """
    try:
        entries = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: is no JSON ({error}).") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "dataset" in entry for entry in entries):
        raise ValueError(f"{path}: is no results file; expected a list of entries, as `hf-usod evaluate` writes it.")
    return entries


def format_score(value: float | None, signed: bool = False) -> str:
    """Three digits, as in the field's tables; a dash for what is not there."""
    return "-" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def entry_label(entry: Entry) -> str:
    """The model's name in tables."""
    return f"{entry['model']} + {entry['adapter']}" if entry.get("adapter") else entry["model"]


def table_rows(entries: Sequence[Entry], columns: Sequence[str], published: bool = True) -> list[list[str]]:
    """Rows of a table: the entries by data set and, under those with published scores, these and the difference."""
    notes = any(entry.get("note") for entry in entries)
    rows = []
    for dataset in dict.fromkeys(entry["dataset"] for entry in entries):
        ours = [entry for entry in entries if entry["dataset"] == dataset]
        theirs = published_scores(dataset) if published else None
        for entry in ours:
            head = [dataset, entry_label(entry), str(entry["num_images"])]
            note = [entry.get("note", "")] if notes else []
            rows.append(head + note + [format_score(entry.get(name)) for name in columns])
            if theirs:
                deltas = {name: entry[name] - value for name, value in theirs._asdict().items()}
                cells = [format_score(deltas.get(name), signed=True) for name in columns]
                rows.append([dataset, f"{entry_label(entry)} minus {PAPER}", "", *([""] if notes else []), *cells])
        if theirs:
            cells = [format_score(theirs._asdict().get(name)) for name in columns]
            rows.append([dataset, PAPER, "", *(["ResNet-50, MoCo-v2"] if notes else []), *cells])
    return rows


def _head(entries: Sequence[Entry], headings: Iterable[str]) -> list[str]:
    note = ["about the model"] if any(entry.get("note") for entry in entries) else []
    return ["data set", "model", "images", *note, *headings]


def markdown_table(entries: Sequence[Entry], columns: Sequence[str] = tuple(METRICS), published: bool = True) -> str:
    """A Markdown table of entries; `columns` are names of scores."""
    head = _head(entries, [HEADINGS[name] for name in columns])
    left = len(head) - len(columns)
    rule = ["---"] * left + ["---:"] * len(columns)
    rows = [[cell.replace("|", r"\|") for cell in row] for row in table_rows(entries, columns, published)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows]) + "\n"


def _latex_text(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text


def latex_table(entries: Sequence[Entry], columns: Sequence[str] = tuple(METRICS), published: bool = True) -> str:
    """As `markdown_table`, for LaTeX with the booktabs package; a rule between data sets."""
    head = _head([], [_LATEX_HEADINGS[name] for name in columns])
    plain = [{key: value for key, value in entry.items() if key != "note"} for entry in entries]
    lines = []
    previous = None
    for row in table_rows(plain, columns, published):
        if previous not in (None, row[0]):
            lines.append(r"\midrule")
        lines.append(" & ".join(_latex_text(cell) for cell in row) + r" \\")
        previous = row[0]
    body = "\n".join([f"\\begin{{tabular}}{{ll{'r' * (len(columns) + 1)}}}", r"\toprule", " & ".join(head) + r" \\"])
    return "\n".join([body, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *rows])
    return text.getvalue()


def image_csv(evaluations: Sequence[Evaluation]) -> str:
    """A line an image and model: scores whose means are the table's, and the share of object in the ground truth."""
    scores = [name for name in METRICS if not name.endswith("_max")] + ["foreground"]
    rows = (
        [one.label, one.dataset, row["id"], *(row[name] for name in scores)]
        for one in evaluations
        for row in one.metrics.rows
    )
    return _csv(["model", "dataset", "id", *scores], rows)


def curve_csv(evaluations: Sequence[Evaluation]) -> str:
    """The mean curves: a line a threshold k/255 and model."""
    rows = []
    for one in evaluations:
        curves = one.metrics.curves()
        for level in range(NUM_THRESHOLDS):
            rows.append([one.label, one.dataset, f"{level}/255", *(curves[name][level] for name in CURVES)])
    return _csv(["model", "dataset", "threshold", *CURVES], rows)


def entries_of(evaluations: Sequence[Evaluation]) -> list[Entry]:
    """Entries for a results file; those on a published test set carry the paper's scores and the difference."""
    entries = []
    for one in evaluations:
        entry = one.entry()
        if theirs := published_scores(one.dataset):
            entry["published"] = {"source": PAPER, **theirs._asdict()}
            entry["difference"] = {name: entry[name] - value for name, value in theirs._asdict().items()}
        entries.append(entry)
    return entries


def write_report(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Writes results.json, images.csv, curves.csv, results.md and results.tex; for pictures see `figures`."""
    entries = entries_of(evaluations)
    write_json(folder / "results.json", entries)
    write_text(folder / "images.csv", image_csv(evaluations))
    write_text(folder / "curves.csv", curve_csv(evaluations))
    write_text(folder / "results.md", f"{markdown_table(entries)}\n{legend(entries)}\n")
    write_text(folder / "results.tex", latex_table(entries))
