"""Random changes of training images. Of all files, this one alone needs albumentations."""

import os
import random
from typing import Any

import numpy as np
import numpy.typing as npt

from data_modules.errors import DataError
from data_modules.kinds.transforms import resize_image, resize_mask

AUGMENTATIONS = ("hflip", "vflip", "rot90", "crop", "blur")

_CROPPED = 0.05  # of the size, at most, that `crop` cuts off each side
_BLURRED = 2 / 128  # of the size: the largest sigma of `blur`


class Augmentation:
    """Random changes that move an image and its mask together.

    What is drawn depends on (seed, epoch, index) and on nothing else: not on the worker, the batch
    size, the rank or a resume. albumentations alone gives forked workers one and the same stream.

    Args:
        names: Of `hflip`, `vflip` (each with probability 0.5), `rot90` (0, 90, 180 or 270
            degrees, equally likely), `crop` (each side loses 0 to 5 % of the size, drawn on
            its own, and the rest is resized to the whole; docs/papers/hybrid.md 2d) and `blur`
            (of the image alone: with probability 0.5, Gaussian, sigma uniform in 0 to 2 pixels of
            128; docs/papers/lmi.md 5b).
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
