"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from meddiff.core.portable import with_paths, without_paths

TEMPORARY = ".meddiff-tmp"
"""Ends the name of a file that is being written; nobody else's files are called so."""


class _PythonFile(io.BufferedWriter):
    """A file that libraries write through Python alone.

    Where they find a descriptor, NumPy and Pillow write past Python, and then cannot say why that
    failed.
    """

    def fileno(self) -> int:
        """Raises io.UnsupportedOperation: see above."""
        raise io.UnsupportedOperation("fileno")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says which file an error of the system is about, where the system does not.

    Args:
        path: The file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary_of(path)):
            error.filename = str(path)
        raise


def temporary_of(path: Path) -> Path:
    """Where a file lies while it is written.

    In the same folder, because a rename is atomic only within one file system. The name is fixed,
    so that what a crash left behind is overwritten by the next try.
    """
    return path.with_name(f".{path.name}{TEMPORARY}")


@contextmanager
def atomic_write(path: Path, flush: bool = True) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only once it is whole and on the disk.

    Args:
        path: The final name; its folder is made where it is missing.
        flush: Whether to wait until the disk has it, which guards against the machine's crash and
            not only the program's.

    Raises:
        OSError: If it cannot be written, of `path`; what was there before is there still.
    """
    temporary = temporary_of(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = io.FileIO(temporary, "w")
        file = _PythonFile(raw)
        try:
            yield file
            file.flush()
            if flush:
                os.fsync(raw.fileno())
            file.close()
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                raw.close()  # not `file`, which would write what it holds and fail again
                temporary.unlink()
            raise


def append_lines(path: Path, text: str) -> None:
    """Adds whole lines to a file, all of them or none.

    A line that a crash cut short, so that no end of line follows it, is removed first.

    Args:
        path: The file; it and its folder are made where they are missing.
        text: The lines, each with its end.

    Raises:
        OSError: If they cannot be written, of `path`; the earlier lines are there still.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with io.FileIO(path, "a+") as file:
            whole = _end_of_last_line(file)
            file.truncate(whole)
            try:
                left = memoryview(text.encode())
                while left:
                    left = left[file.write(left) :]
            except BaseException:
                file.truncate(whole)
                if not whole:
                    path.unlink()
                raise


def _end_of_last_line(file: io.FileIO) -> int:
    """Where the last line that has an end does end, in bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read(1) in (b"", b"\n"):
        return size
    file.seek(0)
    return file.readall().rfind(b"\n") + 1


def remove_temporaries(folder: Path) -> None:
    """Removes what writes that were killed left below a folder; no process may write there."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        if path.is_file():
            path.unlink()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written under a temporary name and renamed.

    They hold no paths of this machine. Lightning's own writer holds a whole second copy of the
    checkpoint in memory and does not flush it to the disk before the rename.
    """

    def save_checkpoint(
        self,
        checkpoint: Mapping[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Writes `checkpoint` to `path`, whole or not at all.

        Raises:
            TypeError: If `storage_options` is given; there are none for a local file.
            OSError: If it cannot be written; an earlier one is there still.
        """
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO takes no storage_options")
        outside = sys.exception()  # where what failed is saved
        with atomic_write(Path(path)) as file:
            try:
                torch.save(without_paths(checkpoint, Path(path)), file)
            except RuntimeError as error:
                cause = error.__context__
                if cause is None or cause is outside:
                    raise
                # torch closes its archive after a failed write, and that is what it tells of.
                raise cause from None

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Reads a checkpoint, with the paths of its run where it lies now."""
        return with_paths(super().load_checkpoint(path, *args, **kwargs), Path(path))
