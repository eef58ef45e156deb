"""Images and their views. Training sees images alone; ground truth is read in `hf_usod.evaluation` only."""

from .folders import find_unreadable, is_image_file, list_images
from .samples import Sample, list_samples
from .views import EpochSampler, ImageViews, SampleViews, second_scale

__all__ = [
    "EpochSampler",
    "ImageViews",
    "Sample",
    "SampleViews",
    "find_unreadable",
    "is_image_file",
    "list_images",
    "list_samples",
    "second_scale",
]
