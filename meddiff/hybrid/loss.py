"""The loss of hybrid diffusion (docs/papers/hybrid.md 2a)."""

from typing import NamedTuple

import torch
from torch import Tensor

from meddiff.core.losses import IGNORE
from meddiff.core.precision import float32


class HybridLoss(NamedTuple):
    """Scalars: `image` and `mask` are the SNR-weighted terms before `mask_weight`."""

    total: Tensor
    image: Tensor
    mask: Tensor


def one_hot(mask: Tensor, num_classes: int) -> Tensor:
    """Y in {0, 1} float32, shape (B, K, H, W), of class ids (B, H, W); ignored pixels are 0."""
    classes = torch.arange(num_classes, device=mask.device).view(1, -1, 1, 1)
    return (mask.unsqueeze(1) == classes).float()


def image_error(prediction: Tensor, image: Tensor) -> Tensor:
    """mean_{chw} (x - x_hat)^2 of each image, shape (B,)."""
    return (prediction - image).square().flatten(1).mean(1)


def mask_error(prediction: Tensor, mask: Tensor) -> Tensor:
    """mean_{Khw} (y - y_hat)^2 of each image over the pixels that count, shape (B,)."""
    num_classes = prediction.shape[1]
    counts = (mask != IGNORE).float()
    squared = (prediction - one_hot(mask, num_classes)).square().sum(1) * counts
    # An image without one valid pixel has error 0, not 0/0.
    return squared.flatten(1).sum(1) / (num_classes * counts.flatten(1).sum(1)).clamp(min=1.0)


@float32
def hybrid_loss(
    prediction: Tensor,
    image: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    mask_weight: float,
) -> HybridLoss:
    """`mean_b SNR_t (mean (x - x_hat)^2 + lambda mean (y - y_hat)^2)`.

    Args:
        prediction: x_hat and y_hat, shape (B, C + K, H, W); (B, C, H, W) where mask is None.
        image: Clean images x in [-1, 1], shape (B, C, H, W).
        mask: Class ids with 255 = ignore, shape (B, H, W); None leaves the image term alone.
        weight: SNR_t, or SNR_t / (T p(t)) under importance sampling, shape (B,).
        mask_weight: lambda.
    """
    channels = image.shape[1]
    image_term = (weight * image_error(prediction[:, :channels], image)).mean()
    if mask is None:
        return HybridLoss(image_term, image_term, torch.zeros_like(image_term))
    mask_term = (weight * mask_error(prediction[:, channels:], mask)).mean()
    return HybridLoss(image_term + mask_weight * mask_term, image_term, mask_term)
