"""Packages that not everybody needs: what is missing is told with the line that installs it."""

import importlib
from types import ModuleType

from .errors import MissingPackageError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports a module of one of the package's extras (`pyproject.toml`).

    Args:
        module: its name, such as `"cv2"`.
        extra: what installs it, such as `"video"`.
        purpose: what needs it, as the subject of the message: `"Optical flow"`.

    Raises:
        MissingPackageError: a `ModuleNotFoundError`, if it is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there; something else is missing
        raise MissingPackageError(
            f'{purpose} needs the package {module.partition(".")[0]}: pip install "hf_usod[{extra}]".'
        ) from error
