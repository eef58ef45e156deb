"""Tables say what was scored, beside what was published."""

import csv
import json

import numpy as np
import pytest

from hf_usod.evaluation import METRICS, Evaluation, SaliencyMetrics
from hf_usod.evaluation.published import PUBLISHED, PublishedScores, published_scores, source
from hf_usod.evaluation.report import latex_table, markdown_table, write_report
from hf_usod.evaluation.results import entries_of, read_entries


def evaluation(model, dataset, **options):
    random = np.random.default_rng(len(model))
    metrics = SaliencyMetrics(**options)
    for number in range(3):
        mask = random.random((12, 15)) > 0.5
        metrics.step(random.integers(0, 256, mask.shape).astype(np.uint8), mask, f"{number}, with a comma")
    return Evaluation(model, dataset, metrics)


def test_published_scores_are_those_of_the_very_test_set():
    assert published_scores("ECSSD") == PublishedScores(0.038, 0.923, 0.951)
    assert published_scores("DUT-OMRON") == published_scores("DUT-O") is not None
    assert published_scores("DAVIS", "video") == PublishedScores(0.030, 0.793, 0.917)
    assert published_scores("ECSSD-dev") is None and published_scores("ECSSD", "rgbd") is None
    assert sum(len(rows) for rows in PUBLISHED.values()) == 18
    assert all("https://" in source(name) for rows in PUBLISHED.values() for name in rows)


def test_published_rows_and_differences():
    ours = evaluation("ours", "ECSSD")
    (entry,) = entries_of([ours])
    assert entry["difference"]["mae"] == pytest.approx(entry["mae"] - 0.038)
    text = markdown_table([entry], ["mae", "s_alpha"])
    assert f"| ECSSD | ours | 3 | {entry['mae']:.3f} | {entry['s_alpha']:.3f} |" in text
    assert f"{entry['mae'] - 0.038:+.3f} | - |" in text and "| ECSSD | A2S-v3 (paper) |  | 0.038 | - |" in text
    assert "paper" not in markdown_table(entries_of([evaluation("ours", "photos")]))


def test_latex_escapes_names():
    text = latex_table(entries_of([evaluation("a_b", "x&y"), evaluation("a_b", "ECSSD")]), ["mae"])
    assert r"a\_b" in text and r"x\&y" in text and text.count(r"\midrule") == 2
    assert all(line.count("&") - line.count(r"\&") == 3 for line in text.splitlines() if line.endswith(r"\\"))


def test_files(tmp_path):
    evaluations = [evaluation("one", "photos"), evaluation("three", "photos")]
    write_report(evaluations, tmp_path)
    entries = read_entries(tmp_path / "results.json")
    assert [entry["model"] for entry in entries] == ["one", "three"] and set(METRICS) <= entries[0].keys()
    rows = list(csv.DictReader((tmp_path / "images.csv").open()))
    assert len(rows) == 6 and rows[0]["id"] == "0, with a comma"
    assert np.mean([float(row["mae"]) for row in rows[:3]]) == pytest.approx(entries[0]["mae"])
    curves = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert max(float(row["f"]) for row in curves[:256]) == pytest.approx(entries[0]["f_max"])
    assert "| photos | three |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.tex").read_text().startswith(r"\begin{tabular}")


def test_stretched_scores_say_so(tmp_path):
    write_report([evaluation("one", "photos", normalize=True)], tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())[0]["normalize"] is True
    assert "stretched" in (tmp_path / "results.md").read_text()


def test_other_files_are_no_results(tmp_path):
    (tmp_path / "x.json").write_text('{"model": "one"}')
    with pytest.raises(ValueError, match=r"x\.json: is no results file"):
        read_entries(tmp_path / "x.json")
