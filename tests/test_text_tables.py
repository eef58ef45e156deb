"""Whatever a name holds, a table shows it and stays a table."""

import re

import pytest

from hf_usod.evaluation import METRICS
from hf_usod.text_tables import escape_latex, escape_markdown, latex_table, markdown_table

NASTY = r"a|b\c*d`e<f>&g%h$i#j_k{l}m~n^o" + '"p\nq'


def test_every_special_character_of_latex_is_escaped():
    text = escape_latex(NASTY)
    plain = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]", "", text)
    assert not set(plain) & set('&%$#_{}~^\\<>|"\n') and set("abcdefghijklmnopq") <= set(text)
    assert escape_latex("0.7 ± 0.1 ↓ a²") == r"0.7 $\pm$ 0.1 $\downarrow$ a\textsuperscript{2}"


def test_every_special_character_of_markdown_is_escaped():
    text = escape_markdown(NASTY)
    assert "\n" not in text and re.findall(r"(?<!\\)[|*`<]", text) == [] and r"b\\c" in text
    assert escape_markdown("usod-rgb-lite + a_b (1.0)") == "usod-rgb-lite + a_b (1.0)"


@pytest.mark.parametrize("separator, ending, table", [(" & ", r" \\", latex_table), (" | ", " |", markdown_table)])
def test_rows_have_as_many_cells_as_the_head(separator, ending, table):
    text = table(["name", "M", "F"], [[NASTY, "0.1", "0.2"], ["x", "0.3", "0.4"]], 1)
    rows = [line for line in text.splitlines() if line.endswith(ending) and "---" not in line]
    assert len(rows) == 3 and all(len(row.removesuffix(ending).split(separator)) == 3 for row in rows)


def test_latex_has_a_rule_where_the_first_column_changes():
    assert latex_table(["a", "b"], [["x", "1"], ["x", "2"], ["y", "3"]], 1).count(r"\midrule") == 2


def test_metrics_say_which_way_is_better():
    assert [key for key, metric in METRICS.items() if metric.lower_is_better] == ["mae"]
    assert METRICS["mae"].column == "M ↓" and METRICS["mae"].latex == r"$M\downarrow$"
    assert METRICS["f_max"].column == "F max" and METRICS["f_max"].latex == r"$F_\beta^{\mathrm{max}}\uparrow$"
    assert all(metric.key == key and metric.range == (0, 1) for key, metric in METRICS.items())
