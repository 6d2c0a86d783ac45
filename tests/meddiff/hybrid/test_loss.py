"""The loss of docs/papers/hybrid.md 2a against NumPy."""

import numpy as np
import pytest
import torch

from meddiff.core.losses import cross_entropy
from meddiff.hybrid.loss import hybrid_loss, mask_error, one_hot


def make_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 3, 4, 5, generator=generator) * 2 - 1
    mask = torch.randint(0, 2, (3, 4, 5), generator=generator)
    prediction = torch.randn(3, 5, 4, 5, generator=generator)
    weight = torch.tensor([9999.0, 1.0, 4e-5])
    return prediction, image, mask, weight


def test_the_loss_weighs_each_image_before_the_batch_mean() -> None:
    prediction, image, mask, weight = make_batch()
    p, x = prediction.double().numpy(), image.double().numpy()
    y = np.stack([mask == 0, mask == 1], axis=1).astype(float)
    per_image = [
        w * (((x[b] - p[b, :3]) ** 2).mean() + 1e-4 * ((y[b] - p[b, 3:]) ** 2).mean())
        for b, w in enumerate(weight.tolist())
    ]
    loss = hybrid_loss(prediction, image, mask, weight, mask_weight=1e-4)
    assert loss.total.item() == pytest.approx(np.mean(per_image), rel=1e-5)


def test_a_zero_prediction_costs_the_mean_squares() -> None:
    _, image, mask, weight = make_batch()
    loss = hybrid_loss(torch.zeros(3, 5, 4, 5), image, mask, weight, mask_weight=0.5)
    mean_x2 = image.square().flatten(1).mean(1)
    expected = (weight * (mean_x2 + 0.5 * 0.5)).mean()  # mean y^2 = 1/K for one-hot
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_ignored_pixels_weigh_nothing_and_leave_the_mean() -> None:
    prediction, _, mask, _ = make_batch()
    mask[0, :2] = 255
    changed = prediction.clone()
    changed[0, 3:, :2] += 100.0
    error = mask_error(prediction[:, 3:], mask)
    torch.testing.assert_close(error, mask_error(changed[:, 3:], mask))
    y = one_hot(mask[:1, 2:], 2)
    torch.testing.assert_close(error[0], (y - prediction[:1, 3:, 2:]).square().mean())


def test_an_image_without_valid_pixels_costs_nothing() -> None:
    prediction, _, _, _ = make_batch()
    assert mask_error(prediction[:, 3:], torch.full((3, 4, 5), 255)).tolist() == [0, 0, 0]


def test_without_a_mask_the_image_term_stands_alone() -> None:
    prediction, image, mask, weight = make_batch()
    alone = hybrid_loss(prediction[:, :3], image, None, weight, mask_weight=1.0)
    both = hybrid_loss(prediction, image, mask, weight, mask_weight=1.0)
    assert alone.total == both.image


def test_cross_entropy_is_the_mean_over_pixels_that_count() -> None:
    prediction, _, mask, _ = make_batch()
    mask[0, :2] = 255
    counted = mask != 255
    p = prediction[:, 3:].double().softmax(1).movedim(1, -1)[counted].numpy()
    truth = mask[counted].numpy()
    expected = -np.log(p[np.arange(len(truth)), truth]).mean()
    assert cross_entropy(prediction[:, 3:], mask).item() == pytest.approx(expected, rel=1e-5)
    assert cross_entropy(prediction[:, 3:], torch.full((3, 4, 5), 255)).item() == 0
