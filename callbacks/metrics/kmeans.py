"""K-means of grey levels, and the overlap of what it labels in two images."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

MOST_PIXELS = 5_000_000
"""Pixels that the clusters are fitted on at most; 300 slices of 128 x 128 are all of them."""


def intensities(image: Tensor) -> Tensor:
    """Grey levels in [0, 1] of images in [-1, 1], clamped; the mean over several channels.

    Args:
        image: Shape (..., C, H, W).

    Returns:
        float64, shape (..., H, W).
    """
    return ((image.double() + 1) / 2).clamp(0, 1).mean(dim=-3)


def fit_clusters(
    images: Iterable[Tensor], clusters: int, seed: int, most: int = MOST_PIXELS
) -> Tensor:
    """Fits K-means (scikit-learn, 10 starts) on the grey levels of images.

    Above `most` pixels a random half of them is kept, again and again, so that each pixel of the
    set has the same chance; which ones follows from `seed`.

    Args:
        images: Images (C, H, W) in [-1, 1].
        clusters: How many.
        seed: Seed of the starts.
        most: Pixels to fit on.

    Returns:
        Centroids in [0, 1], ascending, float64, shape (clusters,).

    Raises:
        ValueError: If the images have fewer grey levels than there are clusters.
    """
    from sklearn.cluster import KMeans

    pixels = _gathered(images, seed, most)
    levels = len(np.unique(pixels))
    if levels < clusters:
        raise ValueError(
            f"translation.clusters: {clusters} clusters of grey levels are asked for, and the "
            f"training images of the target have {levels} grey levels; give fewer clusters, or "
            "look at the images"
        )
    fitted = KMeans(clusters, n_init=10, random_state=seed).fit(pixels[:, None])
    return torch.from_numpy(np.sort(fitted.cluster_centers_[:, 0]))


def _gathered(images: Iterable[Tensor], seed: int, most: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    share, count = 1.0, 0
    for image in images:
        pixels = intensities(image).flatten().cpu().numpy()
        kept.append(pixels if share == 1 else pixels[draw.random(len(pixels)) < share])
        count += len(kept[-1])
        while count > most:
            kept = [part[draw.random(len(part)) < 0.5] for part in kept]
            share, count = share / 2, sum(map(len, kept))
    return np.concatenate(kept) if kept else np.empty(0)


def label_clusters(image: Tensor, centroids: Tensor) -> Tensor:
    """Gives each pixel the cluster whose centroid is nearest.

    Args:
        image: Shape (B, C, H, W) in [-1, 1].
        centroids: Of `fit_clusters`, shape (K,).

    Returns:
        int64, shape (B, H, W), 0 the darkest.
    """
    return torch.bucketize(intensities(image), (centroids[1:] + centroids[:-1]) / 2)


def cluster_dice(labels: Tensor, true: Tensor, clusters: int) -> Tensor:
    """Dice of each cluster in each image, NaN where neither image has it.

    Args:
        labels: Shape (B, H, W).
        true: Shape (B, H, W).
        clusters: K.

    Returns:
        float64, shape (B, K).
    """
    ids = torch.arange(clusters)[:, None, None]
    left, right = labels[:, None] == ids, true[:, None] == ids
    both = (left & right).sum(dim=(2, 3))
    return 2 * both.double() / (left.sum(dim=(2, 3)) + right.sum(dim=(2, 3)))


def mean_dice(dice: Tensor) -> Tensor:
    """Mean over the clusters that are there, the darkest (the background) left out.

    Args:
        dice: From `cluster_dice`, shape (B, K).

    Returns:
        Shape (B,); 1 where both images are background alone.
    """
    return dice[:, 1:].nanmean(dim=1).nan_to_num(nan=1.0)
