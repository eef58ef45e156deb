"""Where outputs go: nothing collides, nothing is lost."""

import errno
from pathlib import Path

import pytest
from PIL import Image

from hf_usod.data import folders, output_names
from hf_usod.inference.jobs import plan_jobs


@pytest.fixture
def tree(tmp_path):
    """Makes images at given paths below a folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3)).save(path, format="PNG")
        return tmp_path

    return make


def written(jobs, output):
    return sorted(str(path.relative_to(output)) for job in jobs.jobs for path in job.outputs.values())


@pytest.mark.parametrize(
    "names, expected",
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["a.JPG", "A.png"], ["a.JPG", "A.png"]),  # one file on a file system that ignores case
        (["x/a.jpg", "y/a.png"], ["x/a", "y/a"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        (["photo", "photo.jpg"], ["photo", "photo.jpg"]),
        (["a.b.jpg", "a.c.jpg"], ["a.b", "a.c"]),
    ],
)
def test_output_names(names, expected):
    assert [str(name) for name in output_names([Path(name) for name in names])] == expected


@pytest.mark.parametrize(
    "inputs, kinds, expected",
    [
        (["in"], ["saliency"], ["a.png", "sub/a.png", "sub/b.png"]),
        (["in"], ["mask", "cutout"], [f"{n}_{k}.png" for n in ("a", "sub/a", "sub/b") for k in ("cutout", "mask")]),
        (["in/sub"], ["mask"], ["a.png", "b.png"]),
        (["in/sub/b.png"], ["mask"], ["b.png"]),
        (["in/a.jpg", "in/sub"], ["mask"], ["a.png", "sub/a.png", "sub/b.png"]),
        (["in/*/*.png"], ["mask"], ["a.png", "b.png"]),
        (["in/**/a.*"], ["mask"], ["a.png", "sub/a.png"]),
        (["in", "in/a.jpg", "in"], ["mask"], ["a.png", "sub/a.png", "sub/b.png"]),
    ],
)
def test_inputs(tree, inputs, kinds, expected):
    root = tree("in/a.jpg", "in/sub/a.png", "in/sub/b.png", "in/.hidden.png")
    (root / "in" / "notes.txt").write_text("no image")
    jobs = plan_jobs([str(root / given) for given in inputs], root / "out", kinds)
    assert written(jobs, root / "out") == sorted(expected)


def test_symbolic_links_keep_their_place(tree):
    root = tree("elsewhere/a.png")
    (root / "in" / "sub").mkdir(parents=True)
    (root / "in" / "sub" / "link.png").symlink_to(root / "elsewhere" / "a.png")
    assert written(plan_jobs([root / "in"], root / "out", ["mask"]), root / "out") == ["sub/link.png"]


def test_output_folder_inside_the_input_is_not_read(tree):
    root = tree("in/a.jpg", "in/out/a.png")
    assert [job.source for job in plan_jobs([root / "in"], root / "in" / "out", ["saliency"]).jobs] == [
        root / "in/a.jpg"
    ]


def test_named_file_needs_no_image_suffix(tree):
    root = tree("scan")
    assert written(plan_jobs([root / "scan"], root / "out", ["mask"]), root / "out") == ["scan.png"]


@pytest.mark.parametrize("given", ["nothing.jpg", "none/*.jpg", "empty"])
def test_missing_inputs(tree, given):
    root = tree("in/a.png")
    (root / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg|none|empty"):
        plan_jobs([root / given], root / "out", ["mask"])


def test_output_may_not_be_the_input(tree):
    root = tree("in/a.png")
    with pytest.raises(ValueError, match="also the output folder"):
        plan_jobs([root / "in"], root / "in", ["mask"])


def test_outputs_never_overwrite_inputs(tree):
    root = tree("in/a.png")
    with pytest.raises(ValueError, match=r"a\.png: is an input"):
        plan_jobs([root / "in" / "a.png"], root / "in", ["saliency"])


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_files_are_compared_and_not_their_names(tree, kind):
    root = tree("in/a.png")
    if kind == "symbolic":
        (root / "link").symlink_to(root / "in")
        output = root / "link"
    else:
        output = root / "out"
        output.mkdir()
        (output / "a.png").hardlink_to(root / "in" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: is an input"):
        plan_jobs([root / "in" / "a.png"], output, ["saliency"])


def test_what_a_broken_clip_would_leave_overwrites_nothing(tree):
    root = tree("in/a.mp4", "in/a_partial.mp4")
    clips = [root / "in" / "a.mp4", root / "in" / "a_partial.mp4"]
    with pytest.raises(ValueError, match=r"a_partial\.mp4: is an input|a\.mp4: is an input"):
        plan_jobs(clips, root / "in", ["mask"])
    (root / "in" / "a.mp4").rename(root / "a.mp4")
    with pytest.raises(ValueError, match=r"a_partial\.mp4: is an input"):
        plan_jobs([root / "a.mp4", root / "in" / "a_partial.mp4"], root / "in", ["mask"])


@pytest.mark.parametrize("spelling", ["link", "in/../in", "in/sub/.."])
def test_own_output_is_no_input_whatever_its_name(tree, spelling):
    root = tree("in/a.jpg", "in/out/a.png", "in/sub/b.jpg")
    (root / "link").symlink_to(root / "in")
    plan = plan_jobs([root / spelling], root / "in" / "out", ["saliency"])
    assert [job.source.name for job in plan.jobs] == ["a.jpg", "b.jpg"]
    with pytest.raises(ValueError, match="also the output folder"):
        plan_jobs([root / spelling], root / "in", ["saliency"])


def test_output_may_be_above_the_inputs(tree, monkeypatch):
    root = tree("in/a.jpg", "in/sub/b.jpg")
    monkeypatch.chdir(root)
    for output in (".", root, root.parent):
        plan = plan_jobs(["in"], output, ["mask"])
        assert written(plan, Path(output).absolute()) == ["a.png", "sub/b.png"]


def test_a_pattern_that_matches_the_output_does_not_mean_it(tree, monkeypatch):
    root = tree("a.jpg", "sub/b.jpg", "out/a.png")
    monkeypatch.chdir(root)
    plan = plan_jobs(["*"], "out", ["mask"])
    assert [job.source.name for job in plan.jobs] == ["a.jpg", "b.jpg"]


def test_hidden_folders_are_left_alone_but_where_they_are_named(tree):
    root = tree("in/a.jpg", "in/.thumbnails/a.jpg", "in/.git/x/b.png")
    assert written(plan_jobs([root / "in"], root / "out", ["mask"]), root / "out") == ["a.png"]
    assert written(plan_jobs([root / "in" / ".git"], root / "out", ["mask"]), root / "out") == ["x/b.png"]


def test_linked_folders_are_followed_once(tree):
    root = tree("in/a.jpg", "in/sub/b.jpg", "elsewhere/c.jpg", "elsewhere/deep/d.jpg")
    (root / "in" / "0loop").symlink_to(root / "in")
    (root / "in" / "1itself").symlink_to(root / "in" / "1itself")
    (root / "in" / "2sub").symlink_to(root / "in" / "sub")
    (root / "in" / "3more").symlink_to(root / "elsewhere")
    (root / "in" / "4again").symlink_to(root / "elsewhere")
    (root / "elsewhere" / "back").symlink_to(root / "in")
    plan = plan_jobs([root / "in"], root / "out", ["mask"])
    assert written(plan, root / "out") == ["3more/c.png", "3more/deep/d.png", "a.png", "sub/b.png"]
    assert plan.notes == ["Passed over: 4 links to folders that are searched anyway."]


def test_what_is_passed_over_is_told(tree, monkeypatch):
    monkeypatch.setattr(folders, "IMAGE_SUFFIXES", folders.IMAGE_SUFFIXES - folders.HEIF_SUFFIXES)
    monkeypatch.setattr(folders, "UNREADABLE_SUFFIXES", folders.UNREADABLE_SUFFIXES | folders.HEIF_SUFFIXES)
    root = tree("in/a.jpg", "in/b.HEIC", "in/c.nef", "in/d.mp4", "in/sub/e.mov", "in/sub/f.txt")
    plan = plan_jobs([root / "in", root / "in" / "d.mp4"], root / "out", ["mask"])
    assert written(plan, root / "out") == ["a.png", "d.mp4"]
    assert len(plan.notes) == 2
    assert plan.notes[0].startswith("Passed over: 2 of kinds that Pillow cannot read here (.heic, .nef)")
    assert plan.notes[0].endswith('or for .heic: pip install "hf_usod[heif]".')
    assert plan.notes[1].startswith("Passed over: 1 clips in folders; name them")
    named = plan_jobs([root / "in", root / "in" / "b.HEIC"], root / "out", ["mask"])  # which says why it fails, then
    assert named.notes[0].startswith("Passed over: 1 of kinds that Pillow cannot read here (.nef)")
    with pytest.raises(FileNotFoundError, match=r"no images found\. Passed over: 1 clips"):
        plan_jobs([root / "in" / "sub"], root / "out", ["mask"])


@pytest.mark.parametrize("output", ["file", "file/deeper/out"])
def test_an_output_that_is_a_file_is_told_at_once(tree, output):
    root = tree("in/a.png")
    (root / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file is a file"):
        plan_jobs([root / "in"], root / output, ["mask"])


def test_an_output_that_cannot_be_written_is_told_at_once(tree, monkeypatch):
    root = tree("in/a.png")

    def refuse(dir):
        assert dir == root
        raise OSError(errno.EROFS, "Read-only file system")  # which no rights tell, and a superuser may write anywhere

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=r"cannot be written in \(Read-only file system\)"):
        plan_jobs([root / "in"], root / "out", ["mask"])


def test_names_too_long_are_told_at_once(tree):
    root = tree(f"in/{'n' * 250}.jpg")
    assert len(plan_jobs([root / "in"], root / "out", ["mask"]).jobs) == 1
    with pytest.raises(ValueError, match="too long"):
        plan_jobs([root / "in"], root / "out", ["mask", "saliency"])


def test_a_folder_without_images_beside_others_is_told(tree):
    root = tree("in/a.png")
    (root / "x.mp4").mkdir()
    plan = plan_jobs([root / "in", root / "x.mp4"], root / "out", ["mask"])
    assert plan.notes == [f"{root / 'x.mp4'}: no images found in this folder."]


def test_transparent_clips_are_webm(tree):
    root = tree("in/a.png", "in/b.MTS")
    plan = plan_jobs([root / "in/a.png", root / "in/b.MTS"], root / "out", ["mask", "cutout"], ["cutout"])
    assert written(plan, root / "out") == ["a_cutout.png", "a_mask.png", "b_cutout.webm", "b_mask.mp4"]
