import numpy as np
import pytest
import torch

from callbacks.metrics.kmeans import (
    cluster_dice,
    fit_clusters,
    intensities,
    label_clusters,
    mean_dice,
)


def blobs(levels: list[float], size: int = 400, seed: int = 0) -> torch.Tensor:
    """One image whose pixels lie around grey levels in [0, 1], in [-1, 1]."""
    draw = np.random.default_rng(seed)
    values = np.concatenate([draw.normal(level, 0.01, size) for level in levels])
    return torch.tensor(draw.permutation(values) * 2 - 1, dtype=torch.float32).reshape(1, 20, -1)


def test_grey_levels_are_clamped_and_the_mean_of_the_channels() -> None:
    image = torch.tensor([[-3.0, -1.0, 0.0], [1.0, 1.0, 9.0]]).reshape(1, 2, 1, 3)
    assert intensities(image).tolist() == [[[0.5, 0.5, 0.75]]]


def test_centroids_are_the_levels_of_the_pixels_and_ascend() -> None:
    levels = [0.85, 0.1, 0.6, 0.35]
    images = [blobs(levels[:2]), blobs(levels[2:], seed=1)]
    centroids = fit_clusters(iter(images), 4, seed=0)
    assert centroids.dtype == torch.float64
    assert centroids.tolist() == pytest.approx(sorted(levels), abs=2e-3)
    assert fit_clusters(images, 4, seed=0).tolist() == centroids.tolist()


def test_fewer_pixels_of_many_images_have_the_same_clusters() -> None:
    levels = [0.1, 0.4, 0.8]
    images = [blobs(levels, seed=seed) for seed in range(10)]
    thinned = fit_clusters(images, 3, seed=0, most=2000)
    assert thinned.tolist() == fit_clusters(images, 3, seed=0, most=2000).tolist()
    assert thinned.tolist() != fit_clusters(images, 3, seed=0).tolist()
    assert thinned.tolist() == pytest.approx(levels, abs=3e-3)


def test_later_and_earlier_images_count_alike_where_pixels_are_left_out() -> None:
    # Centroids at 0.2 and 0.8 are means: a share that drifts over the images would move them.
    images = [torch.full((1, 100, 10), 2 * (0.1 + 0.02 * n) - 1) for n in range(11)]
    images += [torch.full((1, 100, 10), 2 * (0.7 + 0.02 * n) - 1) for n in range(11)]
    centroids = fit_clusters(images, 2, seed=1, most=4000)
    assert centroids.tolist() == pytest.approx([0.2, 0.8], abs=0.01)


@pytest.mark.parametrize(("levels", "has"), [([0.2, 0.7], "2 grey levels"), ([], "0 grey levels")])
def test_too_few_grey_levels(levels: list[float], has: str) -> None:
    images = [torch.full((1, 4, 4), level) for level in levels]
    with pytest.raises(ValueError, match=rf"translation\.clusters: 3 clusters .* {has}"):
        fit_clusters(images, 3, seed=0)


def test_labels_are_those_of_the_nearest_centroid() -> None:
    centroids = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    image = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    grey = (image[:, 0].double() + 1) / 2
    nearest = (grey[..., None] - centroids).abs().argmin(dim=-1)
    assert torch.equal(label_clusters(image, centroids), nearest)


def test_dice_by_hand_without_the_darkest_and_without_the_absent() -> None:
    labels = torch.tensor([[[0, 0, 1, 1, 2]], [[0, 0, 0, 0, 0]], [[0, 3, 3, 1, 1]]])
    true = torch.tensor([[[0, 1, 1, 1, 0]], [[0, 0, 0, 0, 0]], [[1, 3, 3, 0, 1]]])
    dice = cluster_dice(labels, true, 4)
    expected = [
        [2 * 1 / 4, 2 * 2 / 5, 0.0, np.nan],
        [1.0, np.nan, np.nan, np.nan],
        [0.0, 2 * 1 / 4, np.nan, 1.0],
    ]
    np.testing.assert_allclose(dice.numpy(), expected)
    assert mean_dice(dice).tolist() == pytest.approx([0.4, 1.0, 0.75])
