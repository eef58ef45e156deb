"""Keeping two trainings out of one folder, also from two machines."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunError

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # what file systems say that have none


def is_empty(folder: Path) -> bool:
    """Whether a folder does not exist, or holds nothing but a lock that is left."""
    return not folder.exists() or all(path.name == LOCK_FILE for path in folder.iterdir())


@contextmanager
def lock_folder(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Keeps other processes that call this from a folder, which is made if it does not exist, on this machine and, on
    file systems that share locks (NFS does), on others. The lock ends with the process, however that ends. Without
    effect where the system, or the file system, has no locks.

    It is a lock on a file, not on the folder: NFS locks only what is open for writing.

    Args:
        wanted: False for the processes of a run that do not keep its folder.

    Raises:
        RunError: if another process is at work in the folder; names it.
    """
    if fcntl is None or not wanted:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip()
            raise RunError(
                f"{folder}: another process is training there{f' ({holder})' if holder else ''}. Wait for it, or "
                "choose another folder."
            ) from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(handle)
