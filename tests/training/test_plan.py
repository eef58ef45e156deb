"""Plans: what recipes and command lines make of the stages' arguments, and what is refused before any training."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import hf_usod
from hf_usod.errors import PlanError
from hf_usod.training.arguments import STAGES, CueExtractorArguments, DetectorArguments, TransferArguments
from hf_usod.training.options import add_options, plan_of
from hf_usod.training.plan import Plan

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"


def plan(*words: str, stage: str = "all") -> Plan:
    """The plan that `hf-usod train` makes of its options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_options(parser)
    return plan_of(parser.parse_args(["--stage", stage, *words]))


@pytest.fixture
def recipe(tmp_path) -> Callable[[str], list[str]]:
    """`recipe(text)`: a command line with a recipe file of that text."""

    def write(text: str) -> list[str]:
        (tmp_path / "recipe.yaml").write_text(text)
        return ["--recipe", str(tmp_path / "recipe.yaml"), "--output_dir", "run"]

    return write


# --- Recipes --------------------------------------------------------------------------------------------------------


def test_a_recipe_stands_over_the_defaults_and_under_the_command_line(recipe, tmp_path):
    words = recipe(
        "images: [a, b]\nnum_epochs: 7\nlearning_rate: 1e-2\nscale_steps: [-1, 1]\n"
        "curriculum: false\nmixed_precision: no\n"
    )
    expected = CueExtractorArguments(
        images=[str(tmp_path / "a"), str(tmp_path / "b")],  # relative to the recipe
        output_dir="run",
        num_epochs=5,
        learning_rate=0.01,
        scale_steps=[-1, 1],
        curriculum=False,
        mixed_precision="no",
    )
    assert plan(*words, "--num_epochs", "5", stage="sce").sce == expected
    assert plan(*words, "--images", "c", stage="sce").sce.images == ["c"]


def test_a_recipe_may_name_one_folder_without_a_list(recipe, tmp_path):
    assert plan(*recipe("images: photos\n"), stage="sce").sce.images == [str(tmp_path / "photos")]


def test_a_recipe_has_sections_for_the_stages(recipe, tmp_path):
    words = [*recipe("sce:\n  num_epochs: 7\nsd:\n  num_epochs: 3\n  labels: [b]\n"), "--images", "a"]
    assert plan(*words, stage="sce").sce.num_epochs == 7
    assert plan(*words, stage="sd").sd == DetectorArguments(
        images=["a"], output_dir="run", num_epochs=3, labels=[str(tmp_path / "b")]
    )


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_are_understood(file):
    for stage in ["all", *yaml.safe_load(file.read_text())]:
        more = ["--labels", "c"] if stage == "sd" else []
        made = plan("--recipe", str(file), "--images", "a", "--output_dir", "b", *more, stage=stage)
        assert all(args.images == ["a"] for args in made.stages.values())
        assert plan("--recipe", file.stem, "--images", "a", "--output_dir", "b", *more, stage=stage) == made


@pytest.mark.parametrize(
    "text, message",
    [
        ("images: a\nepochs: 3\n", "recipe.yaml: there is no argument 'epochs'"),
        ("images: a\nnum_epoch: 3\n", "there is no argument 'num_epoch'. Did you mean num_epochs?"),
        ("images: a\nnum_epochs: many\n", "num_epochs: invalid int value: 'many'"),
        ("images: a\nnum_epochs: 3.0\n", "num_epochs: invalid int value: 3.0"),
        ("images: a\nnum_epochs: true\n", "num_epochs: invalid int value: True"),
        ("images: a\nnum_epochs: 010\n", "num_epochs: invalid int value: '010'"),
        ("images: a\nlearning_rate: null\n", "learning_rate: invalid float value: None"),
        ("images: a\nbackbone: 5\n", "backbone: invalid str value: 5"),
        ("images: a\ncurriculum: maybe\n", "curriculum: invalid bool value: 'maybe'"),
        ("images: a\nscale_steps: [1, x]\n", "scale_steps: invalid int value: 'x'"),
        ("images: a\nscale_steps: []\n", "--scale_steps: at least one is expected"),
        ("images: a\npcl_sd_variant: v2\n", "invalid choice: 'v2'"),
        ("images: a\nnum_epochs: 0\n", "--num_epochs must be at least 1, got 0"),
        ("images: a\nnum_epochs: 3\nnum_epochs: 4\n", "'num_epochs' comes twice"),
        ("images: a\nscale_steps: [-5, 1]\n", "--scale_steps [-5, 1] shrink the second view to 0 pixels"),
        ("- images\n", "expected lines of `argument: value`"),
        ("images: [a\n", "recipe.yaml: while parsing"),
        ("num_epochs: 3\n", "the following arguments are required: --images"),
        ("images: a\nsce:\n  epochs: 3\n", "recipe.yaml: sce: there is no argument 'epochs'"),
        ("images: a\nsd:\n  num_epoch: 3\n", "sd: there is no argument 'num_epoch'. Did you mean num_epochs?"),
        ("images: a\nsd:\n  spr_weights: [x]\n", "sd.spr_weights: invalid float value: 'x'"),
        ("images: a\nsd: 3\n", "sd: expected lines of `argument: value`"),
        ("images: a\nlabels: b\n", "labels: has no effect with --stage sce; leave it out. It is an argument of"),
        ("images: a\nstage1:\n  num_epochs: 3\n", "recipe.yaml: there is no stage 'stage1'"),
    ],
)
def test_wrong_recipes_are_refused(recipe, text, message):
    with pytest.raises(PlanError) as refusal:
        plan(*recipe(text), stage="sce")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_null_none_and_no_are_what_they_say(recipe):
    words = recipe(
        "images: [a, b]\nsd:\n  aux_backbone: null\n  aux: [none, null]\n  labels: [c, d]\n  refine_maps: no\n"
    )
    made = plan(*words, stage="sd").sd
    assert made.aux_backbone is None
    assert made.aux == [None, None]
    assert made.refine_maps is False
    assert plan(*words, "--aux", "none", "e", stage="sd").sd.aux == [None, "e"]


def test_names_in_a_recipe_are_paths_only_if_there_is_something(recipe, tmp_path):
    words = [*recipe("sce:\n  backbone: mine\nsd:\n  backbone: efficientnet-lite0\n"), "--images", "a"]
    (tmp_path / "mine").touch()
    made = plan(*words)
    assert (made.sce.backbone, made.sd.backbone) == (str(tmp_path / "mine"), "efficientnet-lite0")


# --- All stages -----------------------------------------------------------------------------------------------------


def test_zeros_of_the_command_line_reach_every_stage(recipe):
    words = recipe("images: a\nseed: 5\nnum_workers: 4\nsce:\n  btm_weight: 1\n")
    made = plan(*words, "--seed", "0", "--num_workers", "0", "--btm_weight", "0")
    assert [(args.seed, args.num_workers) for args in made.stages.values()] == [(0, 0), (0, 0)]
    assert made.sce.btm_weight == 0
    assert [(args.seed, args.num_workers) for args in plan(*words).stages.values()] == [(5, 4), (5, 4)]


def test_an_option_goes_to_all_stages_that_have_it_and_set_to_one():
    words = ["--images", "a", "--output_dir", "run", "--num_epochs", "2", "--spr", "none"]
    made = plan(*words, "--set", "sd.num_epochs=3", "batch_size=4", "--set", "sce.scale_steps=[1]")
    assert (made.sce.num_epochs, made.sd.num_epochs) == (2, 3)
    assert (made.sce.batch_size, made.sd.batch_size) == (4, 4)
    assert (made.sce.scale_steps, made.sd.scale_steps) == ([1], [-2, -1, 1, 2])
    assert made.sd.spr == "none"


def test_a_plan_says_where_everything_goes():
    words = ["--images", "a", "b", "--aux", "none", "c", "--output_dir", "run"]
    made = plan(*words, "--refine", "none")
    assert (made.sce.output_dir, made.sd.output_dir) == ("run/sce", "run/sd")
    assert made.sd.labels == ["run/labels/0", "run/labels/1"]
    assert made.sce.aux == made.sd.aux == [None, "c"]
    assert (made.labels.model, made.labels.by_detector, made.labels.refine) == (None, False, "none")
    video = plan("--images", "a", "--output_dir", "run", "--task", "video")
    assert video.flow and video.sce.aux == video.sd.aux == ["run/flow/0"]
    assert plan(*words, "--transfer").sce.aux == [None, "c"]
    assert plan(*words, stage="sce").sce.aux == [None, "c"]


def test_transfer_is_a_start_of_each_stage():
    words = ["--images", "a", "--output_dir", "run"]
    made = plan(*words, "--transfer")
    assert isinstance(made.sce, TransferArguments)
    assert (made.sce.base, made.sd.start, made.sd.adapt) == ("usod-sce-lite", "adapter", "usod-rgb-lite")
    made = plan(*words, "--transfer", "--sce", "x", "--adapt", "y")
    assert (made.sce.base, made.sd.adapt, made.labels.model) == ("x", "y", None)
    made = plan(*words, "--sce", "x", "--start_from", "y")
    assert (made.sce, made.labels.model, made.sd.start) == (None, "x", "model")
    made = plan(*words, "--transfer", "--labels_from", "sd")
    assert (made.sce, made.labels.model, made.labels.by_detector) == (None, "usod-rgb-lite", True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stage", "sd", "--adapt", "x", "--backbone", "y"], "--backbone: has no effect with --adapt"),
        (["--stage", "sd", "--start_from", "x", "--neck_channels", "1", "2", "3", "4"], "no effect with --start_from"),
        (["--stage", "sd", "--init_weights", "copy"], "--init_weights: has no effect with a new detector"),
        (["--stage", "sd", "--batch_norm", "eval"], "--batch_norm: has no effect with a new detector"),
        (["--transfer", "--backbone", "y"], "--backbone: has no effect with --transfer"),
        (["--sce", "x", "--decoder_channels", "8"], "--decoder_channels: has no effect with --stage all"),
        (["--transfer", "--set", "sd.fusion_channels=8"], "--set sd.fusion_channels=8: has no effect with --transfer"),
        (["--set", "sd.labels=x"], "--set sd.labels=x: has no effect with --stage all"),
        (["--set", "num_epoch=1"], "there is no argument 'num_epoch'. Did you mean num_epochs?"),
        (["--set", "ds.num_epochs=1"], "there is no stage 'ds'"),
        (["--set", "num_epochs"], "expected name=value or stage.name=value"),
        (["--set", "sd.mixed_precision=bf16"], "all stages share one"),
        (["--learning_rate", "-1"], "sce: --learning_rate must be above 0 and at most 1e+30, got -1.0"),
        (["--learning_rate", "nan"], "--learning_rate must be above 0 and at most 1e+30, got nan"),
        (["--set", "sd.backbone_learning_rate_ratio=-1"], "sd: --backbone_learning_rate_ratio must be at least 0"),
        (["--num_workers", "-1"], "--num_workers must be at least 0 and at most 1024, got -1"),
        (["--seed", "-1"], "--seed must be at least 0 and at most 4294967295, got -1"),
        (["--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["--set", "sd.num_epochs=0"], "sd: --num_epochs must be at least 1, got 0"),
        (["--momentum", "1"], "--momentum must be at least 0 and below 1, got 1.0"),
        (["--set", "sd.spr_weights=[1, 2]"], "sd: --spr_weights: three are expected"),
    ],
)
def test_what_has_no_effect_or_cannot_be_is_refused(words, message):
    more = ["--labels", "l"] if "--stage" in words else []
    with pytest.raises(PlanError) as refusal:
        plan("--images", "a", "--output_dir", "run", *more, *words)
    assert message in str(refusal.value)


def test_a_recipe_for_a_new_detector_serves_for_a_trained_one():
    words = ["--images", "a", "--output_dir", "run", "--recipe", "usod-rgb-lite"]
    made = plan(*words, "--transfer")
    assert made.sd.neck_channels == [128, 256, 512, 512]  # what the recipe says has no effect, and is not said
    assert made.sd.learning_rate == 0.05
    assert plan(*words).sd.neck_channels == [32, 48, 64, 96]


def test_a_section_for_all_stages_is_for_runs_of_all(recipe):
    words = recipe("all: {seed: 3, adapt: x}\nsd: {seed: 4}\n")
    made = plan(*words, "--images", "a", "--sce", "y")
    assert (made.sd.seed, made.sd.adapt) == (4, "x")
    assert plan(*words, "--images", "a", "--sce", "y", "--adapt", "z").sd.adapt == "z"
    assert plan(*words, "--images", "a", stage="sce").sce.seed == 0


def test_what_is_adapted_may_stand_in_its_section(recipe):
    words = [*recipe("sd: {adapt: x}\n"), "--images", "a", "--transfer"]
    made = plan(*words, "--labels_from", "sd")
    assert (made.sd.adapt, made.labels.model) == ("x", "x")
    assert plan(*words, "--adapt", "z").sd.adapt == "z"


def _words(values: dict) -> list[str]:
    """Arguments as the options that say them."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    return [word for name, items in lists.items() for word in (f"--{name}", *map(str, items))]


@pytest.mark.parametrize("file", sorted(RECIPES.glob("tables/*.yaml")), ids=lambda path: path.stem)
def test_the_trainings_of_the_tables_are_understood(file):
    table = yaml.safe_load(file.read_text())
    where = {"images": "a", "output_dir": "b", "resume": True}
    recipe = ["--recipe", str(file.parent / table["recipe"])] if "recipe" in table else []
    variants = [{**table.get("arguments", {}), **each} for each in table["variants"].values() if isinstance(each, dict)]
    shared = [step for step in table.get("shared", {}).values() if isinstance(step, dict)]
    for values in (*variants, *shared):
        told = {name: value for name, value in values.items() if value is not None and name != "then"}
        assert plan(*recipe, *_words({**where, **told})).stages


def test_one_recipe_does_not_say_both(recipe):
    with pytest.raises(PlanError, match=r"sd\.backbone: has no effect with --adapt"):
        plan(*recipe("images: a\nsd:\n  adapt: x\n  backbone: y\n"))


def test_the_description_holds_all_values():
    made = plan("--images", "a", "--output_dir", "run", "--num_epochs", "3")
    described = yaml.safe_load(made.describe())
    assert list(described) == ["sce", "labels", "sd"]
    assert DetectorArguments(**described["sd"]) == made.sd
    assert CueExtractorArguments(**described["sce"]) == made.sce


# --- The command line -----------------------------------------------------------------------------------------------

LIGHT = """
import sys, types
package = types.ModuleType("hf_usod")
package.__path__ = [sys.argv.pop(1)]
sys.modules["hf_usod"] = package
import hf_usod.training.plan
from hf_usod.commands import train
import argparse
parser = argparse.ArgumentParser()
train.add_parser(parser.add_subparsers())
try:
    parser.parse_args(sys.argv[1:])
finally:
    heavy = {"torch", "numpy", "transformers", "accelerate", "PIL", "peft"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.mark.parametrize("stage", [None, *STAGES])
def test_help_is_light_and_shows_every_argument(stage):
    words = ["train", *(["--stage", stage] if stage else []), "--help"]
    package = str(Path(hf_usod.__file__).parent)
    shown = subprocess.run([sys.executable, "-c", LIGHT, package, *words], capture_output=True, text=True, check=True)
    for name in STAGES[stage or "sd"].__dataclass_fields__:
        assert f"--{name} " in shown.stdout
    if stage == "sd":
        assert "--decoder_channels" not in shown.stdout
        assert " ".join(shown.stdout.split()).count("(default: 0.005)") == 1


def test_flags_are_said_as_people_say_them():
    words = ["--images", "a", "--output_dir", "run", "--labels", "l"]
    assert plan(*words, "--refine_maps", stage="sd").sd.refine_maps
    assert plan(*words, "--refine_maps", "True", stage="sd").sd.refine_maps
    for no in (["--no-curriculum"], ["--no_curriculum"], ["--curriculum", "false"]):
        assert plan(*words[:4], *no, stage="sce").sce.curriculum is False


def test_every_argument_has_help_and_a_valid_default():
    for stage, cls in STAGES.items():
        required = {"images": ["a"], "output_dir": "run", **({"labels": ["l"]} if stage == "sd" else {})}
        cls(**required)
        assert all(field.metadata["help"] for field in cls.__dataclass_fields__.values())
