import numpy as np
import pytest
import torch

from callbacks.metrics.overlap import Overlap, overlap_of, pixel_counts


def by_sets(predicted: np.ndarray, true: np.ndarray, k: int) -> tuple[float, float, bool]:
    """Dice and Jaccard of one class in one image, from sets of pixel positions."""
    counted = true != 255
    p = {tuple(at) for at in np.argwhere((predicted == k) & counted)}
    t = {tuple(at) for at in np.argwhere((true == k) & counted)}
    if not p | t:
        return 1.0, 1.0, False
    return 2 * len(p & t) / (len(p) + len(t)), len(p & t) / len(p | t), True


def overlap(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> Overlap:
    counts = pixel_counts(torch.tensor(predicted), torch.tensor(true), num_classes)
    assert counts.shape == (len(true), num_classes, 3)
    return overlap_of(counts.numpy())


@pytest.mark.parametrize("num_classes", [2, 4])
def test_overlap_agrees_with_sets_of_pixels(num_classes: int) -> None:
    draw = np.random.default_rng(0)
    true = draw.integers(num_classes, size=(6, 7, 5))
    predicted = draw.integers(num_classes, size=(6, 7, 5))
    true[draw.random(true.shape) < 0.2] = 255
    true[1][true[1] != 255] = 0  # no foreground in the mask
    true[2][true[2] != 255] = predicted[2] = 0  # nor in the prediction
    true[3] = 255  # nothing counts
    true[4][true[4] == num_classes - 1] = 0  # a class less
    predicted[4][predicted[4] == num_classes - 1] = 0
    scores = overlap(predicted, true, num_classes)
    for image in range(6):
        found = [by_sets(predicted[image], true[image], k) for k in range(1, num_classes)]
        present = [entry for entry in found if entry[2]] or [(1.0, 1.0, True)]
        assert scores.dice[image] == pytest.approx(np.mean([dice for dice, _, _ in present]))
        assert scores.jaccard[image] == pytest.approx(np.mean([jac for _, jac, _ in present]))
        for k, (_, jaccard, there) in enumerate(found):
            value = scores.class_jaccard[image, k]
            assert np.isnan(value) if not there else value == pytest.approx(jaccard)
    assert scores.jaccard[2] == scores.dice[2] == scores.jaccard[3] == 1
    assert scores.jaccard[1] == 0


def pooled_by_sets(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> list[float]:
    """IoU of each class from the sets of pixel positions of all images together."""
    counted = true != 255
    ious = []
    for k in range(num_classes):
        p = {tuple(at) for at in np.argwhere((predicted == k) & counted)}
        t = {tuple(at) for at in np.argwhere((true == k) & counted)}
        ious.append(len(p & t) / len(p | t) if p | t else 0.0)
    return ious


@pytest.mark.parametrize("num_classes", [2, 5])
def test_pooled_iou_agrees_with_sets_of_pixels(num_classes: int) -> None:
    draw = np.random.default_rng(3)
    true = draw.integers(num_classes, size=(6, 7, 5))
    predicted = draw.integers(num_classes, size=(6, 7, 5))
    true[draw.random(true.shape) < 0.2] = 255
    true[0], predicted[0] = 0, 0  # images of one class weigh by their pixels
    true[1], predicted[1] = 1, 1
    if num_classes > 2:  # a class that no image has
        true[true == num_classes - 1] = 0
        predicted[predicted == num_classes - 1] = 1
    scores = overlap(predicted, true, num_classes)
    expected = pooled_by_sets(predicted, true, num_classes)
    assert scores.class_iou == pytest.approx(expected)
    assert (expected[-1] == 0) == (num_classes > 2)
    # Cut into other images, the same pixels have the same pooled figures.
    again = overlap(predicted.reshape(3, 14, 5), true.reshape(3, 14, 5), num_classes)
    assert again.class_iou.tolist() == scores.class_iou.tolist()
    assert again.jaccard.mean() != scores.jaccard.mean()
