"""Pseudo-labels: how they are made, rectified while a model learns from them, and kept. No human label comes here."""

from .rectification import PAPER_WEIGHTS, RELEASED_WEIGHTS, rectify
from .store import LabelError, LabelStore, read_label

__all__ = [
    "PAPER_WEIGHTS",
    "RELEASED_WEIGHTS",
    "LabelError",
    "LabelStore",
    "read_label",
    "rectify",
]
