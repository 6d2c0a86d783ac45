"""The numbers of a mask: what its samples, its palette and its transparency say of each pixel.

A mask can say the same pixel twice: by the index and by the colour of a palette, by its colour and
by its transparency. Where the two agree that is the mask; where they do not, it is refused.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Numbers: TypeAlias = npt.NDArray[np.integer]

_SAVE = "save the mask with one channel and without transparency: 0 and 255, or class ids"
_COLOURED = f"is a colour image; {_SAVE}"
_MAX_CLASS_ID = 64  # more distinct ids than any data set here: larger values are taken for greys
_IGNORED = 255
_GREY_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "F")


def mask_numbers(
    image: Image.Image,
    *,
    bits: int = 8,
    signed: bool = False,
    white_is_zero: bool = False,
    deep: npt.NDArray[np.uint16] | None = None,
) -> Numbers:
    """The numbers of a mask.

    Args:
        image: As opened and loaded.
        bits: Of a sample in the file.
        signed: Whether samples are signed.
        white_is_zero: Whether 0 is white in the file; the image is inverted already.
        deep: (H, W, 3 or 4), where the image has 16 bits and more than one channel.

    Returns:
        (H, W): 0 and 255, or class ids.

    Raises:
        ValueError: If it says nothing that is a class, or says it in two ways; says so in words
            that follow a file's name.
    """
    if image.mode in ("P", "PA"):
        return _palette_numbers(image)
    if deep is not None:
        samples: npt.NDArray[Any] = deep
    elif image.mode in _GREY_MODES or image.mode.startswith("I;16"):
        samples = np.array(image)
    else:
        raise ValueError(_COLOURED)
    if samples.ndim == 2:
        samples = samples[..., None]
    alpha = samples[..., -1] if samples.shape[-1] in (2, 4) else None
    colours = samples if alpha is None else samples[..., :-1]
    if (colours[..., 1:] != colours[..., :1]).any():
        raise ValueError(_COLOURED)
    numbers = _as_stored(colours[..., 0], bits, signed)
    if alpha is None:
        alpha = _keyed(image, numbers)
    if white_is_zero:
        _check_white_is_zero(numbers, bits)
    numbers = numbers if alpha is None else _seen(numbers, alpha)
    if bits == 16 and set(np.unique(numbers).tolist()) <= {0, 65535}:
        return np.where(numbers > 0, 255, 0).astype(np.uint8)
    return numbers


def class_ids(array: npt.NDArray[Any]) -> Numbers:
    """Class ids of any type as integers.

    Args:
        array: Of any shape.

    Raises:
        ValueError: If some are negative, fractions or no numbers.
    """
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"holds {array.dtype} numbers; expected class ids: whole numbers from 0")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array % 1).any() or np.abs(array).max() >= 2**31:
            raise ValueError(
                f"holds fractions ({array.dtype} numbers); expected class ids: whole numbers from 0"
            )
        array = array.astype(np.int64)  # class ids that were saved as fractions
    if array.min() < 0:
        raise ValueError(
            f"holds negative numbers ({array.min()}); expected class ids: whole numbers from 0"
        )
    ids: Numbers = array
    return ids


def _as_stored(samples: npt.NDArray[Any], bits: int, signed: bool) -> Numbers:
    """The numbers of the file: Pillow scales few bits up, and has no type for some others."""
    if samples.dtype == np.uint8 and bits in (2, 4):
        return np.asarray(samples // (255 // (2**bits - 1)), dtype=np.uint8)
    if signed and bits == 8:
        samples = samples.view(np.int8)
    if not signed and bits == 32 and samples.dtype == np.int32:
        samples = samples.view(np.uint32)
    numbers = class_ids(samples)
    return numbers.astype(np.uint8) if signed and bits == 8 else numbers


def _check_white_is_zero(numbers: Numbers, bits: int) -> None:
    """A program that writes ids with this tag shows them as whites."""
    shown = set(np.unique(numbers).tolist())
    white = 2**bits - 1
    if shown <= {0, white} or (bits == 8 and all(v < _MAX_CLASS_ID or v == white for v in shown)):
        return
    raise ValueError(
        f"is a TIFF file in which 0 is white (PhotometricInterpretation 0): the number "
        f"{white - max(shown)} in it shows as {max(shown)}; save the mask with 0 for black, or as "
        "PNG"
    )


def _keyed(image: Image.Image, numbers: Numbers) -> npt.NDArray[np.uint8] | None:
    """Transparency by a colour that stands for it, as PNG has it; None: there is none."""
    key = image.info.get("transparency")
    if image.mode == "1" and key:
        key = 1  # Pillow gives 255
    if isinstance(key, tuple):
        key = key[0] if len(set(key)) == 1 else None
    if not isinstance(key, int):
        return None
    return np.where(numbers == key, 0, 255).astype(np.uint8)


def _seen(numbers: Numbers, alpha: npt.NDArray[Any]) -> Numbers:
    """What is seen of a mask with transparency, if its colours say the same or nothing."""
    levels = np.unique(alpha)
    if levels[0] > 0 and levels.size == 1:
        return numbers
    if levels[0] > 0 or levels.size > 2:
        raise ValueError(f"is transparent in {levels.size} steps; {_SAVE}")
    shown = np.where(alpha > 0, numbers, 0)
    drawn = levels.size == 2
    if drawn and not numbers.any():
        raise ValueError(
            "draws in its transparency alone: by its colours all of it is 0, the background, by "
            f"its transparency a part of it is drawn; {_SAVE}"
        )
    same = np.array_equal(shown, numbers)
    if not same and not (drawn and numbers.min() == numbers.max()):
        raise ValueError(
            "says two things: where it is transparent its colours are not 0, the background; "
            f"{_SAVE}"
        )
    return shown.astype(numbers.dtype)


def _palette_numbers(image: Image.Image) -> Numbers:
    pixels = np.array(image)
    colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    if pixels.ndim == 3:
        return _seen(_by_colours(pixels[..., 0], colours), pixels[..., 1])
    clear, used = _transparent(image), np.unique(pixels)
    whole = used[-1] < len(colours)
    if image.format == "GIF" and whole and (colours == colours[:, :1]).all():
        # GIF has no grey of its own, and writers number the greys of a mask as they like.
        alpha = np.where(np.isin(pixels, clear), 0, 255)
        if not clear:
            _check_different(colours[:, 0], used)
        return _seen(colours[pixels, 0], alpha)
    for index in clear:
        if index and index in used:
            raise ValueError(
                f"says two things: the index {index} of its palette is a class by its number, and "
                f"nothing by its transparency; {_SAVE}"
            )
    if 0 in clear and whole:
        colours[0] = 0  # what is not seen is the background
    return _by_colours(pixels, colours)


def _transparent(image: Image.Image) -> list[int]:
    """The indices of a palette that are not, or not wholly, seen."""
    transparency = image.info.get("transparency")
    if isinstance(transparency, bytes):
        return [index for index, alpha in enumerate(transparency) if alpha < 255]
    return [transparency] if isinstance(transparency, int) else []


def _by_colours(indices: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint8]) -> Numbers:
    """The indices, where the colours do not say another thing.

    Args:
        indices: (H, W).
        colours: (N, 3), of the palette; indices from N on have none.
    """
    used = np.unique(indices)
    if used[-1] >= len(colours):  # without a colour there is only the number
        return indices
    shown = colours[:, 0]
    black = [index for index in used.tolist() if not colours[index].any()]
    if (colours != colours[:, :1]).any():
        wrong = [index for index in black if index != _IGNORED]
        if wrong and colours[0].any():
            raise ValueError(_two_ways(f"the index {wrong[0]} black, and 0 in another colour"))
        return indices
    if (shown[used] == used).all():
        return indices
    _check_different(shown, used)
    if shown[0] == 0 and used[-1] == 1 and shown[1] == 255:
        return indices
    if set(shown.tolist()) <= {0, 255}:
        return np.asarray(shown[indices] == 255, dtype=np.uint8)
    ramp = np.diff(np.concatenate(([0], shown[used])).astype(int)) >= 0
    ids = all(value < _MAX_CLASS_ID or value == _IGNORED for value in shown[used].tolist())
    if shown[0] == 0 and ramp.all() and not ids:
        return indices
    worst = next(index for index in used.tolist() if shown[index] != index)
    raise ValueError(_two_ways(f"the index {worst} as the grey {shown[worst]}"))


def _check_different(shown: npt.NDArray[np.uint8], used: npt.NDArray[Any]) -> None:
    """Refuses a grey palette that shows two classes, or a class and the background, alike."""
    seen: dict[int, int] = {}
    for index in sorted({0, *used.tolist()}):
        other = seen.setdefault(int(shown[index]), index)
        if other != index:
            raise ValueError(_two_ways(f"the indices {other} and {index} in one grey"))


def _two_ways(what: str) -> str:
    return (
        f"says two things: its palette shows {what}, so that its indices and its colours are "
        f"other masks; {_SAVE}"
    )
