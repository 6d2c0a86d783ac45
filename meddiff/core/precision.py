"""Float32 where the maths needs it, whatever the precision of the run."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


def float32(function: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors that computes outside autocast and takes half precision as float32.

    Tensors that are arguments themselves count, not those inside of lists.
    bfloat16 holds neither the noise of small t nor weights that span eight orders of magnitude.
    """

    @wraps(function)
    def outside_autocast(*args: P.args, **kwargs: P.kwargs) -> R:
        given = (*args, *kwargs.values())
        device = next((x.device for x in given if isinstance(x, Tensor)), None)
        if device is None:
            raise TypeError(f"{function.__name__}: none of its arguments is a tensor")
        with full_precision(device):
            wide: Any = [_widened(x) for x in args]
            named: Any = {name: _widened(x) for name, x in kwargs.items()}
            return function(*wide, **named)

    return outside_autocast


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast."""
    # The meta device, on which shapes are looked at, knows no autocast.
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def require_finite(made: Tensor, what: str) -> Tensor:
    """Returns what a network made of N items, shape (N, ...), where all of it is finite.

    NaN turned into pixels or into the class with the largest logit looks like a result.

    Raises:
        ValueError: If some is NaN or infinite; says of how many items.
    """
    bad = int((~made.isfinite().flatten(1).all(1)).sum())
    if bad:
        raise ValueError(
            f"{what}: {bad} of {len(made)} items hold NaN or infinite values. The weights may be "
            "broken, the precision too low (try trainer.precision: 32-true) or the input not finite"
        )
    return made


def _widened(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.is_floating_point() and value.itemsize < 4
    return value.float() if half else value


class Float32Buffers(nn.Module):
    """A module whose buffers stay float32 and follow to the device only.

    Precision plugins cast whole modules, and bfloat16 holds neither the noise of small t nor a
    distribution over a thousand time indices.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(lambda x: x.to(fn(x).device), recurse)  # type: ignore[no-untyped-call]
        return self
