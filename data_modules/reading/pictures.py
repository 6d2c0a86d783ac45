"""Pictures opened by Pillow: png, jpg, bmp, tiff and gif, and nothing else that Pillow knows."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from data_modules.errors import CorruptImageError, DataError
from data_modules.reading import gif, png, tiff
from data_modules.reading.memory import lacking_memory
from data_modules.reading.options import Orientation
from data_modules.reading.orientation import UPRIGHT, inverse

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF")
_TAG = 0x0112
_COPIES = 4  # of the pixels, at most, from the decoder to the array
_MULTI_PICTURES = 0xB002  # entries of the index of a JPEG file that holds several pictures
# What a pixel of a JPEG or GIF file takes at least; a few bytes cannot hold a large picture.
_MOST_PIXELS_A_BYTE = {"JPEG": 512, "MPO": 512, "GIF": 4096}
_ARITHMETIC = (b"\xff\xc9", b"\xff\xca")  # markers of JPEG files whose coding knows no bound

_OTHERS = {
    b"%!PS": "PostScript",
    b"%PDF": "a PDF document",
    b"RIFF": "WebP, or a sound or film",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x1f\x8b": "compressed with gzip",
    b"PK": "a zip archive",
    b"8BPS": "Photoshop",
    b"\x93NUMPY": "a NumPy array",
}


@dataclass(frozen=True)
class Picture:
    """A picture that was read whole.

    Attributes:
        image: Loaded.
        bits: Of a sample, in the file.
        signed: Whether samples are signed.
        white_is_zero: Whether 0 is white in the file; the image is inverted already.
        deep: (H, W, 3 or 4), RGB of a colour image with 16 bits, of which Pillow keeps 8.
        turn: Orientation that is still to be applied.
    """

    image: Image.Image
    bits: int = 8
    signed: bool = False
    white_is_zero: bool = False
    deep: npt.NDArray[np.uint16] | None = None
    turn: int = UPRIGHT


@dataclass(frozen=True)
class _Facts:
    """What the file says besides what Pillow tells."""

    bits: int = 8
    signed: bool = False
    white_is_zero: bool = False
    to_invert: bool = False
    turned: int = UPRIGHT


def open_picture(path: Path, data: bytes, orientation: Orientation) -> Picture:
    """Reads a picture whole, as far as its format lets one see that it is.

    Args:
        path: Named in errors.
        data: The bytes of the file.
        orientation: As in `Reading`.

    Raises:
        CorruptImageError: If it is none, is damaged, holds several, or is too large.
    """
    try:
        facts = _facts(data)
    except ValueError as error:
        raise CorruptImageError(path, str(error)) from error
    except Exception as error:  # Pillow's parser of tags raises of every kind
        raise _undecodable(path, error) from error
    try:
        return _open(path, data, facts, orientation)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise CorruptImageError(path, _what_it_is(data)) from error
    except Image.DecompressionBombError as error:
        raise CorruptImageError(path, _too_large()) from error
    except Exception as error:  # as do its decoders
        raise _undecodable(path, error) from error


def orientation_tag(data: bytes) -> int:
    """The orientation tag of a picture, 1 (upright) where there is none that can be read."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return _tag_of(image)
    except Exception:  # a damaged tag is no tag
        return UPRIGHT


def _facts(data: bytes) -> _Facts:
    if data.startswith(png.SIGNATURE):
        return _Facts(png.check_png(data).bits)
    if data.startswith(gif.SIGNATURES):
        gif.check_gif(data)
    if data.startswith(tiff.SIGNATURES):
        tags = tiff.check_tiff(data)
        inverted = tags.deep_and_white_is_zero
        return _Facts(tags.bits, tags.signed, tags.white_is_zero, inverted, tags.orientation)
    return _Facts()


def _open(path: Path, data: bytes, facts: _Facts, orientation: Orientation) -> Picture:
    source = tiff.as_black_is_zero(data) if facts.to_invert else data
    image: Image.Image = Image.open(io.BytesIO(source), formats=_FORMATS)
    _check_one(path, image)
    _check_size(path, image, facts, data)
    if image.format == "BMP":
        _check_bmp(path, image, data)
    is_tiff = image.format == "TIFF"
    tag = _tag_of(image) if is_tiff or orientation == "upright" else UPRIGHT
    image.load()
    if facts.to_invert:
        white = 2**facts.bits - 1
        image = Image.fromarray((white - np.asarray(image)).astype(np.uint16))
    deep = _deep_colour(path, data) if _is_cut(image, facts) else None
    # Pillow turns TIFF files, and OpenCV does by their own tag; neither turns others.
    done = UPRIGHT if not is_tiff else tag if deep is None else facts.turned
    turn = inverse(done) if orientation == "stored" else tag if done != tag else UPRIGHT
    return Picture(image, facts.bits, facts.signed, facts.white_is_zero, deep, turn)


def _check_one(path: Path, image: Image.Image) -> None:
    """Whether the file holds one picture, previews aside."""
    pages: int = getattr(image, "n_frames", 1)
    if pages > 1 and image.format == "MPO":
        pages = _equal_pictures(image)
    if pages > 1:
        raise CorruptImageError(path, f"holds {pages} pages; save one image a file")


def _equal_pictures(image: Image.Image) -> int:
    """How many pictures of equal rank a JPEG file holds: previews and depth maps are smaller."""
    entries = image.mpinfo.get(_MULTI_PICTURES, [])  # type: ignore[attr-defined]
    first, equal = image.size, 1
    for number, entry in enumerate(entries[1:], start=1):
        image.seek(number)
        several = str(entry["Attribute"]["MPType"]).startswith("Multi-Frame")
        equal += several or image.size == first
    image.seek(0)
    return equal


def _check_size(path: Path, image: Image.Image, facts: _Facts, data: bytes) -> None:
    """Whether a picture of its size fits into the file that declares it, and into memory."""
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise CorruptImageError(path, f"has {width}x{height} pixels: {_too_large()}")
    most = _MOST_PIXELS_A_BYTE.get(image.format or "")
    if any(marker in data for marker in _ARITHMETIC):
        most = None
    small = most is not None and width * height > len(data) * most
    if small or not all(_holds(tile, len(data)) for tile in image.tile):  # type: ignore[attr-defined]
        reason = f"declares {width}x{height} pixels, more than its {len(data)} bytes can hold"
        raise CorruptImageError(path, f"{reason}: it is truncated or damaged")
    size = width * height * len(image.getbands()) * -(-facts.bits // 8)
    if lack := lacking_memory(_COPIES * size):
        raise CorruptImageError(path, f"has {width}x{height} pixels, which {lack}")


def _check_bmp(path: Path, image: Image.Image, data: bytes) -> None:
    """Refuses what Pillow unpacks by its colours alone: pixels of 8 bits as if they had one."""
    old = struct.unpack_from("<I", data, 14)[0] == 12  # the header of OS/2
    (bits,) = struct.unpack_from("<H", data, 24 if old else 28)
    if bits != {"1": 1, "L": 8}.get(image.mode, bits):
        colours = f"{bits} bits a pixel whose palette is grey"
        raise CorruptImageError(path, f"is a BMP file of {colours}; save it as PNG")


def _holds(tile: Any, size: int) -> bool:
    """Whether a file of so many bytes reaches to the last row of an uncompressed tile."""
    codec, box, offset, settings = tile
    if codec != "raw" or not isinstance(settings, tuple):
        return True
    stride = settings[1] if len(settings) > 1 else 0
    return bool(offset + stride * (box[3] - box[1] - 1) < size)


def _too_large() -> str:
    limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return (
        f"more than the {limit:.0f} million that are read of a picture; scale it down, or cut it "
        "into tiles"
    )


def _undecodable(path: Path, error: Exception) -> CorruptImageError:
    text = str(error) or type(error).__name__
    return CorruptImageError(path, f"cannot be decoded ({text})")


def _tag_of(image: Image.Image) -> int:
    tag = image.getexif().get(_TAG, UPRIGHT)
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else UPRIGHT


def _what_it_is(data: bytes) -> str:
    if data.startswith(tiff.SIGNATURES):
        kind = tiff.kind_of_tiff(data)
        return f"is a TIFF file of a kind that is not read ({kind}); save it with 8 or 16 bits"
    what = next((name for start, name in _OTHERS.items() if data.startswith(start)), "")
    if data[4:8] == b"ftyp":
        what = "HEIF, AVIF or a film"
    elif data[128:132] == b"DICM":
        what = "DICOM; give it the suffix .dcm"
    elif data.lstrip()[:1] == b"<":
        what = "a page of text (HTML, SVG or XML)"
    return "holds no PNG, JPEG, BMP, TIFF or GIF image" + (f"; it is {what}" if what else "")


def _is_cut(image: Image.Image, facts: _Facts) -> bool:
    """Whether Pillow kept 8 of the 16 bits of an image with several channels."""
    return facts.bits == 16 and image.mode in ("RGB", "RGBA", "LA")


def _deep_colour(path: Path, data: bytes) -> npt.NDArray[np.uint16]:
    import cv2  # comes with albumentations; only needed for this rare kind of file

    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3:
        raise CorruptImageError(path, "cannot be decoded as a 16-bit colour image")
    colours = array[..., 2::-1]
    return np.concatenate([colours, array[..., 3:]], axis=-1)
