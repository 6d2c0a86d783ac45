"""Propositions 1 and 2 where the conditional expectations are known (docs/papers/hybrid.md 2g)."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from meddiff.diffusion import NoiseSchedule
from meddiff.diffusion.solvers import FinalSigma
from meddiff.hybrid.sampling import Solver, solve

MEAN, DEVIATION = 0.3, 1.0


def gaussian_posterior(schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of x_0 ~ N(m, s^2) given x_t, in float64."""
    abar = schedule.alphas_cumprod.double()[t].view(-1, 1, 1, 1)
    variance = 1.0 / (1.0 / DEVIATION**2 + abar / (1 - abar))
    mean = variance * (MEAN / DEVIATION**2 + abar.sqrt() * x_t.double() / (1 - abar))
    return mean, variance


def sine_of_gaussian(schedule: NoiseSchedule) -> Callable[[Tensor, Tensor], Tensor]:
    """E[(x, sin x) | x_t] in closed form."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        mean, variance = gaussian_posterior(schedule, x_t, t)
        return torch.cat([mean, mean.sin() * (-variance / 2).exp()], dim=1).float()

    return predict


def start(num: int = 256) -> Tensor:
    return torch.randn(num, 1, 1, 1, generator=torch.Generator().manual_seed(0))


def test_the_solver_calls_the_network_at_999_989_to_10() -> None:
    seen: list[int] = []

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        return torch.zeros(len(x_t), 2, 1, 1)

    solve(predict, start(2), torch.zeros(2, 1, 1, 1), NoiseSchedule(), num_inference_steps=100)
    assert seen[:2] == [999, 989]
    assert seen[-1] == 10
    assert len(seen) == 100


def test_the_mask_follows_the_image_as_the_analytic_solution_says() -> None:
    schedule = NoiseSchedule()
    x_T = start()
    z = solve(
        sine_of_gaussian(schedule), x_T, torch.zeros_like(x_T), schedule, num_inference_steps=100
    )
    x, y = z[:, 0].double(), z[:, 1].double()
    v_10 = 1.0 / (1.0 / DEVIATION**2 + 454.907)
    torch.testing.assert_close(y, x.sin() * math.exp(-v_10 / 2), rtol=0, atol=1e-6)
    assert (y - x.sin()).abs().max().item() <= 1.1e-3


@pytest.mark.parametrize("solver", ["ode", "sde"])
def test_any_start_of_the_mask_gives_the_same_bits(solver: str) -> None:
    schedule = NoiseSchedule()
    x_T = start(8)
    results = [
        solve(
            sine_of_gaussian(schedule),
            x_T,
            torch.full_like(x_T, y_T),
            schedule,
            num_inference_steps=100,
            solver=solver,  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(3),
        )
        for y_T in (0.0, 5.0, -50.0)
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("final_sigmas_type", ["zero", "sigma_min"])
def test_a_constant_mask_is_reached_up_to_the_noise_that_is_left(final_sigmas_type: str) -> None:
    schedule = NoiseSchedule()
    constant, y_T = 0.7, -3.0

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x_t), torch.full_like(x_t, constant)], dim=1)

    z = solve(
        predict,
        start(2),
        torch.full((2, 1, 1, 1), y_T),
        schedule,
        num_inference_steps=100,
        final_sigmas_type=final_sigmas_type,  # type: ignore[arg-type]
    )
    if final_sigmas_type == "zero":
        assert z[:, 1].flatten().tolist() == pytest.approx([constant] * 2, abs=1e-7)
    else:
        # y_tau = (sigma_tau / sigma_T) (y_T - alpha_T c) + alpha_tau c at tau = index 0.
        alpha, sigma = schedule.alpha.double(), schedule.sigma.double()
        exact = (sigma[0] / sigma[999]) * (y_T - alpha[999] * constant) + alpha[0] * constant
        assert z[0, 1].item() == pytest.approx(exact.item(), abs=1e-5)
        assert z[0, 1].item() - constant == pytest.approx(0.01 * y_T, abs=2e-4)


def test_the_sde_reaches_the_data_distribution() -> None:
    schedule = NoiseSchedule()
    z = solve(
        sine_of_gaussian(schedule),
        start(20_000),
        torch.zeros(20_000, 1, 1, 1),
        schedule,
        num_inference_steps=100,
        solver="sde",
        generator=torch.Generator().manual_seed(1),
    )
    assert z[:, 0].mean().item() == pytest.approx(MEAN, abs=0.03)
    assert z[:, 0].std().item() == pytest.approx(DEVIATION, abs=0.03)


def test_an_unknown_solver_is_named() -> None:
    with pytest.raises(ValueError, match="solver: 'euler'"):
        solve(
            lambda x, t: x,
            start(1),
            torch.zeros(1, 0, 1, 1),
            NoiseSchedule(),
            num_inference_steps=2,
            solver="euler",  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("solver", ["ode", "sde"])
@pytest.mark.parametrize("steps", [1, 2, 10, 37, 500, 998, 999, 1000])
def test_any_number_of_steps_gives_finite_values(solver: Solver, steps: int) -> None:
    schedule, x_T = NoiseSchedule(), start(16)
    z = solve(
        sine_of_gaussian(schedule),
        x_T,
        torch.zeros_like(x_T),
        schedule,
        num_inference_steps=steps,
        solver=solver,
        generator=torch.Generator().manual_seed(0),
    )
    assert z.isfinite().all()


@pytest.mark.parametrize(
    ("steps", "final", "most"),
    [(0, "zero", 1000), (1001, "zero", 1000), (1000, "sigma_min", 999)],
)
def test_more_steps_than_the_schedule_has_are_refused(
    steps: int, final: FinalSigma, most: int
) -> None:
    x_T = start(2)
    with pytest.raises(ValueError, match=rf"num_inference_steps: {steps} given, .*{most}\b"):
        solve(
            lambda x, t: x,
            x_T,
            x_T[:, :0],
            NoiseSchedule(),
            num_inference_steps=steps,
            final_sigmas_type=final,
        )
