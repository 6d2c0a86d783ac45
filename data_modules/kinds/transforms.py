"""Channels, size, range and augmentation of images and masks."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from data_modules.reading.formats import ImageArray

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as Pillow's mode L

Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels, not rounded."""

PixelBox: TypeAlias = tuple[int, int, int, int]
"""First row and column, and those behind the last ones."""


def to_channels(image: ImageArray, in_channels: int) -> ImageArray:
    """Gives an image the channels that the model takes.

    Args:
        image: (H, W, 1) or (H, W, 3).
        in_channels: 1 turns colour into luminance, 3 repeats grey.

    Returns:
        (H, W, in_channels), of the same type.
    """
    if image.shape[-1] == in_channels:
        return image
    if in_channels == 3:
        return np.concatenate([image] * 3, axis=-1)
    grey = np.asarray(image.astype(np.float32) @ _LUMINANCE)[..., None]
    if image.dtype == np.float32:
        return grey
    if image.dtype == np.uint8:
        return np.rint(grey).astype(np.uint8)
    return np.rint(grey).astype(np.uint16)


def resize_image(
    image: ImageArray, size: int, box: Box | None = None
) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    """Resizes to a square, bilinear with antialiasing; the aspect ratio is not kept.

    Args:
        image: (H, W, C) uint8, uint16 or float32 in [0, 255].
        size: Height and width of the result.
        box: What of the image is taken; None: all of it.

    Returns:
        (size, size, C): uint8 stays uint8 (rounded as Pillow does); deeper images become float32 in
        [0, 255] without rounding.
    """
    if image.dtype == np.uint8:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        resized = np.array(picture.resize((size, size), Image.Resampling.BILINEAR, box))
        return resized[..., None] if resized.ndim == 2 else resized
    scale = 255 / 65535 if image.dtype == np.uint16 else 1.0
    planes = [
        Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32) * np.float32(scale)).resize(
            (size, size), Image.Resampling.BILINEAR, box
        )
        for plane in np.moveaxis(image, -1, 0)
    ]
    return np.stack([np.asarray(plane, dtype=np.float32) for plane in planes], axis=-1)


def resize_mask(
    mask: npt.NDArray[np.uint8], size: int, box: Box | None = None
) -> npt.NDArray[np.uint8]:
    """Resizes (H, W) class ids to (size, size) by the nearest pixel: no value is made up."""
    return np.array(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST, box))


def cut(
    image: ImageArray, mask: npt.NDArray[np.uint8] | None, box: PixelBox
) -> tuple[ImageArray, npt.NDArray[np.uint8] | None]:
    """Cuts a part out of an image and its mask.

    Args:
        image: (H, W, C).
        mask: (H, W), or of another size of the same proportions.
        box: In pixels of the image.
    """
    top, left, bottom, right = box
    if mask is not None:
        down, across = (n / m for n, m in zip(mask.shape, image.shape, strict=False))
        mask = mask[
            round(top * down) : round(bottom * down), round(left * across) : round(right * across)
        ]
    return image[top:bottom, left:right], mask


def to_tensor(image: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Tensor:
    """(H, W, C) in [0, 255] to (C, H, W) float32 in [-1, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
    return planes.float().div(127.5).sub_(1)
