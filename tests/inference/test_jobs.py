"""Where outputs go: nothing collides, nothing is lost."""

from pathlib import Path

import pytest
from PIL import Image

from hf_usod.data import output_names
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
