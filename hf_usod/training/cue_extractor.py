"""Stage 1: the saliency cue extractor, trained on unlabeled images by L_pcl-sd + 0.05 L_btm + L_sc; and its transfer,
a task adapter for a trained one, by the same objective (method: section 3).

A2S-v3: https://arxiv.org/abs/2404.14759
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object, set_seed
from peft import PeftModel, get_peft_model
from torch import nn
from torchvision.transforms.functional import normalize
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..adapters import UsodAdapterConfig
from ..conversion import load_pretrained_backbone
from ..data import ImageViews, Sample, evenly_spread, second_scale
from ..loading import load
from ..models.configuration_usod import UsodSceConfig
from ..models.image_processing_usod import UsodImageProcessor
from ..models.modeling_usod import resize, to_unit_range
from ..models.modeling_usod_sce import UsodSceModel
from ..objectives import btm_loss, consistency_loss, pcl_sd_loss
from ..objectives.texture import boundary_length
from .arguments import CueExtractorArguments, CueObjectiveArguments, TransferArguments
from .feature_cache import FeatureCache, budget
from .frozen import FrozenBackbone
from .loop import train_stage
from .photos import join, list_run_samples, readable_samples
from .run_folder import RunFolder
from .stage import Stage, StepOutput, save_network, set_input_size
from .whole_batch import share_of_mean, synchronize_batch_norms


def texture(pixel_values: torch.Tensor, image_processor: UsodImageProcessor) -> torch.Tensor:
    """Images as texture matching sees them: normalized by ImageNet's statistics whatever the backbone wants, so that
    alpha means the same distance in color for every backbone; and their auxiliary maps, as they are.

    Args:
        pixel_values: `(B, 3, H, W)`, as the processor makes them, or `(B, 6, H, W)` with maps, see `ImageViews`.
    """
    images = to_unit_range(pixel_values[:, :3], image_processor.image_mean, image_processor.image_std)
    return torch.cat([normalize(images, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), pixel_values[:, 3:]], dim=1)


class CueExtractorStage(Stage):
    """The stage-1 objective on two views of a batch (method: section 3).

    The backbone is frozen, so what is trained, prepared by Accelerate and checkpointed is the decoder alone.

    Args:
        network: a cue extractor, or one with a task adapter; all that its decoder has to train is trained.
        samples: their auxiliary maps are seen by texture matching alone.
        features: of its backbone.
        cache: of those of the samples' views, if they are kept.
    """

    collapse_advice = (
        "too high a learning rate (--learning_rate), a texture term that outweighs the rest (--btm_weight), a backbone "
        "without its weights"
    )

    def __init__(
        self,
        args: CueObjectiveArguments,
        network: UsodSceModel | PeftModel,
        image_processor: UsodImageProcessor,
        samples: Sequence[Sample],
        features: FrozenBackbone,
        cache: FeatureCache | None = None,
    ):
        self.args = args
        self.network = network
        self.model = network.decoder.to(memory_format=torch.channels_last)
        self.image_processor = image_processor
        paths, aux = [sample.image for sample in samples], [sample.aux for sample in samples]
        self.dataset: ImageViews = ImageViews(paths, image_processor, aux)
        self.features = features
        self.cache = cache
        if features.batch_statistics:
            self.stateful = [network.backbone]  # for its running statistics

    def saliency(self, decoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Maps `(B, 1, H, W)` in [0, 1] of images `(B, 3, H, W)`."""
        return self._map(decoder, self.features(images), images.shape[-2:])

    @staticmethod
    def _map(decoder: nn.Module, features: tuple[torch.Tensor, ...], size: torch.Size) -> torch.Tensor:
        return resize(decoder(features).float(), size).sigmoid()

    def _features(self, images: torch.Tensor, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Those of a view of a batch."""
        if self.cache is None:
            return self.features(images)
        return self.cache(images, batch["index"], batch["flipped"])

    def step(self, decoder: nn.Module, batch: dict[str, torch.Tensor], epoch: int, step: int) -> StepOutput:
        """Losses on a batch of `ImageViews` and its rescaled view; `step` chooses the scale."""
        args = self.args
        first = batch["pixel_values"]
        side = second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)
        views = (first, resize(first, (side, side)))
        maps = [self._map(decoder, self._features(view[:, :3], batch), view.shape[-2:]) for view in views]

        distilling = torch.stack(
            [pcl_sd_loss(saliency, epoch, args.num_epochs, args.pcl_sd_variant, args.curriculum) for saliency in maps]
        ).sum()
        matching = torch.stack(
            [
                btm_loss(saliency, texture(view, self.image_processor), args.btm_radius, args.btm_alpha)
                * share_of_mean(partial(boundary_length, saliency))
                for saliency, view in zip(maps, views, strict=True)
            ]
        ).sum()
        consistency = consistency_loss(*maps)
        loss = distilling + args.btm_weight * matching + args.consistency_weight * consistency
        terms = {"pcl_sd": distilling, "btm": matching, "sc": consistency}
        return StepOutput(loss, terms, maps[0].detach())

    def parameter_groups(self, updates_per_epoch: int) -> list[dict[str, Any]]:
        return [{"params": [parameter for parameter in self.model.parameters() if parameter.requires_grad]}]

    def preview(self, model: nn.Module) -> tuple[torch.Tensor, ...]:
        views = ImageViews(evenly_spread(self.dataset.paths, self.args.num_previews), self.image_processor)
        batch = torch.stack([views[index, False]["pixel_values"] for index in range(len(views))])
        batch = batch.to(next(model.parameters()).device)
        with torch.inference_mode(), self.features.as_used():
            saliency = self.saliency(model, batch)
        return to_unit_range(batch, self.image_processor.image_mean, self.image_processor.image_std), saliency

    def save(self, directory: Path) -> None:
        save_network(self.network, self.image_processor, directory)


def build_model(args: CueExtractorArguments) -> tuple[UsodSceModel, UsodImageProcessor]:
    """An SCE with a frozen, pre-trained backbone and a fresh decoder, and its image processor."""
    backbone, image_processor = load_pretrained_backbone(args.backbone)
    set_seed(args.seed)
    model = UsodSceModel(UsodSceConfig(backbone_config=backbone.config, decoder_channels=args.decoder_channels))
    model.backbone.load_state_dict(backbone.state_dict())
    model.freeze_backbone()
    return model, set_input_size(image_processor, args.size)


def adapt_model(args: TransferArguments) -> tuple[PeftModel, UsodImageProcessor]:
    """A trained SCE with a task adapter on its deep projection, all else frozen, and its image processor."""
    base, image_processor = load(args.base, kind=UsodSceModel)
    set_seed(args.seed)
    base.freeze_backbone()
    adapted = get_peft_model(base, UsodAdapterConfig(init_weights=args.init_weights))
    adapted.active_peft_config.base_model_name_or_path = args.base
    return adapted, set_input_size(image_processor, args.size)


def train_cue_extractor(args: CueExtractorArguments | TransferArguments) -> Path:
    """Runs stage 1, or the transfer, to the end; returns the folder of the trained model, or of the adapter.

    Raises:
        RunError, DataError, FileNotFoundError, LoadingError, ConversionError: with what to do about it.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    samples = join(list_run_samples(args.images, args.aux))

    def build(run: RunFolder) -> CueExtractorStage:
        accelerator = run.accelerator
        network: UsodSceModel | PeftModel
        if isinstance(args, TransferArguments):
            start, batch_norm = args.base, "eval"  # with the base model's statistics, which must not move
            network, image_processor = adapt_model(args)
        else:
            start, batch_norm = args.backbone, args.backbone_batch_norm
            network, image_processor = build_model(args)
        readable = readable_samples(args, samples, accelerator.is_local_main_process)
        accelerator.print(f"{len(readable)} images; {start}; {accelerator.num_processes} x {accelerator.device}.")
        if batch_norm == "train":  # of the whole batch
            network.backbone = synchronize_batch_norms(network.backbone)
        network.to(accelerator.device)
        features = FrozenBackbone(network.backbone, accelerator.mixed_precision, batch_norm)
        cache = None
        # Of all processes, which share what is kept: what is free may change while they look
        if gigabytes := min(gather_object([budget(args, features.on_cpu, run.root)])):
            cache = FeatureCache(features, args, len(readable), run.root, gigabytes, accelerator)
        return CueExtractorStage(args, network, image_processor, readable, features, cache)

    return train_stage(args, samples, build)
