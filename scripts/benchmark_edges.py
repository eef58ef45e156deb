"""Measures edges on composites of which the opacity is known: errors near outlines, time and memory; and shows them.

    python scripts/benchmark_edges.py --photos DIR [--picture docs/edges.jpg]

Hair, leaves with stems, a gear with thin rods, and a gear out of focus, drawn at 2000 x 1500, are filled with a crop of
one photo and laid over another. Maps to begin with: the true opacity as a model would give it (at 320 x 320, blurred,
its outline off by a pixel or two), and the embedded model's own. Of the photos of DIR, large ones are best; the
package's examples serve otherwise. With pymatting, its closed-form matting (at 640 pixels) and foregrounds as well.
"""

import argparse
import math
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from torch.nn import functional as F
from transformers import pipeline

import hf_usod
from hf_usod.cli import exit_status
from hf_usod.data import list_images
from hf_usod.models.edge_refiner import foreground_colors, refine_edges
from hf_usod.models.pipeline_usod import levels
from hf_usod.models.pixel_refiner import PixelRefiner

EXAMPLES = Path(__file__).resolve().parents[1] / "space" / "examples"
SIZE = (2000, 1500)
BAND = 40  # pixels around what is partly opaque
TOLERANCE = 2  # pixels, of the boundary F-measure
SHOWN = {  # x, y, width, height
    "chelsea": (275, 150, 130, 90),
    "astronaut": (140, 10, 130, 90),
    "rocket": (130, 185, 130, 90),
    "coffee": (60, 150, 130, 90),
}
GREEN = (60, 190, 90)


def draw(shape: str, seed: int) -> np.ndarray:
    """The opacity of an object, `(H, W)` in [0, 1]."""
    rng = random.Random(seed)
    width, height = (2 * side for side in SIZE)
    picture = Image.new("L", (width, height))
    pen, x0, y0, radius = ImageDraw.Draw(picture), width / 2, height / 2, 0.28 * height
    if shape == "hair":
        outline = [
            (x0 + r * math.cos(t), y0 + r * math.sin(t))
            for t in np.linspace(0, 2 * math.pi, 200, endpoint=False)
            for r in [radius * (1 + 0.08 * math.sin(3 * t + seed) + 0.05 * math.sin(7 * t))]
        ]
        pen.polygon(outline, fill=255)
        for _ in range(900):
            (x, y), thick, turn = rng.choice(outline), rng.choice([1, 2, 2, 3, 4]), rng.gauss(0, 0.05)
            angle, step = math.atan2(y - y0, x - x0) + rng.gauss(0, 0.5), radius * rng.uniform(0.05, 0.3) / 24
            for i in range(24):
                end = x + step * math.cos(angle), y + step * math.sin(angle)
                pen.line([(x, y), end], fill=255, width=max(1, round(thick * (1 - i / 30))))
                (x, y), angle = end, angle + turn
    elif shape == "leaves":
        for branch in range(7):
            x, y, angle = x0, 0.92 * height, -math.pi / 2 + 0.28 * (branch - 3)
            for i in range(30):
                end = x + 0.02 * height * math.cos(angle), y + 0.02 * height * math.sin(angle)
                pen.line([(x, y), end], fill=255, width=round(0.006 * width * (1 - i / 40)))
                (x, y), angle = end, angle + rng.gauss(0, 0.04)
                if i > 7 and i % 4 == 0:
                    a, length = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1), height * rng.uniform(0.1, 0.2)
                    sides = [(u, s * 0.22 * math.sin(math.pi * u) ** 0.8) for s in (1, -1) for u in _there(s)]
                    sides = [(u * length, v * length * (1 + 0.12 * math.sin(60 * u))) for u, v in sides]
                    c, s = math.cos(a), math.sin(a)
                    pen.polygon([(x + u * c - v * s, y + u * s + v * c) for u, v in sides], fill=255)
    else:
        teeth = [
            (x0 + r * math.cos(t), y0 + r * math.sin(t))
            for i in range(56)
            for t, r in [(math.pi * i / 28 + seed, radius * (1.12 if i % 4 in (1, 2) else 0.92))]
        ]
        pen.polygon(teeth, fill=255)
        pen.ellipse([x0 - 0.3 * radius, y0 - 0.3 * radius, x0 + 0.3 * radius, y0 + 0.3 * radius], fill=0)
        pen.rectangle([x0 - 0.05 * radius, y0 - 1.5 * radius, x0 + 0.05 * radius, y0 - 0.9 * radius], fill=255)
        pen.rectangle([x0 - 1.6 * radius, y0 - 0.03 * radius, x0 - 0.9 * radius, y0 + 0.03 * radius], fill=255)
    picture = picture.resize(SIZE, Image.Resampling.BOX)
    if shape == "gear out of focus":
        picture = picture.filter(ImageFilter.GaussianBlur(12))
    return np.asarray(picture, np.float32) / 255


def _there(side: int) -> np.ndarray:
    return np.linspace(0, 1, 41)[::side]


def crop(path: Path, seed: int) -> np.ndarray:
    """`(H, W, 3)` in [0, 1] of a photo, which is enlarged if it is small."""
    photo, rng = Image.open(path).convert("RGB"), random.Random(seed)
    scale = max(1.0, *(wanted / side for wanted, side in zip(SIZE, photo.size, strict=True)))
    photo = photo.resize([math.ceil(side * scale) for side in photo.size], Image.Resampling.LANCZOS)
    x, y = (rng.randint(0, side - wanted) for wanted, side in zip(SIZE, photo.size, strict=True))
    return np.asarray(photo.crop((x, y, x + SIZE[0], y + SIZE[1])), np.float32) / 255


def coarse(opacity: np.ndarray, seed: int) -> torch.Tensor:
    """The opacity as a model would give it."""
    small = F.avg_pool2d(F.adaptive_avg_pool2d(torch.from_numpy(opacity)[None, None], 320), 5, 1, 2)
    shift = torch.randn(1, 2, 20, 20, generator=torch.Generator().manual_seed(seed)) * 1.5 / 160
    shift = F.interpolate(shift, size=(320, 320), mode="bicubic").permute(0, 2, 3, 1)
    places = F.affine_grid(torch.eye(2, 3)[None], [1, 1, 320, 320], align_corners=False) + shift
    small = F.grid_sample(small, places, padding_mode="border", align_corners=False)
    return F.interpolate(2 * small.logit(eps=1e-3), size=opacity.shape, mode="bilinear")[0, 0].sigmoid()


def guided_filter(photo: Image.Image, saliency: torch.Tensor) -> torch.Tensor:
    """The textbook's, in color, radius 8 at 320 pixels, the coefficients applied at full size."""
    guide = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    size = [round(side * 320 / max(photo.size)) for side in saliency.shape]
    i, p = (F.interpolate(maps, size=size, mode="area") for maps in (guide, saliency[None, None]))

    def mean(maps: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(maps, 17, 1, 8, count_include_pad=False)

    pairs = mean((i[:, :, None] * i[:, None]).flatten(1, 2)).unflatten(1, (3, 3))
    covariance = (pairs - mean(i)[:, :, None] * mean(i)[:, None]).permute(0, 3, 4, 1, 2) + 1e-4 * torch.eye(3)
    common = (mean(i * p) - mean(i) * mean(p)).permute(0, 2, 3, 1)[..., None]
    slopes = torch.linalg.solve(covariance, common)[..., 0].permute(0, 3, 1, 2)
    fitted = mean(torch.cat([slopes, mean(p) - (slopes * mean(i)).sum(1, keepdim=True)], 1))
    fitted = F.interpolate(fitted, size=saliency.shape, mode="bilinear")
    return ((fitted[:, :3] * guide).sum(1) + fitted[:, 3])[0].clamp(0, 1)


def _small(photo: Image.Image, saliency: torch.Tensor) -> tuple[Image.Image, np.ndarray]:
    size = [round(side * 640 / max(photo.size)) for side in photo.size]
    return photo.resize(size, Image.Resampling.BOX), np.asarray(levels(saliency).resize(size), np.float64) / 255


def pixel_refiner(photo: Image.Image, saliency: torch.Tensor) -> torch.Tensor:
    small, opacity = _small(photo, saliency)
    pixels, maps = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float(), torch.from_numpy(opacity).float()
    refiner = PixelRefiner()
    refined = refiner(pixels, maps[None, None]) / refiner.gain
    return F.interpolate(refined, size=saliency.shape, mode="bilinear")[0, 0].clamp(0, 1)


def closed_form(photo: Image.Image, saliency: torch.Tensor) -> torch.Tensor:
    import pymatting

    small, opacity = _small(photo, saliency)
    trimap = np.full(opacity.shape, 0.5)
    trimap[ndimage.minimum_filter(opacity, 13) > 0.9] = 1
    trimap[ndimage.maximum_filter(opacity, 13) < 0.1] = 0
    alpha = pymatting.estimate_alpha_cf(np.asarray(small, np.float64) / 255, trimap)
    return F.interpolate(torch.from_numpy(alpha).float()[None, None], size=saliency.shape, mode="bilinear")[0, 0]


def _outline(mask: np.ndarray) -> np.ndarray:
    return mask ^ ndimage.binary_erosion(mask)


def _connectivity(opacity: np.ndarray, true: np.ndarray) -> np.ndarray:
    """By how much what is opaque hangs together less (C. Rhemann et al., CVPR 2009), of every pixel."""
    reach = np.zeros_like(true)
    for level in np.arange(0.1, 1.01, 0.1):
        parts, count = ndimage.label((opacity >= level) & (true >= level))
        if count:
            reach[parts == 1 + np.bincount(parts.ravel())[1:].argmax()] = level
    loose = [np.where(maps - reach >= 0.15, maps - reach, 0) for maps in (opacity, true)]
    return abs(loose[0] - loose[1])


def errors(opacity: np.ndarray, true: np.ndarray) -> list[float]:
    """Near the outline: sum of absolute differences / 1000, mean square / 0.001, gradient and connectivity error /
    1000; and the boundary F-measure at a half."""
    band = ndimage.maximum_filter(((true > 0.004) & (true < 0.996)) | _outline(true > 0.5), 2 * BAND + 1)
    difference, slopes = (opacity - true)[band], (ndimage.gaussian_gradient_magnitude(a, 1.4) for a in (opacity, true))
    found, wanted = _outline(opacity > 0.5), _outline(true > 0.5)
    near_found, near_wanted = (ndimage.binary_dilation(line, iterations=TOLERANCE) for line in (found, wanted))
    precision, recall = near_wanted[found].mean(), near_found[wanted].mean()
    return [
        abs(difference).sum() / 1e3,
        (difference**2).mean() / 1e-3,
        (np.subtract(*slopes)[band] ** 2).sum() / 1e3,
        _connectivity(opacity, true)[band].sum() / 1e3,
        2 * precision * recall / max(precision + recall, 1e-9),
    ]


def show(detect: Callable, path: Path) -> None:
    """Writes details of example photos, three times enlarged: the photo, cutouts with edges none and fine, on green."""
    rows = []
    for name, (x, y, width, height) in SHOWN.items():
        photo, row = Image.open(EXAMPLES / f"{name}.jpg").convert("RGB"), []
        plain, fine = (detect(photo, outputs=["cutout"], edges=edges)["cutout"] for edges in ("none", "fine"))
        for picture in (photo, plain, fine):
            ground = Image.new("RGB", photo.size, GREEN)
            ground.paste(picture, mask=picture if picture.mode == "RGBA" else None)
            part = ground.crop((x, y, x + width, y + height))
            row.append(np.asarray(part.resize((3 * width, 3 * height), Image.Resampling.NEAREST)))
        rows.append(np.concatenate(row, axis=1))
    Image.fromarray(np.concatenate(rows)).save(path, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=EXAMPLES)
    parser.add_argument("--picture", type=Path, help="writes a picture of details of the examples, and ends")
    parser.add_argument("--cost", action="store_true", help="times a photo of 12 megapixels, and ends")
    args = parser.parse_args()
    paths = list_images(args.photos)
    detect = pipeline("salient-object-detection", model=str(hf_usod.checkpoint_path()))
    if args.picture:
        return show(detect, args.picture)
    if args.cost:
        return cost(detect, max(paths, key=lambda path: math.prod(Image.open(path).size)))
    methods: dict[str, Callable[..., torch.Tensor]] = {
        "bilinear": lambda photo, saliency: saliency,
        "guided filter": guided_filter,
        "pixel refiner": pixel_refiner,
        "fine": refine_edges,
    }
    estimates: dict[str, Callable[..., Any]] = {
        "the photo's": lambda photo, true: photo,
        "fine": lambda photo, true: foreground_colors(photo, torch.from_numpy(true)),
    }
    try:
        import pymatting
    except ModuleNotFoundError:
        pass
    else:
        methods["closed form"] = closed_form
        estimates["pymatting"] = lambda photo, true: (
            pymatting.estimate_foreground_ml(np.asarray(photo, np.float64) / 255, true.astype(np.float64)) * 255
        )
    table: dict[tuple[str, str], list] = {}
    colors: dict[str, list[list[float]]] = {}
    shapes = ["hair", "leaves", "gear", "gear out of focus"]
    for i, shape in enumerate(shapes * 2):
        true = draw(shape, i)
        front, back = (crop(paths[j % len(paths)], j) for j in (2 * i, 2 * i + 1))
        photo = true[..., None] * front + (1 - true[..., None]) * back
        photo = Image.fromarray((photo * 255).round().astype(np.uint8))
        maps = {"coarse": coarse(true, i), "model": detect(photo, outputs=["predicted_saliency"])["predicted_saliency"]}
        for start, saliency in maps.items():
            for name, method in methods.items():
                if name == "closed form" and start == "model":
                    continue  # it takes long
                begin = time.perf_counter()
                refined = method(photo, saliency).numpy()
                seconds = (time.perf_counter() - begin) / photo.width / photo.height * 1e6
                table.setdefault((start, name), []).append([*errors(refined, true), seconds])
        partly = (true > 0.004) & (true < 0.996)
        for name, estimate in estimates.items():
            begin = time.perf_counter()
            estimated = np.asarray(estimate(photo, true), np.float32) / 255
            seconds = (time.perf_counter() - begin) / photo.width / photo.height * 1e6
            error = (abs(estimated - front).mean(-1) * true)[partly].mean() * 255
            colors.setdefault(name, []).append([error, seconds])
    print("| map | edges | SAD | MSE | gradient | connectivity | boundary F | s / megapixel |")
    print("|---|---|---|---|---|---|---|---|")
    for (start, name), rows in table.items():
        print(f"| {start} | {name} | " + " | ".join(f"{value:.3g}" for value in np.mean(rows, axis=0)) + " |")
    for name, rows in colors.items():
        error, seconds = np.mean(rows, axis=0)
        print(f"Colors where partly opaque, {name}: off by {error:.1f} of 255; {seconds:.2f} s / megapixel.")


def cost(detect: Callable, path: Path) -> None:
    photo = Image.open(path).convert("RGB").resize((4000, 3000))
    saliency = detect(photo, outputs=["predicted_saliency"])["predicted_saliency"]
    for name, method in {"refine_edges": refine_edges, "foreground_colors": foreground_colors}.items():
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        method(photo, saliency)
        seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{name}: {seconds / 12:.3f} s / megapixel, the process's peak from {before >> 10} to {after >> 10} MiB")


if __name__ == "__main__":
    sys.exit(exit_status("benchmark_edges.py", main))
