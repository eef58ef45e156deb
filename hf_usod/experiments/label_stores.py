"""The labels of a running or finished training, to be scored or looked at as maps are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..evaluation import EvaluationSample
from ..evaluation.pairing import need, pair
from ..evaluation.reading import list_maps
from ..labels import LabelStore


def store_predictions(folder: Path, masks: Path) -> tuple[list[EvaluationSample], Iterator[np.ndarray]]:
    """The newest labels of a `LabelStore`, 8-bit at the store's size, and the ground truths of the same ids.

    Raises:
        FileNotFoundError: naming the labels without ground truth.
        LabelError: if the folder holds no labels.
    """
    store, truth = LabelStore(folder), list_maps(masks)
    mask_of = pair(store.ids, truth)
    need(store.ids, mask_of, masks, "ground truth", truth)
    samples = [EvaluationSample(name, mask_of[name]) for name in store.ids]
    return samples, ((store.latest(index) * 255).round().astype(np.uint8) for index in range(len(store)))
