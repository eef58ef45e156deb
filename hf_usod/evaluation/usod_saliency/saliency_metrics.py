"""Saliency metrics: PySODMetrics' definitions, one reading of the inputs, each score named by its variant.

This file and `reading` stand alone (numpy, Pillow, SciPy and PySODMetrics): the `evaluate` module in this folder is
published with them. With `normalize=True` every score equals PySODMetrics 1.6's defaults to 1e-9 (tests), but for what
is said here.

Reading of the inputs:

- A prediction of another size is resized to its ground truth, bilinearly, in 8 bits; PySODMetrics refuses it.
- Predictions are 8-bit levels k/255 and not stretched. PySODMetrics stretches each to [0, 1] by default, which changes
  every score of a map that never reaches black or white; `normalize=True` does the same.
- A ground truth of gray levels is cut at half of its range: the object is above 127.5, where PySODMetrics has it above
  128. One of two levels, as 0 and 1, means just that; PySODMetrics takes it for empty. See `as_mask`.

Cases in which a definition has nothing to measure:

- Ground truth without an object: precision, recall, F and weighted F are 0 whatever is predicted, E is the share of
  pixels left as background, S is 1 - mean(prediction). `SaliencyMetrics.num_empty` counts these images.
- Ground truth that is all object: E is the share of pixels found, S is mean(prediction).
- A prediction that is all 0 has the adaptive threshold 0, which all pixels reach: everything is found. A constant one
  is found as a whole at a level of 0 or 255, else nothing is; stretching leaves constants as they are.
- An object in the last row or column alone: PySODMetrics 1.6 gives S = nan, and with it the mean of the data set. Here
  the empty quarter of the picture counts with its weight, 0.
- E sums over N pixels and divides by N - 1, as its authors do, so that a perfect map has E = N / (N - 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from py_sod_metrics import FmeasureHandler, Smeasure
from scipy.ndimage import correlate1d, distance_transform_edt

if __package__:
    from .reading import as_levels, as_mask, fit
else:  # in the Space, where the app lies beside it and there is no package
    from reading import as_levels, as_mask, fit  # type: ignore[no-redef]

F_BETA_SQUARED = 0.3
NUM_THRESHOLDS = 256


@dataclass(frozen=True)
class Metric:
    """What there is to say of a score; whatever shows it takes it from here."""

    key: str  # in results and files
    heading: str  # in tables
    symbol: str  # in LaTeX, without dollars
    meaning: str
    lower_is_better: bool = False
    range: tuple[float, float] = (0.0, 1.0)  # E of N pixels reaches N / (N - 1), see above

    @property
    def column(self) -> str:
        """The heading, with an arrow where lower is better."""
        return f"{self.heading} ↓" if self.lower_is_better else self.heading

    @property
    def latex(self) -> str:
        """The heading in LaTeX, with an arrow to where it is better."""
        return f"${self.symbol}\\{'down' if self.lower_is_better else 'up'}arrow$"


_ADAPTIVE = "at the threshold min(2 mean(S), 1), mean over images"
_WEIGHTED = "weighted F (Margolin et al. 2014), beta = 1, mean over images"
_MEAN, _MAX = "mean over 256 thresholds and images", "highest of the mean curve over 256 thresholds"
METRICS = {
    metric.key: metric
    for metric in (
        Metric("mae", "M", "M", "mean absolute error; lower is better", lower_is_better=True),
        Metric(
            "f_adaptive",
            "F adaptive",
            r"F_\beta^{\mathrm{adp}}",
            f"F, beta^2 = 0.3, {_ADAPTIVE}: the papers' average F",
        ),
        Metric("f_mean", "F mean", r"F_\beta^{\mathrm{mean}}", f"F, {_MEAN}"),
        Metric("f_max", "F max", r"F_\beta^{\mathrm{max}}", f"F, {_MAX}"),
        Metric("e_adaptive", "E adaptive", r"E_\xi^{\mathrm{adp}}", f"enhanced alignment {_ADAPTIVE}"),
        Metric("e_mean", "E mean", r"E_\xi^{\mathrm{mean}}", f"enhanced alignment, {_MEAN}"),
        Metric("e_max", "E max", r"E_\xi^{\mathrm{max}}", f"enhanced alignment, {_MAX}"),
        Metric("s_alpha", "S alpha", r"S_\alpha", "structure measure, alpha = 0.5, mean over images"),
        Metric(
            "f_weighted", "F weighted", r"F_\beta^w", "weighted F (Margolin et al. 2014), beta = 1, mean over images"
        ),
    )
}
CURVES = ("precision", "recall", "f", "e")
_EPSILON = np.spacing(1)


@dataclass(frozen=True)
class ImageScores:
    """The scores of one image.

    Args:
        scores: by the names of `METRICS`, without the maxima, which are those of a data set.
        curves: `(4, 256)`, the `CURVES` at thresholds k/255, k = 0..255.
        foreground: share of object pixels in the ground truth.
        peak: the highest level of the prediction, in [0, 1], before it is rounded, resized or stretched.
    """

    scores: dict[str, float]
    curves: np.ndarray
    foreground: float
    peak: float


class _Structure(Smeasure):
    def ssim(self, pred: np.ndarray, gt: np.ndarray) -> float:
        return super().ssim(pred, gt) if pred.size else 0.0


_structure = _Structure(alpha=0.5)
_f = FmeasureHandler(with_dynamic=False, with_adaptive=False, beta=F_BETA_SQUARED)


def _enhanced_alignment(true: np.ndarray, false: np.ndarray, num_object: int, size: int) -> np.ndarray:
    """E of binary maps that find `true` pixels of the object and `false` ones beside it (Fan et al. 2018).

    Pixels of one kind (found or not, object or not) align alike, so four kinds are all there is to sum.
    """
    positive = true + false
    if num_object == 0:
        total = size - positive
    elif num_object == size:
        total = positive
    else:
        p, g = positive / size, num_object / size
        kinds = (
            (true, 1 - p, 1 - g),
            (false, 1 - p, -g),
            (num_object - true, -p, 1 - g),
            (size - num_object - false, -p, -g),
        )
        total = sum(count * (2 * a * b / (a**2 + b**2 + _EPSILON) + 1) ** 2 / 4 for count, a, b in kinds)
    return total / (size - 1 + _EPSILON)


_GAUSSIAN = np.exp(-(np.arange(-3.0, 4.0) ** 2) / (2 * 5**2))  # 7 wide, sigma 5; its outer product is the 2D window
_GAUSSIAN /= _GAUSSIAN.sum()


def _weighted_f(error: np.ndarray, mask: np.ndarray) -> float:
    """Weighted F, beta = 1 (Margolin et al. 2014), of the absolute errors `(H, W)`; as PySODMetrics, but with a
    separable filter on the object alone, in half of its time."""
    if not mask.any():
        return 0.0
    distance, nearest = distance_transform_edt(~mask, return_indices=True)
    # The filtered errors are needed on the object alone: in its box, and as far beside it as the window reaches.
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.s_[max(rows[0] - 3, 0) : rows[-1] + 4, max(columns[0] - 3, 0) : columns[-1] + 4]
    carried = error[nearest[0][box], nearest[1][box]]  # errors beside the object are those of its nearest pixel
    smooth = correlate1d(correlate1d(carried, _GAUSSIAN, 0, mode="constant"), _GAUSSIAN, 1, mode="constant")
    inside = np.minimum(error[box], smooth)[mask[box]]
    outside = error[~mask] * (2 - np.exp(np.log(0.5) / 5 * distance[~mask]))
    true = inside.size - inside.sum()
    recall, precision = 1 - inside.mean(), true / (true + outside.sum() + _EPSILON)
    return float(2 * recall * precision / (recall + precision + _EPSILON))


def score_image(pred: np.ndarray | Image.Image, gt: np.ndarray | Image.Image, normalize: bool = False) -> ImageScores:
    """All scores of one prediction. Arguments and errors as for `SaliencyMetrics.step`."""
    mask = as_mask(gt)
    levels, peak = as_levels(pred)
    saliency = fit(levels, mask.shape)
    if normalize and saliency.max() != saliency.min():
        saliency = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    levels = (saliency * 255).astype(np.uint8)  # exact for k/255; truncated where stretched, as PySODMetrics does
    # Two histograms, beside the object and on it, give all scores that depend on thresholds.
    histogram = np.bincount((levels + np.uint16(256) * mask).ravel(), minlength=512).reshape(2, 256)
    false, true = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]  # pixels >= k
    adaptive = saliency >= min(2 * saliency.mean(), 1)
    num_adaptive, num_true = np.count_nonzero(adaptive), np.count_nonzero(adaptive & mask)
    true, false = np.append(true, num_true), np.append(false, num_adaptive - num_true)

    error = np.abs(saliency - mask)
    num_object, size = int(histogram[1].sum()), mask.size
    counts = (true, false, size - num_object - false, num_object - true)  # tp, fp, tn, fn
    f, e = _f(*counts), _enhanced_alignment(true, false, num_object, size)
    curves = np.stack([_f.precision(*counts), _f.recall(*counts), f, e])[:, :NUM_THRESHOLDS]
    scores = {
        "mae": error.mean(),
        "f_adaptive": f[-1],
        "f_mean": f[:-1].mean(),
        "e_adaptive": e[-1],
        "e_mean": e[:-1].mean(),
        "s_alpha": _structure.cal_sm(saliency, mask),
        "f_weighted": _weighted_f(error, mask),
    }
    values = {name: float(value) for name, value in scores.items()}
    return ImageScores(values, curves, num_object / size, peak)


class SaliencyMetrics:
    """Collects scores image by image. Those of several processes are merged.

    Scores are means over images, but for the maxima, which are taken over the mean curve of 256 thresholds.

    Args:
        normalize: stretch each prediction to [0, 1] first, as PySODMetrics does by default.

    ```python
    >>> metrics = SaliencyMetrics()
    >>> metrics.step(saliency, mask)
    >>> metrics.results()["mae"]
    ```
    """

    def __init__(self, normalize: bool = False):
        self.normalize = normalize
        self.rows: list[dict[str, str | float]] = []
        self._curve_sums = np.zeros((len(CURVES), NUM_THRESHOLDS))

    def __len__(self) -> int:
        return len(self.rows)

    def step(self, pred: np.ndarray | Image.Image, gt: np.ndarray | Image.Image, id: str = "") -> None:
        """Adds one image.

        Args:
            pred: saliency `(H, W)`, 8-bit or float in [0, 1].
            gt: ground truth `(H, W)`, object above half of the range.
            id: name of the image in `rows`.

        Raises:
            ValueError: for other shapes or ranges.
        """
        self.add(score_image(pred, gt, self.normalize), id)

    def add(self, image: ImageScores, id: str = "") -> None:
        """Adds the scores of one image, from `score_image`."""
        self.rows.append({"id": id, **image.scores, "foreground": image.foreground, "peak": image.peak})
        self._curve_sums += image.curves

    def merge(self, other: SaliencyMetrics) -> SaliencyMetrics:
        """Adds the images of another; returns itself. What processes collected apart is what one would have."""
        if self.normalize != other.normalize:
            raise ValueError("Scores with and without `normalize` are different numbers; they do not merge.")
        self.rows += other.rows
        self._curve_sums = self._curve_sums + other._curve_sums
        return self

    @property
    def num_empty(self) -> int:
        """Images whose ground truth has no object: their F is 0 whatever is predicted."""
        return sum(row["foreground"] == 0 for row in self.rows)

    @property
    def peak(self) -> float:
        """The highest level of all predictions, in [0, 1]; 0 without images."""
        return max((float(row["peak"]) for row in self.rows), default=0.0)

    def check_scale(self) -> None:
        """Refuses pictures of maps that were saved as 0 and 1, or 8-bit levels in 16 bits: they are nearly black.

        Raises:
            ValueError: if not all are black and yet none goes above level 1 of 255.
        """
        if 0 < self.peak <= 1 / 255:
            raise ValueError(
                f"none of the {len(self.rows)} maps goes above level {self.peak * 255:.3g} of 255: they read as black. "
                "If they mean 0 and 1, or are 8-bit levels in 16-bit files, save them as 8-bit levels 0..255."
            )

    def curves(self) -> dict[str, np.ndarray]:
        """Mean `precision`, `recall`, `f` and `e` at the 256 thresholds k/255, ascending; `(256,)` each.

        Raises:
            ValueError: if no image was added.
        """
        if not self.rows:
            raise ValueError("There are no scores: no image was added.")
        return dict(zip(CURVES, self._curve_sums / len(self.rows), strict=True))

    def results(self) -> dict[str, float]:
        """The scores so far, by the names of `METRICS`: `mae` (lower is better) and, all higher is better, F with
        beta^2 = 0.3 (`f_adaptive` at the threshold min(2 mean(S), 1), `f_mean`, `f_max`), enhanced alignment
        (`e_adaptive`, `e_mean`, `e_max`), structure (`s_alpha`) and weighted F (`f_weighted`).

        Raises:
            ValueError: if no image was added.
        """
        curves = self.curves()
        maxima = {"f_max": float(curves["f"].max()), "e_max": float(curves["e"].max())}
        means = {name: _mean(row[name] for row in self.rows) for name in METRICS if name not in maxima}
        return {name: maxima[name] if name in maxima else means[name] for name in METRICS}


def _mean(values: Iterable) -> float:
    return float(np.mean(list(values)))
