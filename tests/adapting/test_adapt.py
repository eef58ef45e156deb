"""`hf-usod adapt`, on tiny models: from the folder to the report."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import get_peft_model
from PIL import Image
from safetensors.torch import load_file

from hf_usod import UsodSdModel
from hf_usod.adapters import UsodAdapterConfig
from hf_usod.adapting import adapt as adapting
from hf_usod.adapting import candidates, inspection
from hf_usod.adapting.adapt import AdaptArguments, adapt, split
from hf_usod.adapting.candidates import CUES, DEFAULT, Candidate
from hf_usod.adapting.inspection import FEWEST_LABELS
from hf_usod.adapting.review import Review, write_review
from hf_usod.cli import main
from hf_usod.data import Sample
from hf_usod.errors import RunError
from hf_usod.files import write_aside
from hf_usod.outlines import ImageQuality
from hf_usod.quality.measure import FolderQuality
from hf_usod.training.locks import lock_folder
from hf_usod.workbench.session import TRAIN, Session


def run(photos, output, *more: str) -> int:
    return main(["adapt", str(photos), "--output", str(output), *more])


@pytest.fixture
def adapted(photos, small, tmp_path, capsys):
    output = tmp_path / "domain"
    assert run(photos, output) == 0
    return output, capsys.readouterr().out


def test_the_whole_way(adapted, photos):
    output, told = adapted
    state = json.loads((output / "adapt.json").read_text())
    assert {"default", "cues"} <= state["quality"].keys()
    assert ("Keep the default model" in told) == (state["chosen"] == "default")
    assert (output / "adapter" / "adapter_config.json").exists() == (state["chosen"] != "default")
    assert told.splitlines()[-3].startswith("  hf-usod predict NEW_IMAGES")
    page = (output / "report.html").read_text()
    assert "What was tried" in page and "no mask" in page
    # The images are only linked to, and none of those that are compared on is trained on
    held_out = {path.relative_to(output / "images/held_out") for path in (output / "images/held_out").rglob("*.png")}
    trained = {path.relative_to(output / "images/train") for path in (output / "images/train").rglob("*.png")}
    assert len(held_out) == 7 and not held_out & trained and len(held_out | trained) == 24


def test_it_goes_on_where_it_was_and_nowhere_else(adapted, photos, capsys, tmp_path):
    output, _ = adapted
    assert run(photos, output) == 1
    assert "--resume" in capsys.readouterr().err
    made = {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}
    assert run(photos, output, "--resume") == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")} == made
    assert run(photos, output, "--resume", "--seed", "1") == 1
    assert "another --seed (0, now 1)" in capsys.readouterr().err
    (output / "adapt.json").write_text("{}")
    assert run(photos, output, "--resume") == 1
    assert "is not what" in capsys.readouterr().err


def test_a_stopped_one_goes_on(photos, small, tmp_path, monkeypatch, capsys):
    output = tmp_path / "domain"

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adapting, "transfer_cues", stop)
        assert run(photos, output) == 130
    maps = {path: path.stat().st_mtime_ns for path in (output / "maps" / "default").rglob("*.png")}
    assert len(maps) == 7 and not (output / "report.html").exists()
    assert run(photos, output, "--resume") == 0
    assert {path: path.stat().st_mtime_ns for path in maps} == maps
    assert (output / "report.html").exists()


def test_a_step_that_was_stopped_is_not_done_and_its_time_not_lost(photos, small, tmp_path, monkeypatch, capsys):
    output = tmp_path / "domain"
    make = adapting.make_labels

    def stop(source, samples, *more):
        make(source, samples[:3], *more)
        raise KeyboardInterrupt

    def now():
        return json.loads((output / "adapt.json").read_text())

    with monkeypatch.context() as patch:
        patch.setattr(adapting, "make_labels", stop)
        assert run(photos, output) == 130
    state, step = now(), "labels trained-by-default"
    assert step not in state["seconds"] and state["unfinished"][step] > 0 and state["running"] == step
    assert Session.open(output).sources == [] and Session.open(output).step == TRAIN
    (output / "adapt.json").write_text(json.dumps(state | {"unfinished": {step: 1000.0}}))
    capsys.readouterr()
    assert run(photos, output, "--resume") == 0
    assert now()["seconds"][step] > 1000 and now()["unfinished"] == {}
    assert "labels trained-by-default (step" in capsys.readouterr().out


def test_a_better_candidate_is_taken(photos, small, tmp_path, monkeypatch, capsys):
    """Random models find nothing: that their labels are good, and what is trained on them better, the test says."""
    monkeypatch.setattr(adapting, "choose", lambda of, default: (list(of)[-1], "so says the test"))
    monkeypatch.setattr(adapting, "find_harm", lambda quality, default: "")
    monkeypatch.setattr(adapting, "judge_labels", lambda samples, folder: dict.fromkeys((s.id for s in samples), 0.3))
    output = tmp_path / "domain"
    assert run(photos, output) == 0
    told = capsys.readouterr().out
    assert "so says the test" in told and f"--adapter {output}/adapter" in told
    assert json.loads((output / "adapt.json").read_text())["chosen"] == "trained-again-2"
    assert (output / "adapter" / "adapter_model.safetensors").exists()
    made = {"trained-by-default", "trained-by-cues", "trained-again", "trained-again-2"}
    assert {path.name for path in (output / "runs").iterdir()} == made


def test_an_adapter_that_is_best_is_trained_on_by_its_own_labels(photos, small, tmp_path, monkeypatch):
    detector = candidates.DEFAULT_MODEL
    torch.manual_seed(0)
    package = get_peft_model(UsodSdModel.from_pretrained(detector), UsodAdapterConfig(init_weights="random"))
    package.save_pretrained(tmp_path / "package")
    of_package = Candidate("package", detector, str(tmp_path / "package"), "an adapter that comes with the package")
    monkeypatch.setattr(adapting, "embedded", lambda has_maps: [Candidate(DEFAULT, detector, None, "tiny"), of_package])
    monkeypatch.setattr(adapting, "choose", lambda of, default: ("package", "so says the test"))
    monkeypatch.setattr(adapting, "find_harm", lambda quality, default: "")
    monkeypatch.setattr(adapting, "judge_labels", lambda samples, folder: dict.fromkeys((s.id for s in samples), 0.3))
    monkeypatch.setattr(candidates, "RATE_ON", 1e-12)  # of which nothing comes

    found = adapt(AdaptArguments(photos, tmp_path / "domain"), tell=lambda line: None)
    trained_on = next(candidate for candidate in found.candidates if candidate.name == "trained-by-package")
    assert trained_on.about == "package, trained on here with labels by package (none), as they are"
    before = load_file(tmp_path / "package" / "adapter_model.safetensors")
    after = load_file(f"{trained_on.adapter}/adapter_model.safetensors")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6, msg=name)
    by_cues = next(candidate for candidate in found.candidates if candidate.name == "trained-by-cues")
    assert by_cues.about.startswith("package, trained on here with labels by cues (")


def test_what_was_trained_here_trains_in_its_turn_while_it_gets_better(photos, small, tmp_path, monkeypatch):
    """The best is, so says the test, what was tried last; or the labels of the cue extractor's are, and stay."""
    monkeypatch.setattr(adapting, "find_harm", lambda quality, default: "")
    monkeypatch.setattr(adapting, "judge_labels", lambda samples, folder: dict.fromkeys((s.id for s in samples), 0.3))
    monkeypatch.setattr(adapting, "choose", lambda of, default: (list(of)[-1], "so says the test"))
    monkeypatch.setattr(adapting, "MOST_AGAIN", 2)
    found = adapt(AdaptArguments(photos, tmp_path / "better"), tell=lambda line: None)
    about = {candidate.name: candidate.about for candidate in found.candidates}
    assert list(about)[-3:] == ["trained-by-cues", "trained-again", "trained-again-2"]
    assert about["trained-again"].startswith("trained-by-cues, trained on here with labels by trained-by-cues (none)")
    assert about["trained-again-2"].startswith("trained-again, trained on here with labels by trained-again (none)")
    state = json.loads((tmp_path / "better" / "adapt.json").read_text())
    assert [name for name, _ in state["plan"] if name.startswith("training")][-2:] == [
        "training trained-again",
        "training trained-again-2",
    ]
    begun = {name: tmp_path / "better/runs" / name / "arguments.json" for name in ("trained-again", "trained-again-2")}
    adapters = {name: json.loads(file.read_text())["adapt"] for name, file in begun.items()}
    assert adapters["trained-again"] == about_adapter(found, "trained-by-cues")
    assert adapters["trained-again-2"] == about_adapter(found, "trained-again")

    def no_better(of, default):
        return ("trained-by-cues" if "trained-by-cues" in of else default), "so says the test"

    monkeypatch.setattr(adapting, "choose", no_better)
    found = adapt(AdaptArguments(photos, tmp_path / "once"), tell=lambda line: None)
    assert [candidate.name for candidate in found.candidates][-2:] == ["trained-by-cues", "trained-again"]
    state = json.loads((tmp_path / "once" / "adapt.json").read_text())
    assert found.chosen == "trained-by-cues" and state["sources"][-1] == "trained-again"

    monkeypatch.setattr(adapting, "choose", lambda of, default: (default, "so says the test"))
    found = adapt(AdaptArguments(photos, tmp_path / "none"), tell=lambda line: None)
    assert [candidate.name for candidate in found.candidates][-1] == "trained-by-cues"
    state = json.loads((tmp_path / "none" / "adapt.json").read_text())
    assert state["sources"][-1] == "trained-by-cues" and state["plan"][-1][0] == "maps trained-by-cues"


def about_adapter(found, name: str) -> str | None:
    return next(candidate.adapter for candidate in found.candidates if candidate.name == name)


def test_labels_of_cues_are_learned_from_where_others_confirm_them(photos, small, tmp_path, monkeypatch):
    """The labels are the test's: 12 of 17 agree, of the others two are empty."""
    shape, made, count = (72, 80), [], 17

    def write_labels(source, samples, folder, *more):
        for place, sample in enumerate(samples):
            label = np.zeros(shape, bool)
            label[:20, :20] = True
            if source.candidate.name == CUES:
                label[:, :] = False
                height = {0: 0, 1: 0, 2: 7, 3: 7, 4: 6}.get(place, 8)  # of 20: an IoU of .35 is not above .35
                label[:height, :20] = True
            write_aside(folder / f"{sample.id}.png", Image.fromarray(label).convert("L").save)
        made.append(source)

    monkeypatch.setattr(adapting, "make_labels", write_labels)
    monkeypatch.setattr(adapting, "find_harm", lambda quality, default: "")
    monkeypatch.setattr(adapting, "FEWEST_CONFIRMED", count - 5)
    found = adapt(AdaptArguments(photos, tmp_path / "domain"), tell=lambda line: None)
    assert [(source.name, source.confirmed_by) for source in made][1:] == [("trained-by-cues", made[0].name)]
    told = f"trained-by-cues: labels of {made[0].name} confirm {count - 5} of {count}; the others were left out."
    assert told in found.notes
    run = tmp_path / "domain" / "images"
    assert sum(path.is_file() for path in (run / "trained-by-cues").rglob("*")) == count - 5
    about = {candidate.name: candidate.about for candidate in found.candidates}
    assert about["trained-by-cues"].endswith(f", where those of {made[0].name} agree")

    monkeypatch.setattr(adapting, "FEWEST_CONFIRMED", count)
    found = adapt(AdaptArguments(photos, tmp_path / "all"), tell=lambda line: None)
    assert any(note.endswith("too few to learn from these alone.") for note in found.notes)
    assert sum(path.is_file() for path in (tmp_path / "all/images/trained-by-cues").rglob("*")) == count - 2


def test_tiles_are_tried_on_large_images_and_used_where_they_fit_better(photos, small, tmp_path, monkeypatch, capsys):
    found = adapt(AdaptArguments(photos, tmp_path / "small"), tell=lambda line: None)
    assert found.tiles is None and "default-tiles" not in found.qualities
    monkeypatch.setattr(adapting, "LEAST_TILED", 40)
    monkeypatch.setattr("hf_usod.inference.tiled.AUTO_LEAST", 40)
    monkeypatch.setattr(adapting, "choose", lambda of, default: (default, "so says the test"))
    found = adapt(AdaptArguments(photos, tmp_path / "random"), tell=lambda line: None)
    assert "default-tiles" in found.qualities and any(note.startswith("--tiles auto is") for note in found.notes)
    monkeypatch.setattr(adapting, "compare_scores", lambda scores, others: (0.2, 0.1))
    monkeypatch.setattr(adapting, "find_harm", lambda quality, default: "")
    output = tmp_path / "better"
    assert run(photos, output) == 0
    assert "predict NEW_IMAGES --tiles auto --output" in capsys.readouterr().out
    assert json.loads((output / "adapt.json").read_text())["tiles"] == "auto"
    assert "--tiles auto is to be used" in (output / "report.html").read_text()


def test_bad_cues_are_dropped_and_said(photos, small, tmp_path, monkeypatch):
    monkeypatch.setattr(adapting, "find_harm", lambda quality, default: "" if quality is default else "they are a blob")
    found = adapt(AdaptArguments(photos, tmp_path / "domain"), tell=lambda line: None)
    assert any("not used: they are a blob" in note for note in found.notes)
    assert not (tmp_path / "domain" / "labels" / "trained-by-cues").exists()
    assert found.keeps_default


def test_empty_labels_are_left_out(photos, small, tmp_path, monkeypatch):
    shares = {"few": lambda samples: {s.id: 0.0 if n < 2 else 0.3 for n, s in enumerate(samples)}}
    monkeypatch.setattr(adapting, "judge_labels", lambda samples, folder: shares["few"](samples))
    found = adapt(AdaptArguments(photos, tmp_path / "one"), tell=lambda line: None)
    assert any("2 of 17 labels, empty or all object, were left out" in note for note in found.notes)
    shares["few"] = lambda samples: dict.fromkeys((s.id for s in samples), 0.0)
    found = adapt(AdaptArguments(photos, tmp_path / "two"), tell=lambda line: None)
    assert any("not trained, 17 of 17 labels are empty" in note for note in found.notes)
    assert [candidate.name for candidate in found.candidates] == ["default", "cues"] and found.keeps_default


def test_maps_beside_the_images_are_used(photos, small, tmp_path):
    for path in photos.rglob("*.png"):
        file = tmp_path / "depth" / path.relative_to(photos)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(file)
    found = adapt(AdaptArguments(photos, tmp_path / "domain", aux=tmp_path / "depth"), tell=lambda line: None)
    assert all(sample.aux and sample.aux.is_file() for sample in found.held_out)


@pytest.fixture
def clips(tmp_path):
    pytest.importorskip("cv2", reason="pip install 'hf_usod[video]'")
    for clip in "ab":
        for number in range(12):
            levels = np.random.default_rng(number // 12).integers(0, 60, (64, 80, 3)).astype(np.uint8)
            levels[20:40, 10 + 3 * number : 30 + 3 * number] = 220
            path = tmp_path / "clips" / clip / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(path)
    return tmp_path / "clips"


def test_frames_with_their_flow(small, clips, tmp_path):
    found = adapt(AdaptArguments(tmp_path / "clips", tmp_path / "domain", video=True), tell=lambda line: None)
    assert {sample.aux_kind for sample in found.held_out} == {"flow"}
    assert (tmp_path / "domain" / "flow" / "a").is_dir()


def test_flow_is_of_the_frames_that_are_used_alone(small, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "MOST", 16)
    (clips / "b" / "05.png").write_bytes(b"no picture")
    adapting.look(AdaptArguments(clips, tmp_path / "domain", video=True), tell=lambda line: None)
    root = tmp_path / "domain"
    placed = {path.stem for path in (root / "images").rglob("b/*.png")}
    assert {path.stem for path in (root / "flow" / "b").iterdir()} == placed and "05" not in placed
    assert len(list((root / "flow").rglob("*.jpg"))) == len(list((root / "aux").rglob("*.jpg"))) == 16
    assert json.loads((root / "adapt.json").read_text())["plan"][0] == ["flow", 16]


def test_what_it_takes_is_told_and_nothing_written(photos, small, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert run(photos, tmp_path / "domain", "--dry_run") == 0
    told = capsys.readouterr().out
    assert "24 images, 24 used" in told and "All stages: about" in told and "GiB of memory" in told
    assert sorted(tmp_path.rglob("*")) == before


def test_places_that_are_refused(photos, small, tmp_path):
    with pytest.raises(RunError, match="lies among the images"):
        adapt(AdaptArguments(photos, photos / "domain"))
    other = tmp_path / "other"
    shutil.copytree(photos / "a", other)
    with pytest.raises(RunError, match="holds no adaptation"):
        adapt(AdaptArguments(photos, other))
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(RunError, match="None of 24 images can be read"):
        adapt(AdaptArguments(photos, tmp_path / "domain"), tell=lambda line: None)


@pytest.mark.parametrize("count, epochs", [(30, 60), (420, 5), (600, 3), (5000, 3)])
def test_small_folders_are_gone_through_more_often(monkeypatch, tmp_path, count, epochs):
    monkeypatch.setattr(candidates, "list_images", lambda folder: [folder] * count)
    arguments = candidates.detector_arguments(tmp_path, None, tmp_path, tmp_path, 0)
    assert arguments.num_epochs == candidates.transfer_arguments(tmp_path, None, tmp_path, 0).num_epochs == epochs


def test_the_split_is_even():
    held_out, training = split([type("S", (), {"id": str(n)})() for n in range(100)])
    assert (len(held_out), len(training)) == (30, 70)
    assert held_out[0].id == "0" and int(held_out[-1].id) > 95


@pytest.mark.parametrize("count", [15, 16, 17, 18, 19, 20, 27])
def test_a_folder_that_is_accepted_can_be_trained_on(count):
    assert count >= inspection.FEWEST
    held_out, training = split([type("S", (), {"id": str(n)})() for n in range(count)])
    assert len(held_out) >= 5 and len(training) >= max(FEWEST_LABELS, candidates.DetectorArguments.batch_size)


@pytest.mark.parametrize(
    ("left", "dropped", "note"),
    [
        (10, 0, None),
        (10, 2, "x: 2 of 12 labels, empty or all object, were left out."),
        (9, 1, "x: not trained, 1 of 10 labels are empty or all object; at least 10 others are needed."),
        (10, 11, "x: not trained, 11 of 21 labels are empty or all object."),
    ],
)
def test_ten_labels_are_enough_and_fewer_are_said(tmp_path, monkeypatch, left, dropped, note):
    samples = [Sample(str(n), tmp_path) for n in range(left + dropped)]
    shares = {sample.id: 0.3 if place < left else 0.0 for place, sample in enumerate(samples)}
    monkeypatch.setattr(adapting, "judge_labels", lambda samples, folder: shares)
    adaptation = adapting._Adaptation(AdaptArguments(tmp_path, tmp_path / "domain"), None, print, None)
    source = candidates.Source("x", candidates.embedded()[0], "none", candidates.embedded()[0])
    used = adaptation._usable(source, samples, tmp_path)
    assert used == (None if note and "not trained" in note else (samples[:left], "as they are"))
    assert adaptation.notes == ([note] if note else [])


def test_two_do_not_share_a_folder(photos, small, tmp_path):
    with lock_folder(tmp_path / "domain"), pytest.raises(RunError, match="another process"):
        adapt(AdaptArguments(photos, tmp_path / "domain"), tell=lambda line: None)
    assert not (tmp_path / "domain" / "maps").exists()


def test_a_wrong_device_leaves_nothing(photos, small, tmp_path, capsys):
    assert run(photos, tmp_path / "domain", "--device", "nothing") == 1
    assert "no such device" in capsys.readouterr().err
    assert not (tmp_path / "domain").exists()


def test_a_look_is_where_the_adaptation_goes_on(photos, small, tmp_path, capsys):
    output = tmp_path / "domain"
    assert run(photos, output, "--look") == 0
    told = capsys.readouterr().out
    assert "24 images, 24 used" in told and "The rest will take" in told
    state = json.loads((output / "adapt.json").read_text())
    assert state["images"]["used"] == 24 and list(state["quality"]) == ["default"] and state["running"] is None
    assert [step[0] for step in state["plan"]][:3] == ["maps default", "cues", "maps cues"]
    made = {path: path.stat().st_mtime_ns for path in (output / "maps" / "default").rglob("*.png")}
    assert run(photos, output, "--resume") == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_choice_by_hand_stays_until_another(photos, small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(adapting, "judge_labels", lambda samples, folder: dict.fromkeys((s.id for s in samples), 0.3))
    monkeypatch.setattr(adapting, "choose", lambda of, default: (default, "so says the test"))
    output = tmp_path / "domain"

    def kept(*more):
        assert run(photos, output, *more) == 0
        state = json.loads((output / "adapt.json").read_text())
        return state["chosen"], state["reason"], (output / "adapter").exists()

    assert kept("--choose", "trained-by-cues") == ("trained-by-cues", "chosen by hand", True)
    weights = (output / "adapter" / "adapter_model.safetensors").read_bytes()
    assert kept("--resume") == ("trained-by-cues", "chosen by hand", True)
    assert kept("--resume", "--choose", "trained-by-default")[0] == "trained-by-default"
    assert (output / "adapter" / "adapter_model.safetensors").read_bytes() != weights
    assert kept("--resume", "--choose", "measure") == ("default", "so says the test", False)
    assert run(photos, output, "--resume", "--choose", "cues") == 1
    assert "there are: default, trained-by-default, trained-by-cues" in capsys.readouterr().err


def test_reviewed_labels_are_trained_on(photos, small, tmp_path, monkeypatch):
    monkeypatch.setattr(adapting, "judge_labels", lambda samples, folder: dict.fromkeys((s.id for s in samples), 0.3))
    output = tmp_path / "domain"
    assert run(photos, output) == 0
    ids = sorted(p.relative_to(output / "labels/trained-by-cues").with_suffix("").as_posix()
                 for p in (output / "labels/trained-by-cues").rglob("*.png"))  # fmt: skip
    first = {ids[0]: "drop", ids[1]: "swap", ids[2]: "good"}
    write_review(output, Review("trained-by-cues", first, train_on=False))
    assert run(photos, output, "--resume") == 0
    assert not (output / "labels" / "trained-by-review").exists()  # under way

    write_review(output, Review("trained-by-cues", first))
    assert run(photos, output, "--resume") == 0
    state = json.loads((output / "adapt.json").read_text())
    assert "trained-by-review" in state["quality"]
    assert "as you reviewed them" in state["candidates"]["trained-by-review"]["about"]
    levels = lambda name, id: np.asarray(Image.open(output / "labels" / name / f"{id}.png"))  # noqa: E731
    assert not (output / "labels" / "trained-by-review" / f"{ids[0]}.png").exists()
    assert np.array_equal(levels("trained-by-review", ids[1]), 255 - levels("trained-by-cues", ids[1]))
    assert np.array_equal(levels("trained-by-review", ids[2]), levels("trained-by-cues", ids[2]))

    write_review(output, Review("trained-by-cues", {ids[0]: "drop"}))  # another, beside the first
    assert run(photos, output, "--resume") == 0
    quality = json.loads((output / "adapt.json").read_text())["quality"]
    assert {"trained-by-review", "trained-by-review-2"} <= quality.keys()


@pytest.mark.parametrize(
    "text, told",
    [
        ("{}", "is no review"),
        ("[", "is not JSON"),
        ('{"labels": "trained-by-cues", "decisions": {"a": "maybe"}}', "a is 'maybe'"),
        ('{"labels": "nothing", "decisions": {}}', "there are no labels nothing"),
    ],
)
def test_a_review_that_is_none_is_told(photos, small, tmp_path, capsys, text, told):
    output = tmp_path / "domain"
    assert run(photos, output, "--look") == 0
    (output / "review.json").write_text(text)
    assert run(photos, output, "--resume") == 1
    assert told in capsys.readouterr().err


def quality_of(scores, empty=0):
    """Of so many images with these scores, some of whose maps say nothing."""
    images = [ImageQuality(str(n), score, 0.0, 0.0 if n < empty else 0.3, 0.0) for n, score in enumerate(scores)]
    return FolderQuality(images, alike=0.1)


NOISE = np.random.default_rng(0).normal(0, 0.02, 40)
PLAIN = np.full(40, 0.5)


@pytest.mark.parametrize(
    ("of_video", "empty", "video", "chosen"),
    [
        (PLAIN + 0.002 + NOISE, 0, True, "usod-video-lite"),  # no better beyond doubt
        (PLAIN + 0.002 + NOISE, 0, False, "default"),
        (PLAIN - 0.05 + NOISE, 0, True, "default"),  # beaten beyond doubt
        (PLAIN + 0.05 + NOISE, 0, False, "usod-video-lite"),
        (PLAIN + 0.002 + NOISE, 20, True, "default"),  # does harm
    ],
)
def test_frames_are_given_the_adapter_for_video_where_the_measure_is_in_doubt(tmp_path, of_video, empty, video, chosen):
    adaptation = adapting._Adaptation(
        AdaptArguments(tmp_path, tmp_path / "domain", video=video), None, print, None, candidates.embedded()
    )
    adaptation.qualities = {candidate.name: quality_of(PLAIN - 0.2) for candidate in adaptation.candidates}
    adaptation.qualities |= {"default": quality_of(PLAIN), "usod-video-lite": quality_of(of_video, empty)}
    assert adaptation._best()[0] == chosen


@pytest.mark.parametrize(
    ("steel", "trained", "chosen", "told"),
    [
        (PLAIN + 0.1, PLAIN + 0.102 + NOISE, "usod-steel-lite", "of usod-steel-lite fit the images better by 0.1"),
        (PLAIN + 0.1, PLAIN + 0.15 + NOISE, "trained", "than those of usod-steel-lite"),
        (PLAIN - 0.1, PLAIN + 0.002 + NOISE, "default", "of trained fit"),  # which may be chance
        (PLAIN - 0.1, PLAIN + 0.05 + NOISE, "trained", "than those of default"),
    ],
)
def test_what_was_trained_here_has_to_beat_the_best_there_is(tmp_path, steel, trained, chosen, told):
    here = Candidate("trained", candidates.DEFAULT_MODEL, "folder", "trained here")
    adaptation = adapting._Adaptation(
        AdaptArguments(tmp_path, tmp_path / "domain"), None, print, None, [*candidates.embedded(False), here]
    )
    adaptation.qualities = {candidate.name: quality_of(PLAIN - 0.2) for candidate in adaptation.candidates}
    of_others = {"usod-steel-lite": quality_of(steel), "trained": quality_of(trained)}
    adaptation.qualities |= {"default": quality_of(PLAIN), **of_others}
    name, reason = adaptation._best()
    assert name == chosen and told in reason


def test_what_is_not_to_be_used_is_not_chosen(tmp_path):
    """More of its maps are empty than the default model's may be, but not than those of the best there is."""
    here = Candidate("trained", candidates.DEFAULT_MODEL, "folder", "trained here")
    adaptation = adapting._Adaptation(
        AdaptArguments(tmp_path, tmp_path / "domain"), None, print, None, [*candidates.embedded(False), here]
    )
    adaptation.qualities = {candidate.name: quality_of(PLAIN - 0.2) for candidate in adaptation.candidates}
    adaptation.qualities |= {"usod-steel-lite": quality_of(PLAIN + 0.1, 8), "trained": quality_of(PLAIN + 0.2, 15)}
    assert adaptation._harm("trained") and not adaptation._harm("usod-steel-lite")
    assert adaptation._best()[0] == "usod-steel-lite"


def test_the_adapter_for_video_is_tried_where_there_may_be_flow(tmp_path):
    """On still images the measure may take it for the best, which it never is."""
    for options, tried in (({}, False), ({"video": True}, True), ({"aux": tmp_path}, True)):
        names = [each.name for each in candidates.embedded(AdaptArguments(tmp_path, tmp_path, **options).has_maps)]
        assert names[0] == DEFAULT and {"usod-steel-lite", "usod-rsi-lite"} < set(names)
        assert ("usod-video-lite" in names) == tried
