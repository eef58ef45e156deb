"""Cards, and publishing to the Hub: a folder is built, compared with the repository, and sent in one commit."""

from .cards import read_measurements, render_card
from .folders import build_adapter, build_dataset, build_metric, build_model, build_space
from .upload import Plan, PublishError, compare, publish

__all__ = [
    "Plan",
    "PublishError",
    "build_adapter",
    "build_dataset",
    "build_metric",
    "build_model",
    "build_space",
    "compare",
    "publish",
    "read_measurements",
    "render_card",
]
