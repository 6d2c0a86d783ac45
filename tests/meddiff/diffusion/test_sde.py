import math

import numpy as np
import pytest
import torch

from meddiff.diffusion.sde import VESDE, VPSDE


def test_ve_has_the_papers_noise_levels() -> None:
    # docs/papers/lmi.md 5g-5.
    sde = VESDE(0.01, 50.0)
    t = torch.tensor([0.5, 1.0, 0.0])
    assert sde.sigma(t)[0].item() == pytest.approx(0.7071068, abs=1e-6)
    assert sde.g(t)[1].item() == pytest.approx(206.364, abs=1e-3)
    assert sde.g(t)[2].item() == pytest.approx(0.0412727, abs=1e-6)


def test_g_squared_is_the_derivative_of_sigma_squared() -> None:
    sde, t, h = VESDE(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), 1e-6
    slope = (sde.sigma(t + h) ** 2 - sde.sigma(t - h) ** 2) / (2 * h)
    assert torch.allclose(sde.g(t) ** 2, slope, rtol=1e-6)


@pytest.mark.parametrize("num", [1, 4, 5])
def test_times_are_antithetic(num: int) -> None:
    ve = VESDE(epsilon=1e-5).sample_t(num, torch.Generator().manual_seed(0))
    vp = VPSDE().sample_t(num, torch.Generator().manual_seed(0))
    assert ve.shape == vp.shape == (num,)
    half = num // 2 + 1
    for place in range(half, num):
        assert ve[place] == pytest.approx(1 + 1e-5 - ve[place - half].item(), abs=1e-6)
        assert vp[place] == 999 - vp[place - half]


def test_times_cover_their_range_evenly() -> None:
    ve, vp = VESDE(), VPSDE()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([ve.sample_t(64, generator) for _ in range(50)])
    assert drawn.min() >= ve.epsilon
    assert drawn.max() <= 1
    assert np.histogram(drawn.numpy(), 4, (0, 1))[0].tolist() == pytest.approx([800] * 4, rel=0.1)
    indices = torch.cat([vp.sample_t(64, generator) for _ in range(50)])
    assert indices.min() >= 0
    assert indices.max() <= 999
    fixed = ve.fixed_t(torch.arange(40)), vp.fixed_t(torch.arange(40)) / 999
    for times in fixed:
        assert np.histogram(times.numpy(), 4, (0, 1))[0].tolist() == pytest.approx([10] * 4, abs=2)


def test_the_network_is_told_the_logarithm_of_the_noise_or_the_index() -> None:
    t = torch.tensor([1.0, 0.5, 0.0])
    for feature, sigma in zip(VESDE().time_feature(t), (50.0, math.sqrt(0.5), 0.01), strict=True):
        assert feature.item() == pytest.approx(250 * math.log(sigma), rel=1e-4)
    index = torch.tensor([0, 499, 999])
    assert torch.equal(VPSDE().time_feature(index), index)


def test_losses_are_those_of_the_paper_and_of_its_code() -> None:
    noise, prediction = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    sigma = 0.3
    score = -prediction / sigma
    weighted = 0.5 * sigma**2 * (score + noise / sigma) ** 2
    assert torch.allclose(VESDE().loss(prediction, noise), weighted.mean(dim=(1, 2, 3)), rtol=1e-5)
    summed = ((prediction - noise) ** 2).sum(dim=(1, 2, 3))
    assert torch.allclose(VPSDE().loss(prediction, noise), summed, rtol=1e-5)


def test_half_of_the_diffusion_is_where_sdedit_starts() -> None:
    # docs/papers/lmi.md 5a: 500 of 1000 steps; sigma 0.707 under VE.
    ve, vp = VESDE(), VPSDE()
    assert ve.sigma(torch.tensor(ve.start_t(0.5))).item() == pytest.approx(0.7071068, abs=1e-6)
    assert vp.start_t(0.5) == 499
    assert vp.start_t(1.0) == 999


def test_a_range_of_noise_must_be_one() -> None:
    with pytest.raises(ValueError, match="sigma_min: 2"):
        VESDE(2, 1)
