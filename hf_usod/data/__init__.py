"""Images and their views. Training sees images alone; ground truth is read in `hf_usod.evaluation` only."""

from .folders import by_stem, find_unreadable, is_image_file, list_images, output_names
from .samples import Sample, list_samples
from .samples import evenly_spread as evenly_spread  # of the rooms above, no public name
from .tasks import TASKS, Task, find_datasets, open_task, task_samples
from .views import EpochSampler, ImageViews, SampleViews, jitter_colors, second_scale, zoom, zoom_boxes

__all__ = [
    "TASKS",
    "EpochSampler",
    "ImageViews",
    "Sample",
    "SampleViews",
    "Task",
    "by_stem",
    "find_datasets",
    "find_unreadable",
    "is_image_file",
    "jitter_colors",
    "list_images",
    "list_samples",
    "open_task",
    "output_names",
    "second_scale",
    "task_samples",
    "zoom",
    "zoom_boxes",
]
