"""Documentation that stays true: pages that are written are up to date, all are listed, and links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

from hf_usod.cli import parser
from hf_usod.training.options import plan_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
TRAIN = re.compile(r"^(?:hf-usod|accelerate launch -m hf_usod) (train .+?)(?<!\\)$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def api():
    specification = importlib.util.spec_from_file_location("api_script", ROOT / "scripts" / "api.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_of_public_names_is_up_to_date(api, monkeypatch):
    monkeypatch.setattr("sys.argv", ["api.py", "--check"])
    assert api.main() == 0


def test_a_page_that_is_behind_is_told_and_left(api, monkeypatch, tmp_path, capsys):
    page = tmp_path / "api.md"
    page.write_text("old")
    monkeypatch.setattr(api, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["api.py", "--check"])
    assert api.main() == 1 and page.read_text() == "old"
    assert "run scripts/api.py" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["api.py"])
    assert api.main() == 0 and page.read_text() == api.render()


def test_public_names_have_their_signatures(api):
    page = api.render()
    assert "btm_loss(saliency: torch.Tensor, images: torch.Tensor, radius: int=5, alpha: float=200.0)" in page
    assert "\nLabelStore(directory: str | Path)\n.create(\n    directory: str | Path,\n" in page
    with pytest.raises(ValueError, match="lists nothing_such, which nothing defines"):
        list(api.describe("hf_usod.objectives", "nothing_such"))


def test_the_index_lists_every_page():
    listed = set(LINK.findall((ROOT / "docs" / "README.md").read_text()))
    assert {page.name for page in ROOT.glob("docs/*.md")} - {"README.md"} <= listed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_that_train_make_a_plan(page):
    for command in TRAIN.findall(page.read_text()):
        words = command.replace("\\\n", " ").split(" #")[0].split()
        assert plan_of(parser().parse_args(words)).stages


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 750
