"""The samplers against the exact score of a Gaussian N(mean, std^2) in every pixel."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from meddiff.diffusion.samplers import ancestral, euler_maruyama, ode, predictor_corrector
from meddiff.diffusion.sde import VESDE, VPSDE, Predictor

MEAN, STD = 0.4, 0.1
ONE = torch.ones(1, 1, 1, 1)


def exact(sde: VESDE | VPSDE, std: float = STD) -> Predictor:
    """epsilon = -sigma * score of N(alpha mean, alpha^2 std^2 + sigma^2)."""

    def epsilon(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (figure.view(-1, 1, 1, 1) for figure in sde.marginal(t))
        return sigma * (x - alpha * MEAN) / (alpha**2 * std**2 + sigma**2)

    return epsilon


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(num: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(num, 1, 8, 8, generator=generator(1))


def test_euler_maruyama_takes_the_papers_steps() -> None:
    # docs/papers/lmi.md 5g-6: the same steps in float64 NumPy with the recorded noise.
    sde, steps = VESDE(), 200
    x = noise(2, 50.0)
    found = euler_maruyama(exact(sde), x, sde, start=1.0, steps=steps, generator=generator())
    recorded = generator()
    y = x.double().numpy()
    log_ratio, mean = np.log(50 / 0.01), y
    for t in np.linspace(1, 1e-5, steps):
        sigma2 = (0.01 * 5000**t) ** 2
        g2 = 2 * sigma2 * log_ratio
        score = -(y - MEAN) / (STD**2 + sigma2)
        mean = y + g2 * score / steps
        z = torch.randn(y.shape, generator=recorded).double().numpy()
        y = mean + np.sqrt(g2 / steps) * z
    assert np.abs(found.numpy() - mean).max() < 2e-4


def flow_error(sde: VESDE | VPSDE, start: float, steps: int, std: float) -> float:
    """Root mean square distance of the ODE's end to that of the exact flow of N(MEAN, std^2).

    The flow scales what is around the mean by the ratio of the standard deviations.
    """
    alpha, sigma = (float(figure) for figure in sde.marginal(torch.tensor(start)))
    spread = (alpha**2 * std**2 + sigma**2) ** 0.5
    x = alpha * MEAN + spread * noise(2)

    found = ode(exact(sde, std), x, sde, start=start, steps=steps)
    wanted = MEAN + noise(2) * std
    return float((found - wanted).square().mean().sqrt())


STEPS = (10, 20, 50, 100, 250, 500, 999, 1000)


@pytest.mark.parametrize("start", [999, 499])
def test_ode_under_vp_follows_the_exact_flow(start: int) -> None:
    errors = [flow_error(VPSDE(), start, steps, 0.3) for steps in STEPS]
    assert errors[2] < 0.007  # 0.033 where the last index is 0
    assert errors[3] < 0.0015  # 0.010
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("start", [1.0, 0.5])
@pytest.mark.parametrize("sigma_max", [5.0, 50.0, 1000.0])
@pytest.mark.parametrize("sigma_min", [1e-6, 1e-4, 1e-2])
def test_ode_under_ve_follows_the_exact_flow(
    sigma_min: float, sigma_max: float, start: float
) -> None:
    sde = VESDE(sigma_min, sigma_max)
    errors = [flow_error(sde, start, steps, 0.3) for steps in STEPS]
    assert max(errors) < 0.15
    assert max(errors[2:]) < 0.02
    assert max(errors[4:]) < 1e-3


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("sampler", [ancestral, euler_maruyama, predictor_corrector])
def test_stochastic_samplers_are_finite_at_any_number_of_steps(
    sampler: Callable[..., Tensor], steps: int
) -> None:
    sde = VPSDE(final_noise=True) if sampler is ancestral else VESDE()
    x, start = noise(2, 1.0 if sampler is ancestral else 50.0), 999 if sampler is ancestral else 1.0
    made = sampler(exact(sde), x, sde, start=start, steps=steps, generator=generator())
    assert made.isfinite().all()


def test_stochastic_samplers_end_in_the_distribution() -> None:
    ve, vp = VESDE(), VPSDE()
    start = noise(64, 50.0)
    corrected = predictor_corrector(
        exact(ve), start, ve, start=1.0, steps=60, generator=generator()
    )
    plain = euler_maruyama(exact(ve), start, ve, start=1.0, steps=400, generator=generator())
    code = ancestral(exact(vp), noise(64), vp, start=999, steps=1000, generator=generator())
    for sample, spread in ((corrected, 0.15), (plain, 0.05), (code, 0.05)):
        assert sample.mean().item() == pytest.approx(MEAN, abs=0.01)
        assert sample.std().item() == pytest.approx(STD, rel=spread)


def test_a_share_of_the_steps_is_made_from_a_share_of_the_time() -> None:
    ve, vp, calls = VESDE(), VPSDE(), []

    def counted(sde: VESDE | VPSDE) -> Predictor:
        def epsilon(x: Tensor, t: Tensor) -> Tensor:
            calls.append(t[0].item())
            return exact(sde)(x, t)

        return epsilon

    euler_maruyama(counted(ve), noise(1), ve, start=0.5, steps=10, generator=generator())
    assert calls == pytest.approx(np.linspace(0.5, 1e-5, 5), abs=1e-6)
    calls.clear()
    ode(counted(ve), noise(1), ve, start=0.5, steps=10)
    assert calls == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1], abs=1e-6)
    calls.clear()
    predictor_corrector(counted(ve), noise(1), ve, start=0.5, steps=10, generator=generator())
    assert len(calls) == 10  # two a step
    calls.clear()
    ancestral(counted(vp), noise(1), vp, start=499, steps=1000, generator=generator())
    assert calls == list(range(499, -1, -1))
    calls.clear()
    ode(counted(vp), noise(1), vp, start=499, steps=10)
    assert calls == [499, 399, 299, 200, 100]


@pytest.mark.parametrize(("steps", "before"), [(1000, 1), (500, 2), (10, 111)])
def test_final_noise_is_that_of_the_last_step(steps: int, before: int) -> None:
    plain, noisy = (
        ancestral(exact(sde), noise(16), sde, start=999, steps=steps, generator=generator())
        for sde in (VPSDE(), VPSDE(final_noise=True))
    )
    # The respaced process has the index `before` one step before 0.
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    beta = 1 - abar[before] / abar[0]
    posterior = beta * (1 - abar[0]) / (1 - abar[before])
    assert (noisy - plain).std().item() == pytest.approx(posterior**0.5, rel=0.05)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    sde = VESDE()
    x = noise(3, 50.0)

    def made(items: list[int]) -> Tensor:
        own = [generator(item) for item in items]
        return predictor_corrector(exact(sde), x[items], sde, start=1.0, steps=5, generator=own)

    assert torch.equal(made([0, 1, 2])[2:], made([2]))
