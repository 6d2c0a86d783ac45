"""What a network made of one item, checked and as the pixels that are written."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from callbacks.placement import Place, Placed

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_HIGHEST = 65535  # of a PNG with one channel


def values_of(outputs: Any) -> dict[str, Tensor]:
    """The tensors that `predict_step` returned, without `index`.

    Raises:
        ValueError: If there is no index, or nothing else.
    """
    given = outputs if isinstance(outputs, Mapping) else {}
    values = {k: v for k, v in given.items() if isinstance(v, Tensor) and k != "index"}
    if "index" not in given or not values:
        gave = sorted(given) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise ValueError(
            f"predict_step must return a dict with `index` and tensors to write, and gave {gave}"
        )
    return values


def take_logits(values: dict[str, Tensor]) -> Tensor | None:
    """Takes out the logits (B, K, h, w) that a mask (B, h, w) is the argmax of, if any."""
    mask, logits = values.get("mask"), values.get("logits")
    if mask is None or logits is None or logits.ndim != 4 or logits.shape[1] < 2:
        return None
    if (len(logits), *logits.shape[2:]) != tuple(mask.shape):
        return None
    return values.pop("logits")


def classes_of(values: Mapping[str, Tensor], logits: Tensor | None, declared: Any) -> int | None:
    """How many classes a mask has; None where that is not known.

    Args:
        values: `mask` and others.
        logits: (B, K, h, w), if any.
        declared: The module's `num_classes`, if it has them.
    """
    if logits is not None:
        return logits.shape[1]
    mask = values.get("mask")
    if mask is not None and mask.dtype == torch.bool:
        return 2
    return declared if isinstance(declared, int) else None


def check_finite(values: Mapping[str, Tensor], logits: Tensor | None, item: str) -> None:
    """Refuses what would be drawn as if it were a result.

    Args:
        values: Of one item.
        logits: Of its mask, if any.
        item: What to call it.

    Raises:
        ValueError: If an image or logits hold values that are not finite.
    """
    for key, value in (("image", values.get("image")), ("logits", logits)):
        if value is not None and not value.isfinite().all():
            raise ValueError(f"{item}: the {key} that was predicted holds NaN or infinite values")


def output_size(values: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Height and width of the images or masks (B, ..., H, W) that were made, if any were."""
    made = values.get("image", values.get("mask"))
    return None if made is None else tuple(made.shape[-2:])


def put_back(
    values: Mapping[str, Tensor], logits: Tensor | None, place: Place, placed: Placed
) -> dict[str, Tensor]:
    """Image and mask of an item in the place and size of the image that they were made of.

    Args:
        values: `image` (C, h, w), `mask` (h, w) and others, which stay as they are.
        logits: (K, h, w), where the mask is their argmax.
        place: Of the item.
        placed: Of its batch; what has another size than the network's input stays as it is.
    """
    result = dict(values)
    image, mask = values.get("image"), values.get("mask")
    if image is not None and image.ndim == 3 and placed.fits(image):
        result["image"] = place.image(image)
    if mask is not None and mask.ndim == 2 and placed.fits(mask):
        result["mask"] = place.nearest(mask) if logits is None else place.classes(logits)
    return result


def class_ids(mask: Tensor, classes: int | None, item: str) -> Pixels:
    """The class ids of a mask, (H, W), with 16 bits where 8 do not hold them.

    Args:
        mask: Whole numbers from 0, or booleans.
        classes: How many there are, where that is known.
        item: What to call it.

    Raises:
        ValueError: If it holds anything else, or more than a PNG can.
    """
    if mask.ndim != 2 or mask.is_floating_point() or mask.is_complex():
        raise ValueError(
            f"{item}: the mask is {mask.dtype} of shape {tuple(mask.shape)}; expected class ids "
            "(height, width)"
        )
    lowest, highest = (int(mask.min()), int(mask.max())) if mask.numel() else (0, 0)
    if lowest < 0 or highest > _HIGHEST or (classes is not None and highest >= classes):
        last = _HIGHEST if classes is None else min(classes - 1, _HIGHEST)
        raise ValueError(
            f"{item}: the mask holds {lowest} to {highest}; expected class ids from 0 to {last}"
        )
    deep = highest > 255 or (classes is not None and classes > 256)
    ids: npt.NDArray[np.integer] = mask.numpy()
    return ids.astype(np.uint16) if deep else ids.astype(np.uint8)


def mask_pixels(ids: Pixels, classes: int | None) -> Pixels:
    """What a mask's PNG holds: 0 and 255 for two classes, else the ids."""
    return (ids * 255).astype(np.uint8) if classes == 2 else ids


def image_pixels(image: Tensor) -> npt.NDArray[np.uint8]:
    """(1 or 3, H, W) in [-1, 1] as (H, W) or (H, W, 3)."""
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    return array.contiguous().numpy()


def volume_plane(image: Tensor) -> npt.NDArray[np.float32]:
    """(C, H, W) in [-1, 1] as (H, W) in [0, 1]: the mean of the channels."""
    grey = (image.float().clamp(-1, 1).mean(0) + 1) / 2
    return grey.numpy()
