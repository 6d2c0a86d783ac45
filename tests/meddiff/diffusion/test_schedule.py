"""Facts of docs/papers/shared.md 0.3.1 and the float32 rule."""

import numpy as np
import pytest
import torch

from meddiff.diffusion import NoiseSchedule


def test_the_linear_schedule_has_the_published_values() -> None:
    schedule = NoiseSchedule()
    assert schedule.alphas_cumprod[0].item() == pytest.approx(0.9999, rel=1e-7)
    assert schedule.alphas_cumprod[999].item() == pytest.approx(4.035830e-5, rel=1e-6)
    assert schedule.alpha[999].item() == pytest.approx(6.35282e-3, rel=1e-6)
    published = {
        0: 9999.0,
        10: 454.907,
        100: 8.53667,
        250: 1.08953,
        500: 8.43595e-2,
        999: 4.03599e-5,
    }
    for t, snr in published.items():
        assert schedule.snr[t].item() == pytest.approx(snr, rel=2e-6), t


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("t", [0, 1, 10])
def test_noise_has_the_right_deviation_in_every_precision(t: int, dtype: torch.dtype) -> None:
    schedule = NoiseSchedule().to(dtype)
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    x_t = schedule.add_noise(torch.zeros_like(noise), noise, torch.full((4,), t))
    beta = np.linspace(1e-4, 0.02, 1000)
    sigma = np.sqrt(1.0 - np.prod(1.0 - beta[: t + 1]))
    assert x_t.dtype == torch.float32
    assert x_t.std().item() == pytest.approx(sigma * noise.float().std().item(), rel=1e-4)


def test_q_sample_is_the_closed_form() -> None:
    schedule = NoiseSchedule()
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(3, 1, 4, 4, generator=generator)
    noise = torch.randn(3, 1, 4, 4, generator=generator)
    t = torch.tensor([0, 500, 999])
    abar = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))[t.numpy()].reshape(-1, 1, 1, 1)
    expected = np.sqrt(abar) * image.numpy() + np.sqrt(1 - abar) * noise.numpy()
    np.testing.assert_allclose(schedule.add_noise(image, noise, t), expected, rtol=0, atol=1e-6)


def test_the_schedule_is_no_part_of_a_checkpoint() -> None:
    assert NoiseSchedule().state_dict() == {}
