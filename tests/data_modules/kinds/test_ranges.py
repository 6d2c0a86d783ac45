"""A data module made in Python checks its arguments by their annotations."""

import math
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

from data_modules import ISICDataModule, IXIDataModule, NoiseDataModule


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (ISICDataModule, {"batch_size": 0}, "batch_size: 0 given"),
        (ISICDataModule, {"in_channels": 2}, "in_channels: 2 given, expected 1 or 3"),
        (ISICDataModule, {"val_fraction": math.nan}, "val_fraction: nan given"),
        (ISICDataModule, {"val_fraction": 0.5, "test_fraction": 0.5}, "their sum must be below 1"),
        (ISICDataModule, {"num_classes": 65}, "num_classes: 65 given"),
        (IXIDataModule, {"percentiles": (99.5, 0.5)}, "0 <= low < high <= 100"),
        (IXIDataModule, {"percentiles": (0.5,)}, "expected two"),
        (IXIDataModule, {"slices": ()}, "slices: [] given"),
        (IXIDataModule, {"slices": (0.5, 1.5)}, "slices: 1.5 given"),
        (NoiseDataModule, {"num_samples": 0}, "num_samples: 0 given"),
    ],
)
def test_refused_by_a_data_module(
    kind: type[LightningDataModule], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=r"^data\.init_args") as refused:
        kind(**given)
    assert words in str(refused.value)
