"""What can go wrong for a user: one base, so that the command line ends every such mistake in one line.

Each message names the file or argument, what was found, what was expected, and the way out.
"""

import difflib
from collections.abc import Iterable

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # of CUDA and MPS, and of CPUs


class UsodError(Exception):
    """A mistake of the user's or a fault of a file, told in words for the user."""


class CommandError(UsodError):
    """Options of a command that do not go together."""


class WrongArgumentsError(CommandError):
    """Arguments that are wrong by themselves, or do not go together: the exit status is 2, as of those that `argparse`
    refuses."""


class DataError(UsodError, ValueError):
    """Images, maps or masks that cannot be read or do not fit each other; names the files."""


class AssetError(UsodError, ValueError):
    """Something that the package does not hold; lists what it does."""


class LoadingError(UsodError, OSError):
    """A model or adapter that cannot be loaded."""


class ConversionError(UsodError, ValueError):
    """A checkpoint that does not have the layout it is converted from. Says which keys are wrong."""


class ExportError(UsodError, RuntimeError):
    """A model that cannot be exported, or whose export says something else. Says by how much."""


class MissingPackageError(UsodError, ModuleNotFoundError):
    """A package of an extra that is not installed; says what to install."""


class LabelError(UsodError, RuntimeError):
    """Pseudo-labels that cannot be made, read or kept."""


class PlanError(UsodError, ValueError):
    """Arguments of a training that are wrong, or do not go together; told before anything is trained."""


class RunError(UsodError, RuntimeError):
    """A training that cannot start or go on."""


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop by a signal, and has saved where it stands.

    Attributes:
        status: that of the process, as shells tell it: 130 after SIGINT (Ctrl-C), 143 after SIGTERM.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.status = 128 + signal


class ClipError(UsodError):
    """A clip that cannot be read, or not to its end; names the file."""


class OutputError(UsodError, OSError):
    """Results that cannot be written any more; says what is kept."""


class PublishError(UsodError):
    """Something that cannot be published."""


class TableError(UsodError, RuntimeError):
    """A table that cannot be made."""


def in_a_line(error: BaseException) -> str:
    """What an error of another library says, in one line; the name of its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(number: int, one: str, several: str | None = None) -> str:
    """`1 photo`, `2 photos`; `several` where that is not `one` and an s."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """What may have been meant by a name that is not known, if anything known comes near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the GPU or the machine, did not suffice, by what Python and torch raise then."""
    return isinstance(error, MemoryError) or any(phrase in str(error) for phrase in _OUT_OF_MEMORY)
