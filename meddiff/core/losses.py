"""Losses that several methods share."""

from torch import Tensor
from torch.nn import functional as F

from meddiff.core.precision import float32

IGNORE = 255
"""Class id of pixels that are not counted."""


@float32
def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that count; 0 where none does.

    Args:
        logits: Shape (B, K, H, W).
        mask: Class ids, shape (B, H, W).

    Returns:
        A scalar, float32.
    """
    total = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum")
    return total / (mask != IGNORE).sum().clamp(min=1)
