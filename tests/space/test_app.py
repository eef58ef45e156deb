"""Every endpoint of the app, called as users' programs call it, with real photos; and what it refuses."""

import gc
import io
import json
import shutil
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import httpx
import numpy as np
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from hf_usod.constants import DEFAULT_MODEL
from hf_usod.inference import Rendering
from hf_usod.loading import load_pipeline
from hf_usod.models.pipeline_usod import levels
from hf_usod.models.reading_usod import read_photo

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "space" / "examples"
POINTS = {  # inside and outside of the object, (x, y)
    "chelsea": ((200, 150), (440, 10)),
    "coffee": ((300, 150), (10, 10)),
    "motorcycle": ((330, 300), (10, 10)),
}
PATIENCE = 240  # seconds, for a machine that does other things as well


def example(name):
    return EXAMPLES / f"{name}.jpg"


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def connect(app, tmp_path_factory):
    def connect():
        return Client(
            app.url, verbose=False, download_files=tmp_path_factory.mktemp("got"), httpx_kwargs={"timeout": PATIENCE}
        )

    return connect


@pytest.fixture(scope="module")
def client(connect):
    return connect()


@pytest.fixture(scope="module")
def expected(adapter):
    """The saliency of a photo by the pipeline itself, (H, W) in 0-255."""
    detectors = {"none": load_pipeline(DEFAULT_MODEL, device="cpu")}
    detectors[adapter.name] = load_pipeline(DEFAULT_MODEL, str(adapter), device="cpu")

    def saliency(photo, adapter="none"):
        found = detectors[adapter](photo, outputs=["predicted_saliency"])["predicted_saliency"]
        return np.asarray(levels(Rendering().refined(read_photo(photo), found))).astype(int)

    return saliency


def write_clip(path, photo, frames, size=(300, 200)):
    picture = Image.open(photo).convert("RGB").resize(size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))
    return path


def read_clip(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def test_models(client, adapter):
    models = client.predict(api_name="/models")
    assert next(iter(models)) == DEFAULT_MODEL
    assert models[DEFAULT_MODEL]["adapters"][0] == "none" and adapter.name in models[DEFAULT_MODEL]["adapters"]
    assert isinstance(models[DEFAULT_MODEL]["takes_map"], bool)


@pytest.mark.parametrize("name", POINTS)
def test_predict(client, expected, name):
    (before, after), cutout, mask, saliency = client.predict(handle_file(example(name)), api_name="/predict")
    photo, cutout, mask, saliency = pixels(example(name)), pixels(cutout), pixels(mask), pixels(saliency)
    (x, y), (far_x, far_y) = POINTS[name]
    opaque = cutout[..., 3] == 255  # elsewhere the background's share is taken out
    assert cutout.shape == (*photo.shape[:2], 4) and np.array_equal(cutout[opaque, :3], photo[opaque])
    assert cutout[y, x, 3] == 255 and cutout[far_y, far_x, 3] == 0
    assert mask[y, x] == 255 and mask[far_y, far_x] == 0 and set(np.unique(mask)) == {0, 255}
    assert np.abs(saliency - expected(example(name))).max() <= 1
    assert np.abs(pixels(before) - photo).mean() < 4
    assert np.abs(pixels(after)[y, x] - photo[y, x]).max() < 30  # the object, and behind it the checkerboard
    assert pixels(after)[far_y, far_x].min() > 210


def test_render_follows_the_last_photo(client):
    _, _, half, saliency = client.predict(handle_file(example("coffee")), threshold=0.5, api_name="/predict")
    _, cutout, mask = client.predict(
        threshold=0.2, edge="sharp", transparent=False, color="#00ff00", api_name="/render"
    )
    levels, mask, cutout = pixels(saliency), pixels(mask), pixels(cutout)
    assert np.array_equal(mask == 255, levels > 0.2 * 255) and (mask == 255).sum() > (pixels(half) == 255).sum()
    assert cutout.shape[2] == 3 and np.array_equal(cutout[mask == 0], np.tile([0, 255, 0], ((mask == 0).sum(), 1)))
    assert np.array_equal(cutout[levels == 255], pixels(example("coffee"))[levels == 255])


def test_an_adapter_for_one_request_only(client, expected, adapter):
    got = {}
    for chosen in ("none", adapter.name, "none"):
        *_, saliency = client.predict(handle_file(example("chelsea")), adapter=chosen, api_name="/predict")
        assert np.abs(pixels(saliency) - expected(example("chelsea"), chosen)).max() <= 1
        got[chosen] = pixels(saliency)
    assert np.abs(got["none"] - got[adapter.name]).mean() > 5


def test_a_map_of_depth(client, tmp_path):
    """Used by models that take one, told to belong to another photo, and let be by the others."""
    depth = EXAMPLES.parent / "examples_depth" / "motorcycle.png"
    *_, plain = client.predict(handle_file(example("motorcycle")), api_name="/predict")
    *_, saliency = client.predict(handle_file(example("motorcycle")), handle_file(depth), api_name="/predict")
    if not client.predict(api_name="/models")[DEFAULT_MODEL]["takes_map"]:
        assert np.array_equal(pixels(plain), pixels(saliency))
        return
    assert not np.array_equal(pixels(plain), pixels(saliency))
    with pytest.raises(AppError, match="proportions differ"):
        client.predict(handle_file(example("astronaut")), handle_file(depth), api_name="/predict")


def test_predict_video(client, tmp_path):
    clip = write_clip(tmp_path / "cup.mp4", example("coffee"), 6)
    result = client.predict(handle_file(clip), kind="cutout", background="#0000ff", api_name="/predict_video")
    frames = read_clip(result)
    assert len(frames) == 6 and frames[0].shape == (200, 300, 3)
    corner, middle = frames[3][4, 4], frames[3][75, 150]
    assert corner[2] > 200 and corner[:2].max() < 60
    assert np.abs(middle - read_clip(clip)[3][75, 150]).max() < 30


def test_stop_keeps_what_a_clip_has(client, tmp_path):
    clip = write_clip(tmp_path / "long.mp4", example("coffee"), 240)
    job = client.submit(handle_file(clip), kind="mask", api_name="/predict_video")
    deadline = time.monotonic() + PATIENCE
    while not any((unit.index or 0) >= 4 for unit in job.status().progress_data or []):
        assert time.monotonic() < deadline and not job.done()
        time.sleep(0.05)
    client.predict(api_name="/stop")
    frames = read_clip(job.result(PATIENCE))
    assert 4 <= len(frames) < 240 and frames[0][75, 150].min() > 200


def test_predict_batch(client, tmp_path):
    (tmp_path / "again").mkdir()
    bad = tmp_path / "notes.jpg"
    bad.write_text("no photo")
    twin = shutil.copy(example("coffee"), tmp_path / "again" / "chelsea.jpg")
    photos = [handle_file(path) for path in (example("chelsea"), bad, twin)]
    gallery, archive, summary = client.predict(photos, kinds=["cutout", "mask"], api_name="/predict_batch")
    assert len(gallery) == 2 and "2 of 3 photos" in summary and "notes.jpg cannot be read" in summary
    with zipfile.ZipFile(archive) as zipped:
        names = {f"{stem}_{kind}.png" for stem in ("chelsea", "chelsea_2") for kind in ("cutout", "mask")}
        assert set(zipped.namelist()) == names
        for stem, name in (("chelsea", "chelsea"), ("chelsea_2", "coffee")):
            (x, y), (far_x, far_y) = POINTS[name]
            cutout = pixels(io.BytesIO(zipped.read(f"{stem}_cutout.png")))
            opaque = cutout[..., 3] == 255
            assert np.array_equal(cutout[opaque, :3], pixels(example(name))[opaque])
            assert cutout[y, x, 3] == 255 and cutout[far_y, far_x, 3] == 0


def _no_image(path):
    path.write_text("I am no photo.")


def _cut_short(path):
    path.write_bytes(example("astronaut").read_bytes()[:20000])


def _many_pixels(path):
    Image.new("1", (6000, 5000)).save(path, "PNG")


def _many_bytes(path):
    path.write_bytes(bytes(26_000_000))


@pytest.mark.parametrize(
    "make, message",
    [
        (_no_image, "bad.jpg cannot be read as an image"),
        (_cut_short, "bad.jpg is damaged"),
        (_many_pixels, "up to 24 megapixels; this one has 30"),
        (_many_bytes, "up to 25 MB; this one has 26"),
    ],
)
def test_bad_photos_are_told(client, tmp_path, make, message):
    make(tmp_path / "bad.jpg")
    with pytest.raises(AppError, match=message) as told:
        client.predict(handle_file(tmp_path / "bad.jpg"), api_name="/predict")
    assert str(tmp_path) not in str(told.value) and "gradio" not in str(told.value)


def test_other_refusals(client, tmp_path):
    photo = handle_file(example("chelsea"))
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"no clip" * 100)
    for message, endpoint, given in [
        ("clip.mp4 cannot be read as a clip", "/predict_video", (handle_file(clip),)),
        ("Up to 50 photos at a time; these are 51", "/predict_batch", ([photo] * 51,)),
        ("no adapter|not in the list", "/predict", (photo, None, DEFAULT_MODEL, "../../etc")),
        ("not in the list", "/predict", (photo, None, "someone/model")),
    ]:
        with pytest.raises(AppError, match=message):
            client.predict(*given, api_name=endpoint)


@pytest.mark.parametrize(
    "place, value",
    [(0, 5), (0, "photo.jpg"), (2, 7), (4, "half"), (4, [1]), (4, 9), (5, 3), (5, {"a": 1}), (7, 12), (7, "nocolor")],
)
def test_wrong_types_are_told(app, place, value):
    given = [None, None, DEFAULT_MODEL, "none", 0.5, "soft", True, "#ffffff"]
    with open(example("chelsea"), "rb") as file:
        (path,) = httpx.post(f"{app.url}/gradio_api/upload", files={"files": file}, timeout=PATIENCE).json()
    given[0] = {"path": path, "meta": {"_type": "gradio.FileData"}}
    given[place] = value
    given[6] = place != 7  # a color shows only where the background is not transparent
    started = httpx.post(f"{app.url}/gradio_api/call/predict", json={"data": given}, timeout=PATIENCE)
    answer = httpx.get(f"{app.url}/gradio_api/call/predict/{started.json()['event_id']}", timeout=PATIENCE)
    event, result = answer.text.strip().splitlines()[-2:]
    assert event == "event: error"
    assert result.removeprefix("data: ") != "null" and "has raised an exception" not in result


def test_a_clip_too_long(client, tmp_path):
    clip = write_clip(tmp_path / "film.mp4", example("coffee"), 320, (64, 48))
    with pytest.raises(AppError, match="may last 30 seconds; this one lasts 32"):
        client.predict(handle_file(clip), api_name="/predict_video")


def test_uploads_end_at_the_limit(app, tmp_path):
    with open(tmp_path / "huge.mp4", "wb") as file:
        file.truncate(101 * 1024**2)
    with open(tmp_path / "huge.mp4", "rb") as file:
        answer = httpx.post(f"{app.url}/gradio_api/upload", files={"files": file}, timeout=PATIENCE)
    assert answer.status_code == 413 and not list(app.folder.rglob("huge.mp4"))


def call(app, photo):
    """The bare protocol: the last event of a /predict call with a path of the caller's choice."""
    file = {"path": str(photo), "meta": {"_type": "gradio.FileData"}}
    data = [file, None, DEFAULT_MODEL, "none", 0.5, "soft", True, "#ffffff"]
    started = httpx.post(f"{app.url}/gradio_api/call/predict", json={"data": data}, timeout=PATIENCE)
    answer = httpx.get(f"{app.url}/gradio_api/call/predict/{started.json()['event_id']}", timeout=PATIENCE)
    event, result = answer.text.strip().splitlines()[-2:]
    return event.removeprefix("event: "), json.loads(result.removeprefix("data: "))


def test_no_file_from_outside(app, tmp_path):
    outside = Path(shutil.copy(example("chelsea"), tmp_path / "private.jpg"))
    with open(outside, "rb") as file:
        (inside,) = httpx.post(f"{app.url}/gradio_api/upload", files={"files": file}, timeout=PATIENCE).json()
    assert call(app, inside)[0] == "complete"
    climbing = Path(inside).parent / Path(*[".."] * len(Path(inside).parent.parts)) / outside.relative_to("/")
    assert climbing.samefile(outside)
    for path in (outside, climbing, example("chelsea")):
        assert call(app, path)[0] == "error"
    for path in (outside, climbing, "/etc/passwd", EXAMPLES.parent / "app.py", example("coffee"), "../log"):
        assert httpx.get(f"{app.url}/gradio_api/file={path}", timeout=PATIENCE).status_code in (403, 404)
    assert httpx.get(f"{app.url}/gradio_api/file={inside}", timeout=PATIENCE).content == outside.read_bytes()


def test_twenty_at_once(app, connect, expected, adapter, tmp_path):
    """All are answered, each with its own photo and adapter, and memory returns to its level."""
    photos = []
    for name in POINTS:  # large enough for forgotten ones to show
        photos.append(tmp_path / f"{name}.png")
        Image.open(example(name)).resize((1200, 800)).save(photos[-1], compress_level=1)
    cases = [(photos[i % 3], adapter.name if i % 4 == 3 else "none") for i in range(20)]
    wanted = {case: expected(*case) for case in set(cases)}
    clients = [connect() for _ in range(5)]

    def ask(number):
        photo, chosen = cases[number]
        *_, saliency = clients[number % 5].predict(handle_file(photo), adapter=chosen, api_name="/predict")
        return int(np.abs(pixels(saliency) - wanted[cases[number]]).max())

    process = psutil.Process(app.pid)
    with ThreadPoolExecutor(20) as pool:
        assert max(pool.map(ask, range(4))) <= 1
        before, start = process.memory_info().rss, time.perf_counter()
        assert max(pool.map(ask, range(20))) <= 1
    seconds = time.perf_counter() - start
    gc.collect()
    after = process.memory_info().rss
    print(f"20 requests in {seconds:.1f} s; memory {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")
    assert after - before < 120 * 2**20  # twenty photos with their pictures take 170
