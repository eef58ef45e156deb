"""What the salient object detection models share: their output, their loss, their resizing, their base class.

A2S-v3: https://arxiv.org/abs/2404.14759
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, cached_file, is_peft_available

_PLACES = ("cache_dir", "local_files_only", "revision", "subfolder", "token")  # options that say where in the Hub


@dataclass
class SideLogits(ModelOutput):
    """
    What a detector says before its two streams are fused. A `ModelOutput`, because pipelines take batches of those
    apart, and of tuples they do not.

    Args:
        rgb, aux (`torch.FloatTensor` of shape `(batch_size, 1, height / 4, width / 4)`):
            Logits of the decoders led by either stream.
        context (`torch.FloatTensor` of shape `(batch_size, 1, height / 32, width / 32)`):
            Logits of the global block.
    """

    rgb: torch.Tensor | None = None
    aux: torch.Tensor | None = None
    context: torch.Tensor | None = None


@dataclass
class SaliencyOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*, with `labels`):
            See `forward` of the model.
        logits (`torch.FloatTensor` of shape `(batch_size, 1, height, width)`):
            Saliency before the sigmoid, at the input's size.
        side_logits (`SideLogits`, *optional*):
            Logits of side outputs, for models that have them.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, with `output_hidden_states=True`):
            The feature maps of the backbone, of a detector's RGB stream, as they leave it: at strides 4, 8, 16 and 32,
            before them those of the stem (stride 4) where it yields them.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    side_logits: SideLogits | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


def resize(maps: torch.Tensor, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    """Bilinear, corners aligned, as within the method's networks: `(B, C, H, W)` -> `(B, C, *size)`."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def to_unit_range(pixel_values: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Normalized images `(B, 3, H, W)` as RGB in [0, 1]."""
    scale, shift = (pixel_values.new_tensor(values).view(3, 1, 1) for values in (std, mean))
    return pixel_values * scale + shift


def overlap_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """L_iou: mean over the batch of 1 - sum(SG) / (sum(S + G - SG) + 1e-7) (method: section 6).

    Args:
        logits: `(B, 1, h, w)`; S is their sigmoid. Resized to the labels (bilinear, align_corners=True).
        labels: `(B, H, W)` or `(B, 1, H, W)`; G is 1 where they are above 0.5.

    Raises:
        ValueError: for labels of another shape.
    """
    target = labels[:, None] if labels.ndim == 3 else labels
    if target.ndim != 4 or target.shape[:2] != (len(logits), 1):
        raise ValueError(f"`labels` are {tuple(labels.shape)}, expected ({len(logits)}, height, width).")
    saliency, target = resize(logits.float(), target.shape[-2:]).sigmoid(), (target > 0.5).float()
    overlap = (saliency * target).sum(dim=(1, 2, 3))
    union = (saliency + target - saliency * target).sum(dim=(1, 2, 3))
    return (1 - overlap / (union + 1e-7)).mean()


def check_finite(weights: Iterable[tuple[str, torch.Tensor]], source: object) -> None:
    """Raises a `ValueError` if weights or statistics of `source` are NaN or infinite."""
    broken = sorted(
        name
        for name, tensor in weights
        if tensor.is_floating_point() and tensor.device.type != "meta" and not tensor.isfinite().all()
    )
    if broken:
        listed = ", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        raise ValueError(f"{source}: weights are NaN or infinite: {listed}. Take an earlier checkpoint of it.")


def check_complete(missing: Iterable[str], source: object) -> None:
    """Raises a `ValueError` if weights of `source` are missing; but for `num_batches_tracked`, which nothing uses."""
    if not (names := sorted(name for name in missing if not name.endswith("num_batches_tracked"))):
        return
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    message = f"{source}: lacks weights of its configuration: {listed}."
    if any("global_info" in name and "output." in name for name in names):
        message += (
            " It may have been saved with the columns of the global block in another order, by a version before 0.2. "
            "`hf-usod convert FOLDER --output NEW` brings it into today's."
        )
    raise ValueError(message)


def check_safetensors(source: Any, stem: str, **options: Any) -> None:
    """Raises a `ValueError` if the only weights of a folder, or of a repository of the Hub, are pickles, which are not
    read.

    Args:
        options: of `from_pretrained`, of which those count that say where in the Hub or its cache.
    """
    folder = Path(source) if isinstance(source, str | Path) else None
    if folder is None:
        return
    if folder.is_dir():
        pickles = [path.name for path in sorted(folder.glob(f"*{stem}*.bin"))]
        is_safe = any(folder.glob(f"*{stem}*.safetensors"))
    else:
        places = _places(options)
        is_safe = _fetched(source, f"{stem}.safetensors", places) is not None
        pickles = [] if is_safe or _fetched(source, f"{stem}.bin", places) is None else [f"{stem}.bin"]
    if pickles and not is_safe:
        raise ValueError(
            f"{source}: its weights are in {pickles[0]}, a pickle, which can run code and is not read. Save them "
            f"as safetensors (`save_pretrained` does)."
        )


def _places(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options of `from_pretrained` those that say where in the Hub."""
    return {name: options[name] for name in _PLACES if options.get(name) is not None}


def _fetched(repository: Any, name: str, places: dict[str, Any]) -> str | None:
    """Where the cache has a file of a repository of the Hub, if that has it."""
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors", "gated_repo")}
    try:
        return cached_file(str(repository), name, **quiet, **places)
    except OSError:  # no repository of this name, which the loading itself will say
        return None


def has_learned_scale(adapter: Any, **options: Any) -> bool:
    """Whether the weights of an adapter, in a folder or a repository of the Hub, hold the scale of those that started
    at zero, whatever its configuration says.

    Args:
        options: see `check_safetensors`.
    """
    if not isinstance(adapter, str | Path):
        return False
    places = _places(options)
    name = "adapter_model.safetensors"
    local = Path(adapter, places.get("subfolder", ""), name)
    weights = local if Path(adapter).is_dir() else _fetched(adapter, name, places)
    if weights is None or not Path(weights).is_file():
        return False
    try:
        with safe_open(weights, framework="pt") as file:
            return any("usod_adapter_scales" in key for key in file.keys())  # noqa: SIM118 (no dictionary)
    except SafetensorError:  # which the loading itself will say
        return False


@contextmanager
def _weights_of(source: Any) -> Iterator[None]:
    """Has an error of the files that weights are read from name them."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{source}: its weights are damaged or cut off ({error}). Copy them again.") from error


def _adapted_base(source: Any, places: dict[str, Any]) -> str | None:
    """What an adapter calls its base: that in a folder that holds no model of its own, or in a repository of the Hub,
    where transformers takes every adapter for one of another model."""
    if not isinstance(source, str | Path):
        return None
    if Path(source).is_dir():
        config: str | Path | None = Path(source) / "adapter_config.json"
        if any(Path(source).glob("model*.safetensors")):
            return None
    else:
        config = _fetched(source, "adapter_config.json", places)
    if config is None or not Path(config).is_file():
        return None
    try:
        base = json.loads(Path(config).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{config}: is no configuration of an adapter ({error}).") from error
    if not isinstance(base, str) or not base:
        raise ValueError(f"{config}: does not name its base model. Load that, and give the adapter to `load_adapter`.")
    return base


class UsodPreTrainedModel(PreTrainedModel):
    _auto_class = "AutoModel"  # what is saved carries its code
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    # Where a model is, by what an adapter calls its base; set by whoever has models of their own
    locate_base: ClassVar[Callable[[str], str]] = staticmethod(str)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """As in transformers; but weights that are not all there, or not all finite, are an error, and not a model that
        is random in part or says NaN. An adapter, in a folder or on the Hub, gives its base model, with it. Pickles are
        not read.

        Raises:
            ValueError: naming what is missing, unless `ignore_mismatched_sizes` or `state_dict` says that it is meant;
                naming what is NaN or infinite; naming the folder, if its weights are damaged or a pickle.
        """
        source, adapter_kwargs = pretrained_model_name_or_path, dict(kwargs.pop("adapter_kwargs", None) or {})
        adapter = adapter_kwargs.pop("_adapter_model_path", None)  # which `AutoModel` has found, and `source` its base
        places = _places(kwargs)
        if base := _adapted_base(source, places):
            adapter, source, adapter_kwargs = source, cls.locate_base(base), places | adapter_kwargs
            for own in ("revision", "subfolder"):  # the adapter's, and not its base's
                kwargs.pop(own, None)
        elif isinstance(source, str) and not Path(source).is_dir():
            source = cls.locate_base(source)
        if adapter == source:  # a model that has an adapter beside it
            adapter, kwargs["adapter_kwargs"] = None, adapter_kwargs
        wanted = kwargs.pop("output_loading_info", False)
        meant = bool(kwargs.get("ignore_mismatched_sizes")) or kwargs.get("state_dict") is not None
        if kwargs.get("use_safetensors") is None:
            kwargs["use_safetensors"] = True
        if isinstance(source, str | Path) and Path(source).is_dir():  # of the Hub, `use_safetensors` sees to it
            check_safetensors(source, "model")
        with _weights_of(source):
            model, loading = super().from_pretrained(source, *model_args, output_loading_info=True, **kwargs)
        if not meant:
            check_complete(loading["missing_keys"], source)
        check_finite(model.state_dict().items(), source)
        if adapter is not None:
            model.load_adapter(str(adapter), kwargs.get("adapter_name"), adapter_kwargs=adapter_kwargs)
            model.eval()
        return (model, loading) if wanted else model

    def load_adapter(self, peft_model_id: str | None = None, adapter_name: str | None = None, **kwargs: Any) -> Any:
        """As in transformers; but an adapter whose weights are not all there, not all finite, or more than its
        configuration says, is an error.

        Raises:
            ValueError: naming the weights.
        """
        options = kwargs | (kwargs.get("adapter_kwargs") or {})
        check_safetensors(peft_model_id, "adapter_model", **options)
        is_given = kwargs.get("peft_config") is not None
        if is_peft_available() and not is_given and has_learned_scale(peft_model_id, **options):
            from peft import PeftConfig

            places = _places(options)
            config = PeftConfig.from_pretrained(peft_model_id, **places)
            config.init_weights = "zero"  # which a configuration may have lost
            kwargs |= {"peft_config": config, "download_kwargs": places}
        with _weights_of(peft_model_id):
            loading = super().load_adapter(peft_model_id, adapter_name, **kwargs)
        name = adapter_name or "default"
        # Those of adapters that are loaded already count as missing too
        check_complete((key for key in loading.missing_keys if name in key.split(".")), peft_model_id)
        if unexpected := sorted(loading.unexpected_keys):
            raise ValueError(
                f"{peft_model_id}: has weights of which its adapter_config.json says nothing: {unexpected[0]}."
            )
        own = ((key, tensor) for key, tensor in self.state_dict().items() if name in key.split("."))
        check_finite(own, peft_model_id)
        return loading


__all__ = ["SaliencyOutput", "SideLogits", "UsodPreTrainedModel"]
