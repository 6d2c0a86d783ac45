"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from meddiff.core.portable import with_paths, without_paths


@contextmanager
def atomic_write(path: Path, flush: bool = True) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only once it is whole and on the disk.

    The temporary file lies in the same folder, because a rename is atomic only within one file
    system. Its name is fixed, so that what a crash left behind is overwritten by the next try.

    Args:
        path: The final name; its folder is made where it is missing.
        flush: Whether to wait until the disk has it, which guards against the machine's crash and
            not only the program's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
        """
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO takes no storage_options")
        with atomic_write(Path(path)) as file:
            torch.save(without_paths(checkpoint, Path(path)), file)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Reads a checkpoint, with the paths of its run where it lies now."""
        return with_paths(super().load_checkpoint(path, *args, **kwargs), Path(path))
