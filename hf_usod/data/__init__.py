"""Images and their views. Training sees images alone; ground truth is read in `hf_usod.evaluation` only."""

from .folders import find_unreadable, is_image_file, list_images
from .samples import Sample, list_samples
from .sampling import TaskBatchSampler
from .tasks import TASKS, Task, find_datasets, open_hub, open_task, task_samples
from .views import EpochSampler, ImageViews, SampleViews, second_scale

__all__ = [
    "TASKS",
    "EpochSampler",
    "ImageViews",
    "Sample",
    "SampleViews",
    "Task",
    "TaskBatchSampler",
    "find_datasets",
    "find_unreadable",
    "is_image_file",
    "list_images",
    "list_samples",
    "open_hub",
    "open_task",
    "second_scale",
    "task_samples",
]
