"""HybridDiffusionModule against the facts of docs/papers/hybrid.md 2g."""

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import meddiff
from meddiff import HybridDiffusionModule, HybridFinetuneModule
from meddiff.core.protocols import can_sample, can_segment
from meddiff.core.randomness import item_generators
from meddiff.diffusion import NoiseSchedule, TimestepSampler
from meddiff.hybrid.gradients import term_gradient_norms

TINY: dict[str, Any] = {"preset": "tiny", "image_size": 16, "attention_resolutions": [8]}


def make_module(objective: str = "hybrid", **arguments: Any) -> Any:
    """A pretraining; `supervised` is a class of its own."""
    torch.manual_seed(0)
    if objective == "supervised":
        return HybridFinetuneModule(recipe="pretrain", **(TINY | arguments))
    return HybridDiffusionModule(objective=objective, **(TINY | arguments))  # type: ignore[arg-type]


def with_random_weights(module: Any) -> Any:
    """The head is zero at init; tests of what the network does need another."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def make_batch(num: int = 4, size: int = 16) -> dict[str, Tensor]:
    """Discs of random place on a noisy ground, and their masks."""
    generator = torch.Generator().manual_seed(2)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = torch.randint(4, size - 4, (num, 2, 1, 1), generator=generator)
    mask = ((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 < 12).long()
    image = 0.5 - mask[:, None].repeat(1, 3, 1, 1).float()
    image = image + 0.1 * torch.randn(image.shape, generator=generator)
    return {"image": image.clamp(-1, 1), "mask": mask, "index": torch.arange(num)}


@pytest.mark.parametrize(
    ("objective", "num_classes", "parameters"),
    [
        ("diffusion", 2, 138_286_467),
        ("hybrid", 2, 138_288_773),
        ("hybrid", 19, 138_308_374),
        ("hybrid", 34, 138_325_669),
        ("supervised", 2, 138_285_314),
        ("supervised", 34, 138_322_210),
    ],
)
def test_the_paper_preset_has_the_published_parameters(
    objective: str, num_classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        module = (
            HybridFinetuneModule(num_classes=num_classes)
            if objective == "supervised"
            else HybridDiffusionModule(objective=objective, num_classes=num_classes)  # type: ignore[arg-type]
        )
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("t_sampling", ["uniform", "importance"])
def test_at_init_the_loss_is_that_of_a_zero_prediction(t_sampling: str) -> None:
    module = make_module(mask_weight=0.3, t_sampling=t_sampling)
    batch = make_batch()
    t = torch.tensor([0, 10, 100, 999])
    noise = torch.randn(batch["image"].shape)
    loss = module.loss(batch, t, noise)
    snr = torch.tensor([9999.0, 454.907, 8.53667, 4.03599e-5])
    weight = snr / (1000 * module.timesteps.probabilities[t])
    expected = weight * (batch["image"].square().flatten(1).mean(1) + 0.3 / 2)
    assert loss.total.item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_the_network_never_sees_the_mask() -> None:
    module = with_random_weights(make_module())
    assert module.unet.config.in_channels == 3
    results = [
        module.sample(2, torch.Generator().manual_seed(0), y_T=y_T) for y_T in (0.0, 5.0, -50.0)
    ]
    for result in results[1:]:
        assert torch.equal(result["image"], results[0]["image"])
        assert torch.equal(result["mask"], results[0]["mask"])


@pytest.mark.parametrize("objective", ["hybrid", "diffusion", "supervised"])
def test_the_loss_falls_on_a_batch(objective: str) -> None:
    module = make_module(objective=objective)
    batch = make_batch(8)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(40):
        t = TimestepSampler(NoiseSchedule(), "importance").sample(8, generator)
        noise = torch.randn(batch["image"].shape, generator=generator)
        given = () if objective == "supervised" else (t, noise)
        loss = module.loss(batch, *given)
        loss = loss if objective == "supervised" else loss.total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_samples_depend_on_their_index_alone() -> None:
    module = with_random_weights(make_module())
    batch = {"index": torch.tensor([3, 7, 11])}
    together = module.predict_step(batch, 0)
    alone = module.predict_step({"index": torch.tensor([7])}, 0)
    torch.testing.assert_close(together["image"][1:2], alone["image"], atol=1e-4, rtol=0)
    assert not torch.allclose(together["image"][0], together["image"][1])
    assert together["image"].abs().max() <= 1.0
    assert together["mask"].dtype == torch.int64


def test_the_sde_draws_its_own_noise_item_by_item() -> None:
    module = with_random_weights(make_module())
    first = module.sample(2, item_generators(0, [1, 2]), solver="sde")
    again = module.sample(1, item_generators(0, [2]), solver="sde")
    ode = module.sample(1, item_generators(0, [2]), solver="ode")
    torch.testing.assert_close(first["image"][1:], again["image"], atol=1e-4, rtol=0)
    assert not torch.allclose(again["image"], ode["image"])


def test_the_direct_mask_is_the_segmentation_of_the_generated_image() -> None:
    module = with_random_weights(make_module())
    result = module.sample(2, torch.Generator().manual_seed(0), mask_from="direct")
    assert torch.equal(result["mask"], module.segment(result["image"]).argmax(1))


def test_segmentation_is_the_mask_channels_at_index_zero() -> None:
    module = with_random_weights(make_module())
    image = make_batch(2)["image"]
    expected = module.unet(image, torch.zeros(2)).sample[:, 3:]
    torch.testing.assert_close(module.segment(image), expected)
    predicted = module.predict_step(make_batch(2), 0)
    assert torch.equal(predicted["mask"], expected.argmax(1))


def test_objectives_say_what_they_can_do() -> None:
    can = {
        objective: (can_sample(module), can_segment(module), module.supports_fp16)
        for objective in ("hybrid", "diffusion", "supervised")
        for module in [make_module(objective=objective)]
    }
    assert can == {
        "hybrid": (True, True, False),
        "diffusion": (True, False, False),
        "supervised": (False, True, True),
    }
    with pytest.raises(ValueError, match="predicts no masks"):
        make_module(objective="diffusion").segment(torch.zeros(1, 3, 16, 16))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="objective: 'unsupervised'"):
        make_module(objective="unsupervised")
    for kind in ("hybrid", "supervised"):
        with pytest.raises(ValueError, match="num_classes: 1"):
            make_module(objective=kind, num_classes=1)
    with pytest.raises(ValueError, match="recipe: 'train'"):
        HybridFinetuneModule(recipe="train", **TINY)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="preset: 'large'"):
        make_module(preset="large")
    with pytest.raises(ValueError, match="has no `mask`"):
        make_module().loss(
            {"image": torch.zeros(1, 3, 16, 16)}, torch.zeros(1).long(), torch.ones(1)
        )


def test_given_values_beat_the_preset() -> None:
    module = make_module(mask_weight=0.25)
    assert module.hparams["mask_weight"] == 0.25
    assert module.hparams["warmup_steps"] == 50
    assert HybridDiffusionModule(preset="small").hparams["t_sampling"] == "importance"


def test_the_gradients_of_the_terms_add_up() -> None:
    module = with_random_weights(make_module(mask_weight=2.0)).train()
    batch = make_batch()
    t, noise = torch.tensor([0, 5, 50, 500]), torch.randn(batch["image"].shape)
    parameters = list(module.unet.parameters())
    norms = term_gradient_norms(lambda: module.loss(batch, t, noise), parameters)
    assert all(p.grad is None for p in parameters)
    for term in ("image", "mask"):
        module.zero_grad()
        getattr(module.loss(batch, t, noise), term).backward()
        expected = sum(p.grad.square().sum() for p in parameters if p.grad is not None)
        assert getattr(norms, term).item() == pytest.approx(float(expected) ** 0.5, rel=1e-4)


def test_a_training_step_does_not_wait_for_the_device() -> None:
    """What would copy to the host or branch on a tensor is not called in a step."""
    from meddiff.core.module import clip_gradients
    from meddiff.core.randomness import step_generator
    from meddiff.hybrid import loss

    sources: list[Any] = [
        HybridDiffusionModule.training_step,
        HybridDiffusionModule.loss,
        HybridDiffusionModule.forward,
        HybridDiffusionModule.segment,
        HybridDiffusionModule.configure_gradient_clipping,
        HybridDiffusionModule._drawn,
        HybridDiffusionModule._log_loss,
        HybridDiffusionModule.at_index_zero,
        NoiseSchedule.add_noise,
        TimestepSampler.sample,
        TimestepSampler.at,
        term_gradient_norms,
        clip_gradients,
        step_generator,
        loss,
    ]
    waiting = {"item", "cpu", "numpy", "tolist", "nonzero", "synchronize", "multinomial"}
    for source in sources:
        tree = ast.parse(textwrap.dedent(inspect.getsource(source)))
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not called & waiting, source


def test_load_gives_back_the_module(tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    module = with_random_weights(make_module(seed=5))
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    (tmp_path / "checkpoints").mkdir()
    trainer.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    loaded = meddiff.load(tmp_path)
    assert isinstance(loaded, HybridDiffusionModule)
    assert not loaded.training
    assert loaded.hparams["seed"] == 5
    generator = torch.Generator
    assert torch.equal(
        loaded.sample(1, generator().manual_seed(0))["image"],
        module.sample(1, generator().manual_seed(0))["image"],
    )
