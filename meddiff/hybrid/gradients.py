"""How strongly each term of the loss pulls (docs/papers/hybrid.md 2c-10)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from meddiff.hybrid.loss import HybridLoss


class TermNorms(NamedTuple):
    """Euclidean norms of the gradients of the two terms, scalars."""

    image: Tensor
    mask: Tensor


def term_gradient_norms(
    loss: Callable[[], HybridLoss], parameters: Sequence[nn.Parameter]
) -> TermNorms:
    """Measures the gradients of both terms without touching `.grad`.

    Args:
        loss: Computes the loss, graph included; called once a term, since a compiled network lets
            its graph be walked only once.
        parameters: The weights to measure at.
    """
    norms = []
    for term in ("image", "mask"):
        gradients = torch.autograd.grad(getattr(loss(), term), parameters, allow_unused=True)
        norms.append(torch.nn.utils.get_total_norm([g for g in gradients if g is not None]))
    return TermNorms(*norms)
