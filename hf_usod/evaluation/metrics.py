"""Saliency metrics: the field's own implementations (PySODMetrics), one reading of the inputs, named variants."""

import numpy as np
from PIL import Image
from py_sod_metrics import MAE, Emeasure, FmeasureHandler, FmeasureV2, Smeasure, WeightedFmeasure

F_BETA_SQUARED = 0.3


def as_saliency(pred: np.ndarray | Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A prediction as float64 levels k/255 of shape `size` (height, width).

    Args:
        pred: `(H, W)`, 8-bit or float in [0, 1]; resized bilinearly if its size differs.
    """
    array = np.asarray(pred)
    if array.ndim != 2:
        raise ValueError(f"A saliency map is (H, W), got {array.shape}.")
    if array.dtype != np.uint8:
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"Float saliency is in [0, 1], got {array.min():.4g}..{array.max():.4g}.")
        array = (array * 255).round().astype(np.uint8)
    if array.shape != size:
        array = np.asarray(Image.fromarray(array).resize(size[::-1], Image.Resampling.BILINEAR))
    return array / 255.0


def as_mask(gt: np.ndarray | Image.Image) -> np.ndarray:
    """A ground truth `(H, W)` as bool: above half of its type's range (bool as is)."""
    array = np.asarray(gt)
    if array.ndim != 2:
        raise ValueError(f"A ground truth is (H, W), got {array.shape}.")
    if array.dtype == bool:
        return array
    return array > (0.5 if np.issubdtype(array.dtype, np.floating) else 127.5)


class SaliencyMetrics:
    """Collects scores image by image.

    Predictions are resized to the ground truth, in 8 bits, and not stretched to the full range. All scores are means
    over images but for the maxima, which are taken over the mean curve of 256 thresholds.

    ```python
    >>> metrics = SaliencyMetrics()
    >>> metrics.step(saliency, mask)
    >>> metrics.results()["mae"]
    ```
    """

    def __init__(self):
        self.mae = MAE()
        self.f = FmeasureV2({"f": FmeasureHandler(beta=F_BETA_SQUARED, with_dynamic=True, with_adaptive=True)})
        self.e = Emeasure()
        self.s = Smeasure(alpha=0.5)
        self.weighted = WeightedFmeasure(beta=1)

    def step(self, pred: np.ndarray | Image.Image, gt: np.ndarray | Image.Image) -> None:
        """Adds one image.

        Args:
            pred: saliency `(H, W)`, 8-bit or float in [0, 1].
            gt: ground truth `(H, W)`, object above half of the range.

        Raises:
            ValueError: for other shapes or ranges.
        """
        mask = as_mask(gt)
        saliency = as_saliency(pred, mask.shape)
        for metric in (self.mae, self.f, self.e, self.s, self.weighted):
            metric.step(saliency, mask, normalize=False)

    def results(self) -> dict[str, float]:
        """The scores so far: `mae` (lower is better) and, all higher is better, F with beta^2 = 0.3 (`f_adaptive` at
        the threshold min(2 mean(S), 1), `f_mean`, `f_max`), enhanced alignment (`e_adaptive`, `e_mean`, `e_max`),
        structure (`s_alpha`) and weighted F (`f_weighted`)."""
        f, e = self.f.get_results()["f"], self.e.get_results()["em"]
        scores = {
            "mae": self.mae.get_results()["mae"],
            "f_adaptive": f["adaptive"],
            "f_mean": f["dynamic"].mean(),
            "f_max": f["dynamic"].max(),
            "e_adaptive": e["adp"],
            "e_mean": e["curve"].mean(),
            "e_max": e["curve"].max(),
            "s_alpha": self.s.get_results()["sm"],
            "f_weighted": self.weighted.get_results()["wfm"],
        }
        return {name: float(value) for name, value in scores.items()}
