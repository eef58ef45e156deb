"""Makes the README's picture: `python scripts/gallery.py PHOTO… --output docs/gallery.png`.

A column a photo: the photo, its saliency map, and its salient objects cut out.
"""

import argparse
from pathlib import Path

from PIL import Image
from transformers import pipeline

import hf_usod
from hf_usod.files import write_aside
from hf_usod.models.image_processing_usod import read_image

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


def gallery(columns: list[list[Image.Image]]) -> Image.Image:
    """Pictures of one height (the width is each column's own), on white."""
    width = sum(column[0].width for column in columns) + GAP * (len(columns) - 1)
    rows = len(columns[0])
    sheet = Image.new("RGB", (width, rows * HEIGHT + GAP * (rows - 1)), "white")
    x = 0
    for column in columns:
        for row, picture in enumerate(column):
            sheet.paste(picture, (x, row * (HEIGHT + GAP)))
        x += column[0].width + GAP
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--model", default=str(hf_usod.checkpoint_path()))
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    detect = pipeline("salient-object-detection", model=args.model)
    columns = []
    for path in args.photos:
        photo = read_image(path)
        small = photo.resize((round(photo.width * HEIGHT / photo.height), HEIGHT), Image.Resampling.LANCZOS)
        found = detect(photo)
        saliency, cutout = (found[kind].resize(small.size, Image.Resampling.LANCZOS) for kind in ("saliency", "cutout"))
        columns.append([small, saliency.convert("RGB"), on_chequers(cutout)])
    write_aside(args.output, gallery(columns).save)


if __name__ == "__main__":
    main()
