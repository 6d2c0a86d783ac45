"""Writers of small files, from the texts of the standards: what Pillow does not write too."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

MakePng = Callable[..., bytes]
MakeTiff = Callable[..., bytes]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _packed(row: npt.NDArray[Any], bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    text = "".join(format(int(sample), f"0{bits}b") for sample in row.ravel())
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.fixture(scope="session")
def make_png() -> MakePng:
    """The bytes of a PNG file (ISO/IEC 15948) of samples (H, W) or (H, W, C)."""

    def make(
        samples: npt.NDArray[Any],
        bits: int = 8,
        colour: int = 0,
        *,
        before: tuple[tuple[bytes, bytes], ...] = (),
        after: tuple[tuple[bytes, bytes], ...] = (),
        size: tuple[int, int] | None = None,
        stream: bytes | None = None,
        interlaced: bool = False,
    ) -> bytes:
        height, width = samples.shape[:2]
        passes = [(0, 0, 1, 1)]
        if interlaced:
            passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
            passes += [(1, 0, 2, 2), (0, 1, 1, 2)]
        raw = b"".join(
            b"\0" + _packed(row, bits)
            for x, y, across, down in passes
            for row in samples[y::down, x::across]
            if row.size
        )
        width, height = size or (width, height)
        header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
        pixels = zlib.compress(raw) if stream is None else stream
        chunks = [(b"IHDR", header), *before, (b"IDAT", pixels), *after, (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)

    return make


@pytest.fixture(scope="session")
def make_tiff() -> MakeTiff:
    """The bytes of an uncompressed TIFF file (TIFF 6.0) of samples (H, W) or (H, W, C).

    The number of bits is that of the samples' type. `tags` are short ones, which take the place of
    those that follow from the samples; None leaves one out.
    """

    def make(
        samples: npt.NDArray[Any],
        photometric: int = 1,
        order: str = "<",
        *,
        planes: int = 1,
        tags: dict[int, list[int] | None] | None = None,
    ) -> bytes:
        height, width = samples.shape[:2]
        depth = 1 if samples.ndim == 2 else samples.shape[2]
        parts = [samples] if planes == 1 else list(np.moveaxis(samples, -1, 0))
        blobs = [part.astype(f"{order}{part.dtype.str[1:]}").tobytes() for part in parts]
        starts = [8 + sum(map(len, blobs[:k])) for k in range(len(blobs))]
        kinds = {"u": 1, "i": 2, "f": 3}
        fields: dict[int, list[int] | None] = {
            256: [width],
            257: [height],
            258: [samples.dtype.itemsize * 8] * depth,
            259: [1],
            262: [photometric],
            277: [depth],
            278: [height],
            284: [planes],
            339: [kinds[samples.dtype.kind]] * depth,
        }
        fields |= tags or {}
        longs = {273: starts, 279: [len(blob) for blob in blobs]}
        entries = [(tag, 3, "H", values) for tag, values in fields.items() if values is not None]
        entries += [(tag, 4, "I", values) for tag, values in longs.items()]
        place = 8 + sum(map(len, blobs))
        behind = place + 2 + 12 * len(entries) + 4
        table, extra = struct.pack(order + "H", len(entries)), b""
        for tag, kind, letter, values in sorted(entries):
            content = struct.pack(f"{order}{len(values)}{letter}", *values)
            if len(content) > 4:
                where = struct.pack(order + "I", behind + len(extra))
                extra, content = extra + content, where
            table += struct.pack(order + "HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
        magic = b"II*\0" if order == "<" else b"MM\0*"
        head = magic + struct.pack(order + "I", place)
        return head + b"".join(blobs) + table + b"\0" * 4 + extra

    return make
