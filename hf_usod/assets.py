"""What travels with the package beside its code: checkpoints, recipes, cards, results, example photos, the license.

The folders of the repository that people look for at its top (`scripts/recipes`, `model_cards`, `results`,
`space/examples`) stand in the package as links, which a wheel holds as folders.
"""

from collections.abc import Iterable
from pathlib import Path

from .constants import DEFAULT_MODEL
from .errors import AssetError

_PACKAGE = Path(__file__).parent
CHECKPOINTS = _PACKAGE / "checkpoints"
RECIPES = _PACKAGE / "recipes"
CARDS = _PACKAGE / "cards"
RESULTS = _PACKAGE / "results"
EXAMPLES = _PACKAGE / "examples"
LICENSE = _PACKAGE / "LICENSE"


def checkpoint_names(kind: str = "model") -> list[str]:
    """What is embedded in the package: names of `"model"`s, or of `"adapter"`s to load into one of them."""
    wanted = {"model": False, "adapter": True}[kind]
    folders = {config.parent for config in CHECKPOINTS.glob("*/*config.json")}
    return sorted(folder.name for folder in folders if is_adapter_folder(folder) == wanted)


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds an adapter, and not a whole model."""
    return (folder / "adapter_config.json").is_file() and not any(folder.glob("model*.safetensors"))


def checkpoint_path(name: str = DEFAULT_MODEL) -> Path:
    """The folder of an embedded model, for `from_pretrained` and `pipeline`, or of an adapter, for `load_adapter`.

    Raises:
        AssetError: a `ValueError`, if there is none of that name, listing those there are.
    """
    names = checkpoint_names("model") + checkpoint_names("adapter")
    if name not in names:
        raise AssetError(f"Nothing embedded is called {name!r}; there are: {_listed(names)}.")
    return CHECKPOINTS / name


def checkpoint_source(name: str) -> str:
    """For `from_pretrained`: the folder of an embedded model's or adapter's name; of any other name, the name."""
    return str(CHECKPOINTS / name) if name in checkpoint_names("model") + checkpoint_names("adapter") else name


def lasting_name(base: str) -> str:
    """What a saved adapter should call its base model by, to find it from whatever folder and machine: the name of an
    embedded model, the full path of a folder, and of anything else, such as a Hub id, what it is called already."""
    folder = Path(base)
    if folder.resolve().parent == CHECKPOINTS.resolve():
        return folder.resolve().name
    return str(folder.absolute()) if base not in checkpoint_names() and folder.is_dir() else base


def recipe_names() -> list[str]:
    """The recipes that the package holds, such as `usod-rgb-lite` and `tables/7`."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.glob("**/*.yaml"))


def recipe_path(name: str) -> Path:
    """The file of a recipe: one that exists, or one of `recipe_names`.

    Raises:
        AssetError: if it is neither, listing those there are.
    """
    if Path(name).is_file():
        return Path(name)
    if name in (names := recipe_names()):
        return RECIPES / f"{name}.yaml"
    raise AssetError(f"{name}: is no file, and no recipe of the package; there are: {_listed(names)}.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
