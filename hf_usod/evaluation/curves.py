"""Precision-recall curves and F over thresholds, as pictures."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..extras import require
from ..files import write_aside
from .results import Evaluation

FORMATS = {"png": "Software", "pdf": "Creator"}  # and what each calls the program that wrote it
MAKER = "hf-usod figure"
# Okabe and Ito's colors, told apart by everyone, with line styles for those who print in gray.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files.

    Raises:
        ModuleNotFoundError: saying what to install.
    """
    require("matplotlib", "figures", "Drawing").use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42})
    return pyplot


def figure_files(path: Path) -> list[Path]:
    """`<path>.png` and `<path>.pdf`; a path may have one of these suffixes already."""
    stem = path.with_suffix("") if path.suffix[1:] in FORMATS else path
    return [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]


def is_figure(path: Path) -> bool:
    """Whether a file was written by `save_figure`."""
    return MAKER.encode() in path.read_bytes()


def save_figure(figure: Any, path: Path) -> list[Path]:
    """Writes a PNG (200 dpi) and a PDF, see `figure_files`; returns them. The figure is closed."""
    options = {"dpi": 200, "bbox_inches": "tight", "facecolor": "white"}
    paths = figure_files(path)
    for target, maker in zip(paths, FORMATS.values(), strict=True):
        write_aside(target, partial(figure.savefig, metadata={maker: MAKER}, **options))
    pyplot().close(figure)
    return paths


def file_name(text: str) -> str:
    """A model's or data set's name as that of a file."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "unnamed"


def draw_curves(evaluations: Sequence[Evaluation], folder: Path) -> list[Path]:
    """Writes curves-<data set>.png and .pdf: precision over recall, and F over the threshold, a line a model.

    Raises:
        ModuleNotFoundError: without matplotlib.
    """
    plt = pyplot()
    written = []
    for dataset in dict.fromkeys(evaluation.dataset for evaluation in evaluations):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), constrained_layout=True)
        drawn = [evaluation for evaluation in evaluations if evaluation.dataset == dataset]
        for number, evaluation in enumerate(drawn):
            curves = evaluation.metrics.curves()
            look = {
                "color": COLORS[number % len(COLORS)],
                "linestyle": STYLES[number // len(COLORS) % len(STYLES)],
                "linewidth": 1.6,
                "label": evaluation.label,
            }
            left.plot(curves["recall"], curves["precision"], **look)
            right.plot([level / 255 for level in range(256)], curves["f"], **look)
        left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall")
        right.set(xlabel="threshold", ylabel="F, beta² = 0.3", xlim=(0, 1), ylim=(0, 1.02), title="F over thresholds")
        for axes in (left, right):
            axes.grid(color="#dddddd", linewidth=0.6)
        right.legend(frameon=False, loc="lower center")
        figure.suptitle(f"{dataset}, {len(drawn[0].metrics)} images", fontsize=10)
        written += save_figure(figure, folder / f"curves-{file_name(dataset)}")
    return written
