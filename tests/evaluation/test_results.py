"""The tables of README and cards are written from files, and found out when they are not."""

import importlib.util
import json
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "scripts" / "results.py"


@pytest.fixture(scope="module")
def results():
    specification = importlib.util.spec_from_file_location("results_script", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    entries = [
        {"model": "one", "dataset": "photos", "num_images": 7, "note": "a note", "mae": 0.1234, "f_adaptive": 0.9},
        {"model": "two", "dataset": "photos", "num_images": 7, "mae": 0.2, "f_adaptive": 0.8},
    ]
    (tmp_path / "scores.json").write_text(json.dumps(entries))
    (tmp_path / "table.md").write_text("**A table**\n")
    return tmp_path


def section(request, inside=""):
    return f"before\n<!-- results: {request} -->\n{inside}<!-- /results -->\nafter\n"


def test_sections_are_written_and_stay(results, root):
    text = results.rewrite(section("scores.json scores=mae,f_adaptive models=one", "old 0.999\n"), root)
    assert "| photos | one | 7 | a note | 0.123 | 0.900 |" in text and "0.999" not in text and "two" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert results.rewrite(text, root) == text
    both = results.rewrite(section("scores.json scores=mae") + section("table.md"), root)
    assert "| two |" in both and "**A table**" in both and both.count("<!-- /results -->") == 2


def test_the_legend_stands_where_it_is_asked_for(results, root):
    legend, table, bare = (
        results.render(request, root) for request in ("legend", "scores.json", "scores.json legend=no")
    )
    assert "M: mean absolute error" in legend and "| photos |" not in legend
    assert legend.strip() in table
    assert bare == table.replace(f"{legend.strip()} ", "") and "(scores.json)" in bare


def test_what_is_special_about_a_table_is_said_without_the_legend_too(results, root):
    entries = json.loads((root / "scores.json").read_text())
    (root / "scores.json").write_text(json.dumps([entry | {"normalize": True} for entry in entries]))
    assert "stretched to the full range" in results.render("scores.json legend=no", root)


@pytest.mark.parametrize(
    "text, message",
    [
        ("<!-- results: scores.json -->\n", "without"),
        (section("scores.json scores=f"), "no score 'f'"),
        (section("scores.json models=three"), "no model 'three'"),
        (section("scores.json color=red"), "no option 'color'"),
        (section("scores.json legend=yes"), "`legend=no` leaves it out"),
    ],
)
def test_mistakes(results, root, text, message):
    with pytest.raises(ValueError, match=message):
        results.rewrite(text, root)


def test_check_finds_what_is_not_up_to_date(results, root, monkeypatch, capsys):
    monkeypatch.setattr(results, "ROOT", root)
    monkeypatch.setattr(results.render, "__defaults__", (root,))
    monkeypatch.setattr(results.rewrite, "__defaults__", (root,))
    page = root / "page.md"
    page.write_text(section("scores.json scores=mae"))
    monkeypatch.setattr("sys.argv", ["results.py", str(page), "--check"])
    assert results.main() == 1 and page.read_text() == section("scores.json scores=mae")
    monkeypatch.setattr("sys.argv", ["results.py", str(page)])
    assert results.main() == 0 and "0.123" in page.read_text()
    monkeypatch.setattr("sys.argv", ["results.py", str(page), "--check"])
    assert results.main() == 0


def test_the_pages_are_up_to_date(results, monkeypatch):
    pages = [str(REPOSITORY / page) for page in ("README.md", "docs/ablations.md", "docs/numbers.md")]
    monkeypatch.setattr("sys.argv", ["results.py", *pages, "--check"])
    assert results.main() == 0
