"""The page of a run, trackio, and what the log tells."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from hf_usod.errors import MissingPackageError
from hf_usod.html.page import render
from hf_usod.html.pictures import QUALITIES
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.cue_extractor import train_cue_extractor
from hf_usod.training.curves import POINTS, charts
from hf_usod.training.monitoring import Averages, insight
from hf_usod.training.page import HISTORY_FILE, RunPage, make_page


@pytest.fixture
def arguments(short_run) -> CueExtractorArguments:
    return short_run


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / HISTORY_FILE).read_text().splitlines()]


def test_a_run_has_a_page_with_curves_and_previews(arguments):
    train_cue_extractor(arguments)
    run = Path(arguments.output_dir)
    page = (run / "index.html").read_text()
    for name in ("loss", "hard_samples", "images_per_second", "minutes_left"):
        assert f"<td>{name}</td><td>{history(run)[-1][name]:.4g}</td>" in page
    assert page.count('class="curve"') == sum(len(chart.lines) for chart in charts(history(run))) > 3
    for preview in ("previews/epoch_002.png", "previews/epoch_001.png"):
        assert f'src="{preview}"' in page and (run / preview).is_file()
    assert "Finished after 6 steps." in page
    assert "http-equiv" not in page  # it reloads no more
    assert [record["step"] for record in history(run)] == [1, 2, 3, 4, 5, 6]


def test_a_history_goes_on_from_the_step_that_the_run_does(tmp_path):
    page = RunPage(tmp_path, 0)
    for step in range(1, 6):
        page.add(step, {"loss": 1 / step})
    with open(tmp_path / HISTORY_FILE, "a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    page = RunPage(tmp_path, 3)
    page.add(4, {"loss": 9.0})
    assert [(record["step"], record["loss"]) for record in history(tmp_path)][2:] == [(3, 0.333333), (4, 9.0)]


def test_a_running_page_reloads_itself_and_names_nothing_as_markup():
    records = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 0.5}]
    page = render(make_page("<run>", "Step 1 & more", records, ["previews/a <b>.png"], True), QUALITIES[0])
    assert '<meta http-equiv="refresh" content="15">' in page
    assert "<h1>&lt;run&gt;</h1>" in page and "Step 1 &amp; more" in page
    assert 'src="previews/a%20%3Cb%3E.png" alt="a &lt;b&gt;"' in page
    assert page.count('class="curve"') == 1


def test_curves_are_means_of_as_many_points_as_can_be_seen():
    (chart,) = charts([{"step": step, "loss": float(step)} for step in range(1, 2 * POINTS + 1)])
    assert chart.lines["loss"] == [(2 * place, 2 * place - 0.5) for place in range(1, POINTS + 1)]


def test_insight_is_what_the_words_say():
    saliency = torch.tensor([0.0, 0.29, 0.31, 0.5, 0.51, 0.69, 0.71, 1.0]).view(1, 1, 2, 4)
    seen = insight(saliency)
    assert seen["foreground"].item() == pytest.approx(4 / 8)
    assert seen["hard_samples"].item() == pytest.approx(4 / 8)


def test_scalars_of_some_steps_are_averaged_over_those():
    class Alone:
        def reduce(self, tensor, how):
            return tensor

    averages = Averages()
    for step in range(4):
        more = {"label_change": torch.tensor(0.5)} if step > 1 else {}
        averages.add({"loss": torch.tensor(float(step)), **more})
    means = averages.fetch(Alone())
    assert (means["loss"], means["label_change"]) == (1.5, 0.5)


def test_trackio_that_is_not_installed_is_told(arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingPackageError, match=r'pip install "hf_usod\[trackio\]"'):
        train_cue_extractor(replace(arguments, report_to=["trackio"]))


def test_trackio_has_the_log(arguments, tmp_path):
    """Without a network, as all of this."""
    pytest.importorskip("trackio")
    words = []
    for name, value in asdict(replace(arguments, report_to=["trackio", "tensorboard"])).items():
        if value not in (None, []):
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    command = [sys.executable, "-m", "hf_usod", "train", "--stage", "sce", *words]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with closing(sqlite3.connect(tmp_path / "trackio" / "hf_usod.db")) as database:
        logged = database.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert {run for run, _, _ in logged} == {arguments.output_dir}
    assert [step for _, step, _ in logged] == [1, 2, 3, 4, 5, 6]
    assert [json.loads(metrics)["loss"] for _, _, metrics in logged] == pytest.approx(
        [record["loss"] for record in history(Path(arguments.output_dir))], rel=1e-5
    )
    assert (Path(arguments.output_dir) / "log").is_dir()
