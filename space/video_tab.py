"""The Video tab: a clip in, its objects as a clip out."""

from pathlib import Path
from threading import Event

import gradio as gr
from PIL import ImageColor

from engine import Detector, Engine
from files import MAX_CLIP_FRAMES, MAX_CLIP_SECONDS, MAX_FILE_MB, check_clip, result_folder
from hf_usod.inference import ClipError, Rendering, predict_clip
from hf_usod.inference.jobs import partial_path
from image_tab import choose_model
from jobs import Jobs, Stopped
from rendering import css_color

KINDS = [
    ("Cutout on a color", "cutout"),
    ("Matte (gray)", "saliency"),
    ("Mask (black and white)", "mask"),
    ("Overlay", "overlay"),
    ("Side by side", "side_by_side"),
]


class _FrameDetector:
    """What `predict_clip` calls for a few frames at a time: counts them, and stops where it is told to."""

    def __init__(self, detect: Detector, stop: Event, total: int | None, progress: gr.Progress):
        self._detect, self._stop, self._progress = detect, stop, progress
        self._total = min(total or MAX_CLIP_FRAMES, MAX_CLIP_FRAMES)
        self.model = detect.model
        self.done = 0

    def __call__(self, inputs, **kwargs):
        if self._stop.is_set():
            raise Stopped(f"Stopped after {self.done} frames.")
        if self.done >= MAX_CLIP_FRAMES:
            raise Stopped(f"Clips may have up to {MAX_CLIP_FRAMES} frames; these are the first {self.done}.")
        results = self._detect(inputs, **kwargs)
        self.done += len(results)
        self._progress((min(self.done, self._total), self._total), desc="Looking at frames", unit="frames")
        return results


def make_predict_video(engine: Engine, jobs: Jobs):
    def predict_video(
        clip,
        kind,
        background,
        threshold,
        model,
        adapter,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008
    ):
        """Finds the salient objects of a clip: an MP4 (H.264) of the same size and times, with its sound.

        `kind` is cutout (over `background`), saliency, mask, overlay or side_by_side.
        """
        if clip is None:
            raise gr.Error("Choose a clip first.")
        total, detect = check_clip(clip), engine.detector(model, adapter)
        output = result_folder() / f"{Path(clip).stem}_{kind}.mp4"
        progress(0, desc="Opening the clip")
        with jobs.running(request.session_hash) as stop:
            frames = _FrameDetector(detect, stop, total, progress)
            try:
                color = css_color(background)
                ImageColor.getrgb(color)  # on a server, no file's name is meant
                rendering = Rendering((kind,), threshold, color)
                report = predict_clip(frames, clip, {kind: output}, rendering, progress=False)
            except Stopped as stopped:
                gr.Warning(str(stopped))
                partial = partial_path(output)
                return str(partial) if partial.exists() else None
            except (ClipError, ValueError) as error:
                raise gr.Error(f"{Path(clip).name} cannot be read, or the background is no color.") from error
        if report.problem:
            gr.Warning(f"The clip is damaged; this is what could be read, {report.frames} frames.")
        elif any("sound" in note for note in report.notes):
            gr.Info("The clip's sound does not fit into MP4 and was left out.")
        return str(report.files[kind])

    return predict_video


def build(engine: Engine, jobs: Jobs) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            clip = gr.Video(
                sources=["upload", "webcam"],
                label=f"Your clip, up to {MAX_CLIP_SECONDS} seconds and {MAX_FILE_MB} MB",
                height=300,
                elem_id="clip",
            )
            kind = gr.Dropdown(KINDS, value="cutout", label="Make")
            with gr.Row():
                background = gr.ColorPicker("#00ff00", label="Background", min_width=120)
                threshold = gr.Slider(0.05, 0.95, value=0.5, step=0.05, label="Threshold", min_width=160)
            model, adapter, _ = choose_model(engine)
            with gr.Row():
                start = gr.Button("Cut out", variant="primary", elem_id="start_clip")
                stop = gr.Button("Stop", variant="stop", elem_id="stop_clip")
        with gr.Column(min_width=320):
            result = gr.Video(label="Result", height=420, interactive=False, elem_id="clip_result")
            gr.Markdown(
                "Without transparency, as H.264 has none: a plain background can be keyed out.", elem_classes="quiet"
            )
    start.click(
        make_predict_video(engine, jobs),
        [clip, kind, background, threshold, model, adapter],
        result,
        api_name="predict_video",
        concurrency_limit=2,
        concurrency_id="long",
    )
    kind.change(
        lambda kind: gr.ColorPicker(visible=kind == "cutout"),
        kind,
        background,
        show_progress="hidden",
        api_visibility="private",
    )

    def stop_jobs(request: gr.Request) -> None:
        """Stops the clips and batches of this session; what a clip has so far is its result."""
        if not jobs.stop(request.session_hash):
            gr.Info("Nothing is running.")

    stop.click(stop_jobs, None, None, queue=False, api_name="stop")
