"""The bytes of a checkpoint: whether they are whole, and what to say of those that are not."""

import pickle
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from meddiff.core.parts import fault_in_training, fault_in_weights

_LIGHTNING = "pytorch-lightning_version"


def why_unread(path: Path, error: Exception) -> str:
    """What to say of a file that `load_file` could not read."""
    text = str(error).strip()
    if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
        reason = _first_line_with(text, "Unsupported", "GLOBAL", "Weights only")
        return (
            f"refused, it is not a file of tensors and plain values ({reason}). "
            "Loading it could run code; there is no unsafe fallback. "
            "Use a checkpoint that meddiff wrote, or a state dict saved with torch.save"
        )
    reason = type(error).__name__ if not text else text.splitlines()[0]
    if isinstance(error, pickle.UnpicklingError):
        reason = "its bytes are those of no checkpoint"
    return f"cannot be read, it is damaged or cut short ({reason})"


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, or is an archive with one."""
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or zipfile.is_zipfile(path)


def load_file(path: Path, mapped: bool) -> Any:
    """What a file of tensors and plain values holds; no code in it is run.

    Args:
        path: The file.
        mapped: Whether tensors stay on the disk until they are used.

    Raises:
        ValueError: If a sum is another one. Torch raises what it likes for other bytes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        is_zip = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_zip)
    # Lightning's files have sums, those of others need not; torch compares none.
    if is_zip and isinstance(content, dict) and _LIGHTNING in content:
        state = path.stat()
        damaged = _damaged_part(path.absolute(), state.st_ino, state.st_size, state.st_mtime_ns)
        if damaged is not None:
            raise ValueError(f"the sum of {damaged} is another one")
    return content


@cache
def _damaged_part(path: Path, *state: int) -> str | None:
    """The first part of an archive whose sum is another one; read once while its file stays so."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def whole_sibling(path: Path) -> tuple[Path, int] | None:
    """The other one of a run's two checkpoints, and its step, where training can go on from it."""
    other = {"last.ckpt": "best.ckpt", "best.ckpt": "last.ckpt"}.get(path.name)
    if other is None or not path.with_name(other).is_file():
        return None
    try:
        content = load_file(path.with_name(other), mapped=True)
    except Exception:  # it is damaged too
        return None
    if not isinstance(content, dict) or fault_in_training(content) or fault_in_weights(content):
        return None
    return path.with_name(other), content["global_step"]


def _first_line_with(text: str, *words: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if any(word in line for word in words)), lines[0])
