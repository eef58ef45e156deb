"""The test sets of the five tasks, opened with their ground truth from the registry."""

from collections.abc import Sequence
from pathlib import Path

from ..data.tasks import find_datasets, get_task, labelled_samples
from .samples import EvaluationSample, EvaluationSet


def task_sets(task: str, root: Path, names: Sequence[str] | None = None) -> tuple[list[EvaluationSet], list[str]]:
    """The test sets of a task that are below `root`, and a line for each customary one that is not: where to get it.

    Args:
        names: of data sets; those that are named must be there.

    Raises:
        FileNotFoundError: if a named set, all sets, or ground truth is not there.
        ValueError: for an unknown task.
    """
    layout = get_task(task)
    sets = []
    for folder in find_datasets(task, root, names, split="test"):
        name = folder.relative_to(root).as_posix()
        samples = [
            EvaluationSample(sample.id.removeprefix(f"{name}/"), sample.mask, sample.image, sample.aux)
            for sample in labelled_samples(task, root, [name])
        ]
        sets.append(EvaluationSet(name, samples))
    absent = [] if names else [name for name in layout.test if name not in {one.name for one in sets}]
    return sets, [
        f"{root / name}: not there, left out. The data sets of {task} are at {layout.source}." for name in absent
    ]
