"""Scores of a model on folders of images and their ground truth."""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from ..data import list_images
from ..models.image_processing_usod import UsodImageProcessor, read_image
from .metrics import SaliencyMetrics


def pair_ground_truth(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Images and their masks, by file stem.

    Raises:
        FileNotFoundError: naming the images without a mask.
    """
    by_stem = {path.stem: path for path in list_images(masks)}
    paths = list_images(images)
    if missing := [path.name for path in paths if path.stem not in by_stem]:
        raise FileNotFoundError(
            f"{masks}: no ground truth for {len(missing)} of {len(paths)} images: {', '.join(missing[:10])}."
        )
    return [(path, by_stem[path.stem]) for path in paths]


def predict_maps(
    model: torch.nn.Module, processor: UsodImageProcessor, pairs: list[tuple[Path, Path]], batch_size: int = 8
) -> Iterator[tuple[torch.Tensor, Image.Image]]:
    """Yields the saliency `(H, W)` of each image at the size of its ground truth, and that ground truth."""
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        inputs = processor([read_image(image) for image, _ in batch], return_tensors="pt").to(model.device)
        masks = [Image.open(mask).convert("L") for _, mask in batch]
        with torch.inference_mode():
            outputs = model(**inputs)
        sizes = [(mask.height, mask.width) for mask in masks]
        yield from zip(processor.post_process_saliency(outputs, sizes), masks)


def evaluate_model(
    model: torch.nn.Module, processor: UsodImageProcessor, images: Path, masks: Path, progress: bool = True
) -> dict[str, float]:
    """`SaliencyMetrics.results` of a model on a folder of images and a folder of masks with the same stems, and
    `num_images`."""
    pairs = pair_ground_truth(images, masks)
    metrics = SaliencyMetrics()
    for saliency, mask in tqdm(
        predict_maps(model, processor, pairs), "evaluating", len(pairs), unit="image", disable=not progress
    ):
        metrics.step(saliency.cpu().numpy(), mask)
    return {"num_images": len(pairs), **metrics.results()}
