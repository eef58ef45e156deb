"""Which file belongs to which: by one rule, for maps, masks and figures.

A file belongs to what has its path without suffix, `bear/01.jpg` to `bear/01.png`. Names that are not matched so are
compared without their ending, if it is one of `ENDINGS`: `a0_mask.png`, `a0-gt.png` and `a0_saliency.png`, as `hf-usod
predict --save` writes it, are all of `a0`. If that leaves two files for one name, it is an error.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import DataError

ENDINGS = (
    *("mask", "masks", "gt", "label", "labels", "seg", "segmentation", "groundtruth", "ground_truth"),
    *("saliency", "sal", "map", "smap", "pred", "prediction", "out", "output", "cutout", "matte", "alpha"),
)
_ENDING = re.compile(rf"[_\-. ]({'|'.join(sorted(ENDINGS, key=len, reverse=True))})$", re.IGNORECASE)
_SHOWN = 10


def base_name(name: str) -> str:
    """A path without suffix, also without its ending: `b/a0_mask` -> `b/a0`."""
    return _ENDING.sub("", name)


def pair(names: Iterable[str], files: Mapping[str, Path]) -> dict[str, Path]:
    """The files that belong to names; names without one are left out.

    Args:
        names: paths without suffix.
        files: by their own.

    Raises:
        DataError: naming the files, if it is not clear which one belongs to a name.
    """
    names = list(names)
    pairs = {name: files[name] for name in names if name in files}
    rest: dict[str, list[Path]] = {}
    for key, path in files.items():
        if key not in pairs:
            rest.setdefault(base_name(key), []).append(path)
    claimed: dict[Path, str] = {}
    for name in names:
        if name in pairs:
            continue
        candidates = rest.get(base_name(name), [])
        if len(candidates) > 1:
            raise DataError(
                f"{', '.join(map(str, candidates[:4]))}: each may be the one of {name}; which is meant? Leave one in "
                "the folder."
            )
        for path in candidates:
            if path in claimed:
                raise DataError(f"{path}: is it of {claimed[path]} or of {name}? Name it as the one it is of.")
            claimed[path] = name
            pairs[name] = path
    return pairs


def need(names: Iterable[str], pairs: Mapping[str, Path], folder: Path, kind: str, files: Iterable[str]) -> None:
    """Checks that every name has its file.

    Args:
        kind: what the files are: "map", "ground truth".
        files: names that there are, to be told if they are not those that are looked for.

    Raises:
        FileNotFoundError: naming those without.
    """
    names = list(names)
    if missing := [name for name in names if name not in pairs]:
        others = [name for name in files if name not in names]
        there = f" There are {shorten(others)}." if others else ""
        raise FileNotFoundError(
            f"{folder}: no {kind} for {len(missing)} of {len(names)}: {shorten(missing)} (matched by path without "
            f"suffix).{there}"
        )


def shorten(names: Iterable[str]) -> str:
    """The first names of a list, for a message."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
