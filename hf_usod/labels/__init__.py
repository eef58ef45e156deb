"""Pseudo-labels: how they are made, rectified while a model learns from them, and kept. No human label comes here."""

from ..models.pixel_refiner import PixelRefiner
from .labeling import LabelReport, default_num_workers, label_images
from .pseudo_labels import make_pseudo_label
from .rectification import PAPER_WEIGHTS, RELEASED_WEIGHTS, rectify
from .store import LabelError, LabelStore, label_overlap, mask_iou, read_label

__all__ = [
    "PAPER_WEIGHTS",
    "RELEASED_WEIGHTS",
    "LabelError",
    "LabelReport",
    "LabelStore",
    "PixelRefiner",
    "default_num_workers",
    "label_images",
    "label_overlap",
    "make_pseudo_label",
    "mask_iou",
    "read_label",
    "rectify",
]
