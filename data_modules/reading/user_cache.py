"""The user's cache directory, which keeps what was learnt of data whose root may be read-only.

Without a writable home nothing is kept and it is learnt again for each run; nothing else is lost.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """The folder of this project; it need not be there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "meddiff"


def keep(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole, or leaves what was there where that cannot be done.

    Args:
        file: In `cache_folder`.
        write: Gets the file, open for writing.
    """
    with contextlib.suppress(OSError):
        write_whole(file, write)


def write_whole(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all.

    Args:
        file: What is there is replaced; its folder is made where it is missing.
        write: Gets the file, open for writing.

    Raises:
        OSError: If it cannot be written.
    """
    temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            write(out)
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
