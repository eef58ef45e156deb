"""Sequences of frames, and their flow as color images."""

import colorsys
import sys

import numpy as np
import pytest
from PIL import Image

from hf_usod.data import list_samples
from hf_usod.data.video import (
    color_flow,
    flow_image,
    list_sequences,
    neighbors,
    optical_flow,
    read_flow_image,
    subtract_camera,
    write_flow,
)

cv2 = pytest.importorskip("cv2", reason="needs the extra `video`")


def scene(shift=(0, 0), camera=(0, 0), size=(96, 128)):
    """A textured square before a textured ground: the square moves by `shift`, all by `camera` (right, down)."""
    random = np.random.default_rng(0)
    texture = cv2.resize(random.integers(0, 255, (24, 32, 3), np.uint8), (256, 192), interpolation=cv2.INTER_CUBIC)
    frame = np.roll(texture, (camera[1], camera[0]), (0, 1))[: size[0], : size[1]].copy()
    y, x = 30 + shift[1] + camera[1], 40 + shift[0] + camera[0]
    frame[y : y + 32, x : x + 40] = 255 - texture[100:132, 100:140]
    return frame


def object_and_ground(field):
    """The median of the field on the square and off it."""
    return np.median(field[36:56, 46:74].reshape(-1, field.shape[-1]), axis=0), np.median(
        np.concatenate([field[4:20, 4:124], field[76:92, 4:124]]).reshape(-1, field.shape[-1]), axis=0
    )


def test_flow_is_the_motion_in_pixels():
    moving, ground = object_and_ground(optical_flow(scene(), scene((4, -2))))
    assert moving == pytest.approx([4, -2], abs=0.5) and ground == pytest.approx([0, 0], abs=0.2)


def test_the_motion_of_the_camera_is_taken_out():
    flow = optical_flow(scene(), scene((4, 0), camera=(-3, 2)))
    moving, ground = object_and_ground(subtract_camera(flow))
    assert moving == pytest.approx([4, 0], abs=0.5) and ground == pytest.approx([0, 0], abs=0.3)
    zoom = np.stack(np.meshgrid(np.arange(64.0), np.arange(48.0)), axis=-1).astype(np.float32) * 0.05
    assert np.abs(subtract_camera(zoom)).max() < 1e-3


@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_direction_is_hue_and_stillness_white(direction):
    flow = np.zeros((20, 20, 2), np.float32)
    flow[5:15, 5:15] = np.array(direction) * 8
    image = color_flow(flow)
    assert (image[0, 0] == 255).all()
    hue, saturation, _ = colorsys.rgb_to_hsv(*image[10, 10] / 255)
    expected = {(1, 0): 0.0, (0, 1): 0.16, (-1, 0): 0.5, (0, -1): 0.75}[direction]
    assert min(abs(hue - expected), 1 - abs(hue - expected)) < 0.1 and saturation > 0.9


def test_magnitude_is_relative_but_noise_stays_pale():
    flow = np.zeros((20, 20, 2), np.float32)
    flow[:10] = [8, 0]
    assert np.abs(color_flow(flow).astype(int) - color_flow(3 * flow)).max() <= 1
    assert color_flow(flow / 8 * 0.1).min() > 220
    outlier = flow.copy()
    outlier[19, 19] = [800, 0]
    assert np.abs(color_flow(flow).astype(int) - color_flow(outlier))[:19].max() <= 1
    assert (color_flow(np.zeros((4, 4, 2), np.float32)) == 255).all()


def test_backwards_flow_has_the_colors_of_forwards_flow():
    ahead, behind = flow_image(scene(), scene((6, 0))), flow_image(scene((6, 0)), scene(), backwards=True)
    assert ahead.shape == (96, 128, 3) and ahead.dtype == np.uint8
    (moving, ground), (moving_behind, _) = object_and_ground(ahead), object_and_ground(behind)
    assert np.abs(moving - moving_behind).max() < 30 and ground.min() > 230 and moving.min() < 60


def test_tiny_frames_have_no_motion():
    assert (flow_image(*np.zeros((2, 5, 7, 3), np.uint8)) == 255).all()


def write_frames(folder, count, suffix=".png", **kwargs):
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(scene((2 * index, 0), **kwargs)).save(folder / f"f{index + 8}{suffix}")


def test_sequences_of_data_sets_and_of_plain_folders(tmp_path):
    for name in ("A", "B"):
        write_frames(tmp_path / "sets" / name / "JPEGImages" / "dog", 3)
        write_frames(tmp_path / "sets" / name / "Annotations" / "dog", 3)
    write_frames(tmp_path / "plain", 4)
    names = {sequence.name: [frame.stem for frame in sequence.frames] for sequence in list_sequences(tmp_path / "sets")}
    assert names == {f"{name}/JPEGImages/dog": ["f8", "f9", "f10"] for name in ("A", "B")}  # in the order of numbers
    (sequence,) = list_sequences(tmp_path / "sets" / "A" / "JPEGImages")
    assert sequence.name == "dog" and len(sequence.frames) == 3
    (sequence,) = list_sequences(tmp_path / "plain")
    assert sequence.name == "." and len(sequence.frames) == 4
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list_sequences(tmp_path / "missing")


def test_the_last_frame_looks_back_and_a_lone_one_nowhere(tmp_path):
    write_frames(tmp_path / "three", 3)
    write_frames(tmp_path / "one", 1)
    found = {frame.stem: (other.stem, back) for frame, (other, back) in neighbors(list_sequences(tmp_path)).items()}
    assert found == {"f8": ("f9", False), "f9": ("f10", False), "f10": ("f9", True)}


def test_flow_is_written_once_beside_the_frames(tmp_path):
    frames, optical = tmp_path / "JPEGImages", tmp_path / "optical"
    write_frames(frames / "dog", 3)
    write_frames(frames / "still", 1)
    files = write_flow(frames, optical, progress=False)
    assert sorted(files) == sorted(optical.rglob("*.*")) and len(files) == 3
    samples = {sample.id: sample.aux for sample in list_samples([frames], [optical])}
    assert samples["dog/f9"] == optical / "dog" / "f9.jpg" and samples["still/f8"] is None
    exact = np.asarray(read_flow_image(frames / "dog" / "f9.png", frames / "dog" / "f10.png")).astype(int)
    assert np.abs(np.asarray(Image.open(optical / "dog" / "f9.jpg")) - exact).mean() < 3

    files[0].unlink()
    stamps = {file: file.stat().st_mtime_ns for file in files[1:]}
    write_flow(frames, optical, progress=False)
    assert files[0].exists() and {file: file.stat().st_mtime_ns for file in files[1:]} == stamps


def test_frames_that_do_not_fit_are_named_and_the_others_done(tmp_path):
    write_frames(tmp_path / "in" / "good", 3)
    write_frames(tmp_path / "in" / "mixed", 1, size=(96, 120))
    Image.fromarray(scene()).save(tmp_path / "in" / "mixed" / "f9.png")
    write_frames(tmp_path / "in" / "torn", 2)
    (tmp_path / "in" / "torn" / "f9.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="No flow for 4 frames") as caught:
        write_flow(tmp_path / "in", tmp_path / "out", progress=False)
    assert "mixed/f8.png" in str(caught.value) and "torn/f9.png: cannot be read" in str(caught.value)
    assert len(list((tmp_path / "out" / "good").iterdir())) == 3 and not (tmp_path / "out" / "torn").exists()


def test_flow_is_of_what_is_wanted_by_the_next_that_can_be_read(tmp_path):
    frames = tmp_path / "in" / "a"
    write_frames(frames, 5)
    first, torn, third, fourth, last = (frames / f"f{number}.png" for number in range(8, 13))
    torn.write_bytes(b"no image")
    readable, wanted = {first, third, fourth, last}, {first, torn, last}
    files = write_flow(tmp_path / "in", tmp_path / "out", progress=False, readable=readable, wanted=wanted)
    assert sorted(files) == sorted((tmp_path / "out").rglob("*.jpg"))
    assert sorted(file.stem for file in files) == ["f12", "f8"]
    for frame, other, backwards in ((first, third, False), (last, fourth, True)):
        exact = np.asarray(read_flow_image(frame, other, backwards)).astype(int)
        assert np.abs(np.asarray(Image.open(tmp_path / "out" / "a" / f"{frame.stem}.jpg")) - exact).mean() < 3


def test_large_frames_are_made_smaller_first(tmp_path):
    for name in "ab":
        Image.new("RGB", (1600, 800)).save(tmp_path / f"{name}.png")
    assert read_flow_image(tmp_path / "a.png", tmp_path / "b.png").size == (480, 240)


def test_without_opencv_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModuleNotFoundError, match=r"hf_usod\[video\]"):
        write_flow(tmp_path, tmp_path / "out")
