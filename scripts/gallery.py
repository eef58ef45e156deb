"""Makes the README's picture: `python scripts/gallery.py PHOTO… --output docs/gallery.png`.

A column a photo: the photo, its saliency map, and its salient objects cut out; with `--rows`, a row a photo.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image

from hf_usod.cli import exit_status
from hf_usod.data.folders import read_rgb
from hf_usod.files import write_aside
from hf_usod.loading import load_pipeline

HEIGHT, GAP = 220, 8
SQUARE, LIGHT, DARK = 10, 255, 225  # of the chequered ground under a cutout


def on_chequers(cutout: Image.Image) -> Image.Image:
    """A cutout (RGBA) over the pattern that stands for transparency."""
    ground = Image.new("L", cutout.size, LIGHT)
    for y in range(0, cutout.height, SQUARE):
        for x in range(0, cutout.width, SQUARE):
            if (x + y) // SQUARE % 2:
                ground.paste(DARK, (x, y, x + SQUARE, y + SQUARE))
    return Image.alpha_composite(ground.convert("RGBA"), cutout).convert("RGB")


def _join(pictures: list[Image.Image], down: bool) -> Image.Image:
    """Pictures above one another or side by side, on white."""
    along, across = (1, 0) if down else (0, 1)
    size = [0, 0]
    size[along] = sum(picture.size[along] + GAP for picture in pictures) - GAP
    size[across] = max(picture.size[across] for picture in pictures)
    sheet = Image.new("RGB", (size[0], size[1]), "white")
    place = 0
    for picture in pictures:
        sheet.paste(picture, (0, place) if down else (place, 0))
        place += picture.size[along] + GAP
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--model", help="an embedded name, a folder or a Hub id")
    parser.add_argument("--rows", action="store_true", help="a row a photo, not a column")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    photos = [read_rgb(path) for path in args.photos]
    detect = load_pipeline(args.model)
    shown = []
    for photo in photos:
        small = photo.resize((round(photo.width * HEIGHT / photo.height), HEIGHT), Image.Resampling.LANCZOS)
        outputs = detect(photo)
        saliency, cutout = (
            outputs[kind].resize(small.size, Image.Resampling.LANCZOS) for kind in ("saliency", "cutout")
        )
        shown.append(_join([small, saliency.convert("RGB"), on_chequers(cutout)], down=not args.rows))
    write_aside(args.output, _join(shown, down=args.rows).save)


if __name__ == "__main__":
    sys.exit(exit_status("gallery.py", main))
