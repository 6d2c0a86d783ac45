"""Importance sampling of t (docs/papers/hybrid.md 2c-10)."""

from itertools import pairwise

import pytest
import torch

from meddiff.diffusion import NoiseSchedule, TimestepSampler
from meddiff.diffusion.timesteps import inference_timesteps


def test_uniform_weights_are_the_snr() -> None:
    schedule = NoiseSchedule()
    sampler = TimestepSampler(schedule)
    torch.testing.assert_close(sampler.weights, schedule.snr, rtol=1e-5, atol=0)


def test_the_published_shares_of_the_weights() -> None:
    snr = NoiseSchedule().snr.double()
    assert snr.mean().item() == pytest.approx(31, abs=0.5)
    assert (snr[0] / snr.sum()).item() == pytest.approx(0.32, abs=0.005)
    assert (snr[:21].sum() / snr.sum()).item() == pytest.approx(0.89, abs=0.005)


def test_importance_weights_are_at_most_61_9_and_keep_the_expected_loss() -> None:
    schedule = NoiseSchedule()
    sampler = TimestepSampler(schedule, "importance")
    assert sampler.weights.max().item() == pytest.approx(61.9, abs=0.05)
    assert sampler.probabilities.sum().item() == pytest.approx(1.0, abs=1e-5)
    loss = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    uniform = (schedule.snr * loss).mean()
    importance = (sampler.probabilities * sampler.weights * loss).sum()
    torch.testing.assert_close(importance, uniform, rtol=1e-4, atol=0)


@pytest.mark.parametrize("t_sampling", ["uniform", "importance"])
def test_draws_follow_the_probabilities(t_sampling: str) -> None:
    sampler = TimestepSampler(NoiseSchedule(), t_sampling)  # type: ignore[arg-type]
    t = sampler.sample(400_000, torch.Generator().manual_seed(0))
    assert t.min() >= 0
    assert t.max() <= 999
    counts = torch.bincount(t, minlength=1000) / len(t)
    for window in (slice(0, 1), slice(0, 21), slice(500, 1000)):
        expected = sampler.probabilities[window].sum().item()
        assert counts[window].sum().item() == pytest.approx(expected, rel=0.1)


def test_a_quantile_of_one_stays_in_range() -> None:
    sampler = TimestepSampler(NoiseSchedule(), "importance")
    assert sampler.at(torch.tensor([0.0, 1 - 2**-24, 1.0])).tolist() == [0, 999, 999]


def test_an_unknown_law_is_named() -> None:
    with pytest.raises(ValueError, match="t_sampling: 'cosine'"):
        TimestepSampler(NoiseSchedule(), "cosine")  # type: ignore[arg-type]


@pytest.mark.parametrize("t_sampling", ["uniform", "importance"])
def test_a_cast_of_the_module_leaves_the_law_alone(t_sampling: str) -> None:
    sampler = TimestepSampler(NoiseSchedule(), t_sampling)  # type: ignore[arg-type]
    before = sampler.sample(1000, torch.Generator().manual_seed(0))
    sampler.to(torch.bfloat16)
    torch.set_default_dtype(torch.bfloat16)
    try:
        after = sampler.sample(1000, torch.Generator().manual_seed(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(before, after)
    assert sampler.weights.dtype == torch.float32


def test_validation_spreads_its_items_over_the_law() -> None:
    sampler = TimestepSampler(NoiseSchedule(), "importance")
    index = torch.arange(200)
    t = sampler.fixed(index)
    assert torch.equal(sampler.fixed(index[50:60]), t[50:60])
    quantiles = sampler.cdf[t]
    for tenth in range(10):
        inside = (sampler.fixed(index) >= sampler.at(torch.tensor([tenth / 10]))).sum().item()
        assert inside >= 200 * (1 - tenth / 10) - 2
    assert quantiles.max() > 0.99


@pytest.mark.parametrize("start", [0, 1, 20, 499, 998, 999])
def test_time_indices_of_a_solver(start: int) -> None:
    for steps in range(1, start + 2):
        indices = inference_timesteps(start, steps)
        assert len(set(indices)) == len(indices) == steps
        assert indices[0] == start
        assert indices == sorted(indices, reverse=True)
        assert (indices[-1] == 0) == (steps == start + 1)
        # Even to rounding, the step to the end that is left out included.
        gaps = [a - b for a, b in pairwise([*indices, 0])]
        assert max(gaps) - min(gaps[: -1 if steps == start + 1 else None] or gaps) <= 1
    for steps in (0, start + 2):
        with pytest.raises(ValueError, match=f"steps: {steps} given, expected 1 to {start + 1}"):
            inference_timesteps(start, steps)
