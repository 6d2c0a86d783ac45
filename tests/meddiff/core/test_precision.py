"""Float32 where the maths needs it."""

import pytest
import torch
from torch import Tensor

from meddiff.core.precision import Float32Buffers, float32


@float32
def product(left: Tensor, right: Tensor) -> Tensor:
    return left @ right


class Scaled:
    @float32
    def times(self, x: Tensor, *, by: Tensor, index: Tensor) -> Tensor:
        assert index.dtype == torch.int64
        return (x @ x) * by


def test_a_product_is_computed_outside_autocast() -> None:
    x = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        inside = product(x, x)
        assert (x @ x).dtype == torch.bfloat16  # autocast is back after it
    assert torch.equal(inside, x @ x)


@pytest.mark.parametrize("given", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_half_precision_comes_in_as_float32_and_nothing_is_narrowed(given: torch.dtype) -> None:
    x = torch.rand(4, 4).to(given)
    wanted = given if given == torch.float64 else torch.float32
    assert product(x, x).dtype == wanted
    assert torch.equal(product(x, x), x.to(wanted) @ x.to(wanted))


def test_methods_and_arguments_by_name() -> None:
    x, by = torch.rand(4, 4).bfloat16(), torch.tensor(2.0).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = Scaled().times(x, by=by, index=torch.tensor([1]))
    assert torch.equal(found, (x.float() @ x.float()) * 2)


def test_shapes_alone_on_the_meta_device() -> None:
    assert product(torch.rand(2, 3, device="meta"), torch.rand(3, 4, device="meta")).shape == (2, 4)


def test_gradients_pass_through_the_widening() -> None:
    x = torch.rand(4, 4).bfloat16().requires_grad_()
    product(x, x).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def test_buffers_stay_float32_in_a_module_that_is_cast() -> None:
    class Table(Float32Buffers):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("values", torch.tensor([1e-4, 0.02]))

    table = Table().to(torch.bfloat16)
    assert table.values.dtype == torch.float32
    assert table.to("meta").values.device.type == "meta"


def test_without_a_tensor_it_says_so() -> None:
    with pytest.raises(TypeError, match="product: none of its arguments is a tensor"):
        product(1, 2)  # type: ignore[arg-type]
