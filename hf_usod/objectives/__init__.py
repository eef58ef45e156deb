"""The training objectives of the method, one file a loss term. Pure functions of tensors."""

from .consistency import consistency_loss
from .distilling import PCL_SD_VARIANTS, hard_sample_margin, pcl_sd_loss
from .overlap import bce_loss, iou_loss
from .texture import boundary, btm_loss

__all__ = [
    "PCL_SD_VARIANTS",
    "bce_loss",
    "boundary",
    "btm_loss",
    "consistency_loss",
    "hard_sample_margin",
    "iou_loss",
    "pcl_sd_loss",
]
