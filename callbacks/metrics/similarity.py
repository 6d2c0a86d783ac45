"""How near one slice is to another: PSNR, SSIM and the Dice of K-means clusters."""

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from callbacks.metrics.kmeans import cluster_dice, label_clusters, mean_dice

WINDOW = 11
"""Pixels of a side of the SSIM's window."""

HIGHEST_PSNR = 100.0
"""PSNR in dB of equal images: the mean square error is not taken below 1e-10."""


def check_size(target: Tensor) -> None:
    """Checks that the SSIM's window fits into the slices.

    Raises:
        ValueError: If it does not.
    """
    height, width = target.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"translation: SSIM looks at windows of {WINDOW} x {WINDOW} pixels, and the slices are "
            f"{height} x {width}; raise data.init_args.image_size"
        )


def check_shapes(translated: Tensor, target: Tensor) -> None:
    """Checks that a translation has the shape of the true slice.

    Raises:
        ValueError: If it has another one.
    """
    if translated.shape != target.shape:
        raise ValueError(
            "translation: `translate` gave images of shape (B, C, H, W) = "
            f"{tuple(translated.shape)}, and the true ones are {tuple(target.shape)}"
        )


def slice_scores(translated: Tensor, target: Tensor, centroids: Tensor | None) -> Tensor:
    """Measures slices.

    Args:
        translated: Shape (B, C, H, W) in [-1, 1].
        target: The true slices, the same shape and range.
        centroids: Of K-means, ascending, in [0, 1], shape (K,); None leaves the Dice out.

    Returns:
        PSNR, SSIM and, with centroids, the mean Dice and each cluster's, float64, shape (B, 2) or
        (B, 3 + K).
    """
    made, true = (((image.double() + 1) / 2).clamp(0, 1) for image in (translated, target))
    psnr = peak_signal_noise_ratio(
        made, true, data_range=1.0, reduction="none", dim=(1, 2, 3)
    ).clamp(max=HIGHEST_PSNR)
    columns = torch.stack([psnr, ssim(made, true)], dim=1)
    if centroids is None:
        return columns
    labels, true_labels = (label_clusters(image, centroids) for image in (translated, target))
    dice = cluster_dice(labels, true_labels, len(centroids))
    return torch.cat([columns, mean_dice(dice)[:, None], dice], dim=1)


def ssim(made: Tensor, true: Tensor) -> Tensor:
    """Mean SSIM over the windows inside each image (B, C, H, W) in [0, 1], shape (B,)."""
    # The map is cut here since torchmetrics' mean takes in windows that reach over the edge.
    _, whole = structural_similarity_index_measure(
        made,
        true,
        sigma=1.5,
        kernel_size=WINDOW,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    edge = WINDOW // 2
    inside: Tensor = whole[..., edge:-edge, edge:-edge]
    return inside.flatten(1).mean(dim=1)
