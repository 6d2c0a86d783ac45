"""What every metric of items has from its base."""

from types import SimpleNamespace
from typing import Any, cast

import torch
from lightning.pytorch import Trainer

from callbacks.metrics.items import _each_once

ALONE = cast(Trainer, SimpleNamespace(world_size=1))


def test_items_are_gathered_once_and_in_their_order() -> None:
    parts = [
        (torch.tensor([5, 2]), torch.tensor([[20.0, 0.5], [30.0, 0.6]])),
        (torch.tensor([5, 3]), torch.tensor([[20.0, 0.5], [10.0, 0.1]])),
    ]
    index, rows = _each_once(ALONE, parts)
    assert index.tolist() == [2, 3, 5]
    assert rows[:, 0].tolist() == [30, 10, 20]


def test_counts_stay_whole_numbers() -> None:
    most = 2**53 + 1  # which float64 does not hold
    parts: list[Any] = [(torch.tensor([0]), torch.tensor([[most]]))]
    assert _each_once(ALONE, parts)[1].tolist() == [[most]]
