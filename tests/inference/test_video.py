"""Clips in, clips out: size, times, sound and turn are kept, and so is what a damaged clip still has."""

import errno
import struct
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod import (
    SalientObjectDetectionPipeline,
    UsodImageProcessor,
    UsodSceModel,
    UsodSdConfig,
    UsodSdModel,
)
from hf_usod.cli import main
from hf_usod.data.video import flow_image
from hf_usod.errors import DataError
from hf_usod.inference import Rendering, predict_clip
from hf_usod.inference.agreement import agree
from hf_usod.inference.clip_files import ClipWriter
from hf_usod.inference.video import _with_neighbors

av = pytest.importorskip("av", reason="needs the extra `video`")
SIZE = (96, 64)


@pytest.fixture
def predict(model, tmp_path):
    def run(*arguments):
        return main(["predict", *map(str, arguments), "--output", str(tmp_path / "out"), "--model", str(model)])

    return run


def pictures(count, size=SIZE):
    """A bright corner at the upper left, and a disc that moves."""
    for index in range(count):
        frame = np.full((size[1], size[0], 3), 40, np.uint8)
        frame[: size[1] // 4, : size[0] // 4] = (230, 30, 30)
        frame[30:50, 20 + index : 50 + index] = 200
        yield frame


def place_of(frame):
    """Which of the pictures it is, after a video codec."""
    return int((np.asarray(frame)[40, :, 0] > 120).argmax()) - 20


def write_clip(path, count=12, size=SIZE, codec="libx264", sound=None, times=None, **options):
    """A clip of 12 frames a second; `times` are its frames' in units of 1/1200 s."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1200)
        stream.gop_size = 4
        audio = container.add_stream(sound, rate=48000) if sound else None
        for index, pixels in enumerate(pictures(count, size)):
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = times[index] if times else 100 * index, Fraction(1, 1200)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            for start in range(0, count * 4000, 1000):
                wave = (np.sin(np.arange(start, start + 1000) / 20) * 9000).astype(np.int16)
                piece = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 48000, start, Fraction(1, 48000)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def read_clip(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]


def sound_packets(path):
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        return stream.codec_context.name, [bytes(packet) for packet in container.demux(stream) if packet.size]


def test_the_saliency_of_each_frame(predict, model, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    assert predict(clip, "--edges", "none") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]
    made, times = read_clip(tmp_path / "out" / "clip.mp4")
    frames, expected_times = read_clip(clip)
    assert len(made) == 12 and times == pytest.approx(expected_times)
    detect = SalientObjectDetectionPipeline(
        model=UsodSceModel.from_pretrained(model), image_processor=UsodImageProcessor.from_pretrained(model)
    )
    for place in (0, 5, 11):
        saliency = np.asarray(detect(Image.fromarray(frames[place]))["saliency"]).astype(int)
        assert np.abs(made[place].mean(axis=-1) - saliency).mean() < 3


@pytest.mark.parametrize("background", [[], ["--background", "transparent"]], ids=["mp4", "webm"])
def test_a_clip_of_the_same_name_and_another_kind_of_result_are_told(predict, tmp_path, capsys, background):
    for folder, count in (("one", 3), ("two", 4)):
        (tmp_path / folder).mkdir()
        write_clip(tmp_path / folder / "clip.mp4", count)
    one, two = (tmp_path / folder / "clip.mp4" for folder in ("one", "two"))
    assert predict(one, "--save", "cutout", *background) == 0
    capsys.readouterr()
    assert predict(one, "--save", "cutout", *background) == 0
    assert "clip.mp4" not in capsys.readouterr().err
    assert predict(two, "--save", "cutout", *background) == 0
    assert "was made of another clip.mp4, and is kept" in capsys.readouterr().err
    if not background:
        assert predict(one, "--save", "mask") == 0
        assert "holds the cutout of clip.mp4, not the mask" in capsys.readouterr().err


def test_a_clip_that_is_a_result_and_matches_a_pattern_is_passed_over(predict, tmp_path, capsys):
    write_clip(tmp_path / "clip.mp4", 3)
    assert predict(tmp_path / "clip.mp4", "--save", "mask") == 0
    assert predict(tmp_path / "**" / "*.mp4", "--save", "overlay", "side_by_side") == 0
    told = capsys.readouterr()
    assert "Passed over: 1 result of hf-usod" in told.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("clip.mp4", "clip_overlay.mp4", "clip_side_by_side.mp4")
    }


@pytest.mark.parametrize(
    "kind, size", [("mask", SIZE), ("overlay", SIZE), ("cutout", SIZE), ("side_by_side", (2 * SIZE[0], SIZE[1]))]
)
def test_kinds(predict, tmp_path, kind, size):
    clip = write_clip(tmp_path / "clip.mp4", 3)
    assert predict(clip, "--save", kind, "saliency", "--background", "blue") == 0
    (made, *_), _ = read_clip(tmp_path / "out" / f"clip_{kind}.mp4")
    (saliency, *_), _ = read_clip(tmp_path / "out" / "clip_saliency.mp4")
    (frame, *_), _ = read_clip(clip)
    assert made.shape == (size[1], size[0], 3)
    made, opacity = made.astype(float), saliency[..., :1] / 255.0
    expected = {
        "mask": np.repeat((opacity > 0.5) * 255.0, 3, axis=-1),
        "overlay": frame * (1 - 0.6 * opacity) + np.array([255, 40, 90]) * 0.6 * opacity,
        "cutout": frame * opacity + np.array([0, 0, 255]) * (1 - opacity),
        "side_by_side": np.concatenate([frame, saliency], axis=1),
    }[kind]
    assert np.median(np.abs(made - expected)) < 4  # the codec blurs the mask's edges


def test_uneven_times_are_kept(predict, tmp_path):
    times = [0, 100, 150, 400, 900, 950, 2400]
    clip = write_clip(tmp_path / "clip.mkv", 7, times=times)
    assert predict(clip) == 0
    _, made = read_clip(tmp_path / "out" / "clip.mp4")
    assert made == pytest.approx([time / 1200 for time in times], abs=1e-3)


def test_odd_sizes_get_a_row_and_a_column(predict, tmp_path):
    clip = write_clip(tmp_path / "clip.avi", 3, size=(97, 65), codec="mpeg4")
    assert predict(clip) == 0
    (made, *_), _ = read_clip(tmp_path / "out" / "clip.mp4")
    assert made.shape == (66, 98, 3)


@pytest.mark.parametrize("suffix, codec, sound", [(".mp4", "libx264", "aac"), (".webm", "libvpx", "libopus")])
def test_sound_is_copied(predict, tmp_path, suffix, codec, sound):
    clip = write_clip(tmp_path / f"clip{suffix}", codec=codec, sound=sound)
    assert predict(clip, "--save", "saliency", "mask") == 0
    for kind in ("saliency", "mask"):
        assert sound_packets(tmp_path / "out" / f"clip_{kind}.mp4") == sound_packets(clip)


def test_sound_that_mp4_cannot_hold_is_left_out_and_said(predict, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.avi", codec="mpeg4", sound="pcm_mulaw")
    assert predict(clip) == 0
    assert "does not fit into MP4" in capsys.readouterr().err
    assert len(read_clip(tmp_path / "out" / "clip.mp4")[0]) == 12


@pytest.mark.parametrize(
    "matrix, corner", [((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))]
)
def test_upright_as_the_file_says(predict, tmp_path, matrix, corner):
    clip = write_clip(tmp_path / "phone.mp4", 3)
    content = bytearray(clip.read_bytes())
    a, b, c, d = matrix
    place = content.index(b"tkhd") + 4 + 40  # of the matrix: points right go to (a, b), points down to (c, d)
    content[place : place + 20] = struct.pack(">5i", a << 16, b << 16, 0, c << 16, d << 16)
    clip.write_bytes(content)
    assert predict(clip, "--save", "side_by_side") == 0
    (made, *_), _ = read_clip(tmp_path / "out" / "phone.mp4")
    height, width = (SIZE[0], SIZE[1]) if a == 0 else (SIZE[1], SIZE[0])
    assert made.shape == (height, 2 * width, 3)
    shown = made[:, :width].astype(int)
    y, x = (8 if side == 0 else -8 for side in corner)
    reds = {(i, j): shown[i, j, 0] - shown[i, j, 1] for i in (8, -8) for j in (8, -8)}
    assert max(reds, key=reds.get) == (y, x)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_a_damaged_clip_has_is_kept(predict, tmp_path, capsys, suffix):
    good = write_clip(tmp_path / "good.mp4", 4)
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    clip = write_clip(tmp_path / f"torn{suffix}", 60, **options)
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) * 2 // 3])
    assert predict(clip, good) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.mp4", "torn_partial.mp4"]
    made, _ = read_clip(tmp_path / "out" / "torn_partial.mp4")
    assert 15 < len(made) < 60
    errors = capsys.readouterr().err
    assert f"{clip}: is damaged" in errors and f"The {len(made)} frames before are in" in errors


def test_files_that_are_no_video_are_named(predict, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mov").touch()
    write_clip(tmp_path / "headless.mp4", 30)
    content = (tmp_path / "headless.mp4").read_bytes()
    (tmp_path / "headless.mp4").write_bytes(content[: len(content) // 2])
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        piece.sample_rate = 48000
        container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    assert predict(tmp_path / "*.m*") == 1
    errors = capsys.readouterr().err
    assert "sound.mp4: has no video stream" in errors
    assert all(f"{tmp_path / name}: cannot be read" in errors for name in ("text.mp4", "empty.mov", "headless.mp4"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_codec_is_named(predict, tmp_path, capsys):
    clip = write_clip(tmp_path / "odd.mp4", 3)
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    assert predict(clip) == 1
    assert str(clip) in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_a_missing_encoder_is_named(predict, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hf_usod.inference.clip_files.ENCODER", "libnothing")
    assert predict(write_clip(tmp_path / "clip.mp4", 3)) == 1
    assert "clip.mp4: cannot be written: this FFmpeg has no H.264 encoder" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_an_interrupted_clip_is_kept_playable(model, tmp_path):
    detect = SalientObjectDetectionPipeline(
        model=UsodSceModel.from_pretrained(model), image_processor=UsodImageProcessor.from_pretrained(model)
    )

    def interrupted(images, **kwargs):
        """At the seventh frame, whatever thread has it and whatever goes through the model beside it."""
        if any(place_of(image) >= 6 for image in images):
            raise KeyboardInterrupt
        return detect(images, **kwargs)

    interrupted.model = detect.model
    clip = write_clip(tmp_path / "clip.mp4")
    with pytest.raises(KeyboardInterrupt):
        predict_clip(interrupted, clip, {"saliency": tmp_path / "out.mp4"}, batch_size=3, progress=False)
    assert len(read_clip(tmp_path / "out_partial.mp4")[0]) == 6
    assert not list(tmp_path.glob(".*"))


def test_photos_and_clips_together_and_existing_outputs(predict, tmp_path, capsys):
    Image.fromarray(next(pictures(1))).save(tmp_path / "a.png")
    write_clip(tmp_path / "a.mp4", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4.mp4").write_bytes(b"precious")
    assert predict(tmp_path / "a.png", tmp_path / "a.mp4") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png.png", "a.mp4.mp4"}
    assert (tmp_path / "out" / "a.mp4.mp4").read_bytes() == b"precious"
    assert "1 photo done" in capsys.readouterr().out
    assert predict(tmp_path / "a.png", tmp_path / "a.mp4", "--overwrite") == 0
    assert "1 photo and 1 clip done" in capsys.readouterr().out
    assert len(read_clip(tmp_path / "out" / "a.mp4.mp4")[0]) == 3


def test_bad_background(predict, tmp_path, capsys):
    assert predict(write_clip(tmp_path / "clip.mp4", 3), "--background", "greenish") == 2
    assert "greenish" in capsys.readouterr().err and not list(tmp_path.glob("out/*"))


def test_without_pyav_it_says_what_to_install(predict, tmp_path, monkeypatch, capsys):
    clip = write_clip(tmp_path / "clip.mp4", 3)
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(clip) == 1
    assert "hf_usod[video]" in capsys.readouterr().err


@pytest.fixture(scope="module")
def detector(tiny_backbone, tmp_path_factory):
    """A small detector of random weights: its auxiliary input is the flow."""
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    backbone = tiny_backbone(stem=True)
    widths = {"neck_channels": [8, 8, 16, 16], "fusion_channels": 8, "context_channels": 8, "pool_sizes": [2, 1]}
    UsodSdModel(UsodSdConfig(backbone_config=backbone, aux_backbone_config=backbone, **widths)).save_pretrained(folder)
    UsodImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("what", ["clip", "frames"])
def test_detectors_see_the_flow(detector, tmp_path, monkeypatch, what):
    """Each frame that of its own motion, the last one what came before it, and a lone frame none."""
    seen = []
    call = SalientObjectDetectionPipeline.__call__

    def note(self, inputs, **kwargs):
        seen.extend(inputs)
        return call(self, inputs, **kwargs)

    monkeypatch.setattr(SalientObjectDetectionPipeline, "__call__", note)
    if what == "clip":
        source, options = [write_clip(tmp_path / "clip.mp4", 5), write_clip(tmp_path / "lone.mp4", 1)], []
    else:
        source, options = [tmp_path / "tree", tmp_path / "tree" / "clip" / "0.mp4"], ["--task", "video"]
        for name, count in (("clip", 5), ("lone", 1)):
            (tmp_path / "tree" / name).mkdir(parents=True)
            for index, pixels in enumerate(pictures(count)):
                Image.fromarray(pixels).save(tmp_path / "tree" / name / f"{index + 7}.png")
        write_clip(source[1], 1)  # beside the frames, and none of them
    command = ["predict", *map(str, source), "--output", str(tmp_path / "out"), "--model", str(detector)]
    assert main([*command, "--batch_size", "2", "--device", "cpu", *options]) == 0
    frames = [np.asarray(each["image"]) for each in seen]
    if what == "frames":  # 10 and 11 come first by name, but not in time
        order = [3, 4, 0, 1, 2, 5]
        assert len(seen) == 7 and seen.pop()["aux"] is None  # the clip comes after the photos
        seen, frames = [[seen[order.index(i)] for i in range(6)], [frames[order.index(i)] for i in range(6)]]
    flows = [None if each["aux"] is None else np.asarray(each["aux"]) for each in seen]
    assert len(seen) == 6 and flows[5] is None
    expected = [flow_image(a, b) for a, b in pairwise(frames[:5])] + [flow_image(frames[4], frames[3], True)]
    assert all(np.array_equal(flow, other) for flow, other in zip(flows[:5], expected, strict=True))
    assert expected[2].min() < 200 and expected[4].min() < 200  # something moves


def test_frames_without_flow_are_frames_one_by_one(predict, tmp_path, capsys):
    Image.fromarray(next(pictures(1))).save(tmp_path / "a.png")
    assert predict(tmp_path / "a.png", "--task", "video") == 0
    assert "their flow is not used" in capsys.readouterr().err


@pytest.fixture
def frames(tmp_path):
    """Two sequences, one of frames that go by number and not by name."""
    for name, count in (("disc", 12), ("short", 2)):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for index, pixels in enumerate(pictures(count)):
            Image.fromarray(pixels).save(tmp_path / "frames" / name / f"{index + 3}.png")
    return tmp_path / "frames"


def saliency_maps(folder):
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in folder.rglob("*.png")}


def test_frames_agree_in_the_order_of_time(predict, model, frames, tmp_path):
    assert predict(frames, "--temporal", "--edges", "none") == 0
    made = saliency_maps(tmp_path / "out")
    detect = SalientObjectDetectionPipeline(
        model=UsodSceModel.from_pretrained(model), image_processor=UsodImageProcessor.from_pretrained(model)
    )
    for name, count in (("disc", 12), ("short", 2)):
        names = [f"{name}/{index + 3}.png" for index in range(count)]
        images = [Image.open(frames / each) for each in names]
        maps = agree((image, detect(image)["predicted_saliency"]) for image in images)
        for each, saliency in zip(names, maps, strict=True):
            assert np.abs(made[each] - 255 * saliency.numpy()).max() < 0.51, each


def test_frames_that_are_done_still_have_their_say(predict, frames, tmp_path, capsys):
    assert predict(frames, "--temporal") == 0
    whole = saliency_maps(tmp_path / "out")
    (tmp_path / "out" / "disc" / "7.png").unlink()
    (tmp_path / "out" / "disc" / "8.png").write_bytes(b"precious")
    capsys.readouterr()
    assert predict(frames, "--temporal") == 0
    assert "1 photo done" in capsys.readouterr().out
    assert (tmp_path / "out" / "disc" / "8.png").read_bytes() == b"precious"
    assert np.abs(np.asarray(Image.open(tmp_path / "out" / "disc" / "7.png")) - whole["disc/7.png"]).max() == 0


def test_the_frames_of_a_clip_agree(predict, model, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    assert predict(clip, "--temporal", "--edges", "none") == 0
    made, times = read_clip(tmp_path / "out" / "clip.mp4")
    frames, expected_times = read_clip(clip)
    detect = SalientObjectDetectionPipeline(
        model=UsodSceModel.from_pretrained(model), image_processor=UsodImageProcessor.from_pretrained(model)
    )
    images = [Image.fromarray(frame) for frame in frames]
    expected = agree((image, detect(image)["predicted_saliency"]) for image in images)
    assert times == pytest.approx(expected_times)
    for shown, saliency in zip(made, expected, strict=True):
        assert np.abs(shown.mean(axis=-1) - 255 * saliency.numpy()).mean() < 3


def test_neighbors():
    assert list(_with_neighbors("abc")) == [("a", "b", False), ("b", "c", False), ("c", "b", True)]
    assert list(_with_neighbors("a")) == [("a", None, True)]
    assert list(_with_neighbors("")) == []


def length(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float(stream.duration * stream.time_base), container.duration / av.time_base


def test_a_last_frame_that_is_held_is_no_damage(predict, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 6)
    held = tmp_path / "hold.mp4"
    with av.open(str(clip)) as source, av.open(str(held), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        last = max(packet.dts for packet in packets)
        for packet in packets:
            if packet.dts == last:
                packet.duration = round(4 / packet.time_base)
            packet.stream = stream
            target.mux(packet)
    assert predict(held) == 0
    assert length(tmp_path / "out" / "hold.mp4") == pytest.approx(length(held), abs=0.1)
    assert length(held)[1] > 4


def test_clips_of_uneven_times_are_as_long_as_they_were(predict, tmp_path):
    times = [0, 40, 80, 600, 640, 680, 1800, 1840, 3600, 3640, 3680, 7200]
    clip = write_clip(tmp_path / "clip.mkv", 12, times=times)
    assert predict(clip) == 0
    with av.open(str(clip)) as container:
        expected = container.duration / av.time_base
    assert length(tmp_path / "out" / "clip.mp4") == pytest.approx((expected, expected), abs=0.05)
    assert read_clip(tmp_path / "out" / "clip.mp4")[1] == pytest.approx([time / 1200 for time in times], abs=1e-3)


def test_a_change_of_size_is_named_and_the_next_clip_done(predict, tmp_path, capsys):
    parts = [write_clip(tmp_path / f"{index}.h264", 6, size=size) for index, size in enumerate((SIZE, SIZE[::-1]))]
    sizes = tmp_path / "sizes.mkv"
    (tmp_path / "joined.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(tmp_path / "joined.h264")) as source, av.open(str(sizes), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = round(index / 12 / packet.time_base)
            packet.stream = stream
            target.mux(packet)
    good = write_clip(tmp_path / "good.mp4", 3)
    assert predict(sizes, good) == 1
    errors = capsys.readouterr().err
    assert f"{sizes}: its frames change from 96 x 64 to 64 x 96" in errors and "sizes_partial.mp4" in errors
    made, _ = read_clip(tmp_path / "out" / "sizes_partial.mp4")
    assert len(made) == 6 and made[0].shape == (64, 96, 3)
    assert len(read_clip(tmp_path / "out" / "good.mp4")[0]) == 3


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv", "ts"])
def test_a_clip_that_starts_late_is_no_damaged_one(predict, tmp_path, suffix):
    """Where the container's duration counts from zero, too, as Matroska's."""
    times = [2400 + 100 * index for index in range(6)]  # from two seconds on
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    clip = write_clip(tmp_path / f"late.{suffix}", 6, codec=codec, times=times)
    assert predict(clip, "--save", "mask") == 0
    (made,) = (tmp_path / "out").iterdir()
    shown = np.subtract(read_clip(made)[1], read_clip(made)[1][0])
    assert shown == pytest.approx(np.arange(6) / 12, abs=2e-3)


def test_the_shape_of_pixels_and_the_start_are_kept(predict, tmp_path):
    clip = tmp_path / "wide.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for index, pixels in enumerate(pictures(6)):
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = index + 12, Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert predict(clip, "--save", "overlay") == 0
    with av.open(str(tmp_path / "out" / "wide.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    assert read_clip(tmp_path / "out" / "wide.mp4")[1] == pytest.approx(read_clip(clip)[1], abs=1e-3)


@pytest.mark.parametrize("full", [False, True])
def test_the_range_of_brightness_is_applied(predict, tmp_path, full):
    """Levels 16 and 235 are black and white in one range, and grays in the other."""
    clip = tmp_path / "range.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuvj420p" if full else "yuv420p"
        stream.codec_context.color_range = 2 if full else 1
        for index in range(3):
            luma = np.full((SIZE[1] * 3 // 2, SIZE[0]), 128, np.uint8)
            luma[: SIZE[1], : SIZE[0] // 2] = 16
            luma[: SIZE[1], SIZE[0] // 2 :] = 235
            frame = av.VideoFrame.from_ndarray(luma, format=stream.pix_fmt)
            frame.pts, frame.time_base, frame.color_range = index, Fraction(1, 12), 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert predict(clip, "--save", "side_by_side") == 0
    (made, *_), _ = read_clip(tmp_path / "out" / "range.mp4")
    dark, bright = made[:, 10:30].mean(), made[:, 60:80].mean()
    assert (dark, bright) == pytest.approx((16, 235) if full else (0, 255), abs=4)


@pytest.mark.parametrize(
    "suffix, codec",
    [
        (".ts", "libx264"),
        (".MTS", "libx264"),
        (".m2ts", "libx264"),
        (".flv", "libx264"),
        (".wmv", "wmv2"),
        (".3gp", "libx264"),
        (".mpg", "mpeg2video"),
        (".mpeg", "mpeg1video"),
        (".ogv", "libtheora"),
    ],
)
def test_containers(predict, tmp_path, suffix, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec}")
    clip = tmp_path / f"clip{suffix}"
    with av.open(str(clip), "w", format={".MTS": "mpegts"}.get(suffix)) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for pixels in pictures(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    assert predict(clip, "--save", "side_by_side") == 0
    made, _ = read_clip(tmp_path / "out" / "clip.mp4")
    assert len(made) == 9
    assert np.median(np.abs(made[0][:, : SIZE[0]].astype(int) - next(pictures(1)))) < 4


def read_transparent_clip(path):
    """Frames as RGB and alpha, by the decoder that knows of the alpha of VP9, and their times."""

    def alpha(frame):
        plane = frame.planes[3]
        return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(int)

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = [packet if packet.size else None for packet in container.demux(stream)]
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
        pictures = [(frame.to_ndarray(format="rgb24"), alpha(frame)) for frame in frames]
        return pictures, [float(frame.pts * stream.time_base) for frame in frames]


@pytest.mark.parametrize("size", [SIZE, (97, 65)])
def test_transparent_clips(predict, tmp_path, size):
    clip = write_clip(tmp_path / "clip.avi", 12, size=size, codec="mpeg4")
    assert predict(clip, "--save", "cutout", "saliency", "--background", "transparent") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip_cutout.webm", "clip_saliency.mp4"]
    made, times = read_transparent_clip(tmp_path / "out" / "clip_cutout.webm")
    saliency, _ = read_clip(tmp_path / "out" / "clip_saliency.mp4")
    frames, expected_times = read_clip(clip)
    assert len(made) == 12 and times == pytest.approx(expected_times, abs=1e-3)
    height, width = frames[0].shape[:2]
    for (colors, alpha), level, frame in zip(made, saliency, frames, strict=True):
        assert alpha.max() - alpha.min() > 20
        assert np.abs(alpha - level.mean(axis=-1)).mean() < 3
        assert np.median(np.abs(colors[:height, :width].astype(int) - frame)) < 6


def test_sound_that_webm_cannot_hold_is_left_out_and_said(predict, tmp_path, capsys):
    clips = (
        write_clip(tmp_path / "a.mp4", sound="aac"),
        write_clip(tmp_path / "b.webm", codec="libvpx", sound="libopus"),
    )
    assert predict(*clips, "--save", "cutout", "--background", "transparent") == 0
    errors = capsys.readouterr().err
    assert "a.mp4: its sound (aac) does not fit into WebM and was left out" in errors and "b.webm: its" not in errors
    assert sound_packets(tmp_path / "out" / "b.webm") == sound_packets(clips[1])


def test_mp4_cannot_be_transparent(model, tmp_path):
    detect = SalientObjectDetectionPipeline(
        model=UsodSceModel.from_pretrained(model), image_processor=UsodImageProcessor.from_pretrained(model)
    )
    clip = write_clip(tmp_path / "clip.mp4", 3)
    with pytest.raises(DataError, match=r"out\.mp4: cannot be transparent"):
        predict_clip(detect, clip, {"cutout": tmp_path / "out.mp4"}, Rendering(("cutout",), background="transparent"))


def test_a_clip_without_frames_and_a_folder_by_the_name_of_one(predict, tmp_path, capsys):
    with av.open(str(tmp_path / "bare.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        container.start_encoding()
    (tmp_path / "folder.mp4").mkdir()
    good = write_clip(tmp_path / "good.mp4", 3)
    assert predict(tmp_path / "bare.mkv", tmp_path / "folder.mp4", good) == 1
    errors = capsys.readouterr().err
    assert "bare.mkv: " in errors and f"{tmp_path / 'folder.mp4'}: no images found" in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.mp4"]


def test_a_clip_too_large_for_the_memory_does_not_stop_the_others(predict, tmp_path, monkeypatch, capsys):
    refined = Rendering.refined

    def limited(self, photo, saliency):
        if photo.width > SIZE[0]:
            raise MemoryError
        return refined(self, photo, saliency)

    monkeypatch.setattr(Rendering, "refined", limited)
    large = write_clip(tmp_path / "a.mp4", 3, (2 * SIZE[0], SIZE[1]))
    assert predict(large, write_clip(tmp_path / "b.mp4", 3)) == 1
    told = capsys.readouterr()
    assert f"{large}: memory does not suffice for it." in told.err and "1 clip done" in told.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.mp4"]


def test_a_disk_that_is_full_ends_it_without_half_a_clip(predict, tmp_path, monkeypatch, capsys):
    clips = [write_clip(tmp_path / f"{name}.mp4", 12) for name in "abc"]
    finish = ClipWriter.finish

    def raise_full():
        raise av.error.FFmpegError(errno.ENOSPC, "No space left on device")

    def finish_with_errors(self, path):
        if path.name != "b.mp4":
            return finish(self, path)
        monkeypatch.setattr(self, "_end", raise_full)
        return finish(self, path)

    monkeypatch.setattr(ClipWriter, "finish", finish_with_errors)
    assert predict(*clips) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "hf-usod" in line]
    assert "the disk is full. 1 clip done and kept there" in line


def test_a_frame_without_map_ends_its_clip_and_is_named(predict, as_loaded, tmp_path, monkeypatch, capsys):
    forward = UsodSceModel.forward

    def broken(self, pixel_values, **kwargs):
        outputs = forward(self, pixel_values, **kwargs)
        broken.frames += len(pixel_values)
        if broken.frames == 8:
            outputs.logits[2] = torch.nan
        return outputs

    broken.frames = 0
    monkeypatch.setattr(UsodSceModel, "forward", broken)
    clips = [write_clip(tmp_path / f"{name}.mp4", 12) for name in "ab"]
    assert predict(*clips, "--batch_size", 4) == 1
    assert f"{clips[0]}: frame at 0.50 seconds: the model gives NaN" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_partial.mp4", "b.mp4"]
    assert len(read_clip(tmp_path / "out" / "a_partial.mp4")[0]) == 6
