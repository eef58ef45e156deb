"""The Image tab: a photo in, the objects in it out, without a button."""

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from engine import NO_ADAPTER, Engine
from files import MAX_PHOTO_MB, by_path, read_map, read_photo, result_folder
from hf_usod.models.image_processing_usod import to_rgb
from rendering import SHARP, SOFT, cut_photo, find, on_checkerboard, opacity, shrink

_HERE = Path(__file__).parent
_PHOTOS = ("chelsea", "coffee", "astronaut", "motorcycle", "rocket")
_QUALITY = 90  # of the JPEGs on screen
_SCROLL_ON_PHONES = """() => { if (window.innerWidth < 700)
    document.querySelector("#result").scrollIntoView({ behavior: "smooth" }); }"""


def _find(folder: str, name: str) -> str | None:
    return next((str(path) for path in (_HERE / folder).glob(f"{name}.*")), None)


def examples() -> list[list[str | None]]:
    """Photos, each with its map if it has one."""
    return [[_find("examples", name), _find("examples_depth", name)] for name in _PHOTOS]


def _pictures(photo: Image.Image, saliency: Image.Image, stem: str, threshold, edge, transparent, color) -> tuple:
    """Writes what depends on the sliders: (before and after, cutout, mask)."""
    folder = result_folder()
    try:
        cutout = cut_photo(photo, saliency, threshold, edge, None if transparent else color)
    except ValueError as error:
        raise gr.Error(f"{color} is no color. Give it as #rrggbb.") from error
    before, after = folder / f"{stem}_before.jpg", folder / f"{stem}_after.jpg"
    shrink(to_rgb(photo)).save(before, quality=_QUALITY)
    on_checkerboard(shrink(cutout)).save(after, quality=_QUALITY)
    cutout.save(folder / f"{stem}_cutout.png", compress_level=4)
    opacity(saliency, threshold, SHARP).save(folder / f"{stem}_mask.png")
    return (str(before), str(after)), str(folder / f"{stem}_cutout.png"), str(folder / f"{stem}_mask.png")


def _downloads(*files: str | None) -> list[gr.DownloadButton]:
    return [gr.DownloadButton(value=file, interactive=file is not None) for file in files]


def make_predict(engine: Engine):
    def predict(
        photo,
        aux=None,
        model="",
        adapter=NO_ADAPTER,
        threshold=0.5,
        edge=SOFT,
        transparent=True,
        color="#ffffff",
    ):
        """Cuts the salient objects out of a photo.

        `aux` is a depth or thermal map for models that take one. Returns before and after, the cutout (PNG, RGBA, or
        RGB over `color` if not `transparent`), the mask and the saliency map, all but the first at the photo's size.
        """
        if photo is None:
            return None, None, None, None, None
        image, detect = read_photo(photo), engine.detector(model or engine.models[0], adapter)
        aux_image = None
        if aux is not None and detect.takes_aux:
            aux_image = read_map(aux, image)
        elif aux is not None:
            gr.Info(f"{model} looks at the photo alone; the map was not used.")
        saliency = find(detect, image, aux_image)
        stem = Path(photo).stem
        pictures = _pictures(image, saliency, stem, threshold, edge, transparent, color)
        kept = result_folder() / f"{stem}_saliency.png"
        saliency.save(kept)
        return {"photo": photo, "saliency": str(kept)}, *pictures, str(kept)

    return predict


def render(state, threshold, edge, transparent, color):
    """The last photo of this session again, with another threshold, edge or background; no model runs."""
    if not state:
        return None, None, None
    try:
        with Image.open(state["saliency"]) as saved:
            saliency = saved.convert("L")
        photo = read_photo(state["photo"])
    except FileNotFoundError as error:
        raise gr.Error("This photo has been removed, as all are after an hour. Upload it again.") from error
    return _pictures(photo, saliency, Path(state["photo"]).stem, threshold, edge, transparent, color)


def choose_model(engine: Engine):
    """The choice of a model and one of its adapters, and the event after which both are what the user chose."""
    model = gr.Dropdown(engine.models, value=engine.models[0], label="Model", visible=len(engine.models) > 1)
    fitting = engine.adapters(engine.models[0])
    adapter = gr.Dropdown(
        fitting,
        value=fitting[0],
        label="Adapter",
        info="For images of another kind than everyday photos",
        visible=len(engine.adapters()) > 1,
        elem_classes="adapter",
    )
    chosen = model.input(
        lambda name: gr.Dropdown(choices=engine.adapters(name), value=engine.adapters(name)[0]),
        model,
        adapter,
        api_visibility="private",
    )
    return model, adapter, chosen


def build(engine: Engine) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Makes the tab; returns its choices of a model and an adapter."""
    predict = make_predict(engine)
    state = gr.State(time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            photo = gr.Image(
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard", "webcam"],
                label=f"Your photo, up to {MAX_PHOTO_MB} MB",
                height=340,
                buttons=["fullscreen"],
                elem_id="photo",
            )
            holder = gr.Column(elem_id="examples")
            with gr.Accordion("More: depth or thermal map, model, adapter", open=False, elem_id="more"):
                aux = gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    label="Depth or thermal map of the photo (optional)",
                    height=180,
                    visible=any(map(engine.takes_aux, engine.models)),
                    elem_id="aux",
                )
                model, adapter, model_chosen = choose_model(engine)
                if len(engine.models) == 1:
                    gr.Markdown(f"Model: `{engine.models[0]}`", elem_classes="quiet")
        with gr.Column(scale=6, min_width=320, elem_id="result"):
            with gr.Tabs(elem_id="views"):
                with gr.Tab("Before / after"):
                    slider = gr.ImageSlider(
                        type="filepath",
                        show_label=False,
                        interactive=False,
                        max_height=440,
                        buttons=["fullscreen"],
                        elem_id="slider",
                    )
                with gr.Tab("Cutout"):
                    cutout = gr.Image(type="filepath", show_label=False, height=420, elem_id="cutout", format="png")
                with gr.Tab("Mask"):
                    mask = gr.Image(type="filepath", show_label=False, height=420, elem_id="mask", format="png")
                with gr.Tab("Saliency"):
                    saliency = gr.Image(type="filepath", show_label=False, height=420, elem_id="saliency", format="png")
            with gr.Row(elem_id="downloads"):
                get_cutout = gr.DownloadButton(
                    "Download cutout",
                    variant="primary",
                    elem_id="get_cutout",
                    scale=2,
                    min_width=180,
                    interactive=False,
                )
                get_mask = gr.DownloadButton("Mask only", elem_id="get_mask", scale=1, min_width=100, interactive=False)
            with gr.Column(elem_id="look"):
                threshold = gr.Slider(
                    0.05,
                    0.95,
                    value=0.5,
                    step=0.05,
                    label="Threshold of the mask and of a sharp edge: lower keeps more",
                    elem_id="threshold",
                )
                with gr.Row():
                    edge = gr.Radio(
                        [("Soft edge", SOFT), ("Sharp edge", SHARP)],
                        value=SOFT,
                        show_label=False,
                        container=False,
                        min_width=220,
                        elem_id="edge",
                    )
                    transparent = gr.Checkbox(
                        True, label="Transparent background", container=False, min_width=200, elem_id="transparent"
                    )
                color = gr.ColorPicker("#ffffff", label="Background", visible=False, elem_id="color")
            for_programs = gr.Button(visible=False)

    by_path(photo)
    by_path(aux)
    look = [threshold, edge, transparent, color]
    inputs, pictures, downloads = [photo, aux, model, adapter, *look], [slider, cutout, mask], [get_cutout, get_mask]
    outputs = [state, *pictures, saliency]
    heavy: dict[str, Any] = {"concurrency_id": "predict", "concurrency_limit": 4}
    on_screen: dict[str, Any] = {"api_visibility": "private", "show_progress_on": slider}
    for_programs.click(predict, inputs, outputs, api_name="predict", **heavy)
    for_programs.click(render, [state, *look], pictures, api_name="render", concurrency_limit=4)

    def predict_shown(*given):
        results = predict(*given)
        return *results, *_downloads(*results[2:4])

    def predict_new(photo, *settings):
        return None, *predict_shown(photo, None, *settings)

    def render_shown(*given):
        results = render(*given)
        return *results, *_downloads(*results[1:])

    # A map belongs to one photo: a new photo starts without.
    new = photo.input(predict_new, [photo, model, adapter, *look], [aux, *outputs, *downloads], **heavy, **on_screen)
    for chosen in (aux.input, adapter.input, model_chosen.then):
        chosen(predict_shown, inputs, [*outputs, *downloads], **heavy, **on_screen)
    gr.on(
        [threshold.input, edge.input, transparent.input, color.input],
        render_shown,
        [state, *look],
        [*pictures, *downloads],
        trigger_mode="always_last",
        show_progress="hidden",
        concurrency_limit=4,
        api_visibility="private",
    )
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    transparent.change(lambda on: gr.ColorPicker(visible=not on), transparent, color, **quick)
    model.change(lambda name: gr.Image(visible=engine.takes_aux(name)), model, aux, **quick)
    with holder:
        samples = gr.Examples(
            examples(), [photo, aux], label="Or one of these", visible_columns=[0], api_visibility="private"
        )
    aux.keep_in_cache |= aux.temp_files  # gradio keeps what is shown of its examples, and deletes the rest of them
    sample = samples.load_input_event.success(predict_shown, inputs, [*outputs, *downloads], **heavy, **on_screen)
    for shown in (new, sample):
        shown.success(None, js=_SCROLL_ON_PHONES, api_visibility="private")
    return model, adapter
