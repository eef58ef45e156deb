"""`evaluate.load("usod_saliency")`: the metrics of salient object detection, each named by its variant."""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from .reading import map_levels, mask_levels
from .saliency_metrics import METRICS, SaliencyMetrics

_DESCRIPTION = (
    "Mean absolute error, F-measure, enhanced alignment, structure measure and weighted F-measure of saliency maps, "
    "computed with PySODMetrics' definitions. F and E come at the adaptive threshold, as mean and as maximum."
)

_KWARGS = "\n".join(
    [
        "Args:",
        "    predictions: saliency maps (H, W), float in [0, 1]; or images: gray, or cutouts with an alpha channel.",
        "    references: ground truths (H, W), object above half of the range; or images: also in color.",
        "    normalize: stretch each map to the full range first, as PySODMetrics does by default (default: False).",
        "Returns:",
        *(f"    {key}: {metric.meaning}; in {list(metric.range)}." for key, metric in METRICS.items()),
    ]
)

_CITATION = """\
@article{pysodmetrics,
  title = {{PySODMetrics}: a simple and efficient implementation of SOD metrics},
  author = {Pang, Youwei},
  url = {https://github.com/lartpang/PySODMetrics},
}
"""


def _grid() -> datasets.Sequence:
    return datasets.Sequence(datasets.Sequence(datasets.Value("float32")))


class UsodSaliency(evaluate.Metric):
    """See the card."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS,
            features=[
                datasets.Features({"predictions": _grid(), "references": _grid()}),
                datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()}),
            ],
            reference_urls=["https://github.com/lartpang/PySODMetrics"],
        )

    def _compute(self, predictions: Sequence, references: Sequence, normalize: bool = False) -> dict[str, float]:
        metrics = SaliencyMetrics(normalize)
        pictures = False
        for number, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            try:
                if hasattr(prediction, "convert"):  # a PIL image; grids are of floats
                    pictures = True
                    prediction, reference = map_levels(prediction), mask_levels(reference)
                metrics.step(np.asarray(prediction), np.asarray(reference))
            except ValueError as error:
                raise ValueError(f"pair {number}: {error}") from error
        if pictures:
            metrics.check_scale()
        return metrics.results()
