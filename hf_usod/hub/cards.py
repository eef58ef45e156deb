"""Cards: Jinja templates (`assets.CARDS`) filled with what was measured (`assets.RESULTS`)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCard

from ..assets import CARDS, RESULTS
from ..evaluation import METRICS
from ..evaluation.results import Entry, find_entries

_COLUMNS = sorted(METRICS, key=lambda key: "mfes".index(key[0]))  # all F side by side, then all E


@dataclass(frozen=True)
class Measurement:
    """Scores of a model, with or without an adapter, on a dataset."""

    model: str
    dataset: str
    num_images: int
    scores: dict[str, float]
    adapter: str | None = None
    file: Path = field(default=Path(), compare=False)

    @property
    def subject(self) -> str:
        return self.adapter or self.model


def read_measurements(folder: Path = RESULTS) -> list[Measurement]:
    """The evaluations among the JSON files in a folder (see `find_entries`), but for scores of maps that were stretched
    first (`normalize`) or made in windows too (`tiles`). Models are known by the last part of their name.

    Raises:
        DataError: naming a file that is not JSON.
    """
    return [
        _as_measurement(entry, path)
        for path in sorted(folder.glob("*.json"))
        for entry in find_entries(path)
        if not entry.get("normalize") and not entry.get("tiles")
    ]


def _as_measurement(entry: Entry, file: Path) -> Measurement:
    adapter = entry.get("adapter")
    return Measurement(
        model=Path(str(entry["model"])).name,
        dataset=str(entry["dataset"]),
        num_images=int(entry["num_images"]),
        scores={key: entry[key] for key in _COLUMNS if isinstance(entry.get(key), int | float)},
        adapter=Path(str(adapter)).name if adapter else None,
        file=file,
    )


def _check_for_contradictions(reports: Iterable[Measurement]) -> None:
    seen: dict[tuple, Measurement] = {}
    for report in reports:
        other = seen.setdefault((report.model, report.adapter, report.dataset), report)
        if other != report:
            raise ValueError(
                f"{report.file} and {other.file}: both score {report.subject} on {report.dataset}, differently. Remove "
                "the one that is out of date."
            )


def model_index(reports: Iterable[Measurement]) -> list[EvalResult]:
    """The reports as the Hub's metadata wants them."""
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name="salient object detection",
            dataset_type=report.dataset.lower(),
            dataset_name=report.dataset,
            dataset_args={"num_images": report.num_images},
            metric_type=name,
            metric_name=METRICS[name].heading,
            metric_value=round(value, 4),
        )
        for report in reports
        for name, value in report.scores.items()
    ]


def find_card(*names: str) -> Path | None:
    """The source of the first of these names that has one."""
    return next((path for name in names if (path := CARDS / f"{name}.md").is_file()), None)


def render_template(source: Path, **values) -> ModelCard:
    """Fills a template; it may include `partials/*.md` of the package's cards.

    Raises:
        ValueError: naming the template and what is wrong with it.
    """
    loader = jinja2.FileSystemLoader([source.parent, CARDS])
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    try:
        return ModelCard(environment.get_template(source.name).render(**values))
    except jinja2.TemplateError as error:
        raise ValueError(f"{source}: {error} (line {getattr(error, 'lineno', '?')}).") from error


def render_card(
    source: Path,
    *,
    repo_id: str | None = None,
    base: str | None = None,
    examples: Iterable[str] = (),
    picture: str | None = None,
    failures: Iterable[str] = (),
    reports: Iterable[Measurement] | None = None,
) -> str:
    """The card of a model or an adapter.

    Args:
        source: the template; its stem is the name that reports know the model by.
        repo_id: where it is published; None for a model embedded in the package.
        base: of an adapter, the model it sits on.
        examples: example photos, by their path beside the card.
        picture: of the model's results, by its path beside the card.
        failures: pictures of failures, likewise.
        reports: evaluations; those of the repository by default.

    Raises:
        ValueError: naming the file, if the template is broken or two evaluations contradict each other.
    """
    name = source.stem
    reports = list(read_measurements() if reports is None else reports)
    own = [report for report in reports if report.subject == name]
    datasets = {report.dataset for report in own}
    before = [r for r in reports if base and not r.adapter and r.model == Path(base).name and r.dataset in datasets]
    _check_for_contradictions(before + own)
    card = render_template(
        source,
        name=name,
        repo_id=repo_id,
        base=base,
        examples=list(examples),
        picture=picture,
        failures=list(failures),
        rows=sorted(before + own, key=lambda report: report.dataset),
        scores={key: METRICS[key].heading for key in _COLUMNS},
    )
    if base and "/" in base:
        card.data["base_model"] = base
    if own:
        card.data["model_name"] = name
        card.data["eval_results"] = model_index(own)
    return str(card)
