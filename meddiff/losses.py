"""Losses that several methods share."""

from torch import Tensor
from torch.nn import functional as F

IGNORE = 255
"""Class id of pixels that are not counted."""


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that count, in float32; 0 where none does."""
    total = F.cross_entropy(logits.float(), mask, ignore_index=IGNORE, reduction="sum")
    return total / (mask != IGNORE).sum().clamp(min=1)
