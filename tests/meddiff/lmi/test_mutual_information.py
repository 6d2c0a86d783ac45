"""Facts 1 to 4 and 8 of docs/papers/lmi.md 5g, and Eq. 1 against its definition in NumPy."""

import math
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meddiff.lmi import local_mutual_information, mutual_information

Array = npt.NDArray[np.float64]


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def bits(masses: Array) -> float:
    p = masses / masses.sum()
    return float(-(p * np.log2(p + 1e-10)).sum())


def expected_information(px: Array, py: Array, bins: int, h: float, kind: str) -> float:
    """Mutual information of two patches by section 5a, one pair at a time."""
    centres = np.linspace(0, 255, bins)
    away_x, away_y = (np.abs(p.reshape(-1, 1) - centres) for p in (px, py))
    if kind == "hist":
        kx, ky = (np.eye(bins)[away.argmin(1)] for away in (away_x, away_y))
    else:
        kx, ky = (np.exp(-((away / h) ** 2) / 2) for away in (away_x, away_y))
    return bits(kx.mean(0)) + bits(ky.mean(0)) - bits(kx.T @ ky)


def expected_map(x: Array, y: Array, patch: int, search: int, normalized: bool, kind: str) -> Array:
    """Eq. 1, pixel by pixel."""
    height, width = x.shape
    x, y = ((i - i.min()) / (i.max() - i.min()) * 255 for i in (x, y))
    half, reach = patch // 2, search // 2
    x, y = np.pad(x, half), np.pad(y, half + reach)
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            px = x[i : i + patch, j : j + patch]
            for k in range(search):
                for m in range(search):
                    py = y[i + k : i + k + patch, j + m : j + m + patch]
                    value = expected_information(px, py, 27, 8.0, kind)
                    if normalized:
                        # A patch's information with itself alone, by the same kernels' marginals.
                        both = marginal_bits(px, kind) + marginal_bits(py, kind)
                        value = min(1.0, 2 * value / both) if both >= 1e-6 else 0.0
                    out[i, j] = max(out[i, j], value)
    return out


def marginal_bits(patch: Array, kind: str) -> float:
    away = np.abs(patch.reshape(-1, 1) - np.linspace(0, 255, 27))
    kernels = np.eye(27)[away.argmin(1)] if kind == "hist" else np.exp(-((away / 8) ** 2) / 2)
    return bits(kernels.mean(0))


@pytest.mark.parametrize("estimator", ["parzen", "hist"])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize(("patch", "search"), [(3, 3), (3, 5), (5, 1)])
def test_the_map_is_eq_1(estimator: str, normalized: bool, patch: int, search: int) -> None:
    x, y = uniform(2, 1, 7, 5), uniform(2, 1, 7, 5, seed=1)
    x[1, 0, 1:, 1:] = 0.25  # patches of one grey level too
    found = local_mutual_information(
        x, y, patch_size=patch, search_size=search, normalized=normalized, estimator=estimator
    )
    assert found.shape == (2, 1, 7, 5)
    for image in range(2):
        pair = x[image, 0].double().numpy(), y[image, 0].double().numpy()
        expected = expected_map(*pair, patch, search, normalized, estimator)
        np.testing.assert_allclose(found[image, 0].numpy(), expected, rtol=0, atol=1e-5)


def test_identical_random_patches_have_the_paper_s_information() -> None:
    """Fact 2."""
    patches = uniform(2000, 9) * 255
    found = mutual_information(patches, patches)
    assert found.mean().item() == pytest.approx(0.516, abs=0.01)
    assert found.min() > 0.3
    assert found.max() < 0.65
    for grey, mean in ((patches.floor(), 0.960), (patches, 0.918)):
        fine = mutual_information(grey, grey, bins=256, bandwidth=0.32)
        assert fine.mean().item() == pytest.approx(mean, abs=0.003)


def test_constant_patches_share_nothing() -> None:
    """Fact 2: the joint density is of rank one."""
    grey = torch.tensor([0.0, 17.0, 128.0, 255.0])[:, None].expand(4, 9)
    for other in (grey, uniform(4, 9) * 255):
        assert mutual_information(grey, other).max() < 1e-5
        assert mutual_information(other, grey, normalized=False).max() < 1e-5


def test_samples_out_of_range_are_not_informative() -> None:
    """Fact 3: the reference's ratio is 2 there."""
    inside, outside = uniform(5, 9) * 255, uniform(5, 9) * 255 + 1e4
    for pair in ((inside, outside), (outside, inside), (outside, outside)):
        assert torch.equal(mutual_information(*pair), torch.zeros(5))
    half = torch.cat([inside[:, :4], outside[:, 4:]], dim=1)
    assert mutual_information(inside, half).max() <= 1


def test_property_1_of_the_histogram() -> None:
    """Fact 1: information of x with itself is its entropy, the most that any y tells of x."""
    x, y = uniform(200, 9) * 255, uniform(200, 9, seed=1) * 255
    y[:50] = x[:50].roll(1, 1)

    def information(a: Tensor, b: Tensor) -> Tensor:
        return mutual_information(a, b, bins=6, normalized=False, estimator="hist")

    counts = torch.nn.functional.one_hot((x / 51).round().long(), 6).double().mean(1)
    torch.testing.assert_close(
        information(x, x), torch.special.entr(counts).sum(1).float() / math.log(2)
    )
    assert (information(x, y) <= information(x, x) + 1e-6).all()
    torch.testing.assert_close(information(x, y), information(y, x))
    labels = torch.tensor([3.0, 0.0, 5.0, 1.0, 4.0, 2.0]) * 51
    renamed = labels[(y / 51).round().long()]
    torch.testing.assert_close(information(x, renamed), information(x, y))


def test_only_the_second_image_is_searched() -> None:
    """Fact 1: so the map is not symmetric, though the information of two patches is."""
    x, y = uniform(1, 1, 8, 8), uniform(1, 1, 8, 8, seed=1)
    there = local_mutual_information(x, y, search_size=1)
    torch.testing.assert_close(there, local_mutual_information(y, x, search_size=1))
    assert (local_mutual_information(x, y) - local_mutual_information(y, x)).abs().max() > 0.01


def test_a_constant_image_is_zeros() -> None:
    """So it equals a black image, and shares nothing, even where the padding begins."""
    x = uniform(1, 1, 6, 6)
    flat = torch.full_like(x, 0.7)
    for pair in ((x, flat), (flat, x), (flat, flat)):
        assert torch.equal(local_mutual_information(*pair), torch.zeros_like(x))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 2, 9), (1, 1, 1, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_any_size_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = uniform(*shape).to(dtype)
    found = local_mutual_information(x, x, patch_size=5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, local_mutual_information(x.float(), x.float(), patch_size=5))


seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 8)
few = settings(max_examples=15, deadline=None)


@few
@given(seeds, sides, sides, st.booleans(), st.sampled_from(["parzen", "hist"]))
def test_bounds_and_the_search_window(
    seed: int, height: int, width: int, normalized: bool, estimator: str
) -> None:
    """Fact 4: more candidates never lower the map."""
    x, y = uniform(2, 1, height, width, seed=seed), uniform(2, 1, height, width, seed=seed + 1)
    y[0] = x[0]
    centre, near, far = (
        local_mutual_information(x, y, search_size=size, normalized=normalized, estimator=estimator)
        for size in (1, 3, 5)
    )
    assert centre.min() >= 0
    assert far.max() <= (1 if normalized else math.log2(27) + 1e-5)
    assert (near >= centre - 1e-6).all()
    assert (far >= near - 1e-6).all()


@few
@given(seeds, st.floats(0.01, 100), st.floats(-100, 100))
def test_affine_maps_of_the_grey_levels_change_nothing(seed: int, a: float, b: float) -> None:
    """Fact 8."""
    x, y = uniform(1, 1, 6, 7, seed=seed), uniform(1, 1, 6, 7, seed=seed + 1)
    expected = local_mutual_information(x, y)
    found = local_mutual_information((x.double() * a + b), (y.double() * a - b))
    # What float32 leaves of the grey levels when the offset is large.
    tolerance = 1e-5 + 1e-6 * abs(b) / a
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@few
@given(seeds, st.integers(1, 100), st.sampled_from(["parzen", "hist"]))
def test_neither_chunks_nor_the_batch_matter(seed: int, chunk: int, estimator: str) -> None:
    x, y = uniform(3, 1, 5, 6, seed=seed), uniform(3, 1, 5, 6, seed=seed + 1)
    whole = local_mutual_information(x, y, estimator=estimator)
    chunked = local_mutual_information(x, y, estimator=estimator, chunk_size=chunk)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=2e-6)
    alone = local_mutual_information(x[1:2], y[1:2], estimator=estimator)
    torch.testing.assert_close(alone, whole[1:2], rtol=0, atol=2e-6)


def test_no_gradient_unless_asked() -> None:
    x, y = uniform(1, 1, 5, 5), uniform(1, 1, 5, 5, seed=1)
    assert not local_mutual_information(x, y).requires_grad
    y.requires_grad_()
    with torch.no_grad():
        plain = local_mutual_information(x, y)
    assert not plain.requires_grad
    recorded = local_mutual_information(x, y)
    assert recorded.requires_grad
    torch.testing.assert_close(recorded.detach(), plain, rtol=0, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    x, y = uniform(1, 1, 5, 5), uniform(1, 1, 5, 5, seed=1)
    y[0, 0, 0, 0], y[0, 0, 4, 4] = 0.0, 1.0  # the extremes stay where they are
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    direction[0, 0, 0, 0] = direction[0, 0, 4, 4] = 0.0
    y.requires_grad_()
    (slope,) = torch.autograd.grad(local_mutual_information(x, y, chunk_size=7).sum(), y)
    with torch.no_grad():
        step = 5e-4
        up, down = (local_mutual_information(x, y + s * direction).sum() for s in (step, -step))
    measured = (up - down).item() / (2 * step)
    assert (slope * direction).sum().item() == pytest.approx(measured, rel=0.03, abs=0.03)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("patch_size", 4),
        ("patch_size", -1),
        ("search_size", 2),
        ("bins", 1),
        ("bandwidth", 0.0),
        ("bandwidth", math.nan),
        ("estimator", "kde"),
        ("chunk_size", 0),
    ],
)
def test_an_argument_out_of_range_is_named(argument: str, value: Any) -> None:
    x = uniform(1, 1, 4, 4)
    with pytest.raises(ValueError, match=f"^{argument} must .*; got {value!r}$"):
        local_mutual_information(x, x, **{argument: value})


def test_shapes_that_differ_are_refused() -> None:
    x = uniform(1, 1, 4, 4)
    for other in (x[0], uniform(2, 1, 4, 4), uniform(1, 1, 4, 5), uniform(1, 3, 4, 4)):
        with pytest.raises(ValueError, match=r"^x and y must be \(B, 1, H, W\) alike; got \(1, 1"):
            local_mutual_information(x, other)
    with pytest.raises(ValueError, match=r"^px and py must be \(P, n\) alike; got \(4, 4\) and"):
        mutual_information(x[0, 0], x[0, 0, :2])


KERNEL = """
import torch
from meddiff.lmi import local_mutual_information
from meddiff.lmi.estimators import Estimator
from meddiff.lmi.kernel import fused_map

x, y = torch.rand(2, 2, 1, 2, 3, generator=torch.Generator().manual_seed(0))
x[1, 0] = 0
for patch, search, bins, normalized in ((3, 3, 27, True), (5, 1, 12, False)):
    found = fused_map(x, y, patch, search, Estimator(bins, 8.0, normalized, "parzen"))
    expected = local_mutual_information(
        x, y, patch_size=patch, search_size=search, bins=bins, normalized=normalized
    )
    print(float((found - expected).abs().max()))
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_gpu_kernel_in_triton_s_interpreter() -> None:
    child = subprocess.run(
        [sys.executable, "-c", KERNEL],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    errors = [float(line) for line in child.stdout.split()]
    assert len(errors) == 2
    assert max(errors) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_cpu_s_map_and_never_waits() -> None:
    x, y = uniform(2, 1, 16, 20), uniform(2, 1, 16, 20, seed=1)
    on_gpu = x.cuda(), y.cuda()
    for bins in (27, 80):
        expected = local_mutual_information(x, y, bins=bins)
        local_mutual_information(*on_gpu, bins=bins)
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = local_mutual_information(*on_gpu, bins=bins)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-5)
