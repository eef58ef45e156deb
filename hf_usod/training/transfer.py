"""Transfer: a task adapter for a saliency cue extractor, from unlabelled images of the task (method: section 3)."""

from pathlib import Path

import torch
from accelerate.utils import set_seed
from peft import get_peft_model

from ..adapters import UsodAdapterConfig
from ..data import list_images
from ..loading import load
from ..models.modeling_usod_sce import UsodSceModel
from .arguments import TransferArguments
from .base import save_adapter
from .cue_extractor import train_decoder
from .engine import open_run
from .frozen import FrozenBackbone
from .images import readable_images


def train_adapter(args: TransferArguments) -> Path:
    """Runs the transfer to the end; returns the folder of the adapter.

    Raises:
        RunError, FileNotFoundError: with what to do about it.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    paths = [path for folder in args.images for path in list_images(folder)]
    run = open_run(args, num_images=len(paths))
    if run.model.exists():
        return run.model
    accelerator = run.accelerator
    base, image_processor = load(args.base, kind=UsodSceModel)
    image_processor.size = {"height": args.size, "width": args.size}
    paths = readable_images(args, paths, accelerator.is_local_main_process)
    accelerator.print(f"{len(paths)} images; {args.base}; {accelerator.num_processes} x {accelerator.device}.")
    set_seed(args.seed)
    base.freeze_backbone()
    adapted = get_peft_model(base, UsodAdapterConfig(init_weights=args.init_weights)).to(accelerator.device)
    adapted.active_peft_config.base_model_name_or_path = args.base
    # With the base model's statistics, which must not move
    features = FrozenBackbone(base.backbone, accelerator.mixed_precision)

    def save(directory: Path) -> None:
        save_adapter(adapted.to(memory_format=torch.contiguous_format), directory)
        adapted.to(memory_format=torch.channels_last)

    return train_decoder(args, run, image_processor, features, base.decoder, paths, save)
