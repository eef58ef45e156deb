"""The Batch tab: many photos in, a gallery and a ZIP out."""

import zipfile
from pathlib import Path

import gradio as gr

from engine import Engine
from files import MAX_BATCH, MAX_PHOTO_MB, by_path, read_photo, result_folder
from image_tab import choose_model
from jobs import Jobs
from rendering import SHARP, cut_photo, find, on_checkerboard, opacity, shrink

KINDS = [("Cutouts", "cutout"), ("Masks", "mask"), ("Saliency maps", "saliency")]
_THUMBNAIL_SIDE = 480


def unique_stems(paths: list[str]) -> list[str]:
    """The files' names without suffix; those that were there before get a number."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        stem, number = Path(path).stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{Path(path).stem}_{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def make_predict_batch(engine: Engine, jobs: Jobs):
    def predict_batch(
        photos,
        kinds,
        threshold,
        model,
        adapter,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008
    ):
        """Cuts the salient objects out of many photos: a gallery, a ZIP of PNGs, and what was done.

        `kinds`: what the ZIP holds, any of cutout, mask and saliency.
        """
        if not photos:
            raise gr.Error("Choose some photos first.")
        if len(photos) > MAX_BATCH:
            raise gr.Error(f"Up to {MAX_BATCH} photos at a time; these are {len(photos)}.")
        if not kinds:
            raise gr.Error("Choose what the ZIP should hold.")
        detect, folder = engine.detector(model, adapter), result_folder()
        archive, gallery, failed = folder / "cutouts.zip", [], []
        with jobs.running(request.session_hash) as stop, zipfile.ZipFile(archive, "w") as zipped:
            for number, (path, stem) in enumerate(zip(photos, unique_stems(photos), strict=True)):
                progress((number, len(photos)), desc=Path(path).name, unit="photos")
                if stop.is_set():
                    failed.append(f"Stopped: {len(photos) - number} photos were not looked at.")
                    break
                try:
                    photo = read_photo(path)
                except gr.Error as error:
                    failed.append(error.message)
                    continue
                saliency = find(detect, photo)
                made = {
                    "cutout": cut_photo(photo, saliency, threshold),
                    "mask": opacity(saliency, threshold, SHARP),
                    "saliency": saliency,
                }
                for kind in kinds:
                    with zipped.open(f"{stem}_{kind}.png", "w") as file:
                        made[kind].save(file, "PNG", compress_level=4)
                thumbnail = folder / f"{stem}.jpg"
                on_checkerboard(shrink(made["cutout"], _THUMBNAIL_SIDE)).save(thumbnail, quality=88)
                gallery.append((str(thumbnail), stem))
        if not gallery:
            archive.unlink()
            raise gr.Error(" ".join(failed))
        lines = [f"**{len(gallery)} of {len(photos)} photos done.**", *(f"- {line}" for line in failed)]
        return gallery, str(archive), "\n".join(lines)

    return predict_batch


def build(engine: Engine, jobs: Jobs) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            photos = gr.File(
                file_count="multiple",
                file_types=["image"],
                label=f"Your photos, up to {MAX_BATCH} of {MAX_PHOTO_MB} MB each",
                height=260,
                elem_id="photos",
            )
            kinds = gr.CheckboxGroup(KINDS, value=["cutout"], label="In the ZIP")
            threshold = gr.Slider(0.05, 0.95, value=0.5, step=0.05, label="Threshold")
            model, adapter, _ = choose_model(engine)
            with gr.Row():
                start = gr.Button("Cut out all", variant="primary", elem_id="start_batch")
                stop = gr.Button("Stop", variant="stop", elem_id="stop_batch")
        with gr.Column(min_width=320):
            gallery = gr.Gallery(label="Cutouts", columns=3, height=400, object_fit="contain", elem_id="gallery")
            archive = gr.File(label="Everything as a ZIP", elem_id="zip", interactive=False)
            summary = gr.Markdown()
    by_path(photos)
    start.click(
        make_predict_batch(engine, jobs),
        [photos, kinds, threshold, model, adapter],
        [gallery, archive, summary],
        api_name="predict_batch",
        concurrency_limit=2,
        concurrency_id="long",
    )

    def stop_jobs(request: gr.Request) -> None:
        jobs.stop(request.session_hash)

    stop.click(stop_jobs, None, None, queue=False, api_visibility="private")
