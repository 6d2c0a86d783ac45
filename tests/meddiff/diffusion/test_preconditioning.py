import pytest
import torch

from meddiff.diffusion.preconditioning import SIGMA_DATA, EDMOutput, EpsilonOutput

SIGMA = torch.tensor([0.01, 0.3, 5.0, 50.0]).view(-1, 1, 1, 1)


def noisy(spread: float = SIGMA_DATA) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(4, 1, 64, 64, generator=generator) for _ in range(2))
    return spread * clean, noise, spread * clean + SIGMA * noise


def test_none_is_the_papers_output_at_unit_scale() -> None:
    _, _, x = noisy()
    output = torch.randn(4, 1, 64, 64)
    paper = EpsilonOutput()
    assert torch.equal(paper.epsilon(output, x, SIGMA), output)
    assert torch.allclose(paper.network_input(x, SIGMA), x / torch.sqrt(1 + SIGMA**2))
    assert paper.weight(SIGMA).tolist() == [1, 1, 1, 1]


def test_edm_feeds_unit_variance() -> None:
    _, _, x = noisy()
    spread = EDMOutput().network_input(x, SIGMA).flatten(1).std(dim=1)
    assert spread.tolist() == pytest.approx([1.0] * 4, rel=0.03)


def test_an_edm_output_of_zero_is_the_best_guess_for_a_gaussian() -> None:
    # Wiener: E[x_0 | x] = x s^2 / (s^2 + sigma^2) for x_0 of spread s.
    _, _, x = noisy()
    epsilon = EDMOutput().epsilon(torch.zeros_like(x), x, SIGMA)
    wiener = x * SIGMA_DATA**2 / (SIGMA_DATA**2 + SIGMA**2)
    assert torch.allclose(x - SIGMA * epsilon, wiener, atol=1e-4)


def test_the_output_that_edm_aims_at_gives_the_true_noise_and_has_unit_variance() -> None:
    clean, noise, x = noisy()
    variance = SIGMA_DATA**2 + SIGMA**2
    target = (clean - x * SIGMA_DATA**2 / variance) / (SIGMA * SIGMA_DATA / variance.sqrt())
    assert torch.allclose(EDMOutput().epsilon(target, x, SIGMA), noise, atol=1e-3)
    assert target.flatten(1).std(dim=1).tolist() == pytest.approx([1.0] * 4, rel=0.03)


def test_edm_weighs_the_output_alike_at_all_levels() -> None:
    _, _, x = noisy()
    edm, output = EDMOutput(), torch.zeros_like(x)
    error = edm.epsilon(output + 0.1, x, SIGMA) - edm.epsilon(output, x, SIGMA)
    weighted = edm.weight(SIGMA) * error.square().flatten(1).mean(1)
    assert weighted.tolist() == pytest.approx([0.01] * 4, rel=1e-3)
