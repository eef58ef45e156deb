"""Composites: objects that a detector finds beyond doubt, cut out and pasted on object-free ground of other photos.

Their labels are exact, and show what labels of whole photos lack: objects of every size, cut by every border. Cutting
is done once, from a detector's maps; pasting is a function of the seed and the training step, as the other views are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, ImageFilter, PngImagePlugin

from ..extras import require
from ..files import write_aside
from ..models.image_processing_usod import read_image

SIDES = ("left", "top", "right", "bottom")
CROSSED = {"bottom": 0.3, "left": 0.1, "right": 0.1, "top": 0.06}  # probability that an object is cut by this border
OBJECTS = ((0.68, 0.95), 1, 2, 3)  # one object below the first probability, two below the second, else three
AREA = (0.05, 1.1)  # of the picture, that the first object takes; log-uniform, larger ones more often
OTHERS = (0.3, 1.0)  # area of the others, relative to the first
ASPECT = 0.15  # by what the log of an object's proportions varies
PROPORTIONS = (1.0, 4 / 3, 3 / 4, 3 / 2)  # of the picture that the square view stands for
ALPHA = (0.3, 0.7)  # saliency that becomes alpha 0 and 1
LEAST_GROUND = 0.22  # of the photo's side, that a strip without object takes
EMPTY = 0.1  # saliency below it is free of objects
LONGEST_SIDE = 320  # of pieces, in pixels


@dataclass(frozen=True)
class DoubtRule:
    """When an object is beyond doubt, from a detector's map of a photo and of the flipped photo."""

    agreement: float = 0.9  # least IoU of both maps, at .5
    soft: float = 0.03  # most pixels between .1 and .9
    area: tuple[float, float] = (0.03, 0.65)  # of the photo
    component: float = 0.97  # least part of the object that is in one piece
    touch: float = 0.01  # of a border's pixels: below it the object does not touch the border
    touched: int = 1  # most borders that the object touches


@dataclass(frozen=True)
class Cutout:
    """An object: `rgba` `(h, w, 4)` uint8, and the borders of its photo by which it was cut."""

    rgba: np.ndarray
    sides: tuple[str, ...] = ()


def _ndimage() -> ModuleType:
    return require("scipy", "evaluate", "Making composites").ndimage


def touched_sides(object_mask: np.ndarray, touch: float) -> tuple[str, ...]:
    """The borders of which a mask `(H, W)` takes more than `touch`."""
    edges = (object_mask[:, 0], object_mask[0], object_mask[:, -1], object_mask[-1])
    return tuple(side for side, edge in zip(SIDES, edges, strict=True) if edge.mean() > touch)


def beyond_doubt(saliency: np.ndarray, flipped: np.ndarray, rule: DoubtRule | None = None) -> bool:
    """Whether a photo's object can be cut out.

    Args:
        saliency: `(H, W)` in [0, 1], of the photo.
        flipped: likewise, of the flipped photo, flipped back.
    """
    rule = rule or DoubtRule()
    mean = (saliency + flipped) / 2
    found, again, both = saliency > 0.5, flipped > 0.5, mean > 0.5
    if not rule.area[0] <= both.mean() <= rule.area[1]:
        return False
    if (found & again).sum() < rule.agreement * (found | again).sum():
        return False
    if ((mean > 0.1) & (mean < 0.9)).mean() > rule.soft:
        return False
    if len(touched_sides(both, rule.touch)) > rule.touched:
        return False
    parts, _ = _ndimage().label(both)
    return np.bincount(parts.ravel())[1:].max() >= rule.component * both.sum()


def cut_out(image: np.ndarray, saliency: np.ndarray, rule: DoubtRule | None = None) -> Cutout:
    """The largest object of an image `(H, W, 3)` uint8 by its map `(H, W)` in [0, 1], which has some above .5.

    Alpha is the map between .3 and .7, stretched. Holes smaller than a hundredth of the object are closed.
    """
    low, high = ALPHA
    alpha = ((saliency - low) / (high - low)).clip(0, 1)
    parts, _ = _ndimage().label(alpha > 0)
    sizes = np.bincount(parts.ravel(), weights=(alpha > 0.5).ravel())
    sizes[0] = 0
    alpha = alpha * (parts == sizes.argmax())
    holes, count = _ndimage().label(alpha < 0.5)
    small = np.bincount(holes.ravel(), minlength=count + 1) < 0.01 * (alpha > 0.5).sum()
    small[0] = False
    alpha = np.where(small[holes], 1.0, alpha)
    sides = touched_sides(alpha > 0.5, (rule or DoubtRule()).touch)
    rows, columns = np.nonzero(alpha.any(1))[0], np.nonzero(alpha.any(0))[0]
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    rgba = np.dstack([image, (255 * alpha).round().astype(np.uint8)])[box]
    return Cutout(np.asarray(_within(Image.fromarray(rgba))), sides)


def object_free(image: np.ndarray, saliency: np.ndarray) -> list[np.ndarray]:
    """The strips of an image `(H, W, 3)` beside, above and below all that its map `(H, W)` finds, of some width."""
    height, width = saliency.shape
    found = saliency >= EMPTY
    if not found.any():
        return [np.asarray(_within(Image.fromarray(image)))]
    rows, columns = np.nonzero(found.any(1))[0], np.nonzero(found.any(0))[0]
    strips = [image[: rows[0]], image[rows[-1] + 1 :], image[:, : columns[0]], image[:, columns[-1] + 1 :]]
    wide = (s for s in strips if s.shape[0] >= LEAST_GROUND * height and s.shape[1] >= LEAST_GROUND * width)
    return [np.asarray(_within(Image.fromarray(np.ascontiguousarray(strip)))) for strip in wide]


def _within(piece: Image.Image) -> Image.Image:
    if max(piece.size) > LONGEST_SIDE:
        piece.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return piece


def write_cutout(path: Path, cutout: Cutout) -> None:
    """Writes an object as a PNG that knows the borders it was cut by."""
    info = PngImagePlugin.PngInfo()
    info.add_text("sides", " ".join(cutout.sides))
    write_aside(path, lambda aside: Image.fromarray(cutout.rgba).save(aside, pnginfo=info))


def write_ground(path: Path, ground: np.ndarray) -> None:
    write_aside(path, Image.fromarray(ground).save)


def read_pieces(folder: Path) -> tuple[list[Cutout], list[np.ndarray]]:
    """What was cut: the objects in `folder/objects` and the grounds in `folder/grounds`, by name.

    Raises:
        FileNotFoundError: naming the folder that holds none.
    """
    files = {kind: sorted((folder / kind).glob("*.png")) for kind in ("objects", "grounds")}
    for kind, found in files.items():
        if not found:
            raise FileNotFoundError(f"{folder / kind}: holds no pieces (PNGs) to make composites of.")
    objects = []
    for path in files["objects"]:
        with Image.open(path) as picture:
            sides = tuple(str(picture.info.get("sides", "")).split())
            objects.append(Cutout(np.asarray(picture.convert("RGBA")), sides))
    return objects, [np.asarray(read_image(path)) for path in files["grounds"]]


class Composer:
    """Pastes objects on grounds: square pictures with exact labels, a function of seed and step.

    Args:
        objects: as `cut_out` gives them.
        grounds: `(h, w, 3)` uint8, as `object_free` gives them.
        size: the side of the pictures in pixels.
        seed: of all that is drawn.

    Raises:
        ValueError: without objects or grounds.
    """

    def __init__(self, objects: Sequence[Cutout], grounds: Sequence[np.ndarray], size: int, seed: int):
        if not objects or not grounds:
            raise ValueError(f"Composites need objects and grounds, got {len(objects)} and {len(grounds)}.")
        self.objects = objects
        self.grounds = grounds
        self.size = size
        self.seed = seed

    def batch(self, step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The composites of a training step: images `(count, size, size, 3)` uint8, labels `(count, size, size)`
        bool."""
        made = [self.composite(np.random.default_rng((self.seed, step, 3, place))) for place in range(count)]
        return np.stack([image for image, _ in made]), np.stack([label for _, label in made])

    def composite(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One composite: an image `(size, size, 3)` uint8 and its label `(size, size)` bool."""
        proportion = PROPORTIONS[int(random.integers(len(PROPORTIONS)))]
        canvas = _relit(self._ground(random), random, 0.25)
        covered = np.zeros((self.size, self.size), np.float32)
        for pasted, alpha in self._pasted(random, proportion):
            if random.random() < 0.25:
                canvas *= 1 - _shadow(alpha, random)[..., None]
            canvas += (pasted - canvas) * alpha[..., None]
            covered += (1 - covered) * alpha
        if random.random() < 0.3:
            canvas += random.normal(0, random.uniform(1, 8), canvas.shape).astype(np.float32)
        return canvas.clip(0, 255).round().astype(np.uint8), covered > 0.5

    def _ground(self, random: np.random.Generator) -> np.ndarray:
        """A ground at the picture's size; now and then two, one above or beside the other; now and then blurred."""
        image = self._stretched(random)
        if random.random() < 0.3:
            other = self._stretched(random)
            at, soft = random.uniform(0.25, 0.75) * self.size, random.uniform(1, 0.1 * self.size)
            weight = 1 / (1 + np.exp(((np.arange(self.size) - at) / soft).clip(-30, 30)))
            weight = weight[:, None, None] if random.random() < 0.7 else weight[None, :, None]
            image = Image.fromarray((weight * np.asarray(image) + (1 - weight) * np.asarray(other)).astype(np.uint8))
        if random.random() < 0.35:
            image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 5)))
        return np.asarray(image).astype(np.float32)

    def _stretched(self, random: np.random.Generator) -> Image.Image:
        """A part of a ground, flipped or not. A narrow strip is continued by its mirror image, not stretched."""
        ground = self.grounds[int(random.integers(len(self.grounds)))]
        while max(ground.shape[:2]) > 1.8 * min(ground.shape[:2]):
            axis = int(ground.shape[0] > ground.shape[1])
            ground = np.concatenate([ground, np.flip(ground, axis)], axis)
        height, width = ground.shape[:2]
        h, w = (side * random.uniform(0.6, 1) for side in (height, width))
        x, y = random.uniform(0, width - w), random.uniform(0, height - h)
        image = Image.fromarray(ground).resize((self.size,) * 2, Image.Resampling.BICUBIC, (x, y, x + w, y + h))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image

    def _pasted(self, random: np.random.Generator, proportion: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The objects of a picture, from back to front, each with its alpha, at the picture's size."""
        chance = random.random()
        (one, two), *numbers = OBJECTS
        count = numbers[0] if chance < one else numbers[1] if chance < two else numbers[2]
        low, high = np.sqrt(AREA)
        area = random.uniform(low, high) ** 2
        if count > 1:
            area = min(area, 0.45)
        areas = [area, *(area * random.uniform(*OTHERS) for _ in range(count - 1))]
        for share in areas:
            cutout = self.objects[int(random.integers(len(self.objects)))]
            yield self._placed(cutout, share, proportion, random)

    def _placed(
        self, cutout: Cutout, area: float, proportion: float, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        image, sides = Image.fromarray(cutout.rgba), cutout.sides
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            sides = tuple({"left": "right", "right": "left"}.get(side, side) for side in sides)
        if not sides and random.random() < 0.3:
            image = image.rotate(random.normal(0, 12), Image.Resampling.BICUBIC, expand=True)
        covers = np.asarray(image.getchannel("A")).mean() / 255
        scale = math.sqrt(area * self.size**2 / max(covers, 0.05) / (image.width * image.height))
        stretch = math.exp(random.uniform(-ASPECT, ASPECT)) / proportion
        width = max(8, round(image.width * scale * math.sqrt(stretch)))
        height = max(8, round(image.height * scale / math.sqrt(stretch)))
        # Not much larger than the picture: most of the object would be lost
        shrink = min(1.0, 1.6 * self.size / max(width, height))
        width, height = max(8, round(width * shrink)), max(8, round(height * shrink))
        left, top = self._place(width, height, sides, random)
        box = max(0, left), max(0, top), min(self.size, left + width), min(self.size, top + height)
        scale_x, scale_y = image.width / width, image.height / height
        source = (
            (box[0] - left) * scale_x,
            (box[1] - top) * scale_y,
            (box[2] - left) * scale_x,
            (box[3] - top) * scale_y,
        )
        part = image.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC, source)
        pasted = np.zeros((self.size, self.size, 4), np.float32)
        pasted[box[1] : box[3], box[0] : box[2]] = np.asarray(part)
        alpha = pasted[..., 3] / 255
        if random.random() < 0.5:
            alpha = _ndimage().gaussian_filter(alpha, random.uniform(0.3, 1.2), mode="nearest")
        return _relit(pasted[..., :3], random, 0.2), alpha

    def _place(self, width: int, height: int, sides: Sequence[str], random: np.random.Generator) -> tuple[int, int]:
        """The left upper corner of an object: beyond the borders it was cut by, and cut by others as `CROSSED` says."""
        free_x, free_y = self.size - width, self.size - height
        left, top = (random.uniform(min(0, free), max(0, free)) for free in (free_x, free_y))
        crossed = {side for side in SIDES if random.random() < CROSSED[side]} | set(sides)
        beyond = {side: 0.02 if side in sides else random.uniform(0.05, 0.45) for side in crossed}
        if "left" in crossed:
            left = -beyond["left"] * width
        if "right" in crossed:
            left = max(free_x + beyond["right"] * width, 1 - width)
        if "top" in crossed:
            top = -beyond["top"] * height
        if "bottom" in crossed:
            top = free_y + beyond["bottom"] * height
        limit = self.size - 4
        return round(min(max(left, 4 - width), limit)), round(min(max(top, 4 - height), limit))


def _relit(image: np.ndarray, random: np.random.Generator, strength: float) -> np.ndarray:
    """An image `(H, W, 3)` of 0 to 255 with gamma, contrast and color cast of its own."""
    gamma = math.exp(random.uniform(-strength, strength) * 1.5)
    levels = 255 * (np.arange(256) / 255) ** gamma
    gains = np.exp(random.uniform(-strength, strength, 3) * 0.4) * math.exp(random.uniform(-strength, strength))
    table = (levels[:, None] * gains).clip(0, 255).astype(np.float32)
    index = image.clip(0, 255).astype(np.uint8)
    return np.stack([table[index[..., channel], channel] for channel in range(3)], axis=-1)


def _shadow(alpha: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """How much darker the ground becomes beside an object, `(H, W)` in [0, 1]."""
    size = len(alpha)
    shift = random.uniform(-0.06, 0.06) * size, random.uniform(0, 0.06) * size
    small = alpha[::4, ::4]
    moved = _ndimage().shift(small, (shift[1] / 4, shift[0] / 4), order=1, mode="nearest")
    soft = _ndimage().gaussian_filter(moved, random.uniform(0.01, 0.04) * size / 4)
    return random.uniform(0.2, 0.6) * np.kron(soft, np.ones((4, 4), np.float32))[:size, :size]
