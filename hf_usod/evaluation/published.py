"""The paper's numbers (IJCAI 2024, arXiv 2404.14759) and the data sets they are on."""

from typing import NamedTuple

from ..data.tasks import TASKS

PAPER = "A2S-v3 (paper)"


class PublishedScores(NamedTuple):
    """F and E at the adaptive threshold, means over images."""

    mae: float
    f_adaptive: float
    e_adaptive: float


def _rows(table: dict[str, str]) -> dict[str, PublishedScores]:
    return {name: PublishedScores(*map(float, row.split("/"))) for name, row in table.items()}


# Tables 1-3: natural still images, the base model trained on all of them. Tables 4 and 5: after adapter transfer.
PUBLISHED: dict[str, dict[str, PublishedScores]] = {
    "rgb": _rows(
        {
            "DUT-O": ".062/.759/.868",
            "DUTS-TE": ".047/.816/.906",
            "ECSSD": ".038/.923/.951",
            "HKU-IS": ".033/.908/.954",
            "PASCAL-S": ".069/.844/.899",
        }
    ),
    "rgbd": _rows(
        {
            "RGBD135": ".025/.888/.940",
            "NJUD": ".049/.876/.923",
            "NLPR": ".028/.871/.945",
            "SIP": ".040/.879/.931",
        }
    ),
    "rgbt": _rows({"VT5000": ".038/.843/.924", "VT1000": ".023/.904/.956", "VT821": ".041/.846/.918"}),
    "video": _rows(
        {
            "DAVSOD": ".084/.576/.764",
            "DAVIS": ".030/.793/.917",
            "SegV2": ".019/.830/.936",
            "FBMS": ".051/.820/.896",
        }
    ),
    "rsi": _rows({"ORSSD": ".053/.726/.874", "EORSSD": ".064/.625/.808"}),
}

# Names that the same test sets go by.
ALIASES = {"DUT-OMRON": "DUT-O", "VT5000-TE": "VT5000", "DAVIS-TE": "DAVIS", "DAVSOD-TE": "DAVSOD", "NJU2K": "NJUD"}


def published_scores(dataset: str, task: str | None = None) -> PublishedScores | None:
    """The paper's scores on a test set of exactly that name (or an alias); None for any other, subsets included."""
    name = ALIASES.get(dataset, dataset)
    for known in [task] if task else PUBLISHED:
        if scores := PUBLISHED.get(known, {}).get(name):
            return scores
    return None


def source(dataset: str) -> str:
    """Where a test set of that name can be had."""
    name = ALIASES.get(dataset, dataset)
    for task, rows in PUBLISHED.items():
        if name in rows:
            return f"from {TASKS[task].source}"
    return "no source is known for a set of this name"
