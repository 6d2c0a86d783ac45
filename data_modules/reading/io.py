"""Files to arrays: jpg, png, bmp, tiff, gif and DICOM; masks also from npy.

Pixels are taken as they are stored unless the user says otherwise: an orientation tag is not
applied, because masks are drawn on stored pixels in every public data set; a pair that only fits
once turned is reported.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_modules.errors import CorruptImageError
from data_modules.reading.arrays import read_npy_mask
from data_modules.reading.formats import DICOM_SUFFIXES, ImageArray
from data_modules.reading.masks import mask_numbers
from data_modules.reading.memory import lacking_memory
from data_modules.reading.options import AS_STORED, Reading
from data_modules.reading.orientation import UPRIGHT, oriented
from data_modules.reading.pictures import Picture, open_picture, orientation_tag
from data_modules.reading.pointers import unfetched


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        CorruptImageError: If it cannot be read, is empty, only points to its content, or is larger
            than the free memory.
    """
    try:
        if lack := lacking_memory(path.stat().st_size):
            raise CorruptImageError(path, lack)
        data = path.read_bytes()
    except OSError as error:
        raise CorruptImageError(path, f"cannot be read ({error.strerror})") from error
    if not data:
        raise CorruptImageError(path, "is empty (0 bytes)")
    if reason := unfetched(data):
        raise CorruptImageError(path, reason)
    return data


def read_image(
    path: Path, data: bytes | None = None, *, reading: Reading = AS_STORED
) -> ImageArray:
    """Reads an image; transparency is dropped.

    Args:
        path: A jpg, png, bmp, tiff, gif or DICOM file.
        data: The bytes of the file, where they were read before.
        reading: How it is read.

    Returns:
        (H, W, C) with C 1 or 3: uint8, or uint16 over the full 16 bits, or float32 in [0, 255] for
        DICOM.

    Raises:
        CorruptImageError: If the file is damaged, holds several images, or is of a kind without a
            fixed range.
    """
    data = read_bytes(path) if data is None else data
    if path.suffix.lower() in DICOM_SUFFIXES:
        from data_modules.reading.dicom import (
            read_dicom,  # pydicom is only loaded for those who need it
        )

        return read_dicom(path, data, frame=reading.frame)
    if reading.frame is not None:
        raise CorruptImageError(
            path, f"data.init_args.frame is {reading.frame}, but only DICOM files have frames"
        )
    picture = open_picture(path, data, reading.orientation)
    array = oriented(_image_array(path, picture), picture.turn)
    return array[..., None] if array.ndim == 2 else array


def read_mask(
    path: Path, data: bytes | None = None, *, reading: Reading = AS_STORED
) -> npt.NDArray[np.integer]:
    """Reads a mask with the values of the file, or the indices of its palette.

    Args:
        path: A png, bmp, tiff, gif or jpg file, or a NumPy array of class ids (npy).
        data: The bytes of the file, where they were read before.
        reading: How it is read.

    Returns:
        (H, W): 0 and 255, or class ids.

    Raises:
        CorruptImageError: If the file is damaged or coloured, says two things of a pixel, or is an
            array of another kind.
    """
    if path.suffix.lower() == ".npy":
        return read_npy_mask(path, read_bytes(path) if data is None else data)
    if path.suffix.lower() in DICOM_SUFFIXES:
        raise CorruptImageError(path, "masks are read from png, bmp, tiff or gif, not from DICOM")
    data = read_bytes(path) if data is None else data
    picture = open_picture(path, data, reading.orientation)
    try:
        numbers = mask_numbers(
            picture.image,
            bits=picture.bits,
            signed=picture.signed,
            white_is_zero=picture.white_is_zero,
            deep=picture.deep,
        )
    except ValueError as error:
        raise CorruptImageError(path, str(error)) from error
    return oriented(numbers, picture.turn)


def exif_orientation(path: Path) -> int:
    """The orientation tag (EXIF or TIFF) of a picture, 1 (upright) where there is none."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return UPRIGHT
    return orientation_tag(read_bytes(path))


def _image_array(path: Path, picture: Picture) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """(H, W) or (H, W, 3), not turned yet."""
    image = picture.image
    if picture.deep is not None:
        return picture.deep[..., :3]
    if picture.signed:
        reason = f"holds signed {picture.bits}-bit pixels, for which nothing says what is white"
        raise CorruptImageError(path, f"{reason}; save it with 8 or 16 bits without sign")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        array = np.asarray(image)
        if picture.bits == 12:
            return np.rint(array * (65535 / 4095)).astype(np.uint16)
        return array.astype(np.uint16)
    if image.mode in ("I", "F"):
        reason = "holds 32-bit pixels, which have no fixed range; save it with 8 or 16 bits"
        raise CorruptImageError(path, reason)
    return np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
