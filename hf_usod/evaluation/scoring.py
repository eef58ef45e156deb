"""Scores of many maps, over all cores."""

import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..errors import DataError
from ..labels import default_num_workers
from .reading import read_ground_truth, read_prediction
from .sets import EvaluationSample
from .usod_saliency.saliency_metrics import ImageScores, SaliencyMetrics, score_image

FEW = 16  # maps that are scored sooner than processes start
MAX_WORKERS = 16  # unless the caller says otherwise


def _score(prediction: np.ndarray | Path, mask: Path, normalize: bool) -> ImageScores:
    levels = read_prediction(prediction) if isinstance(prediction, Path) else prediction
    truth = read_ground_truth(mask)
    try:
        return score_image(levels, truth, normalize)
    except ValueError as error:
        name = prediction if isinstance(prediction, Path) else "prediction"
        raise DataError(f"{name} against {mask}: {error}") from error


def _jobs(
    samples: Sequence[EvaluationSample], predictions: Iterable[np.ndarray | Path]
) -> Iterator[tuple[EvaluationSample, np.ndarray | Path]]:
    """One map a sample, or an error: scores of some of them are not those of the data set."""
    remaining = iter(predictions)
    for number, sample in enumerate(samples):
        try:
            yield sample, next(remaining)
        except StopIteration:
            raise ValueError(f"There are {number} maps for {len(samples)} samples; one for each is expected.") from None
    if next(remaining, None) is not None:
        raise ValueError(f"There are more maps than the {len(samples)} samples; one for each is expected.")


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process is the one to stop


def _parallel(
    jobs: Iterable[tuple[EvaluationSample, np.ndarray | Path]], workers: int, normalize: bool
) -> Iterator[ImageScores]:
    """Scores in the order of the jobs; a few jobs a worker wait, however fast they come."""
    with ProcessPoolExecutor(workers, initializer=_ignore_interrupts) as pool:
        waiting: deque[Future[ImageScores]] = deque()
        try:
            for sample, prediction in jobs:
                waiting.append(pool.submit(_score, prediction, sample.mask, normalize))
                if len(waiting) > 8 * workers or waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def score_maps(
    samples: Sequence[EvaluationSample],
    predictions: Iterable[np.ndarray | Path],
    *,
    normalize: bool = False,
    num_workers: int | None = None,
    progress: bool = True,
    label: str = "scoring",
) -> SaliencyMetrics:
    """Scores saliency maps against the ground truth of `samples`; the same numbers for any number of processes.

    Args:
        predictions: one a sample, in their order: 8-bit `(H, W)` or the file of a map. May be a generator.
        num_workers: processes that score; 0 scores in this one. Default: one a core, 16 at most.

    Raises:
        DataError, FileNotFoundError: naming the file that cannot be read or scored.
        ValueError: if there is not one map for each sample.
    """
    workers = min(MAX_WORKERS, default_num_workers()) if num_workers is None else num_workers
    jobs = _jobs(samples, predictions)
    scores: Iterable[ImageScores]
    if workers == 0 or len(samples) <= FEW:
        scores = (_score(prediction, sample.mask, normalize) for sample, prediction in jobs)
    else:
        scores = _parallel(jobs, workers, normalize)
    metrics = SaliencyMetrics(normalize)
    bar = tqdm(scores, label, len(samples), unit="image", disable=not progress)
    for sample, image in zip(samples, bar, strict=True):
        metrics.add(image, sample.id)
    return metrics
