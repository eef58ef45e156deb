"""What the page shows is what the folder holds."""

import json
import re
import sys
import threading
from dataclasses import replace

import pytest

from hf_usod.adapting.arguments import AdaptArguments
from hf_usod.adapting.review import Review, read_review, write_review
from hf_usod.cli import main
from hf_usod.errors import DataError, RunError
from hf_usod.files import write_json
from hf_usod.workbench import choosing, process, using, words
from hf_usod.workbench.app import is_private
from hf_usod.workbench.choosing import list_folders, places
from hf_usod.workbench.recent import default_run, recent_runs, remember
from hf_usod.workbench.session import LOOK, TRAIN, USE, Session
from hf_usod.workbench.wall import PAGE, decide, wall, writing


def change(run, **more):
    state = json.loads((run / "adapt.json").read_text())
    (run / "adapt.json").write_text(json.dumps({**state, **more}))


def test_the_step_that_is_shown_first(run):
    assert Session.open(run).step == TRAIN
    change(run, chosen="default")  # stopped on the way to another candidate
    assert Session.open(run).step == TRAIN and not Session.open(run).is_done
    change(run, running=None)
    assert Session.open(run).step == USE and Session.open(run).is_done
    change(run, quality={})
    assert Session.open(run).step == LOOK
    looked = {"seconds": {"maps default": 2.0}, "quality": {"default": {}}, "chosen": None, "running": "cues"}
    change(run, **looked, unfinished={"cues": 3.0})
    assert Session.open(run).step == TRAIN
    change(run, **looked, unfinished={})
    assert Session.open(run).step == LOOK
    for text in ("[]", "no JSON", "{}"):
        (run / "adapt.json").write_text(text)
        assert Session.open(run) is None
    assert Session.open(run / "nowhere") is None and Session.open("") is None


def test_what_is_said_of_a_training(run):
    session = Session.open(run)
    text = words.training(session)
    assert "Stopped." in text and "it goes on where it was" in text
    assert text.count("wb-done") == 4 and text.count("wb-paused") == 1 and text.count("wb-waiting") == 1
    assert "Trained on labels by the default model" in text
    shown = words.look(session)
    assert shown.count("wb-card") == 7 and "24 images, 24 used." in shown
    assert "On 10% of these images it finds nothing, or takes all for object." in shown
    assert "a &amp; b &lt;03&gt;" in shown and "<03>" not in shown
    (run / "workbench.log").write_text("bar\rhf-usod: 6 images can be used; <add> some.\n")
    assert "6 images can be used; &lt;add&gt; some." in words.training(Session.open(run))
    (run / "workbench.log").write_text("hf-usod: Stopped after step 4; pass --resume to go on.\n")
    assert Session.open(run).problem == ""


def test_a_review_by_clicks(run):
    change(
        run,
        sources=["trained-by-default", "trained-by-cues"],
        seconds={f"labels trained-by-{x}": 1 for x in ("default", "cues")},
    )
    session = Session.open(run)
    order = session.doubtful("trained-by-default")
    assert len(order) == 17 and set(order[:2]) == {"a & b <22>", "a & b <23>"}  # all object
    kept = run / "doubts" / "trained-by-default.json"
    write_json(kept, {"beside": "trained-by-cues", "order": order[:3]})  # of when there were fewer
    assert session.doubtful("trained-by-default") == order
    alone = {"beside": None, "order": order[::-1]}  # of when there were no others, which is looked at anew
    write_json(kept, alone)
    assert session.doubtful("trained-by-default") == order
    page = wall(session, "trained-by-default", 0)
    assert page.count("data-id=") == min(17, PAGE) and 'data-decision="drop"' not in page
    said = {"root": str(run), "labels": "trained-by-default", "id": order[0], "decision": "drop"}
    assert decide(said) == "0 good, 1 dropped, 0 swapped, 16 kept as they are"
    assert "1 dropped, 1 swapped" in decide(said | {"id": order[1], "decision": "swap"})
    assert read_review(run) == Review("trained-by-default", {order[0]: "drop", order[1]: "swap"}, train_on=False)
    assert 'data-decision="drop"' in wall(Session.open(run), "trained-by-default", 0)
    write_json(kept, alone)
    assert Session.open(run).doubtful("trained-by-default") == alone["order"]  # as a review of it has begun
    assert decide(said | {"decision": ""}).startswith("0 good, 0 dropped")
    other = decide(said | {"labels": "trained-by-cues", "id": order[2], "decision": "good"})
    assert other == "1 good, 0 dropped, 0 swapped, 16 kept as they are"
    assert read_review(run).labels == "trained-by-cues"
    assert decide(said | {"id": order[3]}).startswith("0 good, 1 dropped, 1 swapped")  # what was said before is kept
    for wrong in ({"root": "/"}, {"labels": "../x"}, {"id": "../../etc/passwd"}, {"root": None}):
        assert "not there any more" in decide(said | wrong)


def test_a_decision_does_not_take_back_a_training_that_was_asked_for(run):
    names = ("default", "cues")
    change(
        run,
        sources=[f"trained-by-{name}" for name in names],
        seconds={f"labels trained-by-{name}": 1 for name in names},
    )
    first, second, third = Session.open(run).doubtful("trained-by-default")[:3]
    said = {"root": str(run), "labels": "trained-by-default", "id": second, "decision": "drop"}
    asked = Review("trained-by-default", {first: "drop"})
    write_review(run, asked)  # which the command reads once it has looked at the images
    decide(said | {"labels": "trained-by-cues"})
    assert read_review(run) == replace(asked, others={"trained-by-cues": {second: "drop"}})
    assert Session.open(run).review_of("trained-by-cues").decisions == {second: "drop"}
    write_review(run, asked)
    decide(said)
    decide(said | {"id": third, "decision": "good"})
    asked = Review("trained-by-default", {first: "drop", second: "drop", third: "good"})
    assert read_review(run) == asked
    change(run, reviews=[asked.entry()])  # taken up
    decide(said | {"id": third})
    assert not read_review(run).train_on


def test_a_training_is_asked_for_and_a_decision_kept_one_after_the_other(run, monkeypatch):
    pytest.importorskip("gradio")
    from hf_usod.workbench import actions

    write_review(run, Review("trained-by-default", {"a & b <22>": "drop"}, train_on=False))
    monkeypatch.setattr(process, "start", lambda *given: True)
    asking = threading.Thread(target=actions.train_on, args=(str(run), "trained-by-default"))
    with writing:  # by a decision
        asking.start()
        asking.join(0.2)
        assert not read_review(run).train_on
        write_review(run, Review("trained-by-default", {"a & b <23>": "swap"}, train_on=False))
    asking.join()
    assert read_review(run) == Review("trained-by-default", {"a & b <23>": "swap"}, train_on=True)


def test_folders_are_listed_and_found(photos, run, monkeypatch):
    listed = list_folders(str(photos.parent))
    told = {folder["name"]: folder["told"] for folder in listed["folders"]}
    assert told == {"photos": "24 images", "run": ""} and listed["parent"] == str(photos.parent.parent)
    assert listed["told"] == f"In {photos.parent}:"
    assert list_folders(str(photos))["told"] == f"In {photos}, which holds 24 images:"
    assert list_folders(str(photos / "nothing"))["folders"] is not None
    assert places(f' "{photos}" ', None) == (photos, photos.parent / "photos-usod")
    assert places(str(photos), str(photos.parent / "out")) == (photos, photos.parent / "out")
    assert places(str(run), None) == (photos, run)  # what was made rather than the images
    with pytest.raises(DataError, match="there is no such folder"):
        places(str(photos / "nothing"), None)
    with pytest.raises(DataError, match="Choose a folder"):
        places(" ", None)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert default_run(photos).name == "photos-usod" and default_run(photos).parent != photos.parent


def test_what_is_not_counted_and_not_listed_is_said(photos, monkeypatch):
    monkeypatch.setattr(choosing, "_MOST_COUNTED", 20)
    monkeypatch.setattr(choosing, "MOST_FOLDERS", 2)
    for name in ("b", "a", "c"):
        (photos / name).mkdir()
    listed = list_folders(str(photos))
    assert [folder["name"] for folder in listed["folders"]] == ["a", "b"]
    assert re.fullmatch(
        rf"In {photos}, which holds at least (1[7-9]|20) images, the first 2 of 3 folders "
        r"\(type the path of another\):",
        listed["told"],
    )
    monkeypatch.setattr(choosing, "_MOST_COUNTED", 27)
    assert "which holds 24 images, the first 2 of 3" in list_folders(str(photos))["told"]


def test_what_was_open_last_is_remembered(run, tmp_path):
    assert recent_runs() == []
    remember(tmp_path / "elsewhere")
    remember(run)
    assert recent_runs() == [run.resolve()]  # the other is no adaptation
    (tmp_path / "cache" / "hf_usod" / "workbench.json").write_text("{")
    assert recent_runs() == []


def test_images_that_are_gone_are_no_error(run, photos):
    for path in photos.iterdir():
        path.unlink()
    assert "wb-card" not in words.look(Session.open(run))


def test_what_is_compared_and_packed(run, tmp_path):
    session = Session.open(run)
    order = using.compared(session, "trained-by-default")
    assert len(order) == 7 and order[0] == "a & b <06>"  # 0.2 of it object by one, 0.6 by the other
    before, after = using.comparison(session, order[0], "trained-by-default")
    assert before.size == after.size == (112, 96) and before.tobytes() != after.tobytes()
    assert using.comparison(session, "../x", "trained-by-default") is None
    assert using.pack(session, tmp_path) is None
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_config.json").write_text("{}")
    assert using.pack(session, tmp_path / "new").name == "photos-adapter.zip"


@pytest.fixture
def slow_command(monkeypatch, tmp_path):
    """A command that says something and works for a minute."""
    program = tmp_path / "slow.py"
    program.write_text("import sys, time\nprint('working', *sys.argv[1:], flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(process, "COMMAND", [process.sys.executable, str(program)])


def wait_until(condition):
    for _ in range(500):
        if condition():
            return True
        process.time.sleep(0.02)
    return False


def test_one_training_at_a_time_also_of_two_servers(photos, tmp_path, slow_command, monkeypatch):
    root = tmp_path / "new"
    assert process.start(root, photos, "--look")
    try:
        assert process.is_running(root) and not process.start(root, photos)
        monkeypatch.setattr(process, "_started", {})  # another server, or this one anew
        assert process.is_running(root) and not process.start(root, photos)
        assert wait_until(lambda: process.read_log(root))
        assert process.read_log(root) == [f"working adapt {photos} --output {root} --resume --look"]
    finally:
        assert process.stop(root)
    assert wait_until(lambda: not process.is_running(root))
    assert not process.stop(root)
    assert json.loads((root / "adapt.json").read_text())["asked"]["images"] == str(photos)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"aux": "depth"}, "--aux {aux}"),
        ({"video": True, "seed": 3}, "--task video --seed 3"),
    ],
)
def test_what_a_terminal_began_goes_on_as_it_was_begun(photos, tmp_path, slow_command, options, words):
    root, aux = tmp_path / "begun", tmp_path / "depth"
    aux.mkdir()
    told = {**options, **({"aux": aux} if "aux" in options else {})}
    asked = AdaptArguments(photos, root, **told).asked
    write_json(root / "adapt.json", {"version": 1, "asked": asked, "seconds": {}})
    assert process.start(root, photos)
    try:
        assert wait_until(lambda: process.read_log(root))
        said = words.format(aux=aux)
        assert process.read_log(root) == [f"working adapt {photos} --output {root} {said} --resume"]
    finally:
        assert process.stop(root)
    assert wait_until(lambda: not process.is_running(root))
    with pytest.raises(RunError, match="was begun with another --images"):
        process.start(root, aux)


@pytest.mark.parametrize("name", [process.RUNNING_FILE, process.LOCK_FILE])
def test_a_training_on_another_machine_is_not_stopped_here(run, monkeypatch, name):
    """Its process may be any here."""
    fcntl = pytest.importorskip("fcntl")
    stopped = []
    monkeypatch.setattr(process.os, "kill", lambda *given: stopped.append(given))
    with open(run / name, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 4711 on elsewhere\n")
        held.flush()
        with pytest.raises(RunError, match=f"{run}: is worked on by process 4711 on elsewhere. Stop it there."):
            process.stop(run)
        assert stopped == []
        monkeypatch.setattr(process.socket, "gethostname", lambda: "elsewhere")
        assert process.stop(run) and stopped == [(4711, process.signal.SIGTERM)]


def test_folders_that_hold_something_else_are_refused(photos, tmp_path, slow_command):
    with pytest.raises(RunError, match="lies among the images"):
        process.start(photos / "out", photos)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("Dear")
    with pytest.raises(RunError, match="holds no adaptation"):
        process.start(tmp_path / "other", photos)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"] and not (photos / "out").exists()


@pytest.mark.parametrize(
    "variable, value, private",
    [
        ("SPACE_ID", "me/space", False),
        ("GRADIO_SERVER_NAME", "0.0.0.0", False),
        ("GRADIO_SERVER_NAME", "127.0.0.1", True),
        ("GRADIO_SHARE", "True", False),
    ],
)
def test_it_is_for_this_machine_alone(monkeypatch, variable, value, private):
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)
    assert is_private()
    monkeypatch.setenv(variable, value)
    assert is_private() == private


def test_the_command_says_what_is_missing(monkeypatch, capsys, photos):
    assert main(["workbench", "--output", "out"]) == 2
    assert "--output has no meaning without FOLDER" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["workbench", str(photos)]) == 1
    assert 'pip install "hf_usod[demo]"' in capsys.readouterr().err
