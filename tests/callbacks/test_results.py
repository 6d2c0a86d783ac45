import numpy as np
import pytest
import torch
from torch import Tensor

from callbacks.results import class_ids, classes_of, mask_pixels, take_logits


@pytest.mark.parametrize(
    ("highest", "classes", "kind"),
    [(1, 2, "u1"), (255, None, "u1"), (255, 256, "u1"), (3, 300, "u2"), (256, None, "u2")],
)
def test_ids_have_as_many_bits_as_they_need(highest: int, classes: int | None, kind: str) -> None:
    ids = class_ids(torch.tensor([[0, highest]]), classes, "item 3")
    assert ids.dtype == np.dtype(kind)
    assert ids.tolist() == [[0, highest]]
    assert mask_pixels(ids, classes).tolist() == [[0, 255 if classes == 2 else highest]]


@pytest.mark.parametrize(
    ("mask", "classes", "message"),
    [
        (torch.tensor([[0, 2]]), 2, "holds 0 to 2; expected class ids from 0 to 1"),
        (torch.tensor([[-1, 0]]), None, "holds -1 to 0"),
        (torch.tensor([[70_000]]), None, "from 0 to 65535"),
        (torch.tensor([[0.5]]), 2, r"the mask is torch\.float32 of shape \(1, 1\)"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), 2, r"\(1, 2, 2\); expected class ids"),
    ],
)
def test_what_are_no_class_ids_is_refused(mask: Tensor, classes: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=rf"item 3.*{message}"):
        class_ids(mask, classes, "item 3")


def test_booleans_are_two_classes() -> None:
    mask = torch.tensor([[True, False]])
    assert classes_of({"mask": mask[None]}, None, None) == 2
    assert mask_pixels(class_ids(mask, 2, ""), 2).tolist() == [[255, 0]]


def test_classes_are_those_of_the_logits_else_of_the_module() -> None:
    values = {"mask": torch.zeros(1, 4, 4, dtype=torch.int64)}
    assert classes_of(values, torch.zeros(1, 7, 4, 4), 2) == 7
    assert classes_of(values, None, 3) == 3
    assert classes_of(values, None, None) is None


@pytest.mark.parametrize(
    ("logits", "taken"),
    [((2, 5, 4, 4), True), ((2, 1, 4, 4), False), ((2, 5), False), ((2, 5, 8, 8), False)],
)
def test_logits_are_those_of_the_mask(logits: tuple[int, ...], taken: bool) -> None:
    """Of another shape they are any other tensor, and are written."""
    values = {"mask": torch.zeros(2, 4, 4), "logits": torch.zeros(logits)}
    assert (take_logits(values) is not None) == taken
    assert ("logits" in values) != taken
    assert take_logits({"logits": torch.zeros(logits)}) is None
