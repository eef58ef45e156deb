"""The labels of a running or finished training, to be scored or looked at as maps are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data import by_stem
from ..labels import LabelStore
from .samples import EvaluationSample


def store_predictions(folder: Path, masks: Path) -> tuple[list[EvaluationSample], Iterator[np.ndarray]]:
    """The newest labels of a `LabelStore`, 8-bit at the store's size, and the ground truths of the same ids.

    Raises:
        FileNotFoundError: naming the labels without ground truth.
        LabelError: if the folder holds no labels.
    """
    store, truth = LabelStore(folder), by_stem(masks)
    if missing := [name for name in store.ids if name not in truth]:
        names = ", ".join(missing[:10])
        raise FileNotFoundError(f"{masks}: no ground truth for {len(missing)} of {len(store)} labels: {names}.")
    samples = [EvaluationSample(name, truth[name]) for name in store.ids]
    return samples, ((store.latest(index) * 255).round().astype(np.uint8) for index in range(len(store)))
