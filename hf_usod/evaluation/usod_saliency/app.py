"""The Space of the metric: scores one saliency map against its ground truth."""

import gradio as gr
from PIL import Image
from reading import map_levels, mask_levels
from saliency_metrics import METRICS, SaliencyMetrics


def score(prediction: Image.Image | None, reference: Image.Image | None, normalize: bool) -> list[list[str]]:
    """Rows of (name, score, meaning) for two pictures."""
    if prediction is None or reference is None:
        raise gr.Error("Bring both a saliency map and its ground truth.")
    metrics = SaliencyMetrics(normalize)
    try:
        metrics.step(map_levels(prediction), mask_levels(reference))
        metrics.check_scale()
    except ValueError as error:
        raise gr.Error(str(error)) from error
    return [[name, f"{value:.4f}", METRICS[name].meaning] for name, value in metrics.results().items()]


demo = gr.Interface(
    score,
    [
        gr.Image(label="saliency map", type="pil", image_mode=None),
        gr.Image(label="ground truth", type="pil", image_mode=None),
        gr.Checkbox(label="stretch the map to the full range first (PySODMetrics' default)"),
    ],
    gr.Dataframe(headers=["score", "value", "what it is"], label="scores"),
    title="Metrics of salient object detection",
    description="Scores of one map. For a data set use `evaluate.load`, as the card of this Space says.",
    flagging_mode="never",
)

if __name__ == "__main__":
    demo.launch()
