"""Cards: the sources all render, numbers come from evaluations alone, metadata is what the Hub reads."""

import json
import re

import pytest
from huggingface_hub import ModelCard

import hf_usod
from hf_usod.assets import CARDS
from hf_usod.evaluation import METRICS
from hf_usod.hub import read_measurements, render_card
from hf_usod.hub.cards import Measurement, render_template

SOURCES = sorted(path for path in CARDS.glob("*.md") if path.stem != "pseudo-labels")
ADAPTERS = {"usod-rsi-lite", "usod-steel-lite", "usod-video-lite"}
SECTIONS = ["In which sense it is label-free", "How to use it", "Training", "Results", "Limits", "License", "Citation"]


def report(model, dataset="SOME-dev", mae=0.1234567, **kwargs):
    return Measurement(model=model, dataset=dataset, num_images=50, scores={"mae": mae, "f_adaptive": 0.75}, **kwargs)


def base_of(source):
    return "me/usod-sce-lite" if source.stem in ADAPTERS else None


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
@pytest.mark.parametrize("repo_id", [None, "me/thing"])
def test_every_source_renders(source, repo_id):
    card = ModelCard(render_card(source, repo_id=repo_id, base=base_of(source), reports=[]))
    assert card.data.license and card.data.pipeline_tag == "image-segmentation"
    headings = re.findall(r"^## (.*)$", card.text, flags=re.MULTILINE)
    assert set(SECTIONS) <= set(headings)
    assert "{" not in re.sub(r"```.*?```", "", card.text, flags=re.DOTALL)
    assert ("me/thing" in card.text) == bool(repo_id)
    assert "nothing has been measured on these weights" in card.text and card.data.eval_results is None
    for code in re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL):
        compile(code, source.name, "exec")


def test_numbers_are_those_of_the_reports():
    reports = [report("usod-rgb"), report("usod-rgb", "OTHER-dev", 0.05), report("usod-rgb-lite", mae=0.9)]
    card = ModelCard(render_card(CARDS / "usod-rgb.md", repo_id="me/usod-rgb", reports=reports))
    assert "| usod-rgb | SOME-dev | 50 | 0.123 | 0.750 |  |" in card.text
    assert "| usod-rgb | OTHER-dev | 50 | 0.050 |" in card.text
    assert "0.900" not in card.text and "nothing has been measured" not in card.text
    assert card.data.model_name == "usod-rgb"
    found = {(r.dataset_name, r.metric_type, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert found == {
        ("SOME-dev", "mae", "M"): 0.1235,
        ("SOME-dev", "f_adaptive", "F adaptive"): 0.75,
        ("OTHER-dev", "mae", "M"): 0.05,
        ("OTHER-dev", "f_adaptive", "F adaptive"): 0.75,
    }


def test_an_adapter_is_shown_beside_its_base():
    reports = [
        report("usod-sce-lite", mae=0.3),
        report("usod-sce-lite", mae=0.2, adapter="usod-rsi-lite"),
        report("usod-sce-lite", "ELSEWHERE", mae=0.4),
    ]
    card = ModelCard(render_card(CARDS / "usod-rsi-lite.md", repo_id="me/a", base="me/usod-sce-lite", reports=reports))
    rows = [line for line in card.text.splitlines() if line.startswith("| usod-sce-lite")]
    assert [row[:54] for row in rows] == [
        "| usod-sce-lite | SOME-dev | 50 | 0.300 | 0.750 |  |  ",
        "| usod-sce-lite + usod-rsi-lite | SOME-dev | 50 | 0.20",
    ]
    assert card.data.base_model == "me/usod-sce-lite"
    assert {result.metric_value for result in card.data.eval_results} == {0.2, 0.75}


def test_pictures():
    pictures = {"examples": ["examples/a.jpg"], "picture": "pictures/results.png"}
    failures = ["pictures/failures/thin_spokes.png"]
    text = render_card(CARDS / "usod-rgb.md", repo_id="me/a", reports=[], failures=failures, **pictures)
    assert '<img src="examples/a.jpg"' in text and "](pictures/results.png)" in text
    assert "![thin spokes](pictures/failures/thin_spokes.png)" in text
    assert "![" not in render_card(CARDS / "usod-rgb.md", repo_id="me/a", reports=[])


def test_reading_reports(tmp_path):
    scores = {"mae": 0.1, "f_max": 0.8}
    one = {"model": "runs/usod-rgb", "dataset": "A", "num_images": 5, "note": "ignored", **scores}
    adapted = {**one, "dataset": "B", "adapter": "some/where/usod-rsi-lite"}
    (tmp_path / "a.json").write_text(json.dumps(one))
    stretched = {**one, "dataset": "C", "normalize": True}
    (tmp_path / "b.json").write_text(json.dumps([one, adapted, stretched]))
    (tmp_path / "speed.json").write_text(json.dumps({"model": "usod-rgb", "seconds": 3}))
    expected = Measurement("usod-rgb", "A", 5, scores)
    with_adapter = Measurement("usod-rgb", "B", 5, scores, adapter="usod-rsi-lite")
    assert read_measurements(tmp_path) == [expected, expected, with_adapter]
    render_card(CARDS / "usod-rgb.md", reports=read_measurements(tmp_path))
    (tmp_path / "c.json").write_text(json.dumps({**one, "mae": 0.2}))
    with pytest.raises(ValueError, match=r"c\.json and .*a\.json: both score usod-rgb on A, differently"):
        render_card(CARDS / "usod-rgb.md", reports=read_measurements(tmp_path))
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ValueError, match=r"c\.json: is not JSON"):
        read_measurements(tmp_path)


def test_the_repositorys_reports_have_known_scores():
    assert read_measurements()
    assert all(set(report.scores) == set(METRICS) for report in read_measurements())


def test_a_broken_template_is_named(tmp_path):
    source = tmp_path / "broken.md"
    source.write_text("---\nlicense: mit\n---\n{{ no_such_thing }}")
    with pytest.raises(ValueError, match=r"broken\.md: 'no_such_thing' is undefined"):
        render_template(source)


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in (hf_usod.checkpoint_path().parent).glob("*/README.md")),
    ids=lambda p: p.name,
)
def test_embedded_cards_are_up_to_date(folder):
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.is_file() else None
    assert (folder / "README.md").read_text() == render_card(CARDS / f"{folder.name}.md", base=base), (
        "run `python scripts/embed.py --cards`"
    )
