"""The Space of the metric: scores one saliency map against its ground truth."""

import gradio as gr
import numpy as np
from saliency_metrics import METRICS, score_image

MAXIMA = {"f_max": "f", "e_max": "e"}
CURVES = ("precision", "recall", "f", "e")


def score(prediction: np.ndarray | None, reference: np.ndarray | None, normalize: bool) -> list[list[str]]:
    """Rows of (name, score, meaning) for two 8-bit greyscale images."""
    if prediction is None or reference is None:
        raise gr.Error("Bring both a saliency map and its ground truth.")
    image = score_image(prediction, reference, normalize)
    curves = dict(zip(CURVES, image.curves))
    values = {**image.scores, **{name: float(curves[curve].max()) for name, curve in MAXIMA.items()}}
    return [[name, f"{values[name]:.4f}", meaning] for name, meaning in METRICS.items()]


demo = gr.Interface(
    score,
    [
        gr.Image(label="saliency map", image_mode="L"),
        gr.Image(label="ground truth", image_mode="L"),
        gr.Checkbox(label="stretch the map to the full range first (PySODMetrics' default)"),
    ],
    gr.Dataframe(headers=["score", "value", "what it is"], label="scores"),
    title="Metrics of salient object detection",
    description="Scores of one map. For a data set use `evaluate.load`, as the card of this Space says.",
    flagging_mode="never",
)

if __name__ == "__main__":
    demo.launch()
