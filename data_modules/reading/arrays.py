"""Masks in NumPy's own files."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from data_modules.errors import CorruptImageError
from data_modules.reading.masks import Numbers, class_ids
from data_modules.reading.memory import lacking_memory

_COPIES = 9  # bytes of eight for each of one, and the array
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy_mask(path: Path, data: bytes) -> Numbers:
    """Reads a mask from an npy file, whose numbers have no checksum.

    Args:
        path: Named in errors.
        data: The bytes of the file.

    Returns:
        (H, W), class ids.

    Raises:
        CorruptImageError: If it is no such file, its header declares more or less than it holds, or
            it holds no class ids.
    """
    shape, dtype, held = _header(path, data)
    if len(shape) != 2:
        raise CorruptImageError(path, f"has the shape {shape}; expected (height, width)")
    if min(shape) < 1:
        raise CorruptImageError(path, f"is empty: its shape is {shape}")
    declared = math.prod(shape) * dtype.itemsize
    if declared != held:
        raise CorruptImageError(
            path,
            f"declares {shape[0]}x{shape[1]} numbers in {declared} bytes, but holds {held}: it is "
            "truncated, damaged, or several arrays",
        )
    if lack := lacking_memory(_COPIES * declared):
        raise CorruptImageError(path, f"has the shape {shape}, which {lack}")
    try:
        return class_ids(np.load(io.BytesIO(data), allow_pickle=False))
    except ValueError as error:
        raise CorruptImageError(path, str(error)) from error


def _header(path: Path, data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and bytes behind the header."""
    stream = io.BytesIO(data)
    try:
        shape, _, dtype = _HEADERS[npy.read_magic(stream)](stream)
    except Exception as error:  # the header is parsed as Python, and fails in every way
        text = f"cannot be read as a NumPy array ({error or type(error).__name__})"
        raise CorruptImageError(path, text) from error
    if dtype.hasobject:
        raise CorruptImageError(path, "cannot be read as a NumPy array (it holds Python objects)")
    return shape, dtype, len(data) - stream.tell()
