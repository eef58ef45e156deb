"""Images and their views. Training sees images alone; ground truth is read in `hf_usod.evaluation` only."""

from .folders import find_unreadable, is_image_file, list_images
from .views import EpochSampler, ImageViews, second_scale

__all__ = ["EpochSampler", "ImageViews", "find_unreadable", "is_image_file", "list_images", "second_scale"]
