"""Channels, size, range and augmentation of images and masks."""

import os
import random
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from data_modules.errors import DataError
from data_modules.reading.io import ImageArray

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as Pillow's mode L
AUGMENTATIONS = ("hflip", "vflip", "rot90", "crop", "blur")
_CROPPED = 0.05  # of the size, at most, that `crop` cuts off each side
_BLURRED = 2 / 128  # of the size: the largest sigma of `blur`

Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels, not rounded."""


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


def to_tensor(image: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Tensor:
    """(H, W, C) in [0, 255] to (C, H, W) float32 in [-1, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
    return planes.float().div(127.5).sub_(1)


class Augmentation:
    """Random changes that move an image and its mask together.

    What is drawn depends on (seed, epoch, index) and on nothing else: not on the worker, the batch
    size, the rank or a resume. albumentations alone gives forked workers one and the same stream.

    Args:
        names: Of ``hflip``, ``vflip`` (each with probability 0.5), ``rot90`` (0, 90, 180 or 270
            degrees, equally likely), ``crop`` (each side loses 0 to 5 % of the size, drawn on
            its own, and the rest is resized to the whole; papers/hybrid.md 2d) and ``blur`` (of the
            image alone: with probability 0.5, Gaussian, sigma uniform in 0 to 2 pixels of 128;
            papers/lmi.md 5b).
        seed: Seed of the run.

    Raises:
        DataError: If a name is not known.
    """

    def __init__(self, names: list[str], seed: int) -> None:
        unknown = [name for name in names if name not in AUGMENTATIONS]
        if unknown:
            raise DataError(
                f"data.init_args.augment: {unknown[0]!r} given, expected names of "
                f"{', '.join(AUGMENTATIONS)}."
            )
        # Read by albumentations at import, which otherwise asks PyPI for its newest version.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations

        makers = {
            "hflip": lambda: albumentations.HorizontalFlip(p=0.5),
            "vflip": lambda: albumentations.VerticalFlip(p=0.5),
            "rot90": lambda: albumentations.RandomRotate90(p=1.0),
        }
        self.pipeline = albumentations.Compose([makers[n]() for n in names if n in makers])
        self.crops = "crop" in names
        self.blurs = "blur" in names
        self.seed = seed

    def __call__(
        self,
        image: npt.NDArray[Any],
        mask: npt.NDArray[np.uint8] | None,
        epoch: int,
        index: int,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
        """Changes a square image (H, W, C) and its mask (H, W), if there is one."""
        key = int(np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0])
        # set_random_seed would start every transform with the same draw: an image would be flipped
        # both ways or not at all. The shared generators are drawn from in turn.
        self.pipeline.set_random_state(np.random.default_rng(key), random.Random(key))
        given = {"image": image} if mask is None else {"image": image, "mask": mask}
        changed = self.pipeline(**given)
        image, mask = changed["image"], changed.get("mask")
        if self.crops:
            image, mask = _crop(image, mask, np.random.default_rng([key, 1]))
        return _blur(image, np.random.default_rng([key, 2])) if self.blurs else image, mask


def _crop(
    image: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None, rng: np.random.Generator
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
    size = image.shape[0]
    left, upper, right, lower = (rng.uniform(0, _CROPPED, 4) * size).tolist()
    box = (left, upper, size - right, size - lower)
    return resize_image(image, size, box), None if mask is None else resize_mask(mask, size, box)


def _blur(image: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    blurred, share = rng.random(2).tolist()
    if blurred >= 0.5:
        return image
    import cv2  # comes with albumentations

    sigma = max(share * _BLURRED * image.shape[0], 1e-3)  # 0 would let OpenCV choose
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma)).reshape(image.shape)
