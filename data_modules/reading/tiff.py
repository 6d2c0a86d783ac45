"""What the tags of a TIFF file say of its pixels, and what of that Pillow would read wrongly."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from PIL.TiffImagePlugin import ImageFileDirectory_v2

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _PLANES, _COLOUR_MAP, _EXTRA, _FORMAT, _ORIENTATION = 277, 284, 320, 338, 339, 274
_PLACES = ((273, 279), (324, 325))  # offsets and byte counts, of strips and of tiles
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_OLD_JPEG, _SIGNED, _PREMULTIPLIED, _SEPARATE = 6, 2, 1, 2
_RATIOS = {5: 4096, 6: 2048, 7: 2048, 8: 1032, 32773: 128, 32946: 1032}
# How many bytes LZW, JPEG, deflate and PackBits make of one at most; the others know no bound.


@dataclass(frozen=True)
class TiffTags:
    """What the tags of the first picture of a TIFF file say.

    Attributes:
        bits: Of a sample.
        samples: Of a pixel.
        signed: Whether samples are signed integers.
        white_is_zero: Whether the number 0 is white.
        orientation: From 1 to 8.
    """

    bits: int
    samples: int
    signed: bool
    white_is_zero: bool
    orientation: int

    @property
    def deep_and_white_is_zero(self) -> bool:
        """Whether it is grey of more than 8 bits with 0 for white, which Pillow reads as black."""
        return self.white_is_zero and self.bits in (12, 16) and not self.signed


def check_tiff(data: bytes) -> TiffTags:
    """Reads the tags of the first picture of a TIFF file.

    Args:
        data: The bytes of the file.

    Raises:
        ValueError: If its tags leave open what its pixels mean, declare more than it holds, or are
            of a kind that is not read; says so in words that follow a file's name.
    """
    tags = _directory(data)
    width, height = _number(tags, _WIDTH, 0), _number(tags, _HEIGHT, 0)
    if width < 1 or height < 1:
        raise ValueError("is damaged: its tags do not say how many pixels it has")
    bits = max(_numbers(tags, _BITS, (1,)))
    samples = _number(tags, _SAMPLES, len(_numbers(tags, _BITS, (1,))))
    compression = _number(tags, _COMPRESSION, 1)
    photometric = _number(tags, _PHOTOMETRIC, -1)
    if photometric < 0 and compression != _OLD_JPEG:
        raise ValueError(
            "does not say whether 0 is black or white (it has no tag PhotometricInterpretation); "
            "save it again, as PNG or with that tag"
        )
    shared = 3 if photometric == _YCBCR else 1  # several pixels may share their colour
    _check_size(data, tags, compression, width * height * bits * samples // (8 * shared))
    _check_kind(tags, photometric, bits)
    return TiffTags(
        bits=bits,
        samples=samples,
        signed=_SIGNED in _numbers(tags, _FORMAT, (1,)),
        white_is_zero=photometric == _WHITE_IS_ZERO,
        orientation=_number(tags, _ORIENTATION, 1),
    )


def kind_of_tiff(data: bytes) -> str:
    """The kind of pixels of a TIFF file, for the error that it is not read."""
    tags = _directory(data)
    bits, photometric = _numbers(tags, _BITS, (1,)), _number(tags, _PHOTOMETRIC, -1)
    formats = _numbers(tags, _FORMAT, (1,))
    kinds = {1: "unsigned", 2: "signed", 3: "floating point"}
    number = kinds.get(formats[0], "unknown") if len(set(formats)) == 1 else "several kinds of"
    return (
        f"{_number(tags, _SAMPLES, len(bits))} {number} sample(s) of {max(bits)} bits a pixel, "
        f"PhotometricInterpretation {photometric}, compression {_number(tags, _COMPRESSION, 1)}"
    )


def as_black_is_zero(data: bytes) -> bytes:
    """A TIFF file with the other PhotometricInterpretation: Pillow gives the numbers as stored."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    offset, count, entry, field = ("Q", "Q", 20, 12) if big else ("I", "H", 12, 8)
    (place,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count, data, place)
    changed = bytearray(data)
    for number in range(entries):
        start = place + struct.calcsize(count) + number * entry
        if struct.unpack_from(order + "H", data, start)[0] == _PHOTOMETRIC:
            struct.pack_into(order + "H", changed, start + field, _BLACK_IS_ZERO)
    return bytes(changed)


def _directory(data: bytes) -> ImageFileDirectory_v2:
    header = data[:16] if 43 in data[2:4] else data[:8]
    tags = ImageFileDirectory_v2(header)
    stream = io.BytesIO(data)
    stream.seek(tags.next or 0)
    tags.load(stream)
    return tags


def _numbers(tags: ImageFileDirectory_v2, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value = tags.get(tag, default)
    values = value if isinstance(value, tuple) else (value,)
    if not values or not all(isinstance(number, int) for number in values):
        raise ValueError(f"is damaged: its tag {tag} holds no numbers")
    return values


def _number(tags: ImageFileDirectory_v2, tag: int, default: int) -> int:
    return _numbers(tags, tag, (default,))[0]


def _check_size(data: bytes, tags: ImageFileDirectory_v2, compression: int, size: int) -> None:
    """Whether the file holds what its tags declare."""
    held = 0
    for offsets, counts in _PLACES:
        if offsets not in tags:
            continue
        starts: Sequence[int] = _numbers(tags, offsets, ())
        lengths: Sequence[int] = _numbers(tags, counts, (0,) * len(starts))
        for start, length in zip(starts, lengths, strict=False):
            if start + length > len(data):
                raise ValueError(
                    f"is truncated: its pixels reach to byte {start + length}, it has {len(data)}"
                )
        held += sum(lengths) or len(data)  # some writers give no lengths
    most = 1 if compression == 1 else _RATIOS.get(compression)
    if most is not None and size > held * most:
        raise ValueError(
            f"declares {size} bytes of pixels, but holds {held}: it is truncated or damaged"
        )


def _check_kind(tags: ImageFileDirectory_v2, photometric: int, bits: int) -> None:
    """Refuses what would be read otherwise than it is shown."""
    if bits == 16 and photometric == _RGB and _number(tags, _PLANES, 1) == _SEPARATE:
        raise ValueError(
            "holds its colours in planes of 16 bits; save them interleaved (PlanarConfiguration 1)"
        )
    if bits == 16 and photometric == _CMYK:
        raise ValueError("holds 16-bit CMYK; save it as RGB")
    premultiplied = _PREMULTIPLIED in _numbers(tags, _EXTRA, (0,))
    if premultiplied and (bits == 16 or photometric == _BLACK_IS_ZERO):
        raise ValueError(
            "holds colours that are multiplied by their transparency; save it without transparency"
        )
    if photometric == _PALETTE and 0 < max(_numbers(tags, _COLOUR_MAP, (0,))) < 256:
        raise ValueError(
            "has a colour map of 8 bits, where TIFF has 16: it shows as black all over, or in "
            "colours, as programs take it; save it as RGB"
        )
