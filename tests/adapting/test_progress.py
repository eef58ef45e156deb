"""How far an adaptation is, and what is left."""

import json

import pytest

from hf_usod.adapting.progress import TYPICAL, Progress, Step, in_words, plan_steps, read_progress

STEPS = [Step("maps default", 10), Step("cues", 100), Step("maps cues", 10)]


def test_the_plan_has_every_step_in_order():
    steps = plan_steps(0, 6, 14, ["default", "steel"], ["trained-by-steel"], lambda count: count * 10)
    assert steps == [
        ("maps default", 6),
        ("maps steel", 6),
        ("cues", 140),
        ("maps cues", 6),
        ("labels trained-by-steel", 14),
        ("training trained-by-steel", 140),
        ("maps trained-by-steel", 6),
    ]
    assert plan_steps(20, 6, 14, [], [], lambda count: 1)[0] == ("flow", 20)


def test_time_left_follows_what_was_measured():
    slow = Progress(STEPS, {"maps default": 4 * TYPICAL["maps"] * 10}, "cues", 0.5)
    assert slow.pace == pytest.approx(4)
    assert slow.seconds_left == pytest.approx(4 * (TYPICAL["cues"] * 50 + TYPICAL["maps"] * 10))
    assert [step.name for step in slow.left] == ["cues", "maps cues"] and "step 2 of 3" in slow.told()
    assert Progress(STEPS, {}).total_share == 0
    assert Progress(STEPS, {step.name: 1.0 for step in STEPS}).total_share == 1


def test_what_runs_is_read_from_its_files(tmp_path):
    state = {"plan": STEPS, "seconds": {"maps default": 2.0}, "running": "cues"}
    assert read_progress(tmp_path, state).share == 0
    (tmp_path / "cues").mkdir()
    (tmp_path / "cues" / "history.jsonl").write_text(json.dumps({"step": 30, "minutes_left": 2}) + '\n{"step": 4')
    progress = read_progress(tmp_path, state)
    assert progress.share == pytest.approx(0.3)
    assert progress.seconds_left == pytest.approx(120 + progress.pace * TYPICAL["maps"] * 10)
    for number in range(4):
        path = tmp_path / "maps" / "cues" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert read_progress(tmp_path, state | {"running": "maps cues"}).share == pytest.approx(0.4)
    assert read_progress(tmp_path, {"seconds": {}}).steps == []  # of an older version


@pytest.mark.parametrize(
    "seconds, words",
    [(5, "less than a minute"), (70, "about a minute"), (600, "about 10 minutes"), (1740, "about 30 minutes"),
     (7200, "about 2.0 hours")],
)  # fmt: skip
def test_words(seconds, words):
    assert in_words(seconds) == words
