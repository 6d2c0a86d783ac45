from typing import Any

import pytest
import torch
from torch import Tensor

from meddiff import LMIDiffusionModule, SDEditModule
from meddiff.core.randomness import item_generators
from meddiff.diffusion.sde import SDEName
from meddiff.lmi import local_mutual_information


def make(**given: Any) -> LMIDiffusionModule:
    arguments: dict[str, Any] = {"preset": "tiny", "image_size": 16, "num_inference_steps": 4}
    torch.manual_seed(0)
    return LMIDiffusionModule(**arguments | given)


def tiny(**given: Any) -> LMIDiffusionModule:
    module = make(**given)
    # The head starts at zero; any other weights tell conditions apart.
    torch.nn.init.normal_(module.unet.conv_out.weight, std=0.1)
    return module.eval()


def images(num: int, seed: int = 0) -> Tensor:
    return torch.rand(num, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_papers_network_has_its_size() -> None:
    # docs/papers/lmi.md 5g-9.
    module = LMIDiffusionModule()
    assert sum(p.numel() for p in module.unet.parameters()) == 21_423_169
    assert module.unet.conv_in.in_channels == 3
    assert SDEditModule().unet.conv_in.in_channels == 1


def test_the_network_sees_the_noisy_image_and_both_maps() -> None:
    module = tiny(preconditioning="none")
    clean, noisy = (images(2) + 1) / 2, torch.randn(2, 1, 16, 16)
    maps = module.condition(clean)(noisy)
    assert maps is not None
    assert torch.equal(maps[:, :1], local_mutual_information(clean, noisy))
    assert torch.equal(maps[:, 1:], local_mutual_information(clean, clean))
    seen: list[Tensor] = []
    module.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    module.epsilon(noisy, torch.tensor([0.5, 0.5]), maps)
    assert torch.allclose(seen[0][:, :1], noisy / 1.5**0.5)
    assert torch.equal(seen[0][:, 1:], maps)


def test_grey_levels_of_the_source_never_reach_the_network() -> None:
    # docs/papers/lmi.md 5c-14: only through the maps, which do not change with contrast.
    module = tiny(sampler="ode")
    source = images(2)
    darker = 0.5 * source - 0.3
    bright, dark = (module.translate(x, item_generators(0, [0, 1])) for x in (source, darker))
    assert torch.allclose(bright, dark, atol=1e-3)


@pytest.mark.parametrize("sde", ["ve", "vp"])
def test_a_target_in_place_of_the_source_gives_the_same_condition(sde: str) -> None:
    # Eq. 18; docs/papers/lmi.md 5g-7: bit-identical samples of the same seed.
    module = tiny(sde=sde, sampler="ode")
    target = images(2)
    first = module.translate(target, item_generators(0, [0, 1]))
    again = module.translate(target.clone(), item_generators(0, [0, 1]))
    assert torch.equal(first, again)
    other = module.translate(images(2, seed=1), item_generators(0, [0, 1]))
    assert not torch.allclose(first, other, atol=1e-3)


@pytest.mark.parametrize("sampler", ["euler_maruyama", "predictor_corrector", "ode"])
@pytest.mark.parametrize("start", ["noise", "source"])
def test_a_translation_depends_on_its_own_source_and_seed_alone(sampler: str, start: str) -> None:
    module = tiny(sampler=sampler, start=start)
    source = images(3)
    together = module.translate(source, item_generators(0, [0, 1, 2]))
    alone = module.translate(source[2:], item_generators(0, [2]))
    assert together.shape == source.shape
    assert together.abs().max() <= 1
    assert torch.allclose(together[2:], alone, atol=1e-3)


def test_without_guidance_the_source_does_not_matter() -> None:
    module = tiny(guidance="zeros")
    made = [module.translate(images(2, seed), item_generators(0, [0, 1])) for seed in (0, 1)]
    assert torch.equal(*made)
    first, second = (
        module.translate(images(2, seed), item_generators(0, [0, 1]), start="source")
        for seed in (0, 1)
    )
    assert not torch.allclose(first, second, atol=1e-2)


def test_sdedit_at_no_strength_gives_the_source_back() -> None:
    module = SDEditModule(preset="tiny", image_size=16, strength=0.0)
    source = images(2)
    assert torch.equal(module.translate(source, torch.Generator().manual_seed(0)), source)


def test_sdedit_starts_from_the_perturbed_source() -> None:
    module = SDEditModule(
        preset="tiny", image_size=16, num_inference_steps=4, preconditioning="none"
    )
    seen: list[Tensor] = []
    module.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    source = images(2)
    module.translate(source, item_generators(0, [0, 1]))
    z = torch.stack([torch.randn(1, 16, 16, generator=g) for g in item_generators(0, [0, 1])])
    perturbed = (source + 1) / 2 + 0.7071068 * z
    assert torch.allclose(seen[0], perturbed / 1.5**0.5, atol=1e-5)
    assert len(seen) == 2  # half of the steps


@pytest.mark.parametrize("kind", [LMIDiffusionModule, SDEditModule])
@pytest.mark.parametrize("sde", ["ve", "vp"])
def test_the_loss_falls_on_a_batch(
    kind: type[LMIDiffusionModule | SDEditModule], sde: SDEName
) -> None:
    torch.manual_seed(0)
    module = kind(preset="tiny", image_size=16, sde=sde, preconditioning="none")
    clean, noise = images(8), torch.randn(8, 1, 16, 16)
    t = module.sde.fixed_t(torch.arange(8))
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = module.loss(clean, t, noise)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    start = (noise**2).mean() * 0.5 if sde == "ve" else (noise**2).sum(dim=(1, 2, 3)).mean()
    assert losses[0] == pytest.approx(start.item(), rel=1e-5)  # the network starts at zero
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("sde", ["ve", "vp"])
def test_short_runs_learn_x_0_by_the_weighted_loss(sde: SDEName) -> None:
    module = make(sde=sde)
    clean, noise, t = images(8), torch.randn(8, 1, 16, 16), module.sde.fixed_t(torch.arange(8))
    loss = module.loss(clean, t, noise)
    # By hand: x_0 is the share of x_t, as the output is zero.
    alpha, sigma = (figure.view(-1, 1, 1, 1) for figure in module.sde.marginal(t))
    level, x_0 = sigma / alpha, (clean + 1) / 2
    guess = (x_0 + level * noise) * 0.25 / (0.25 + level**2)
    error = (guess - x_0).square() * (0.25 + level**2) / (0.5 * level) ** 2
    expected = 0.5 * error.mean() if sde == "ve" else error.flatten(1).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("preconditioning", ["none", "edm"])
def test_mixed_precision_leaves_maps_and_noise_levels_exact(preconditioning: str) -> None:
    module = make(preconditioning=preconditioning)
    seen: list[Tensor] = []
    module.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    source = images(2)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            module.translate(source, item_generators(0, [0, 1]), num_inference_steps=1)
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sde": "ou"}, "sde: 'ou' is not one of ve, vp"),
        ({"sampler": "ancestral"}, "sampler: 'ancestral' is not one of euler_maruyama"),
        ({"sde": "vp", "sampler": "predictor_corrector"}, "those of sde vp"),
        ({"guidance": "none"}, "guidance: 'none'"),
        ({"start": "middle"}, "start: 'middle'"),
        ({"strength": 1.5}, "strength: 1.5 given, expected"),
        ({"in_channels": 3}, "data.init_args.in_channels: 1"),
        ({"patch_size": 2}, "patch_size"),
        ({"preset": "huge"}, "preset: 'huge'"),
        ({"preconditioning": "v"}, "preconditioning: 'v' is not one of none, edm"),
        ({"num_inference_steps": 0}, "num_inference_steps: 0 given, expected"),
        ({"image_size": 15}, "image_size: 15"),
    ],
)
def test_what_is_not_there_is_an_error_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**given)


def test_a_source_that_the_network_cannot_take_is_an_error() -> None:
    module = tiny()
    with pytest.raises(ValueError, match=r"15 x 16 pixels.*multiples of 2"):
        module.translate(torch.zeros(1, 1, 15, 16))
    for shape in ((1, 3, 16, 16), (16, 16)):
        with pytest.raises(ValueError, match=r"expected \(B, 1, H, W\)"):
            module.translate(torch.zeros(shape))
    with pytest.raises(ValueError, match="holds NaN"):
        module.translate(torch.full((1, 1, 16, 16), torch.nan))
    assert module.translate(torch.zeros(1, 1, 20, 24)).shape == (1, 1, 20, 24)


def test_predict_without_images_says_what_to_give() -> None:
    with pytest.raises(ValueError, match="not NoiseDataModule"):
        tiny().predict_step({"index": torch.tensor([0])}, 0)
