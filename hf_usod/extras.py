"""Packages that not everybody needs: what is missing is told with the line that installs it."""

import importlib
from types import ModuleType

from .errors import MissingPackageError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports a module of one of the package's extras (`pyproject.toml`).

    Args:
        module: a top-level one, such as `"cv2"`.
        extra: what installs it, such as `"video"`.
        purpose: what needs it, as the subject of the message: `"Optical flow"`.

    Raises:
        MissingPackageError: a `ModuleNotFoundError`, if it is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise  # it is there; something else is missing
        package = module.replace("_", "-")
        raise MissingPackageError(f'{purpose} needs the package {package}: pip install "hf_usod[{extra}]".') from error
