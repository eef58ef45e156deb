"""The pictures of a prediction, made of an image and its saliency map."""

from PIL import Image, ImageColor

OVERLAY_COLOUR = (255, 40, 90)
OVERLAY_OPACITY = 0.6


def overlay(image: Image.Image, saliency: Image.Image) -> Image.Image:
    """The photo (RGB) with its salient objects tinted by their saliency (mode L)."""
    tint = Image.new("RGB", image.size, OVERLAY_COLOUR)
    return Image.composite(tint, image, saliency.point(lambda level: round(level * OVERLAY_OPACITY)))


def side_by_side(image: Image.Image, saliency: Image.Image) -> Image.Image:
    """The photo (RGB), and its saliency map (mode L) to the right of it."""
    picture = Image.new("RGB", (2 * image.width, image.height))
    picture.paste(image, (0, 0))
    picture.paste(saliency.convert("RGB"), (image.width, 0))
    return picture


def on_background(cutout: Image.Image, colour: str) -> Image.Image:
    """A cutout (RGBA) over a colour, by CSS name or `#rrggbb`: RGB.

    Raises:
        ValueError: for what is no colour.
    """
    ground = Image.new("RGB", cutout.size, ImageColor.getrgb(colour)[:3])
    ground.paste(cutout, mask=cutout)
    return ground


def picture(kind: str, image: Image.Image, pictures: dict[str, Image.Image]) -> Image.Image:
    """One of `OUTPUT_KINDS`, from the image and what the pipeline made of it."""
    if kind == "overlay":
        return overlay(image, pictures["saliency"])
    if kind == "side_by_side":
        return side_by_side(image, pictures["saliency"])
    return pictures[kind]
