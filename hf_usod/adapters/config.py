"""Configuration of the task adapter, and its place in PEFT."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.utils import PeftType

from .. import assets
from ..constants import INIT_WEIGHTS
from ..models.modeling_usod import check_safetensors, has_learned_scale

# Lower-cased and followed by "_", it is the prefix of the adapter's weights: transformers' `load_adapter` relies on it.
ADAPTER_TYPE = "USOD_ADAPTER"
ADAPTER_PREFIX = ADAPTER_TYPE.lower() + "_"


def _add_peft_type(name: str) -> None:
    """Adds a member to PEFT's enumeration of types, which has no door for other packages."""
    if name in PeftType.__members__:
        return
    member = str.__new__(PeftType, name)
    member._name_, member._value_, member._sort_order_ = name, name, len(PeftType)
    member.__objclass__ = PeftType
    type.__setattr__(PeftType, name, member)
    PeftType._member_map_[name] = PeftType._value2member_map_[name] = member
    PeftType._member_names_.append(name)


_add_peft_type(ADAPTER_TYPE)


@dataclass
class UsodAdapterConfig(PeftConfig):
    """
    Configuration of the task adapter: beside each target module T runs a trained module Ta of the same structure, and
    the model goes on with T(F) + Ta(F) (method: sections 2 and 5).
    """

    target_modules: list[str] | set[str] | str | None = field(
        default=None,
        metadata={
            "help": "Modules T, by name or as a regular expression; by default the deep projection of an SCE and the "
            "global block of an SD."
        },
    )
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to leave out."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Further modules to train and save as a whole."}
    )
    init_weights: str = field(
        default="random",
        metadata={
            "help": "'random': as a fresh module of its kind (the paper's). 'copy': as T. 'zero': as T, but times a "
            "learned scalar that starts at 0, so that the model starts exactly as it was."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType[ADAPTER_TYPE]
        if self.init_weights not in INIT_WEIGHTS:
            raise ValueError(f"`init_weights` must be one of {', '.join(INIT_WEIGHTS)}, got {self.init_weights!r}.")
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, *args: Any, **kwargs: Any) -> Any:
        """As in PEFT; but weights of a folder that are a pickle are not read, and a learned scale among them counts as
        `init_weights="zero"`, whatever is written.

        Raises:
            ValueError: naming the folder.
        """
        check_safetensors(pretrained_model_name_or_path, "adapter_model", **kwargs)
        config = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if has_learned_scale(pretrained_model_name_or_path, **kwargs):
            config.init_weights = "zero"
        return config

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """As in PEFT; but the base is named so that it is found again (see `lasting_name`). An embedded one, whose name
        transformers would look for on the Hub, has its configuration and image processor written beside the adapter's,
        so that the folder is one for `AutoModel` and `pipeline`."""
        base: str | None = vars(self)["base_model_name_or_path"]
        if base:
            self.base_model_name_or_path = base = assets.lasting_name(base)
        super().save_pretrained(save_directory, **kwargs)
        if base in assets.checkpoint_names():
            copy_base_files(base, Path(save_directory))


def copy_base_files(base: str, folder: Path) -> None:
    """Writes what the Auto classes want of an embedded model, but for its weights, into an adapter's folder."""
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copyfile(assets.CHECKPOINTS / base / name, folder / name)
