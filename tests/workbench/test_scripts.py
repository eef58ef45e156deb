"""What the page's scripts do in a browser, with a server that answers as the tests say."""

import pytest

from hf_usod.workbench.choosing import SCRIPT as BROWSE
from hf_usod.workbench.choosing import list_folders
from hf_usod.workbench.session import Session
from hf_usod.workbench.wall import SCRIPT as WALL
from hf_usod.workbench.wall import wall

RUN = """([script, answers]) => {
    const element = document.body;
    const answer = (name) => async () => { if (answers[name] === null) throw new Error(); return answers[name]; };
    const server = Object.fromEntries(Object.keys(answers).map((name) => [name, answer(name)]));
    new Function("element", "server", "trigger", script)(element, server, () => {});
}"""


@pytest.fixture
def show(browser):
    """A page with a piece of HTML on which a script runs; what the server answers, by the function's name, None for
    an error."""
    pages = []

    def show(content, script, answers):
        pages.append(browser.new_page())
        pages[-1].set_content(content)
        pages[-1].evaluate(RUN, [script, answers])
        return pages[-1]

    yield show
    for page in pages:
        page.close()


def test_a_decision_that_cannot_be_kept_is_the_earlier_one_again(show, run):
    session = Session.open(run)
    page = show(wall(session, "trained-by-default", 0), WALL, {"decide": None})
    card = page.locator(".wb-card").first
    card.evaluate("card => { card.dataset.decision = 'drop'; }")
    card.locator("[data-say=swap]").click()
    page.get_by_text("The workbench does not answer").wait_for()
    assert card.get_attribute("data-decision") == "drop"


def test_folders_are_shown_as_the_server_tells_of_them(show, photos):
    (photos / "below").mkdir()
    told = list_folders(str(photos))
    page = show('<p class="wb-quiet"></p><div class="wb-folders"></div>', BROWSE, {"list_folders": told})
    page.get_by_text(f"In {photos}, which holds 24 images:").wait_for()
    assert page.locator(".wb-folders button").all_inner_texts() == ["↑ up", "below"]
    page = show(
        '<p class="wb-quiet"></p><div class="wb-folders"></div>', BROWSE, {"list_folders": list_folders(told["parent"])}
    )
    page.get_by_text("24 images").wait_for()
