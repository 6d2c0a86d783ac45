"""The recipe of docs/papers/hybrid.md 2b, and the draws of a step, under Lightning's own loop."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from meddiff import HybridDiffusionModule, HybridFinetuneModule
from meddiff.hybrid import module as hybrid_module

CONFIGS = Path(__file__).parents[3] / "configs"


def make_module(objective: str = "hybrid", **arguments: Any) -> Any:
    torch.manual_seed(0)
    tiny: dict[str, Any] = {
        "preset": "tiny",
        "image_size": 16,
        "attention_resolutions": [8],
        "warmup_steps": 1,
    }
    if objective == "supervised":
        return HybridFinetuneModule(recipe="pretrain", **(tiny | arguments))
    return HybridDiffusionModule(**(tiny | arguments | {"objective": objective}))


def make_loader(num: int = 8, batch_size: int = 2) -> DataLoader[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    items = [
        {
            "image": torch.rand(3, 16, 16, generator=generator) * 2 - 1,
            "mask": torch.randint(0, 2, (16, 16), generator=generator),
            "index": torch.tensor(i),
        }
        for i in range(num)
    ]
    return DataLoader(items, batch_size=batch_size)  # type: ignore[arg-type]


def make_trainer(**settings: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    return Trainer(enable_model_summary=False, **(quiet | settings))


class Recorder(Callback):
    """What each batch and each optimiser step saw."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.logged: list[dict[str, float]] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_before_zero_grad(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            self.norms.append(torch.nn.utils.get_total_norm(gradients).item())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *others: object
    ) -> None:
        self.logged.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def test_the_paper_preset_and_the_configs_hold_the_recipe() -> None:
    for name, objective in (("hybrid", "hybrid"), ("diffusion", "diffusion")):
        config = yaml.safe_load((CONFIGS / f"{name}_isic.yaml").read_text())
        arguments = config["model"]["init_args"]
        assert arguments["objective"] == objective
        with torch.device("meta"):
            hparams = HybridDiffusionModule(**arguments).hparams
        assert tuple(hparams["adam_betas"]) == (0.95, 0.99)
        assert (hparams["weight_decay"], hparams["adam_eps"]) == (1e-6, 1e-8)
        assert (hparams["learning_rate"], hparams["warmup_steps"]) == (1e-4, 2000)
        assert (hparams["mask_weight"], hparams["t_sampling"]) == (1e-4, "uniform")
        assert config["trainer"]["max_steps"] == 40_000
        assert config["trainer"]["gradient_clip_val"] == 1.0
        assert config["trainer"]["precision"] == "32-true"
        assert config["data"]["init_args"]["batch_size"] == 64
        assert config["data"]["init_args"]["augment"] == ["hflip", "vflip"]
        assert config["ema"]["decay"] is None


def test_the_rate_warms_up_linearly_and_stays() -> None:
    recorder = Recorder()
    module = make_module(learning_rate=1e-3, warmup_steps=4)
    trainer = make_trainer(max_steps=7, callbacks=[recorder])
    trainer.fit(module, make_loader(16))
    assert recorder.rates == pytest.approx([1e-3 * min(step, 4) / 4 for step in range(7)])
    (group,) = trainer.optimizers[0].param_groups
    assert (tuple(group["betas"]), group["eps"], group["weight_decay"]) == (
        (0.95, 0.99),
        1e-8,
        1e-6,
    )


def test_gradients_are_clipped_and_the_norm_before_is_logged() -> None:
    recorder = Recorder()
    make_trainer(max_steps=4, gradient_clip_val=0.01, callbacks=[recorder]).fit(
        make_module(), make_loader(16)
    )
    logged = [metrics["train/grad_norm"] for metrics in recorder.logged]
    assert min(logged) > 0.01
    assert max(recorder.norms) <= 0.01 * (1 + 1e-4)


def draws(monkeypatch: pytest.MonkeyPatch, rank: int = 0, **settings: Any) -> list[Tensor]:
    """The noise of each batch of a short run."""
    seen: list[Tensor] = []
    original = HybridDiffusionModule.loss

    def loss(self: HybridDiffusionModule, batch: Any, t: Tensor, noise: Tensor) -> Any:
        seen.append(torch.cat([noise.flatten(), t.float()]))
        return original(self, batch, t, noise)

    with monkeypatch.context() as patch:
        patch.setattr(HybridDiffusionModule, "loss", loss)
        patch.setattr(HybridDiffusionModule, "global_rank", rank)
        patch.setattr(hybrid_module, "term_gradient_norms", None)
        module = make_module(log_gradient_norms=False)
        make_trainer(**settings).fit(module, make_loader())
    return seen


def test_every_batch_and_every_rank_draws_its_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"max_epochs": 2, "accumulate_grad_batches": 2}
    first, second = (draws(monkeypatch, rank, **settings) for rank in (0, 1))
    every = first + second
    assert len(every) == 16
    assert len({tuple(d.tolist()) for d in every}) == 16
    again = draws(monkeypatch, 0, **settings)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_measuring_the_terms_does_not_change_the_run() -> None:
    ends = []
    for measured in (False, True):
        recorder = Recorder()
        module = make_module(dropout=0.3, log_gradient_norms=measured)
        make_trainer(max_steps=4, log_every_n_steps=2, callbacks=[recorder]).fit(
            module, make_loader()
        )
        ends.append({k: v.clone() for k, v in module.state_dict().items()})
        assert ("train/grad_norm_mask" in recorder.logged[1]) == measured
        assert "train/grad_norm_mask" not in recorder.logged[0]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_a_trainer_that_never_logs_measures_no_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid_module, "term_gradient_norms", None)
    module = make_module(log_gradient_norms=True)
    make_trainer(max_steps=1, log_every_n_steps=0).fit(module, make_loader())


@pytest.mark.parametrize("objective", ["hybrid", "supervised"])
def test_the_validation_loss_is_fixed_by_index(objective: str) -> None:
    module = make_module(objective=objective)
    losses = [
        make_trainer().validate(module, make_loader(8, size), verbose=False)[0]["val/loss"]
        for size in (2, 2, 4)
    ]
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_gpu_never_waits() -> None:
    class Watch(Callback):
        def on_train_batch_start(self, *others: object) -> None:
            torch.cuda.set_sync_debug_mode("error")

        def on_train_batch_end(self, *others: object) -> None:
            torch.cuda.set_sync_debug_mode("default")

    trainer = make_trainer(
        max_steps=4,
        gradient_clip_val=1.0,
        accelerator="gpu",
        devices=1,
        precision="bf16-mixed",
        log_every_n_steps=100,
        callbacks=[Watch()],
    )
    trainer.fit(make_module(), make_loader())
