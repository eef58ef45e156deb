"""A table is trained, scored and filled, without doing anything twice."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from hf_usod.errors import TableError
from hf_usod.evaluation import METRICS
from hf_usod.experiments import (
    describe_missing,
    fill_table,
    missing_sets,
    override,
    plan_runs,
    read_recipe,
    table_latex,
    table_markdown,
    without,
)

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes" / "tables"
RESULTS = Path(__file__).parents[2] / "results"
# Stands for hf-usod: notes what it was told, and "trains" a file.
TRAINER = """
import json, sys, pathlib
words = sys.argv[2:]
log = pathlib.Path(sys.argv[1])
with log.open("a") as file:
    file.write(json.dumps(words) + "\\n")
out = pathlib.Path(words[words.index("--output_dir" if words[0] == "train" else "--output") + 1])
(out / "model").mkdir(parents=True, exist_ok=True)
if "--keep_epochs" in words:
    for epoch in "12":
        (out / "epochs" / epoch).mkdir(parents=True)
        (out / "epochs" / epoch / "config.json").write_text("{}")
sys.exit(3 if "fail" in words else 0)
"""
RECIPE = {
    "title": "Table 0",
    "shared": {"sce": {"stage": "sce"}, "labels": "label {images} --model {sce}/model --output {here}"},
    "arguments": {"stage": "sd", "labels": "{labels}"},
    "variants": {"off": {"spr": "none"}, "on": {"spr": "both", "keep_epochs": True}},
    "seeds": [0, 1],
    "evaluate": [
        {"name": "photos", "images": "{data}/RGB", "masks": "{data}/GT"},
        {"name": "labels", "predictions": "{run}/labels", "masks": "{data}/GT", "only": ["on"]},
    ],
    "published": {"on": {"DUTS-TE": {"mae": 0.047}}},
}


@pytest.fixture
def recipe(tmp_path):
    def write(**changes):
        (tmp_path / "table.yaml").write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
        return read_recipe(tmp_path / "table.yaml")

    return write


@pytest.fixture
def launcher(tmp_path):
    (tmp_path / "trainer.py").write_text(TRAINER)
    return [sys.executable, str(tmp_path / "trainer.py"), str(tmp_path / "log")]


def calls(launcher):
    return [json.loads(line) for line in Path(launcher[-1]).read_text().splitlines()]


class Scorer:
    """Scores that depend on the seed and the epoch."""

    def __init__(self):
        self.asked = []

    def __call__(self, model, what):
        self.asked.append((model, what["name"]))
        text = str(model or what["predictions"])
        value = 0.5 + 0.2 * ("seed1" in text) + 0.1 * ("epochs/1" in text)
        return dict.fromkeys(METRICS, value)


def test_commands(recipe):
    runs = plan_runs(recipe(seeds=[3]), Path("out"), ["photos", "more"], Path("sets"))
    assert [(run.name, run.variant) for run in runs] == [("sce", 0), ("labels", 0), ("off", 1), ("on", 1)]
    assert runs[0].commands == [
        ["train", "--images", "photos", "more", "--stage", "sce", "--seed", "3", "--output_dir", "out/runs/sce-seed3"]
    ]
    assert runs[1].commands == [
        ["label", "photos", "more", "--model", "out/runs/sce-seed3/model", "--output", "out/runs/labels-seed3"]
    ]
    assert " ".join(runs[2].commands[0]).endswith(
        "--stage sd --labels out/runs/labels-seed3 --spr none --seed 3 --output_dir out/runs/off-seed3"
    )


def test_filled_once(recipe, launcher, tmp_path):
    table, scorer = recipe(), Scorer()
    cells = fill_table(table, tmp_path / "out", ["photos"], tmp_path, launcher, scorer)
    assert [(cell["dataset"], cell["variant"], cell["epoch"]) for cell in cells] == [
        ("photos", "off", "last"),
        ("photos", "on", "last"),
        ("photos", "on", "best"),
        ("labels", "on", "labels"),
    ]
    assert all(cell["seeds"] == [0, 1] for cell in cells)
    assert cells[1]["mae"] == {"mean": pytest.approx(0.6), "spread": pytest.approx(0.2 / 2**0.5)}
    assert cells[2]["f_adaptive"]["mean"] == pytest.approx(0.7)
    told = calls(launcher)
    assert len(told) == 8 and all(words[-2:] == ["--resume", "True"] for words in told if words[0] == "train")

    again = Scorer()
    assert fill_table(table, tmp_path / "out", ["photos"], tmp_path, launcher, again) == cells
    assert len(calls(launcher)) == 8 and not again.asked

    text = table_markdown(table, cells)
    assert (
        "| photos | on | best | 2 | 0.700 ± 0.141 |" in text and "| DUTS-TE | on | the paper's |  | 0.047 | - |" in text
    )
    assert "flatters" in text
    assert r"photos & on & best & 2 & 0.700 $\pm$ 0.141" in table_latex(table, cells)


def test_a_failed_training_is_taken_up_again(recipe, launcher, tmp_path):
    failing = recipe(variants={"on": {"spr": "fail"}}, evaluate=RECIPE["evaluate"][:1], seeds=[0], published={})
    with pytest.raises(TableError, match=r"`train` ended with status 3"):
        fill_table(failing, tmp_path / "out", ["photos"], None, launcher, Scorer())
    with pytest.raises(TableError, match=r"`train` ended with status 3"):
        fill_table(failing, tmp_path / "out", ["photos"], None, launcher, Scorer())
    assert [words[0] for words in calls(launcher)] == ["train", "label", "train", "train"]


def test_a_run_of_other_arguments_is_not_taken_for_this_one(recipe, launcher, tmp_path):
    fill_table(recipe(), tmp_path / "out", ["photos"], tmp_path, launcher, Scorer())
    with pytest.raises(TableError, match="by other commands"):
        fill_table(recipe(), tmp_path / "out", ["others"], tmp_path, launcher, Scorer())


def test_data_sets_that_are_not_there_are_named(recipe, tmp_path):
    here, there = {"name": "here", "images": "x", "masks": str(tmp_path)}, {**RECIPE["evaluate"][0], "name": "ECSSD"}
    table = recipe(evaluate=[here, there])
    missing = missing_sets(table, tmp_path / "nowhere")
    assert [what["name"] for what in missing] == ["ECSSD"] and "https://" in describe_missing(missing)
    assert [what["name"] for what in without(table, missing).evaluate] == ["here"]
    with pytest.raises(TableError, match="None of the data sets"):
        without(recipe(evaluate=[there]), [there])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"color": 1}, "unexpected keyword argument 'color'"),
        ({"title": 7}, "`title` is to be a text, got 7"),
        ({"variants": ["on"]}, "`variants` is to be names with"),
        ({"variants": {}, "published": {}}, "`variants` is to be names with"),
        ({"evaluate": {"name": "x"}}, "`evaluate` is to be a list"),
        ({"evaluate": []}, "`evaluate` is to be a list"),
        ({"seeds": ["a"]}, "`seeds` is to be a list of whole numbers"),
        ({"scores": "mae"}, "`scores` is to be a list of scores"),
        ({"scores": ["f"]}, "no score 'f'"),
        ({"evaluate": [{"name": "x", "masks": "y"}]}, "either images or predictions"),
        ({"published": {"other": {}}}, "'other', which is no variant"),
        ({"recipe": "nowhere.yaml"}, r"there is no recipe .*nowhere\.yaml"),
    ],
)
def test_recipes_with_mistakes(recipe, changes, message):
    with pytest.raises(TableError, match=f"table.yaml.*{message}"):
        recipe(**changes)


def test_settings_replace_arguments_of_all_trainings_or_of_a_stage(recipe):
    table = override(recipe(), ["size=160", "sd.spr_weights=0.5,1", "sce.num_epochs=2"], [7])
    assert table.seeds == [7] and table.shared["labels"] == RECIPE["shared"]["labels"]
    assert table.shared["sce"] == {"stage": "sce", "size": "160", "num_epochs": "2"}
    assert table.variants["off"] == {"spr": "none", "size": "160", "spr_weights": ["0.5", "1"]}
    with pytest.raises(TableError, match="--set size: expected name=value"):
        override(table, ["size"])
    for setting in ("siez=64", "sx.size=64", "size=x", "sd.refine=crf", "size="):
        with pytest.raises(TableError, match=f"--set {setting}: (there is no|invalid)"):
            override(table, [setting])


def test_a_brace_of_nothing(recipe):
    with pytest.raises(TableError, match=r"nothing is known of 'label'"):
        plan_runs(recipe(arguments={"labels": "{label}"}), Path("out"), [], None)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_papers_tables(path):
    table = read_recipe(path)
    runs = plan_runs(table, Path("out"), ["photos"], Path("sets"))
    assert len(runs) == len(table.seeds) * (len(table.shared) + len(table.variants)) and len(table.seeds) >= 2
    assert all("{" not in word for run in runs for command in run.commands for word in command)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("table*/cells.json")), ids=lambda path: path.parent.name)
def test_the_published_tables_are_what_their_cells_say(path):
    table = read_recipe(RECIPES / f"{path.parent.name.removeprefix('table')}.yaml")
    assert table_markdown(table, json.loads(path.read_text())) == (path.parent / "table.md").read_text()
