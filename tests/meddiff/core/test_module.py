"""What stands on the base module: methods that AdamW does not train, too."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from meddiff.core.checkpoint import IDENTITY, read_checkpoint
from meddiff.core.module import MedDiffModule
from meddiff.core.optimization import AdamWModule
from meddiff.core.presets import PresetTable
from meddiff.core.segmenter import Segmenter

WIDTHS: PresetTable = {"paper": {"width": 8}, "small": {"width": 4}, "tiny": {"width": 2}}


class ToyGAN(MedDiffModule):
    """A generator and a critic with an optimiser each, which takes its steps itself."""

    presets: ClassVar[PresetTable] = WIDTHS

    def __init__(self, width: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.automatic_optimization = False
        self.generator = nn.Linear(2, self.hparams["width"])
        self.critic = nn.Linear(self.hparams["width"], 1)

    def networks(self) -> list[nn.Module]:
        return [self.generator]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        for optimizer, sign in zip(self.optimizers(), (1, -1), strict=True):
            optimizer.zero_grad()
            self.manual_backward(sign * self.critic(self.generator(batch["x"])).mean())
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(net.parameters(), 0.1) for net in (self.generator, self.critic)]


class ToyLatent(AdamWModule):
    """Trains on latents of a frozen encoder."""

    presets: ClassVar[PresetTable] = {
        name: {**values, "learning_rate": 0.1, "warmup_steps": 2} for name, values in WIDTHS.items()
    }

    def __init__(self, width: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = nn.Linear(2, self.hparams["width"]).requires_grad_(False)
        self.network = nn.Linear(self.hparams["width"], 1)

    def networks(self) -> list[nn.Module]:
        return [self.network]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.network(self.encoder(batch["x"])).square().mean()
        return loss


def trained(module: MedDiffModule, folder: Path) -> Trainer:
    items = [{"x": torch.rand(2)} for _ in range(4)]
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=None if not module.automatic_optimization else 1.0,
    )
    trainer.fit(module, DataLoader(items, batch_size=2))  # type: ignore[arg-type]
    return trainer


@pytest.mark.parametrize("kind", [ToyGAN, ToyLatent])
def test_a_gan_and_a_latent_model_train_and_say_what_they_are(kind: Any, tmp_path: Path) -> None:
    module = kind(preset="tiny", seed=5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = trained(module, tmp_path)
    trainer.save_checkpoint(tmp_path / "end.ckpt", weights_only=False)
    checkpoint = read_checkpoint(tmp_path / "end.ckpt")
    assert checkpoint[IDENTITY]["class_path"] == f"{__name__}.{kind.__name__}"
    assert checkpoint["hyper_parameters"]["width"] == 2
    assert checkpoint["hyper_parameters"]["seed"] == 5
    moved = {
        name for name, old in before.items() if not torch.equal(old, module.state_dict()[name])
    }
    frozen = {name for name in before if name.startswith("encoder")}
    assert moved == before.keys() - frozen


def test_only_trainable_weights_are_optimised_and_the_rate_warms_up(tmp_path: Path) -> None:
    module = ToyLatent(preset="tiny")
    trainer = trained(module, tmp_path)
    (optimizer,) = trainer.optimizers
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in module.network.parameters()}
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.99)


def test_the_arguments_of_all_bases_are_hyper_parameters() -> None:
    module = ToyLatent(preset="small", width=3, image_size=32, weight_decay=0.5)
    assert module.hparams["width"] == 3
    assert module.hparams["learning_rate"] == 0.1
    assert module.hparams["weight_decay"] == 0.5
    assert module.hparams["image_size"] == 32
    assert ToyLatent().hparams["width"] == 8
    with pytest.raises(ValueError, match="preset: 'large' is not one of paper, small, tiny"):
        ToyLatent(preset="large")


@pytest.mark.parametrize("kind", [MedDiffModule, AdamWModule, Segmenter])
def test_a_base_cannot_be_made(kind: Any) -> None:
    with pytest.raises(TypeError, match="abstract"):
        kind()


def test_the_gradients_of_one_optimiser_alone_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ToyGAN(preset="tiny")
    monkeypatch.setattr(module, "log", lambda *args: None)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    generator, _ = module.configure_optimizers()
    module.configure_gradient_clipping(generator, 1e-3, "norm")
    assert all(
        p.grad.abs().max() < 1e-3 for p in module.generator.parameters() if p.grad is not None
    )
    assert all(p.grad.eq(1).all() for p in module.critic.parameters() if p.grad is not None)
