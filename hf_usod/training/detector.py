"""Stage 2: the saliency detector, trained on pseudo-labels that it rectifies as it learns (SPR)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.functional import normalize
from transformers import PreTrainedConfig, ResNetConfig

from ..adapters import UsodAdapterConfig
from ..assets import checkpoint_source
from ..conversion import load_pretrained_backbone
from ..data import Sample, SampleViews, evenly_spread, jitter_colors, second_scale, zoom, zoom_boxes
from ..folding import fold_batch_norms, maps_of_an_example
from ..labels import LabelStore, PixelRefiner, read_label, rectify
from ..loading import base_of, is_adapter, load
from ..models.configuration_usod import UsodSdConfig
from ..models.image_processing_usod import UsodImageProcessor
from ..models.modeling_usod import resize, to_unit_range
from ..models.modeling_usod_sd import UsodSdModel
from ..objectives import bce_loss, consistency_loss, iou_loss
from .arguments import DetectorArguments
from .depthwise import speed_up_depthwise
from .frozen import FrozenBackbone, FrozenStream, freeze_statistics, frozen_precision
from .loop import train_stage
from .photos import join, label_files, list_run_samples, readable_samples
from .recomputation import recompute_activations
from .run_folder import RunFolder
from .shared_labels import equalize_labels, share_labels
from .stage import Stage, StepOutput, save_network, set_input_size
from .whole_batch import synchronize_batch_norms

SIDE_WEIGHT = 0.2  # of the RGB decoder's own map, beside the fused one
SECOND_VIEW_WEIGHT = 0.5
ZOOM_DETAIL = 1.5  # the side of the images of which second views show a part, relative to the first view's


class DetectorStage(Stage):
    """The stage-2 objective on two views of a batch, and the rectification of its labels (method: sections 6 and 7).

    Args:
        model: a detector, or one with a task adapter.
        labels: of the samples, in their order.
        autocast: the precision that previews are computed in.
    """

    def __init__(
        self,
        args: DetectorArguments,
        model: nn.Module,
        image_processor: UsodImageProcessor,
        samples: Sequence[Sample],
        labels: LabelStore,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.args = args
        self.model = model
        self.autocast = autocast
        self.image_processor = image_processor
        self.dataset: SampleViews = SampleViews(
            samples, set_input_size(copy.deepcopy(image_processor), view_size(args))
        )
        self.labels = labels
        self.unshared: list[int] = []  # samples whose labels other machines do not have yet
        self.refiner = PixelRefiner()
        self.terms = args.loss.split("+")

    def start_epoch(self, model: UsodSdModel | PeftModel, epoch: int) -> None:
        """Lets the backbones rest in the first epochs, or in all if they are not trained: no gradient is then computed
        through them."""
        trained = self.args.adapt is None and epoch >= self.args.backbone_first_epoch
        model.backbone.requires_grad_(trained)
        model.aux_backbone.requires_grad_(trained)

    def agreement(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss terms that compare a map `(B, 1, h, w)` with labels `(B, 1, H, W)`."""
        # Unlike within the networks, the released program does not align corners here
        logits = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)
        losses = {"iou": lambda: iou_loss(logits.sigmoid(), target), "bce": lambda: bce_loss(logits, target)}
        return {name: losses[name]() for name in self.terms if name in losses}

    def step(self, model: nn.Module, batch: dict[str, torch.Tensor], epoch: int, step: int) -> StepOutput:
        """Losses on images with their auxiliary maps, at `(B, 3, size, size)` and in a rescaled view. They are given at
        that size or larger, see `view_size`."""
        args = self.args
        flipped = batch["flipped"].view(-1, 1, 1, 1)
        label = self.labels.read(batch["index"].cpu(), epoch).to(flipped.device)
        label = torch.where(flipped, label.flip(-1), label)
        side = second_scale(args.size, args.scale_steps, args.scale_stride, args.seed, step)
        detailed, detailed_aux = self.vary_colors(batch, step)
        images, aux = (_shrink(maps, args.size) for maps in (detailed, detailed_aux))
        target = (label > 0.5).float()

        told = {"aux_kind": batch["aux_kind"]} if args.aux_kinds else {}
        first = model(pixel_values=images, aux_pixel_values=aux, **told)
        rescale = self.second_view(target, side, step)
        second = model(pixel_values=rescale(detailed), aux_pixel_values=rescale(detailed_aux), **told)
        weighted = [
            (1.0, first.logits, target),
            (SIDE_WEIGHT, first.side_logits[0], target),
            (SECOND_VIEW_WEIGHT, second.logits, rescale(target, mode="nearest")),
        ]
        weighted.append((SECOND_VIEW_WEIGHT * SIDE_WEIGHT, second.side_logits[0], weighted[-1][2]))
        terms: dict[str, torch.Tensor] = {}
        for weight, logits, labeled in weighted:
            for name, loss in self.agreement(logits, labeled).items():
                terms[name] = terms.get(name, 0) + weight * loss
        if "sc" in self.terms:
            rescaled = rescale(first.logits.detach().float()).sigmoid()
            terms["sc"] = consistency_loss(second.logits.float().sigmoid(), rescaled)

        saliency = first.logits.detach().float().sigmoid()
        seen = {"agreement": 1 - iou_loss((saliency > 0.5).float(), target)}
        rectifying = args.spr != "none" and epoch >= args.spr_first_epoch
        if rectifying and saliency.isfinite().all():  # if not, the run is about to be stopped
            seen["label_change"] = self.rectify_labels(batch, epoch, images, saliency, label)
        return StepOutput(torch.stack(list(terms.values())).sum(), terms, saliency, seen)

    def vary_colors(self, batch: dict[str, torch.Tensor], step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The images and auxiliary maps of a batch with `color_jitter`: an image that is its own map in the same
        colors, other maps as they are."""
        images, aux = batch["pixel_values"], batch["aux_pixel_values"]
        if self.args.color_jitter == 0:
            return images, aux
        mean, std = self.image_processor.image_mean, self.image_processor.image_std
        jittered = jitter_colors(to_unit_range(images, mean, std), self.args.color_jitter, self.args.seed, step)
        return normalize(jittered, mean, std), torch.where(batch["has_aux"].view(-1, 1, 1, 1), aux, jittered)

    def second_view(self, target: torch.Tensor, side: int, step: int) -> Callable[..., torch.Tensor]:
        """What makes the second view of square maps `(B, C, H, H)` at a training step, with `side` pixels a side: the
        whole of them, or parts of some with `zoom_probability`."""
        if self.args.zoom_probability == 0:
            return lambda maps, mode="bilinear": (
                resize(maps, (side, side)) if mode == "bilinear" else F.interpolate(maps, (side, side), mode=mode)
            )
        boxes = zoom_boxes(target, self.args.zoom_probability, self.args.seed, step)
        return lambda maps, mode="bilinear": zoom(maps, boxes, (side, side), mode)

    @torch.no_grad()
    def rectify_labels(
        self,
        batch: dict[str, torch.Tensor],
        epoch: int,
        images: torch.Tensor,
        saliency: torch.Tensor,
        label: torch.Tensor,
    ) -> torch.Tensor:
        """Stores what the labels of a batch become (eq. 8); flipped samples are flipped back. Returns the share of
        pixels that went from one side of 0.5 to the other."""
        prior = self.refiner(images, saliency) if self.args.spr == "both" else None
        of_prior, of_posterior, of_previous = self.args.spr_weights
        rectified = rectify(saliency, label, prior, (of_prior, of_posterior, of_previous))
        change = ((rectified > 0.5) != (label > 0.5)).float().mean()
        rectified = torch.where(batch["flipped"].view(-1, 1, 1, 1), rectified.flip(-1), rectified)
        indices = batch["index"].cpu()
        self.labels.write(indices, epoch, rectified)
        self.unshared += indices.tolist()
        return change

    def share(self, accelerator: Accelerator) -> None:
        share_labels(self.labels, self.unshared, accelerator)
        self.unshared.clear()

    def parameter_groups(self, updates_per_epoch: int) -> list[dict[str, Any]]:
        """Neck and decoder, or an adapter; and the backbones, later and slower."""
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        backbones = [name for name in trained if name.startswith(("backbone.", "aux_backbone."))]
        groups: list[dict[str, Any]] = [{"params": [trained[name] for name in trained if name not in set(backbones)]}]
        if backbones:
            groups.append(
                {
                    "params": [trained[name] for name in backbones],
                    "lr": self.args.learning_rate * self.args.backbone_learning_rate_ratio,
                    "first_step": updates_per_epoch * (self.args.backbone_first_epoch - 1),
                }
            )
        return groups

    def preview(self, model: Any) -> tuple[torch.Tensor, ...]:
        """Photos, the labels they have now, and maps."""
        chosen = evenly_spread(range(len(self.dataset)), self.args.num_previews)
        views = SampleViews(self.dataset.samples, self.image_processor)
        batch = [views[index, False] for index in chosen]
        inputs = {
            name: torch.stack([view[name] for view in batch]).to(model.device)
            for name in ("pixel_values", "aux_pixel_values", *(["aux_kind"] if self.args.aux_kinds else []))
        }
        with torch.inference_mode(), self.autocast():
            saliency = model(**inputs).logits.float().sigmoid().cpu()
        latest = torch.stack([torch.from_numpy(self.labels.latest(index)) for index in chosen])[:, None]
        return model.to_unit_range(inputs["pixel_values"]).cpu(), latest, saliency

    def save(self, directory: Path) -> None:
        save_network(self.model, self.image_processor, directory)

    def end_epoch(self) -> None:
        self.labels.flush()


def _shrink(maps: torch.Tensor, side: int) -> torch.Tensor:
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, (side, side), mode="bilinear", antialias=True, align_corners=False)


def view_size(args: DetectorArguments) -> int:
    """The side at which images are read: larger than `size` where parts of them are to be seen in detail."""
    return round(args.size * ZOOM_DETAIL) if args.zoom_probability > 0 else args.size


def _with_stem(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of a backbone for the detector: of a ResNet, the stem's features as well."""
    if not isinstance(config, ResNetConfig):
        return config
    config = copy.deepcopy(config)
    config.out_features = ["stem", *config.out_features]
    return config


def _build_detector(args: DetectorArguments) -> tuple[UsodSdModel, UsodImageProcessor]:
    """A detector with pre-trained backbones and a fresh decoder, and its image processor."""
    backbone, image_processor = load_pretrained_backbone(args.backbone)
    aux_backbone, _ = load_pretrained_backbone(args.aux_backbone or args.backbone)
    set_seed(args.seed)
    config = UsodSdConfig(
        backbone_config=_with_stem(backbone.config),
        aux_backbone_config=_with_stem(aux_backbone.config),
        neck_channels=args.neck_channels,
        fusion_channels=args.fusion_channels,
        context_channels=args.context_channels,
        image_mean=list(image_processor.image_mean),
        image_std=list(image_processor.image_std),
        modality_informed=bool(args.aux_kinds),
    )
    model = UsodSdModel(config)
    model.backbone.load_state_dict(backbone.state_dict())
    model.aux_backbone.load_state_dict(aux_backbone.state_dict())
    return model, image_processor


def _adapt_detector(args: DetectorArguments, name: str) -> tuple[PeftModel, UsodImageProcessor]:
    """A trained detector with a task adapter on its global block, all else frozen, and its image processor. The adapter
    is a new one or, if `name` is an adapter's, that one."""
    begun = is_adapter(name)
    base_name = base_of(name) if begun else name
    base, image_processor = load(base_name, kind=UsodSdModel)
    set_seed(args.seed)
    base.requires_grad_(False)
    if begun:
        adapted = PeftModel.from_pretrained(base, checkpoint_source(name), is_trainable=True)
    else:
        adapted = get_peft_model(base, UsodAdapterConfig(init_weights=args.init_weights))
    adapted.active_peft_config.base_model_name_or_path = base_name
    return adapted, image_processor


def prepare_detector(args: DetectorArguments) -> tuple[UsodSdModel | PeftModel, UsodImageProcessor]:
    """What is to be trained (a new detector, a trained one, or an adapter of one) and its inputs' image processor.

    Raises:
        RunError, ConversionError: if a model or a backbone cannot be loaded.
    """
    model: UsodSdModel | PeftModel
    if args.adapt:
        model, image_processor = _adapt_detector(args, args.adapt)
    elif args.start_from:
        model, image_processor = load(args.start_from, kind=UsodSdModel)
        if args.aux_kinds:
            model.inform_of_aux_kinds()
    else:
        model, image_processor = _build_detector(args)
    if args.refine_maps:
        model.config.refine_maps = True
    return model, set_input_size(image_processor, args.size)


def fold_frozen(model: PeftModel, mixed_precision: str = "no") -> nn.Module:
    """An adapted detector of the same maps whose frozen part is at its cheapest: its batch norms folded away, and its
    backbones computed in `mixed_precision`, as Accelerate calls it. It stays on its device."""
    folded: Any = fold_batch_norms(model, maps_of_an_example, trained=True)
    detector = folded.get_base_model()
    for name in ("backbone", "aux_backbone"):
        setattr(detector, name, FrozenStream(FrozenBackbone(getattr(detector, name), mixed_precision)))
    return folded


def open_labels(
    args: DetectorArguments, samples: Sequence[Sample], files: Mapping[str, Path], directory: Path, progress: bool
) -> LabelStore:
    """The labels of a run, begun from the pseudo-labels in `files` (by the samples' ids), which are not touched.

    Raises:
        LabelError: naming a label that is missing or cannot be read.
    """

    def load(name: str):
        return read_label(files[name])

    return LabelStore.open_or_create(
        directory, [sample.id for sample in samples], (args.size, args.size), load, progress
    )


def train_detector(args: DetectorArguments) -> Path:
    """Runs stage 2 to the end; returns the folder of the trained model, or of the adapter.

    Raises:
        RunError, DataError, LabelError, FileNotFoundError, LoadingError, ConversionError: with what to do about it.
        KeyboardInterrupt: when asked to stop, once a checkpoint is written.
    """
    folders = list_run_samples(args.images, args.aux, args.aux_kinds)
    samples = join(folders)

    def build(run: RunFolder) -> DetectorStage:
        accelerator = run.accelerator
        model: Any
        model, image_processor = prepare_detector(args)
        readable = readable_samples(args, samples, accelerator.is_local_main_process)
        with accelerator.local_main_process_first():
            labels = open_labels(
                args, readable, label_files(args.labels, folders), run.labels, accelerator.is_main_process
            )
        equalize_labels(labels, accelerator)
        start = args.adapt or args.start_from or args.backbone
        accelerator.print(f"{len(readable)} images; {start}; {accelerator.num_processes} x {accelerator.device}.")
        model = model.to(accelerator.device)
        if args.adapt:
            model = fold_frozen(model, frozen_precision(args.mixed_precision, accelerator))
        model = speed_up_depthwise(synchronize_batch_norms(model)).to(memory_format=torch.channels_last)
        if args.batch_norm == "eval":
            freeze_statistics(model)
        if args.gradient_checkpointing:
            recompute_activations(model)
        return DetectorStage(args, model, image_processor, readable, labels, accelerator.autocast)

    return train_stage(args, samples, build, find_unused_parameters=True)
