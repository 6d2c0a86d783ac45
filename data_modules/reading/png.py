"""Whether a PNG file is whole.

Pillow reads as far as the pixels go: what is damaged behind them, and some of what is damaged in
them, it does not see. Here every checksum is compared and the stream of pixels is read to its end.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a pixel, by colour type
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = (  # first column and row, distance of columns and of rows of each pass
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PIECE = 2**20  # bytes that are decompressed at a time, so that a bomb takes no memory


@dataclass(frozen=True)
class PngHeader:
    """What the header of a PNG file says.

    Attributes:
        width: Pixels.
        height: Pixels.
        bits: Of a sample: 1, 2, 4, 8 or 16.
        samples: Of a pixel.
        passes: Where each pass over the picture starts, and its distances.
    """

    width: int
    height: int
    bits: int
    samples: int
    passes: tuple[tuple[int, int, int, int], ...]

    @property
    def size(self) -> int:
        """Bytes of the pixels before compression, with one a row for its filter."""
        total = 0
        for column, row, across, down in self.passes:
            width = -(-(self.width - column) // across)
            height = -(-(self.height - row) // down)
            if width > 0 and height > 0:
                total += height * (1 + -(-width * self.bits * self.samples // 8))
        return total


def check_png(data: bytes) -> PngHeader:
    """Reads a PNG file chunk by chunk.

    Args:
        data: The bytes of the file.

    Returns:
        Its header.

    Raises:
        ValueError: If a checksum does not fit, the file ends early, its pixels are more or fewer
            than its header says, or it is animated; says so in words that follow a file's name.
    """
    header: PngHeader | None = None
    pixels: list[memoryview] = []
    for kind, content in _chunks(data):
        if header is None:
            header = _header(kind, content)
        elif kind == b"acTL" and len(content) == 8:
            frames = struct.unpack_from(">I", content)[0]
            if frames > 1:
                raise ValueError(f"holds {frames} frames; save one image a file")
        elif kind == b"fdAT":  # a frame besides the picture that a plain reader shows
            raise ValueError("holds a picture and an animation; save one image a file")
        elif kind == b"IDAT":
            pixels.append(content)
    if header is None:
        raise ValueError("is truncated: it ends without a header (IHDR)")
    _check_pixels(header, pixels)
    return header


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each chunk up to IEND, whose checksums fit."""
    view, place = memoryview(data), len(SIGNATURE)
    while True:
        if place + 12 > len(data):
            raise ValueError("is truncated: it ends without its last chunk (IEND)")
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            raise ValueError(
                f"is truncated or damaged: its chunk {_name(kind)} declares {length} bytes, "
                f"{len(data) - place - 12} are left"
            )
        if zlib.crc32(view[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError(
                f"is damaged: the checksum of its chunk {_name(kind)} at byte {place} does not fit"
            )
        if kind == b"IEND":
            return
        yield kind, view[place + 8 : end]
        place = end + 4


def _name(kind: bytes) -> str:
    return kind.decode("ascii", "backslashreplace")


def _header(kind: bytes, content: memoryview) -> PngHeader:
    if kind != b"IHDR" or len(content) != 13:
        raise ValueError("is damaged: it does not begin with a header (IHDR)")
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content)
    if not (width and height) or colour not in _SAMPLES or bits not in (1, 2, 4, 8, 16):
        raise ValueError(
            f"has a header that PNG does not know: {width}x{height} pixels, {bits} bits, colour "
            f"type {colour}"
        )
    return PngHeader(width, height, bits, _SAMPLES[colour], _ADAM7 if interlaced else _WHOLE)


def _check_pixels(header: PngHeader, pixels: list[memoryview]) -> None:
    stream, count = zlib.decompressobj(), 0
    try:
        for piece in pixels:
            rest: bytes | memoryview = piece
            while rest and count <= header.size:
                count += len(stream.decompress(rest, _PIECE))
                rest = stream.unconsumed_tail
        if count <= header.size:
            count += len(stream.flush())
    except zlib.error as error:
        raise ValueError(f"is damaged: its pixels cannot be decompressed ({error})") from error
    if count != header.size or not stream.eof:
        held = "more" if count > header.size else f"{count}"
        raise ValueError(
            f"declares {header.width}x{header.height} pixels in {header.size} bytes, but holds "
            f"{held}: it is truncated or damaged"
        )
