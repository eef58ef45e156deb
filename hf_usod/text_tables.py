"""Tables as Markdown and as LaTeX: the one writer of each, with the one escaping."""

import re
from collections.abc import Sequence

_MARKDOWN = re.compile(r"([\\|`*<])")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "²": r"\textsuperscript{2}",
}


def escape_markdown(text: str) -> str:
    """A text as a cell of a Markdown table shows it. Underscores within words need no escape."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """A text as LaTeX shows it."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], num_texts: int) -> str:
    """A Markdown table; its first `num_texts` columns are texts, the others numbers."""
    rule = ["---"] * num_texts + ["---:"] * (len(head) - num_texts)
    lines = [head, rule, *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex_table(head: Sequence[str], rows: Sequence[Sequence[str]], num_texts: int) -> str:
    """A table for LaTeX with the booktabs package, with a rule wherever the first column changes.

    Args:
        head: as LaTeX; the rows are plain text.
    """
    lines = []
    for number, row in enumerate(rows):
        if number and row[0] != rows[number - 1][0]:
            lines.append(r"\midrule")
        lines.append(" & ".join(map(escape_latex, row)) + r" \\")
    columns = "l" * num_texts + "r" * (len(head) - num_texts)
    frame = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*frame, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
