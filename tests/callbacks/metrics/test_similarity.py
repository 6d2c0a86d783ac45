import math

import numpy as np
import pytest
import torch

from callbacks.metrics.similarity import slice_scores


def ssim_by_windows(left: np.ndarray, right: np.ndarray) -> float:
    """Wang et al. 2004, window by window, in float64."""
    at = np.arange(11) - 5
    kernel = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    values = []
    for row in range(left.shape[0] - 10):
        for column in range(left.shape[1] - 10):
            x, y = (
                image[row : row + 11, column : column + 11].astype(np.float64)
                for image in (left, right)
            )
            mx, my = (kernel * x).sum(), (kernel * y).sum()
            vx, vy = (kernel * (x - mx) ** 2).sum(), (kernel * (y - my) ** 2).sum()
            cov = (kernel * (x - mx) * (y - my)).sum()
            c1, c2 = 0.01**2, 0.03**2
            values.append(
                (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            )
    return float(np.mean(values))


def test_psnr_of_known_errors() -> None:
    true = torch.zeros(4, 1, 16, 16)
    made = true.clone()
    made[1] += 0.2  # 0.1 of the range of one
    made[2, :, :4] += 1.0  # 0.5 in a quarter of the pixels
    made[3] += 7  # clamped to 0.5 above
    psnr = slice_scores(made, true, None)[:, 0]
    expected = [100, 20, -10 * math.log10(0.0625), -10 * math.log10(0.25)]
    assert psnr.tolist() == pytest.approx(expected, rel=1e-6)


def test_ssim_is_that_of_the_windows_inside() -> None:
    draw = np.random.default_rng(0)
    made, true = draw.uniform(-1, 1, (2, 3, 1, 14, 17))
    true[1] = 0.5 * made[1]
    scores = slice_scores(torch.tensor(made), torch.tensor(true), None)[:, 1]
    expected = [ssim_by_windows(*((pair[k, 0] + 1) / 2 for pair in (made, true))) for k in range(3)]
    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["slice", "constant", "outside"])
def test_equal_slices_score_one_and_a_hundred_decibels(kind: str) -> None:
    image = torch.rand(2, 1, 16, 16) * 2 - 1
    if kind == "constant":
        image = torch.full_like(image, 0.3)
    if kind == "outside":
        image = image * 5
    centroids = torch.tensor([0.05, 0.3, 0.9], dtype=torch.float64)
    scores = slice_scores(image, image.clone(), centroids)
    assert scores[:, 0].tolist() == [100, 100]
    assert scores[:, 1].tolist() == pytest.approx([1, 1], abs=1e-12)
    assert scores[:, 2].tolist() == [1, 1]
