"""What the system refuses, a full disk above all: the file, the cause and what to do, in words."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

_AGAIN = "then give the command again, with --resume auto for a fit"
_ELSEWHERE = "or write elsewhere: --run_root DIR for runs"
_NOT_THERE = (
    "the disk or its server does not answer as it should",
    "Look at `dmesg` and `mount`, " + _AGAIN,
)
_IN_THE_WAY = (
    "a file is where a folder is needed, or the other way round",
    "Move what is in the way, or give another name",
)
_NOT_ALLOWED = (
    "permission is denied",
    f"`ls -ld {{folder}}` says whose it is; ask for the right to write there, {_ELSEWHERE}",
)
_FILES_OPEN = (
    "too many files are open",
    "Raise the limit (ulimit -n 65536) or lower data.init_args.num_workers, " + _AGAIN,
)

_TOLD = {
    errno.ENOSPC: (
        "no space is left on the disk",
        f"Free some (`df -h {{folder}}`, and `df -i` where many small files fill it), {_AGAIN}",
    ),
    errno.EDQUOT: (
        "the quota of the disk is used up",
        f"Remove files of yours (`quota -s` shows how much you may have), {_AGAIN}",
    ),
    errno.EFBIG: (
        "the file is larger than is allowed here",
        f"Raise the limit (`ulimit -f unlimited`), or use another file system, {_AGAIN}",
    ),
    errno.EROFS: (
        "the file system is read-only",
        f"Have it mounted for writing, {_AGAIN}; {_ELSEWHERE}",
    ),
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENAMETOOLONG: ("the name is too long", "Give a shorter one, or a shorter --run_root"),
    errno.EIO: _NOT_THERE,
    errno.ESTALE: _NOT_THERE,
    errno.ENODEV: _NOT_THERE,
    errno.ENXIO: _NOT_THERE,
    errno.ENOTCONN: _NOT_THERE,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ELOOP: ("links there lead round in a circle", "Remove one of them"),
    errno.EBUSY: ("it is in use", "End what uses it (`fuser -v {file}`), " + _AGAIN),
    errno.EMFILE: _FILES_OPEN,
    errno.ENFILE: _FILES_OPEN,
    errno.ENOMEM: (
        "the machine has no memory left",
        f"Lower data.init_args.num_workers or data.init_args.batch_size, {_AGAIN}",
    ),
}

_OF_A_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
# Without a file the others may be of a socket or a process, and then they are a bug.
_ALWAYS = _OF_A_DISK | {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_SHARED_MEMORY = (
    "the shared memory of this machine is full, through which the data loader's workers hand over "
    "their batches\nMake it larger (`df -h /dev/shm`; a container: --shm-size=8g), or lower "
    "data.init_args.num_workers or data.init_args.batch_size (num_workers: 0 needs none)"
)
_WORKER_KILLED = (
    "a worker of the data loader was killed, as the system does where memory is used up\n"
    "Lower data.init_args.num_workers or data.init_args.batch_size, or ask the scheduler for more "
    "memory"
)

_NO_TEMPORARY = (
    "no folder for temporary files can be written to\n"
    f"Free some space there (`df -h /tmp`), or name another: TMPDIR=DIR; {_AGAIN}"
)
_OTHER_PROCESS_ENDED = (
    "another process of this run ended, so that this one cannot go on; the other one says why"
)
_LOST_CONNECTION = re.compile(
    r"Connection (?:closed|reset) by peer|remote process exited|connection was (?:likely )?closed"
)

_NUMBER = re.compile(r"\[Errno (\d+)\] [^:\n]*(?:: '([^'\n]*)')?")


def told(error: BaseException) -> str | None:
    """The cause of a system's error and what to do about it; None where it is of another kind."""
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, RuntimeError):
        return _of_processes(str(error))
    return None


def name_place(error: BaseException | None, folder: Path) -> None:
    """Says where a disk's error is that a library raised without the name of its file."""
    while error is not None:
        if isinstance(error, OSError) and error.filename is None and error.errno in _OF_A_DISK:
            error.filename = str(folder)
        error = error.__cause__


def _of_system(error: OSError) -> str | None:
    if "No usable temporary directory" in str(error):
        return _NO_TEMPORARY
    number, name = error.errno, error.filename
    if number is None:  # a data loader's worker sends its error as text
        found = list(_NUMBER.finditer(str(error)))
        if not found or "DataLoader worker" not in str(error):
            return None
        number, name = int(found[-1][1]), found[-1][2]
    if number not in _TOLD or (name is None and number not in _ALWAYS):
        return None
    cause, remedy = _TOLD[number]
    file = _text(name)
    folder = "." if file is None else _existing(Path(file))
    remedy = remedy.format(file=file, folder=folder)
    return f"{'' if file is None else f'{_short(file)}: '}{cause} ({os.strerror(number)})\n{remedy}"


def _of_processes(text: str) -> str | None:
    """What torch says where workers lack something, or another process of the run is gone."""
    if "Bus error" in text or re.search(r"</torch_\w+>: No space left", text):
        return _SHARED_MEMORY
    if "Too many open files" in text or "received 0 items of ancdata" in text:
        cause, remedy = _FILES_OPEN
        return f"{cause}\n{remedy}"
    if _LOST_CONNECTION.search(text):
        return _OTHER_PROCESS_ENDED
    return _WORKER_KILLED if "DataLoader worker" in text and "Killed" in text else None


def _text(name: object) -> str | None:
    """The name in an error, which may be in bytes, or the number of an open file."""
    return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else None


def _short(file: str) -> str:
    """A path as it is, or its two ends where it is too long for a line."""
    return file if len(file) <= 400 else f"{file[:200]} ... {file[-100:]}"


def _existing(path: Path) -> str:
    """The nearest folder to a file that is there."""
    near = (str(folder) for folder in (path, *path.parents))
    return next((folder for folder in near if os.path.isdir(folder)), ".")
