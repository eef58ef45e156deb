"""Transfer: a task adapter for a saliency cue extractor, from unlabelled images of the task (method: section 3)."""

from pathlib import Path

import torch
from accelerate.utils import set_seed
from peft import get_peft_model
from torch import nn

from ..adapters import UsodAdapterConfig
from ..data import ImageViews, list_images
from ..models.modeling_usod_sce import UsodSceModel
from .arguments import TransferArguments
from .base import load_base
from .cue_extractor import CueExtractorStage
from .engine import fit, make_accelerator
from .frozen import FrozenBackbone
from .images import readable_images
from .run_folder import RunFolder, comparable_arguments


def train_adapter(args: TransferArguments) -> Path:
    """Runs the transfer to the end; returns the folder of the adapter.

    Raises:
        RunError, FileNotFoundError: with what to do about it.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    paths = [path for folder in args.images for path in list_images(folder)]
    accelerator = make_accelerator(args)
    comparable = comparable_arguments(args, accelerator, num_images=len(paths))
    folder = RunFolder(args.output_dir, comparable, args.resume, accelerator)
    if folder.model.exists():
        accelerator.print(f"{folder.model}: is trained already.")
        return folder.model

    base, image_processor = load_base(args.base, UsodSceModel)
    image_processor.size = {"height": args.size, "width": args.size}
    paths = readable_images(args, paths, accelerator.is_local_main_process)
    accelerator.print(f"{len(paths)} images; {args.base}; {accelerator.num_processes} x {accelerator.device}.")
    accelerator.init_trackers("log", {name: str(value) for name, value in comparable.items()})
    set_seed(args.seed)
    base.freeze_backbone()
    adapted = get_peft_model(base, UsodAdapterConfig(init_weights=args.init_weights)).to(accelerator.device)
    adapted.active_peft_config.base_model_name_or_path = args.base
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, torch.float32)
    features = FrozenBackbone(base.backbone, precision)  # its statistics are the base model's: they must not move
    stage = CueExtractorStage(args, image_processor, features)
    decoder = base.decoder.to(memory_format=torch.channels_last)
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay)
    chosen = paths[:: max(1, len(paths) // args.num_previews)][: args.num_previews]

    def save(directory: Path) -> None:
        adapted.to(memory_format=torch.contiguous_format).save_pretrained(directory)
        adapted.to(memory_format=torch.channels_last)

    def after_epoch(decoder: nn.Module, epoch: int) -> None:
        views = ImageViews(chosen, image_processor)
        batch = torch.stack([views[index, False] for index in range(len(chosen))]).to(accelerator.device)
        with torch.inference_mode():
            saliency = stage.saliency(decoder, batch)
        folder.save_preview(epoch, stage.to_unit_range(batch), saliency)
        if args.keep_epochs:
            folder.save_model(save, epoch)

    try:
        fit(args, stage, decoder, optimizer, ImageViews(paths, image_processor), folder, after_epoch)
        if accelerator.is_main_process:
            folder.save_model(save)
    finally:
        accelerator.end_training()
    return folder.model
