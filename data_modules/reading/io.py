"""Files to arrays: jpg, png, bmp, tiff and DICOM; masks also from npy.

Pixels are taken as they are stored: an EXIF orientation tag is not applied, because masks are drawn
on stored pixels in every public data set; a pair that only fits once turned is reported.
"""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from data_modules.errors import CorruptImageError
from data_modules.reading.formats import DICOM_SUFFIXES, ImageArray
from data_modules.reading.pointers import unfetched

_EXIF_ORIENTATION = 0x0112
_TIFF_BITS_PER_SAMPLE = 258
_PNG_BIT_DEPTH = 24  # offset in the file
# What Pillow's decoders raise on a damaged file.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        CorruptImageError: If it cannot be read, is empty, or only points to its content.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptImageError(path, f"cannot be read ({error.strerror})") from error
    if not data:
        raise CorruptImageError(path, "is empty (0 bytes)")
    if reason := unfetched(data):
        raise CorruptImageError(path, reason)
    return data


def read_image(path: Path, data: bytes | None = None) -> ImageArray:
    """Reads an image; transparency is dropped.

    Args:
        path: A jpg, png, bmp, tiff or DICOM file.
        data: The bytes of the file, where they were read before.

    Returns:
        (H, W, C) with C 1 or 3: uint8, or uint16 over the full 16 bits, or float32 in [0, 255] for
        DICOM.

    Raises:
        CorruptImageError: If the file is damaged or of a kind without a fixed range.
    """
    data = read_bytes(path) if data is None else data
    if path.suffix.lower() in DICOM_SUFFIXES:
        from data_modules.reading.dicom import (
            read_dicom,  # pydicom is only loaded for those who need it
        )

        return read_dicom(path, data)
    with _open(path, data) as image:
        if _is_deep_colour(image, data):
            return _read_deep_colour(path, data)
        array: ImageArray
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            array = np.asarray(image).astype(np.uint16)
        elif image.mode in ("I", "F"):
            reason = "holds 32-bit pixels, which have no fixed range; save it with 8 or 16 bits"
            raise CorruptImageError(path, reason)
        else:
            array = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return array[..., None] if array.ndim == 2 else array


def read_mask(path: Path, data: bytes | None = None) -> npt.NDArray[np.integer]:
    """Reads a mask with the values of the file, or the indices of its palette.

    Args:
        path: A png, bmp, tiff or jpg file, or a NumPy array of class ids (npy).
        data: The bytes of the file, where they were read before.

    Returns:
        (H, W): 0 and 255, or class ids.

    Raises:
        CorruptImageError: If the file is damaged or coloured, or an array of another kind.
    """
    if path.suffix.lower() == ".npy":
        return _read_npy_mask(path, read_bytes(path) if data is None else data)
    if path.suffix.lower() in DICOM_SUFFIXES:
        raise CorruptImageError(path, "masks are read from png, bmp or tiff, not from DICOM")
    with _open(path, read_bytes(path) if data is None else data) as image:
        if image.mode == "F":
            raise CorruptImageError(path, "holds fractions; save the mask with 8 bits")
        array = np.array(image)
        bands = [b for b in image.getbands() if b != "A"]
    array = array.astype(np.uint8) if array.dtype == bool else array
    if array.ndim == 3:
        first = array[..., 0]
        if any(not np.array_equal(first, array[..., k]) for k in range(1, len(bands))):
            reason = "is a colour image; save the mask with one channel: 0 and 255, or class ids"
            raise CorruptImageError(path, reason)
        return first
    return array


def _read_npy_mask(path: Path, data: bytes) -> npt.NDArray[np.integer]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise CorruptImageError(path, f"cannot be read as a NumPy array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        shape = getattr(array, "shape", "several arrays")
        raise CorruptImageError(path, f"has the shape {shape}; expected (height, width)")
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and np.isfinite(array).all() and not (array % 1).any():
        array = array.astype(np.int64)  # class ids that were saved as fractions
    if array.dtype.kind not in "iu" or (array.size and array.min() < 0):
        reason = f"holds {array.dtype} numbers; expected class ids: whole numbers from 0"
        raise CorruptImageError(path, reason)
    ids: npt.NDArray[np.integer] = array
    return ids


def exif_orientation(path: Path) -> int:
    """The EXIF orientation tag of a readable file, 1 (upright) where there is none."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return 1
    with Image.open(path) as image:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))


def _open(path: Path, data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        image.load()
    except _DECODING_ERRORS as error:
        raise CorruptImageError(path, f"cannot be decoded ({_short(error)})") from error
    if pages > 1:
        raise CorruptImageError(path, f"holds {pages} pages; save one image a file")
    return image


def _short(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the content is no image that Pillow knows"
    return str(error) or type(error).__name__


def _is_deep_colour(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow would cut a 16-bit colour image down to 8 bits."""
    if image.mode not in ("RGB", "RGBA"):
        return False
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH] == 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
        return bool(max(bits) == 16)
    return False


def _read_deep_colour(path: Path, data: bytes) -> npt.NDArray[np.uint16]:
    import cv2  # comes with albumentations; only needed for this rare kind of file

    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise CorruptImageError(path, "cannot be decoded as a 16-bit colour image")
    return np.ascontiguousarray(array[..., 2::-1])
