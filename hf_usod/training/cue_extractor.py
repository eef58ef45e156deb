"""Stage 1: the saliency cue extractor, trained on unlabelled images by L_pcl-sd + 0.05 L_btm + L_sc."""

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.utils import set_seed
from torch import nn
from torchvision.transforms.functional import normalize
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..conversion import load_backbone
from ..data import ImageViews, list_images, second_scale
from ..models.configuration_usod import UsodSceConfig
from ..models.image_processing_usod import UsodImageProcessor
from ..models.modeling_usod import resize, to_unit_range
from ..models.modeling_usod_sce import UsodSceModel
from ..objectives import btm_loss, consistency_loss, pcl_sd_loss
from .arguments import CueExtractorArguments, CueObjectiveArguments
from .engine import Stage, StepOutput, open_run, train
from .frozen import FrozenBackbone
from .images import evenly_spread, readable_images
from .run_folder import RunFolder


class CueExtractorStage(Stage):
    """The stage-1 objective on two views of a batch (method: section 3).

    The backbone is frozen, so what is trained, prepared by Accelerate and checkpointed is the decoder alone.
    """

    def __init__(self, args: CueObjectiveArguments, image_processor: UsodImageProcessor, features: FrozenBackbone):
        self.args = args
        self.image_processor = image_processor
        self.features = features

    def to_unit_range(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Model inputs back as RGB in [0, 1]."""
        return to_unit_range(pixel_values, self.image_processor.image_mean, self.image_processor.image_std)

    def texture(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Images as texture matching sees them: normalised by ImageNet's statistics whatever the backbone wants, so
        that alpha means the same distance in colour for every backbone."""
        return normalize(self.to_unit_range(pixel_values), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def saliency(self, decoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Maps `(B, 1, H, W)` in [0, 1] of images `(B, 3, H, W)`."""
        logits = decoder(self.features(images))
        return resize(logits.float(), images.shape[-2:]).sigmoid()

    def step(self, decoder: nn.Module, batch: torch.Tensor, epoch: int, step: int) -> StepOutput:
        """Losses on `(B, 3, size, size)` images and their rescaled view; `step` chooses the scale."""
        args = self.args
        side = second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)
        views = (batch, resize(batch, (side, side)))
        maps = [self.saliency(decoder, view) for view in views]

        distilling = torch.stack(
            [pcl_sd_loss(saliency, epoch, args.num_epochs, args.pcl_sd_variant, args.curriculum) for saliency in maps]
        ).sum()
        texture = torch.stack(
            [
                btm_loss(saliency, self.texture(view), args.btm_radius, args.btm_alpha)
                for saliency, view in zip(maps, views)
            ]
        ).sum()
        consistency = consistency_loss(*maps)
        loss = distilling + args.btm_weight * texture + args.consistency_weight * consistency
        terms = {"pcl_sd": distilling, "btm": texture, "sc": consistency}
        return StepOutput(loss, terms, maps[0].detach())


def build_model(args: CueExtractorArguments) -> tuple[UsodSceModel, UsodImageProcessor]:
    """An SCE with a frozen, pre-trained backbone and a fresh decoder, and its image processor."""
    backbone, image_processor = load_backbone(args.backbone)
    set_seed(args.seed)
    model = UsodSceModel(UsodSceConfig(backbone_config=backbone.config, decoder_channels=args.decoder_channels))
    model.backbone.load_state_dict(backbone.state_dict())
    model.freeze_backbone()
    image_processor.size = {"height": args.size, "width": args.size}
    return model, image_processor


def train_decoder(
    args: CueObjectiveArguments,
    folder: RunFolder,
    image_processor: UsodImageProcessor,
    features: FrozenBackbone,
    decoder: nn.Module,
    paths: list[Path],
    save: Callable[[Path], None],
) -> Path:
    """Trains what is to be trained of a decoder on the stage-1 objective, and has `save` save it; returns its folder.

    Raises:
        RunError, KeyboardInterrupt: see `fit`.
    """
    stage = CueExtractorStage(args, image_processor, features)
    decoder = decoder.to(memory_format=torch.channels_last)
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay)
    chosen = evenly_spread(paths, args.num_previews)

    def preview(decoder: nn.Module, epoch: int) -> None:
        views = ImageViews(chosen, image_processor)
        batch = torch.stack([views[index, False] for index in range(len(chosen))]).to(folder.accelerator.device)
        with torch.inference_mode(), features.as_used():
            saliency = stage.saliency(decoder, batch)
        folder.save_preview(epoch, stage.to_unit_range(batch), saliency)

    return train(args, stage, decoder, optimizer, ImageViews(paths, image_processor), folder, preview, save)


def train_cue_extractor(args: CueExtractorArguments) -> Path:
    """Runs stage 1 to the end; returns the folder of the trained model.

    Raises:
        RunError, FileNotFoundError, ConversionError: with what to do about it; `FileNotFoundError` if a folder does
            not exist or holds no image.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    paths = [path for folder in args.images for path in list_images(folder)]
    run = open_run(args, num_images=len(paths))
    if run.model.exists():
        return run.model
    accelerator = run.accelerator
    model, image_processor = build_model(args)
    paths = readable_images(args, paths, accelerator.is_local_main_process)
    accelerator.print(f"{len(paths)} images; {args.backbone}; {accelerator.num_processes} x {accelerator.device}.")
    model = model.to(accelerator.device)
    features = FrozenBackbone(model.backbone, accelerator.mixed_precision, args.backbone_batch_norm)
    if features.batch_statistics:
        accelerator.register_for_checkpointing(model.backbone)  # for its running statistics

    def save(directory: Path) -> None:
        model.to(memory_format=torch.contiguous_format).save_pretrained(directory)
        image_processor.save_pretrained(directory)
        model.to(memory_format=torch.channels_last)

    return train_decoder(args, run, image_processor, features, model.decoder, paths, save)
