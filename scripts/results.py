"""Writes the tables of results between markers of Markdown files: `python scripts/results.py README.md`. (Cards are
filled by `hf_usod.hub` from the same files.)

A table stands between two comments. The first names its source and, if wanted, models (or adapters) and scores:

    <!-- results: results/ecssd-dev.json scores=mae,f_adaptive,s_alpha models=usod-rgb-lite -->
    <!-- /results -->

Under it stands what the scores are, unless `legend=no` is said; on a page of several tables `legend` in the place of a
source writes it once. The source is a file that `hf-usod evaluate --output FILE.json` wrote, or a Markdown table of
`hf-usod table` (`results/table7/table.md`), relative to the repository. `--check` writes nothing and fails if a file
would change.
"""

import argparse
import re
import sys
from pathlib import Path

from hf_usod.cli import exit_status
from hf_usod.errors import DataError
from hf_usod.evaluation import METRICS
from hf_usod.evaluation.report import LEGEND, legend, markdown_table
from hf_usod.evaluation.results import Entry, read_entries
from hf_usod.files import write_text

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"(?P<head><!-- results: (?P<request>.+?) -->\n).*?(?P<tail><!-- /results -->)", re.DOTALL)
MARKER = re.compile(r"<!--\s*/?results\b")
SCORES = ("mae", "f_adaptive", "e_adaptive", "s_alpha", "f_weighted")


def subject(entry: Entry) -> str:
    """The model, or the adapter, that the scores are of."""
    return entry.get("adapter") or entry["model"]


def render(request: str, root: Path = ROOT) -> str:
    """What stands between the markers, for what the first one asks.

    Raises:
        ValueError, OSError: naming what is wrong with it.
    """
    source, *options = request.split()
    if source == "legend":
        return f"\n{LEGEND}\n\n"
    path = root / source
    if path.suffix == ".md":
        return path.read_text()
    chosen = dict(option.partition("=")[::2] for option in options)
    if unknown := sorted(chosen.keys() - {"scores", "models", "legend"}):
        raise ValueError(f"results: {request}: there is no option {unknown[0]!r}; there are scores, models and legend.")
    if chosen.get("legend", "no") != "no":
        raise ValueError(f"results: {request}: legend={chosen['legend']}; `legend=no` leaves it out.")
    scores = chosen["scores"].split(",") if "scores" in chosen else list(SCORES)
    if unknown := [name for name in scores if name not in METRICS]:
        raise ValueError(f"results: {request}: there is no score {unknown[0]!r}; there are {', '.join(METRICS)}.")
    entries = read_entries(path)
    if "models" in chosen:
        models = chosen["models"].split(",")
        if unknown := [name for name in models if name not in {subject(entry) for entry in entries}]:
            raise ValueError(f"results: {request}: {path} has no model {unknown[0]!r}.")
        entries = [entry for entry in entries if subject(entry) in models]
    explained = legend(entries).removeprefix(LEGEND if "legend" in chosen else "")
    written = f"Written by `hf-usod evaluate` ({source})."
    return f"\n{markdown_table(entries, scores)}\n{f'{explained} {written}'.strip()}\n\n"


def rewrite(text: str, root: Path = ROOT) -> str:
    """A text with all its sections written anew.

    Raises:
        ValueError: for a marker without its other half, or one that asks for what is not there.
    """
    sections = SECTION.findall(text)
    if len(MARKER.findall(text)) != 2 * len(sections):
        raise ValueError("a `<!-- results: … -->` without `<!-- /results -->`, or the other way round.")
    return SECTION.sub(lambda match: match["head"] + render(match["request"], root) + match["tail"], text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not up to date")
    args = parser.parse_args()
    status = 0
    for path in args.files:
        try:
            text = path.read_text()
            new = rewrite(text)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from error
        if new == text:
            continue
        if args.check:
            print(f"{path}: is not up to date; run scripts/results.py.", file=sys.stderr)
            status = 1
        else:
            write_text(path, new)
            print(f"{path}: written.")
    return status


if __name__ == "__main__":
    sys.exit(exit_status("results.py", main))
