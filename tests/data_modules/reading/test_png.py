"""A PNG file is read whole, or refused: no single bit of it can flip without being seen."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from data_modules.errors import CorruptImageError
from data_modules.reading.io import read_image, read_mask

Make = Callable[..., bytes]

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 3, (9, 11))


def flipped(content: bytes, places: npt.NDArray[Any]) -> Iterator[bytes]:
    for place in places.tolist():
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)


def noise(*shape: int, bits: int) -> npt.NDArray[Any]:
    return RNG.integers(0, 2**bits, (9, 11, *shape))


@pytest.fixture
def files(make_png: Make) -> dict[str, bytes]:
    text = ((b"tEXt", b"Title\0a mask"),)
    palette = ((b"PLTE", bytes(range(1, 13))), (b"tRNS", b"\0"))
    return {
        "ids": make_png(PIXELS, before=text, after=text),
        "few bits": make_png(PIXELS, 2),
        "palette": make_png(PIXELS, 4, 3, before=palette),
        "interlaced": make_png(PIXELS, interlaced=True),
        "alpha": make_png(np.dstack([PIXELS, np.full(PIXELS.shape, 255)]), 8, 4),
        "colour": make_png(noise(3, bits=8), 8, 2, after=text),
        "deep grey": make_png(noise(bits=16), 16),
        "deep colour": make_png(noise(4, bits=16), 16, 6),
    }


@pytest.mark.parametrize(
    "kind",
    ["ids", "few bits", "palette", "interlaced", "alpha", "colour", "deep grey", "deep colour"],
)
def test_each_flipped_bit_is_refused_or_changes_no_pixel(
    tmp_path: Path, files: dict[str, bytes], kind: str
) -> None:
    content = files[kind]
    path = tmp_path / "x.png"
    read = read_image if "colour" in kind or "deep" in kind else read_mask
    path.write_bytes(content)
    whole, refused = read(path), 0
    bits = 8 * len(content)
    places = RNG.choice(bits, min(bits, 800), replace=False)
    for changed in flipped(content, places):
        try:
            np.testing.assert_array_equal(read(path, changed), whole)
        except CorruptImageError:
            refused += 1
    assert refused == len(places)  # none of these files has a byte that no checksum covers


def test_each_cut_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "x.png"
    for content in files.values():
        for length in range(1, len(content), 7):
            with pytest.raises(CorruptImageError):
                read_image(path, content[:length])
    with pytest.raises(CorruptImageError, match=r"x\.png: is truncated.*IEND"):
        read_mask(path, files["ids"][:-12])


def test_what_lies_behind_the_end_changes_nothing(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "x.png"
    np.testing.assert_array_equal(read_mask(path, files["ids"] + b"a note of a program"), PIXELS)


def test_the_stream_of_pixels_is_read_to_its_end(tmp_path: Path, make_png: Make) -> None:
    """Its checksums may all fit, and the pixels be too few, too many or broken."""
    rows = b"".join(b"\0" + bytes(row.tolist()) for row in PIXELS)
    whole = zlib.compress(rows)
    streams = {
        zlib.compress(rows[:-1]): "declares 11x9 pixels in 108 bytes, but holds 107",
        zlib.compress(rows * 2): "but holds more",
        whole[:-4]: "truncated or damaged",  # without the checksum of the stream
        whole[:-1] + bytes([whole[-1] ^ 1]): "cannot be decompressed.*incorrect data check",
        b"": "but holds 0",
    }
    path = tmp_path / "x.png"
    for stream, reason in streams.items():
        with pytest.raises(CorruptImageError, match=rf"x\.png: .*{reason}"):
            read_mask(path, make_png(PIXELS, stream=stream))
    np.testing.assert_array_equal(read_mask(path, make_png(PIXELS, stream=whole)), PIXELS)


def test_animations_are_refused(tmp_path: Path, make_png: Make) -> None:
    path = tmp_path / "x.png"
    control = struct.pack(">IIIIIHHBB", 0, 11, 9, 0, 0, 1, 10, 0, 0)
    for frames in (1, 2):
        before = ((b"acTL", struct.pack(">II", frames, 0)), (b"fcTL", control))
        content = make_png(PIXELS, before=before)
        if frames == 1:
            np.testing.assert_array_equal(read_mask(path, content), PIXELS)
            continue
        with pytest.raises(CorruptImageError, match=r"x\.png: holds 2 frames"):
            read_mask(path, content)
    frame = b"\0\0\0\1" + zlib.compress(b"")
    aside = make_png(
        PIXELS, before=((b"acTL", struct.pack(">II", 1, 0)),), after=((b"fdAT", frame),)
    )
    with pytest.raises(CorruptImageError, match="a picture and an animation"):
        read_image(path, aside)
