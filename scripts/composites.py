"""Trains a detector on with composites of what it finds beyond doubt: `cut` makes the pieces and the labels of the
photos, `train` trains. No ground truth. These made the embedded `usod-rgb-lite` (docs/quality-log.md says from what):

    python scripts/composites.py cut --images PHOTOS… --model BEFORE --output PIECES
    python scripts/composites.py train --pieces PIECES --images PHOTOS… --start_from BEFORE --output c --steps 750 \\
        --save_steps 150
    python scripts/composites.py train --pieces PIECES --images PHOTOS… --start_from c/checkpoint-750 --output f \\
        --steps 260 --fade 520 --least_agreement .88 --ema .98 --seed 2
    python scripts/embed.py f/checkpoint-260 usod-rgb-lite --mean_with c/checkpoint-300 c/checkpoint-750

A training leaves its model as it was after every 250 steps, and after the last, in OUTPUT/checkpoint-250, …; the same
command with --resume goes on from the last of them.
"""

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.functional import normalize
from tqdm.auto import tqdm

from hf_usod.cli import exit_status
from hf_usod.data import jitter_colors, list_images, zoom, zoom_boxes
from hf_usod.data.composites import (
    Composer,
    Cutout,
    DoubtRule,
    beyond_doubt,
    cut_out,
    object_free,
    read_pieces,
    write_cutout,
    write_ground,
)
from hf_usod.data.folders import read_rgb
from hf_usod.errors import DataError
from hf_usod.files import read_json, write_folder_aside, write_json
from hf_usod.folding import fastest
from hf_usod.loading import Loaded, load
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.models.modeling_usod import SaliencyOutput
from hf_usod.models.modeling_usod_sd import UsodSdModel
from hf_usod.objectives import bce_loss
from hf_usod.training.depthwise import speed_up_depthwise
from hf_usod.training.frozen import freeze_statistics
from hf_usod.training.processes import keep_freed_memory

SIDE = 320  # of the photos and their labels, in pixels
OTHER_SIDE = 224  # at which the map must be the same
COARSE_SIDE = 80  # of the maps that ground is found by
BATCH = 8  # photos at once, when maps are made
RULE = DoubtRule()
SCALE_SLACK = 0.05  # by which the map at the other side may agree less than that of the flipped photo
GROUND_SOFT, GROUND_AGREEMENT = 0.06, 0.75  # most soft pixels and least agreement of a photo that ground is cut from
GROUND_SIDE, GROUND_CONTRAST = 60, 4.0  # least of a strip: pixels, and standard deviation of its values
LABEL_AREA = (0.015, 0.9)  # of the photo

FROZEN = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.")  # of the backbones: strides 2 and 4
BACKBONE_RATE = 0.2  # relative to the decoders'
MOMENTUM, WEIGHT_DECAY, LARGEST_GRADIENT = 0.9, 1e-4, 2.0
WARM_UP = 50  # steps until the full learning rate
ZOOMED, JITTER = 0.5, 0.3  # probability that a photo is zoomed at; by what colors vary
EDGE_WEIGHT = 4.0  # times the distance from a composite's blurred label, of .5 on a straight outline: counts 1 to 3
SIDE_WEIGHT, CONTEXT_WEIGHT = 0.2, 0.1  # of the maps of both decoders, and of the global block
REPORT_EVERY = 25  # steps
STATE = "training_state.pt"  # in a checkpoint
NO_RECIPE = ("images", "pieces", "output", "steps", "save_steps", "resume", "run")  # of the arguments


def find_photos(folders: Sequence[Path]) -> dict[str, Path]:
    """All photos of folders, in their order, by what tells which photo it is."""
    return {
        f"{place}/{path.relative_to(folder).as_posix()}": path
        for place, folder in enumerate(folders)
        for path in list_images(folder)
    }


def read_square(path: Path) -> np.ndarray:
    """A photo as `(SIDE, SIDE, 3)` uint8."""
    return np.asarray(read_rgb(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def to_unit(images: np.ndarray) -> torch.Tensor:
    """Images `(B, H, W, 3)` uint8 as `(B, 3, H, W)` in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)


def normalized(images: torch.Tensor, image_processor: UsodImageProcessor) -> torch.Tensor:
    """Images in [0, 1] as a model takes them."""
    images = normalize(images, image_processor.image_mean, image_processor.image_std)
    return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Finding:
    """What a detector finds in a photo: maps uint8, and how sure of them it is."""

    label: np.ndarray  # (SIDE, SIDE): the mean with the flipped photo's map, fitted to the photo
    coarse: np.ndarray  # (COARSE_SIDE, COARSE_SIDE): before it is fitted
    sure: np.ndarray  # (SIDE, SIDE): as the label, with the logits moved; so are those that agree
    flip_agreement: float  # IoU of the photo's map and the flipped photo's
    scale_agreement: float  # IoU of the mean and the map at OTHER_SIDE

    def has_clear_object(self) -> bool:
        """By RULE: agreement of the maps as they are, all else of the map fitted to the photo."""
        fitted = self.sure / 255
        return (
            self.flip_agreement > RULE.agreement
            and self.scale_agreement > RULE.agreement - SCALE_SLACK
            and beyond_doubt(fitted, fitted, RULE)
        )

    def has_sure_ground(self) -> bool:
        soft = ((self.sure > 25) & (self.sure < 230)).mean()
        return soft < GROUND_SOFT and self.flip_agreement > GROUND_AGREEMENT


def overlap(maps: torch.Tensor, others: torch.Tensor) -> list[float]:
    """The IoU, at .5, of each of the maps `(B, 1, H, W)` with its other."""
    found, again = maps > 0.5, others > 0.5
    union = (found | again).flatten(1).sum(1).clamp(min=1)
    return ((found & again).flatten(1).sum(1) / union).tolist()


def to_bytes(maps: torch.Tensor) -> np.ndarray:
    return (maps * 255).round().byte().numpy()[:, 0]


def fitted(model: UsodSdModel, images: torch.Tensor, maps: torch.Tensor) -> np.ndarray:
    """Maps of normalized images, fitted to them as the model fits its own; uint8."""
    refined = model.refiner(images, maps) / model.refiner.gain
    return to_bytes((model.config.refined_contrast * refined.logit(eps=1e-4)).sigmoid())


@torch.inference_mode()
def findings(loaded: Loaded, squares: np.ndarray, shift: float) -> list[Finding]:
    """What a detector without `refine_maps` finds in photos `(B, SIDE, SIDE, 3)`; of how sure it is of it, with its
    logits moved by `shift`."""
    model, image_processor = loaded
    images = normalized(to_unit(squares), image_processor)

    def logits(views: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=views).logits.float()

    def mean(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one.sigmoid() + other.sigmoid()) / 2

    straight, flipped = logits(images), logits(images.flip(-1)).flip(-1)
    small = logits(F.interpolate(images, (OTHER_SIDE,) * 2, mode="bilinear", antialias=True))
    found, sure = mean(straight, flipped), mean(straight + shift, flipped + shift)
    columns = (
        fitted(model, images, found),
        to_bytes(F.interpolate(found, (COARSE_SIDE,) * 2, mode="area")),
        fitted(model, images, sure),
        overlap((straight + shift).sigmoid(), (flipped + shift).sigmoid()),
        overlap(sure, F.interpolate((small + shift).sigmoid(), (SIDE,) * 2, mode="bilinear")),
    )
    return [Finding(*values) for values in zip(*columns, strict=True)]


def enlarged(saliency: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A map, uint8, in [0, 1] and as large as its image."""
    size = image.shape[1], image.shape[0]
    return np.asarray(Image.fromarray(saliency).resize(size, Image.Resampling.BILINEAR)) / 255


def cut_photo(folder: Path, number: int, path: Path, finding: Finding) -> None:
    """Writes the label of a photo and what can be cut out of it."""
    Image.fromarray((finding.label > 127).astype(np.uint8) * 255).save(folder / "labels" / f"{number:05d}.png")
    image = np.asarray(read_rgb(path))
    if finding.has_clear_object():
        cutout = cut_out(image, enlarged(finding.sure, image))
        write_cutout(folder / "objects" / f"{number:05d}.png", cutout)
    if finding.has_sure_ground():
        for place, strip in enumerate(object_free(image, enlarged(finding.coarse, image))):
            if min(strip.shape[:2]) >= GROUND_SIDE and strip.std() > GROUND_CONTRAST:
                write_ground(folder / "grounds" / f"{number:05d}_{place}.png", strip)


def cut(args: argparse.Namespace) -> None:
    """Writes objects, grounds, the labels of all photos, and in photos.json how far their maps agree."""
    write_folder_aside(args.output, lambda folder: fill(folder, args))


def fill(folder: Path, args: argparse.Namespace) -> None:
    photos = find_photos(args.images)
    model, image_processor = load(args.model, kind=UsodSdModel)
    model.config.refine_maps = False
    model = fastest(model)
    loaded = Loaded(model, image_processor)
    for kind in ("objects", "grounds", "labels"):
        (folder / kind).mkdir()
    names, entries = list(photos), []
    for start in tqdm(range(0, len(names), BATCH), "cutting", unit="batch"):
        batch = names[start : start + BATCH]
        found = findings(loaded, np.stack([read_square(photos[name]) for name in batch]), args.shift)
        for number, (name, finding) in enumerate(zip(batch, found, strict=True), start):
            cut_photo(folder, number, photos[name], finding)
            entries.append({"photo": name, "agreement": min(finding.flip_agreement, finding.scale_agreement)})
    write_json(folder / "photos.json", entries)


@dataclass(frozen=True)
class Photos:
    """The photos whose labels can be trusted, and those labels `(SIDE, SIDE)` bool."""

    paths: list[Path]
    labels: list[np.ndarray]


def read_photos(pieces: Path, folders: Sequence[Path], least_agreement: float) -> Photos:
    """The photos whose maps agree by more than that, and whose objects are neither tiny nor nearly all.

    Raises:
        DataError: if the photos are others than the pieces were cut from, or none can be used.
    """
    photos, entries = find_photos(folders), read_json(pieces / "photos.json")
    if [entry["photo"] for entry in entries] != list(photos):
        raise DataError(f"{pieces}: was cut from other photos than --images holds. Give the same, in the same order.")
    used = Photos([], [])
    for number, entry in enumerate(entries):
        with Image.open(pieces / "labels" / f"{number:05d}.png") as picture:
            label = np.asarray(picture) > 127
        if entry["agreement"] > least_agreement and LABEL_AREA[0] < label.mean() < LABEL_AREA[1]:
            used.paths.append(photos[entry["photo"]])
            used.labels.append(label)
    if not used.paths:
        raise DataError(f"{pieces}: no photo agrees by more than {least_agreement}; lower --least_agreement.")
    return used


@lru_cache(maxsize=2)
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """In which photos come, by their numbers."""
    return np.random.default_rng((seed, epoch, 5)).permutation(count)


class Batches:
    """Photos and, after them, composites: a function of seed and step."""

    def __init__(self, photos: Photos, pieces: tuple[list[Cutout], list[np.ndarray]], args: argparse.Namespace):
        self.photos = photos
        self.args = args
        self.real = args.batch_size - args.composites
        self.composers = {side: Composer(*pieces, side, args.seed) for side in args.sides}

    def since(self, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images `(B, 3, H, W)` in [0, 1] and labels `(B, 1, H, W)` in {0, 1} of each step from `start` on."""
        for step in range(start, self.args.steps):
            random = np.random.default_rng((self.args.seed, step, 9))
            side = int(random.choice(self.args.sides))
            flipped = torch.from_numpy(random.random(self.real) < 0.5)
            images, labels = self._views(step, side, flipped)
            made, exact = self.composers[side].batch(step, self.args.composites)
            images = torch.cat([images, to_unit(made)])
            labels = torch.cat([labels, torch.from_numpy(exact)[:, None].float()])
            yield jitter_colors(images, JITTER, self.args.seed, step), labels

    def _views(self, step: int, side: int, flipped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The photos of a step, flipped or not, some zoomed at."""
        count = len(self.photos.paths)
        places = range(step * self.real, (step + 1) * self.real)
        chosen = sorted(int(order(count, self.args.seed, place // count)[place % count]) for place in places)
        images = to_unit(np.stack([read_square(self.photos.paths[number]) for number in chosen]))
        labels = torch.from_numpy(np.stack([self.photos.labels[number] for number in chosen]))[:, None].float()
        flipped = flipped.view(-1, 1, 1, 1)
        images, labels = (torch.where(flipped, views.flip(-1), views) for views in (images, labels))
        boxes = zoom_boxes(labels, ZOOMED, self.args.seed, step)
        images, labels = (zoom(views, boxes, (side, side)) for views in (images, labels))
        return images, (labels > 0.5).float()


def edge_weights(labels: torch.Tensor) -> torch.Tensor:
    """What pixels of labels `(B, 1, H, W)` count: 1, and more near outlines, up to an eighth of the side around."""
    width = labels.shape[-1] // 16 * 2 + 1
    padded = F.pad(labels, (width // 2,) * 4, mode="replicate")
    blurred = F.avg_pool2d(F.avg_pool2d(padded, (width, 1), 1), (1, width), 1)
    return 1 + EDGE_WEIGHT * (blurred - labels).abs()


def agreement_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """BCE + 1 - IoU of each sample, the mean over the batch, with a weight for every pixel."""
    logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    saliency, pixels = logits.sigmoid(), (1, 2, 3)
    shared = saliency * labels
    union = ((saliency + labels - shared) * weights).sum(pixels) + 1e-6
    iou = (shared * weights).sum(pixels) / union
    return ((entropy * weights).sum(pixels) / weights.sum(pixels) + 1 - iou).mean()


def loss_of(outputs: SaliencyOutput, labels: torch.Tensor, composites: int) -> torch.Tensor:
    """The loss of a batch whose last samples are composites.

    Near their outlines their pixels count more, and they alone say what the global block should see: the share of
    object in each of its cells.
    """
    exact = labels[-composites:]
    weights = torch.cat([torch.ones_like(labels[:-composites]), edge_weights(exact)])
    logits, sides = outputs.logits, outputs.side_logits
    assert logits is not None and sides is not None
    assert sides.rgb is not None and sides.aux is not None and sides.context is not None
    decoders = agreement_loss(sides.rgb, labels, weights) + agreement_loss(sides.aux, labels, weights)
    context = sides.context[-composites:]
    shares = F.interpolate(exact, context.shape[-2:], mode="area")
    fused = agreement_loss(logits, labels, weights)
    return fused + SIDE_WEIGHT * decoders + CONTEXT_WEIGHT * bce_loss(context, shares)


def freeze(model: UsodSdModel) -> None:
    """Training mode, but for all batch norms; the backbones' first blocks are not trained."""
    for backbone in (model.backbone, model.aux_backbone):
        for name, parameter in backbone.named_parameters():
            if name.removeprefix("_backbone.").startswith(FROZEN):
                parameter.requires_grad_(False)
    model.train()
    freeze_statistics(model)


def make_optimizer(model: UsodSdModel, learning_rate: float) -> torch.optim.SGD:
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for name, parameter in trained if "backbone" not in name], "lr": learning_rate},
        {
            "params": [parameter for name, parameter in trained if "backbone" in name],
            "lr": learning_rate * BACKBONE_RATE,
        },
    ]
    return torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def rate(step: int, fade: int | None) -> float:
    """Of the learning rate, at a step: rises from 0, then stays, or falls linearly to 0 at the step `fade`."""
    return min(1.0, step / WARM_UP) * (1.0 if fade is None else 1 - step / fade)


@torch.no_grad()
def follow(mean: UsodSdModel, model: UsodSdModel, step: int, ema: float) -> None:
    """Moves a running mean of weights on; the first steps' counts less long."""
    kept = min(ema, (step + 1) / (step + 20))
    for average, value in zip(mean.parameters(), model.parameters(), strict=True):
        average.lerp_(value, 1 - kept)


class Training:
    """A model, the running mean of its weights, and all that their next step depends on."""

    def __init__(self, loaded: Loaded, args: argparse.Namespace):
        self.model, self.image_processor = loaded
        self.args = args
        self.done = 0  # steps
        self.model.to(memory_format=torch.channels_last)
        self.mean = copy.deepcopy(self.model)
        freeze(self.model)
        speed_up_depthwise(self.model)
        self.optimizer = make_optimizer(self.model, args.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: rate(step, args.fade))
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Trains with a batch, as `Batches` gives it; returns the loss."""
        outputs = self.model(pixel_values=normalized(images, self.image_processor))
        loss = loss_of(outputs, labels, self.args.composites)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, LARGEST_GRADIENT)
        self.optimizer.step()
        self.schedule.step()
        follow(self.mean, self.model, self.done, self.args.ema)
        self.done += 1
        return loss.item()

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("model", "mean", "optimizer", "schedule")}

    def save(self, folder: Path) -> None:
        """Writes the mean, a model as any other, and beside it what the training goes on from."""
        copy.deepcopy(self.mean).to(memory_format=torch.contiguous_format).save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        torch.save({**parts, "done": self.done, "recipe": recipe(self.args)}, folder / STATE)

    def restore(self, folder: Path) -> None:
        """Goes on from what `save` wrote.

        Raises:
            DataError: if that was trained by another recipe.
        """
        saved = torch.load(folder / STATE, weights_only=True)
        asked = recipe(self.args)
        others = sorted(name for name in asked if saved["recipe"][name] != asked[name])
        if others:
            raise DataError(
                f"{folder}: was trained with other {', '.join(others)}. Give the same, or another --output."
            )
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.done = saved["done"]


def recipe(args: argparse.Namespace) -> dict[str, str]:
    """What a training depends on, but for how long it is."""
    return {name: str(value) for name, value in vars(args).items() if name not in NO_RECIPE}


def checkpoint(output: Path, step: int) -> Path:
    return output / f"checkpoint-{step}"


def steps_kept(output: Path) -> list[int]:
    """Those whose checkpoints are there, whole."""
    return [int(path.name.removeprefix("checkpoint-")) for path in output.glob("checkpoint-*") if path.suffix == ""]


def train(args: argparse.Namespace) -> None:
    """Writes the model of every so many steps, and the last one, each with its image processor."""
    kept = steps_kept(args.output)
    if kept and not args.resume:
        raise DataError(f"{args.output}: holds checkpoints. Choose another folder, or go on with --resume.")
    if args.resume and not kept:
        raise DataError(f"{args.output}: has no checkpoint to resume from; leave out --resume.")
    photos, pieces = read_photos(args.pieces, args.images, args.least_agreement), read_pieces(args.pieces)
    print(f"{len(photos.paths)} photos, {len(pieces[0])} objects, {len(pieces[1])} grounds")
    training = Training(load(args.start_from, kind=UsodSdModel), args)
    if args.resume:
        training.restore(checkpoint(args.output, max(kept)))
    keep_freed_memory()
    losses = []
    batches = Batches(photos, pieces, args).since(training.done)
    for images, labels in tqdm(batches, "training", args.steps, initial=training.done, unit="step"):
        losses.append(training.step(images, labels))
        if training.done % REPORT_EVERY == 0:
            tqdm.write(f"{training.done} loss {np.mean(losses[-REPORT_EVERY:]):.4f}")
        if training.done % args.save_steps == 0 or training.done == args.steps:
            write_folder_aside(checkpoint(args.output, training.done), training.save)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cutting = commands.add_parser("cut", help="objects beyond doubt, object-free ground, and labels of all photos")
    cutting.add_argument("--model", default="usod-rgb-lite", help="the detector whose maps say what is what")
    cutting.add_argument(
        "--shift",
        type=float,
        default=0.0,
        help="added to its logits to see how sure it is: 2 takes back what the embedded one's are moved by",
    )
    training = commands.add_parser("train", help="train a detector on with composites of what was cut, and photos")
    option = training.add_argument
    option("--pieces", type=Path, required=True, help="what `cut` wrote")
    option("--start_from", default="usod-rgb-lite", help="the detector that is trained on")
    option("--steps", type=int, default=750)
    option("--batch_size", type=int, default=8)
    option("--composites", type=int, default=3, help="of the batch; the rest are photos")
    option("--learning_rate", type=float, default=0.006)
    option("--fade", type=int, metavar="STEP", help="the learning rate falls to 0 at this step; else it stays")
    option("--ema", type=float, default=0.985, help="of the running mean of the weights, that a step keeps")
    option("--least_agreement", type=float, default=0.8, help="of a photo's maps, that its label is trained with")
    option("--seed", type=int, default=0)
    option("--sides", type=int, nargs="+", default=[224, 256, 288], help="of the pictures in pixels")
    option("--save_steps", type=int, default=250, help="steps from one checkpoint to the next")
    option("--resume", action="store_true", help="go on from the last checkpoint in --output")
    for command, run in ((cutting, cut), (training, train)):
        command.add_argument("--images", type=Path, nargs="+", required=True, help="folders of photos")
        command.add_argument(
            "--output",
            type=Path,
            required=True,
            help="a folder that does not exist yet; of a training, with checkpoint-N of step N",
        )
        command.set_defaults(run=run)
    return parser


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    if args.run is train:
        if args.save_steps < 1:
            parser.error(f"--save_steps {args.save_steps}: give 1 or more")
        if not 0 < args.composites < args.batch_size:
            parser.error(f"--composites {args.composites}: give 1 to {args.batch_size - 1}, the rest are photos")
        if args.fade is not None and args.fade < args.steps:
            parser.error(f"--fade {args.fade}: the learning rate must not reach 0 before step {args.steps}, the last")
    args.run(args)


if __name__ == "__main__":
    sys.exit(exit_status("composites.py", main))
