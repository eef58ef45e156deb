"""`evaluate.load("usod_saliency")`: the metrics of salient object detection, each named by its variant."""

import datasets
import evaluate
import numpy as np

from .saliency_metrics import METRICS, SaliencyMetrics

_DESCRIPTION = (
    "Mean absolute error, F-measure, enhanced alignment, structure measure and weighted F-measure of saliency maps, "
    "computed with PySODMetrics' definitions. F and E come at the adaptive threshold, as mean and as maximum."
)

_KWARGS = "\n".join(
    [
        "Args:",
        "    predictions: saliency maps (H, W), float in [0, 1]; or images of 8-bit levels.",
        "    references: ground truths (H, W), object above half of the range; or images.",
        "    normalize: stretch each map to the full range first, as PySODMetrics does by default (default: False).",
        "Returns:",
        *(f"    {name}: {meaning}." for name, meaning in METRICS.items()),
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


def _levels(value) -> np.ndarray:
    """A map as the metrics read it. Images are read as grey levels."""
    if hasattr(value, "convert"):
        return np.asarray(value if value.mode.startswith(("I", "F")) else value.convert("L"))
    return np.asarray(value)


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

    def _compute(self, predictions, references, normalize: bool = False) -> dict[str, float]:
        metrics = SaliencyMetrics(normalize)
        for prediction, reference in zip(predictions, references):
            metrics.step(_levels(prediction), _levels(reference))
        return metrics.results()
