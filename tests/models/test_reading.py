"""All doors of a photo lead to the same pixels, whatever kind of file it is in."""

import base64
import http.server
import io
import threading
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from hf_usod import UsodImageProcessor
from hf_usod.models.reading_usod import lift_limits, open_image, read_image, read_photo

RANDOM = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
PHOTO = Image.fromarray(RANDOM).resize((53, 37))
GRAY = PHOTO.convert("L")
ALPHA = Image.linear_gradient("L").resize((53, 37))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_alpha(image):
    image = image.copy()
    image.putalpha(ALPHA)
    return image


def wide(image, scale=257, dtype=np.uint16):
    return np.asarray(image).astype(dtype) * dtype(scale)


def tiff(tags, values):
    """An uncompressed TIFF of one channel, little-endian."""
    entries = {256: values.shape[1], 257: values.shape[0], 258: 8 * values.itemsize, 259: 1, 262: 1, 273: 0, 277: 1}
    entries |= {278: values.shape[0], 279: values.nbytes} | tags
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    content = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    for tag, value in sorted(entries.items()):
        content += b"".join(part.to_bytes(size, "little") for part, size in ((tag, 2), (4, 2), (1, 4), (value, 4)))
    return content + bytes(4) + values.tobytes()


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


FILES = {
    "rgb png": (encoded(PHOTO, "png"), PHOTO),
    "rgba png": (encoded(with_alpha(PHOTO), "png"), with_alpha(PHOTO)),
    "la png": (encoded(with_alpha(GRAY), "png"), with_alpha(GRAY).convert("RGBA")),
    "palette": (encoded(PHOTO.quantize(16), "png"), PHOTO.quantize(16).convert("RGB")),
    "16 bit png": (encoded(Image.fromarray(wide(GRAY)), "png"), GRAY.convert("RGB")),
    "12 bit png": (encoded(Image.fromarray(wide(GRAY, 16)), "png"), GRAY.convert("RGB")),
    "10 bit tiff": (encoded(Image.fromarray(wide(GRAY, 4)), "tiff"), GRAY.convert("RGB")),
    "8 bits in 16": (encoded(Image.fromarray(wide(GRAY, 1)), "png"), GRAY.convert("RGB")),
    "8 bits in 32": (encoded(Image.fromarray(wide(GRAY, 1, np.int32)), "tiff"), GRAY.convert("RGB")),
    "uint32": (tiff({}, wide(GRAY, 2**24 + 2**16 + 257, np.uint32)), GRAY.convert("RGB")),
    "big-endian": (encoded(Image.fromarray(wide(GRAY).astype(">u2")), "tiff"), GRAY.convert("RGB")),
    "white is zero, 8 bit": (tiff({262: 0}, 255 - np.asarray(GRAY)), GRAY.convert("RGB")),
    "white is zero, 16 bit": (tiff({262: 0}, 65535 - wide(GRAY)), GRAY.convert("RGB")),
    "float tiff": (encoded(Image.fromarray(np.asarray(GRAY, np.float32) / 255), "tiff"), GRAY.convert("RGB")),
    "no end marker": (encoded(PHOTO, "jpeg")[:-2], Image.open(io.BytesIO(encoded(PHOTO, "jpeg")))),
    "half an end marker": (encoded(PHOTO, "jpeg")[:-1], Image.open(io.BytesIO(encoded(PHOTO, "jpeg")))),
    "no end marker, progressive": (
        encoded(PHOTO, "jpeg", progressive=True)[:-2],
        Image.open(io.BytesIO(encoded(PHOTO, "jpeg", progressive=True))),
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_door(kind, tmp_path, server):
    content, expected = FILES[kind]
    path = tmp_path / "photo"
    path.write_bytes(content)
    folder, url = server
    (folder / "photo").write_bytes(content)
    doors = {
        "path": path,
        "string": str(path),
        "URL": f"{url}/photo",
        "data URI": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "bytes": content,
        "file object": io.BytesIO(content),
    }
    if "end marker" not in kind:
        doors["PIL"] = Image.open(path)
    if kind not in ("palette", "la png", "uint32") and "white is zero" not in kind and "32" not in kind:
        doors["array"] = np.asarray(Image.open(path)) if "PIL" in doors else np.asarray(expected)
    processor = UsodImageProcessor()
    pixels = processor(read_photo(path), return_tensors="pt").pixel_values
    tolerance = 1 if kind in ("12 bit png", "10 bit tiff") else 0  # they do not reach the top of their range
    for door, source in doors.items():
        photo = read_photo(source)
        assert photo.mode == expected.mode, door
        assert np.abs(np.asarray(photo, int) - np.asarray(expected, int)).max() <= tolerance, door
        if door == "file object":
            source.seek(0)
        assert torch.equal(processor(source, return_tensors="pt").pixel_values, pixels), door


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_turned_tiffs_are_upright(mode, orientation, compression, tmp_path):
    image = Image.fromarray(wide(GRAY)) if mode == "I;16" else (with_alpha(PHOTO) if mode == "RGBA" else PHOTO)
    image = image if mode in ("I;16", "RGBA") else image.convert(mode)
    image.save(tmp_path / "photo.tif", compression=compression, tiffinfo={274: orientation})
    turns = Image.Transpose
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)
    upright = read_photo(image)
    upright = upright if turn is None else upright.transpose(turn)
    for source in (tmp_path / "photo.tif", Image.open(tmp_path / "photo.tif")):
        assert np.array_equal(read_photo(source), upright)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_processor_turns_open_images(orientation, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    PHOTO.save(tmp_path / "photo.jpg", exif=exif)
    processor = UsodImageProcessor()
    by_path = processor(tmp_path / "photo.jpg", return_tensors="pt").pixel_values
    opened = Image.open(tmp_path / "photo.jpg")
    assert torch.equal(processor(opened, return_tensors="pt").pixel_values, by_path)


@pytest.mark.parametrize("missing", [3, 60, 500])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_named(missing, progressive, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(encoded(PHOTO, "jpeg", progressive=progressive)[:-missing])
    with pytest.raises(ValueError, match=r"cut\.jpg: .*truncated"):
        read_photo(tmp_path / "cut.jpg")


def test_large_texts_are_read_where_limits_are_lifted(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2**21, zip=True)
    PHOTO.save(tmp_path / "text.png", pnginfo=info)
    with pytest.raises(ValueError, match=r"text\.png: .*too large"):
        read_photo(tmp_path / "text.png")
    lift_limits()
    assert np.array_equal(read_photo(tmp_path / "text.png"), PHOTO)


def disc(color, ground=(0, 0, 0, 0)):
    image = Image.new("RGBA", (60, 48), ground)
    ImageDraw.Draw(image).ellipse((15, 9, 45, 39), fill=color)
    return image


@pytest.mark.parametrize("color", [(255, 255, 255), (240, 240, 230), (0, 0, 0), (128, 128, 128), (200, 30, 30)])
def test_a_transparent_photo_is_laid_over_what_shows_it(color):
    pixels = np.asarray(read_image(disc((*color, 255)))).astype(int)
    assert np.abs(pixels[24, 30] - pixels[2, 2]).max() >= 48
    assert pixels[24, 30].tolist() == list(color)


def test_what_is_black_and_white_is_laid_over_gray():
    image = disc((255, 255, 255, 255))
    ImageDraw.Draw(image).rectangle((15, 24, 45, 30), fill=(0, 0, 0, 255))
    pixels = np.asarray(read_image(image))
    assert pixels[2, 2].tolist() == [128] * 3 and pixels[26, 30].tolist() == [0] * 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
@pytest.mark.parametrize("space", [b"RGB ", b"GRAY", b"CMYK"])
def test_a_profile_is_kept_where_it_fits(mode, space):
    image = with_alpha(PHOTO) if mode == "RGBA" else PHOTO.convert(mode)
    profile = SRGB[:16] + space + SRGB[20:]
    image.info["icc_profile"] = profile
    kept = profile if space == b"RGB " else None
    assert read_photo(image).info.get("icc_profile") == read_image(image).info.get("icc_profile") == kept
    assert image.info["icc_profile"] == profile  # the caller's stays as it is


@pytest.mark.parametrize("shape", [(3, 40, 3), (4, 40, 3), (1, 40, 3), (3, 40, 4), (3, 40, 1)])
@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_arrays_of_two_readings_ask_for_their_layout(shape, make):
    image = make(shape)
    for door in (read_photo, UsodImageProcessor()):
        with pytest.raises(ValueError, match="input_data_format"):
            door(image)
    assert read_photo(image, "channels_last").size == (40, shape[0])
    if shape[0] != 4:
        assert read_photo(image, "channels_first").size == (shape[2], 40)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (40, 30, 2), (7, 30, 20)])
def test_arrays_that_are_no_images(shape):
    with pytest.raises(ValueError, match="no image"):
        read_photo(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (b"no image", ValueError, "The bytes: cannot be read"),
        ("data:image/png;base64,AAAA", ValueError, "data:image/png;base64,AAAA: cannot be read"),
        ("data:nothing", ValueError, "data:nothing: cannot be read.*comma"),
        ({"image": 1}, TypeError, "A dict is no image"),
        (None, TypeError, "A NoneType is no image"),
    ],
)
def test_what_is_no_image_is_named(source, error, message):
    with pytest.raises(error, match=message):
        read_photo(source)


def test_an_url_that_does_not_answer_is_named(server):
    _, url = server
    with pytest.raises(ValueError, match=rf"{url}/none\.png: cannot be read.*404"):
        read_photo(f"{url}/none.png")


@pytest.mark.parametrize(
    "error, reason",
    [
        (MemoryError(), "memory does not suffice for it"),
        (EOFError(), "EOFError"),
        (OSError("a\nb"), "a b"),
        (TypeError("of a decoder"), "of a decoder"),
    ],
)
def test_why_a_file_cannot_be_read_is_never_empty(error, reason):
    def convert(image):
        raise error

    with pytest.raises(ValueError) as raised:
        open_image(encoded(PHOTO, "PNG"), convert)
    assert str(raised.value) == f"The bytes: cannot be read as an image ({reason})"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_every_float(dtype):
    levels = torch.arange(256).reshape(16, 16)
    photo = read_photo((levels / 255).to(dtype))
    off = np.abs(np.asarray(photo)[..., 0].astype(int) - levels.numpy())
    assert off.max() <= (1 if dtype == torch.bfloat16 else 0)
    measurement = torch.linspace(3, 8, 48).reshape(6, 8).to(dtype)
    process = UsodImageProcessor().process_aux_image
    np.testing.assert_array_equal(process(measurement), process(measurement.float()))
