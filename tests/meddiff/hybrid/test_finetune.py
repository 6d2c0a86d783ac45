"""Fine-tuning: its start, the head rule, that it learns (docs/papers/hybrid.md 2c-3, 2g)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from meddiff import HybridDiffusionModule, HybridFinetuneModule, SegmentationModule, load
from meddiff.core.checkpoint import CheckpointError
from meddiff.networks import adm_unet
from meddiff.networks.adm_start import load_head, read_start
from tests.meddiff.hybrid.test_module import make_batch, make_module, with_random_weights

TINY: dict[str, Any] = {"preset": "tiny", "image_size": 16, "attention_resolutions": [8]}


def save(module: LightningModule, path: Path, live: dict[str, Tensor] | None = None) -> str:
    checkpoint: dict[str, Any] = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }
    if live is not None:
        checkpoint["current_model_state"] = live
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


def pretrained(folder: Path, objective: str = "hybrid", **arguments: Any) -> tuple[Any, str]:
    module = with_random_weights(make_module(objective=objective, **arguments))
    return module, save(module, folder / f"{objective}.ckpt")


def finetune(init_from: str | None, **arguments: Any) -> HybridFinetuneModule:
    module = HybridFinetuneModule(**{**TINY, "init_from": init_from, **arguments})
    module.load_start()
    return module.eval()


def test_the_copied_head_gives_the_pretrained_mask_channels_exactly(tmp_path: Path) -> None:
    before, file = pretrained(tmp_path)
    image = make_batch()["image"]
    t = torch.zeros(len(image), dtype=torch.long)
    expected = before(image, t)[:, 3:]
    assert torch.equal(finetune(file).segment(image), expected)


@pytest.mark.parametrize(
    ("objective", "arguments", "head"),
    [
        ("diffusion", {}, {}),
        ("diffusion", {}, {"head": "new"}),
        ("supervised", {"num_classes": 3}, {}),
        ("supervised", {}, {"head": "new"}),
        ("hybrid", {"num_classes": 3}, {}),
        ("hybrid", {}, {"head": "new"}),
    ],
)
def test_where_the_head_is_new(
    objective: str, arguments: dict[str, Any], head: dict[str, str], tmp_path: Path
) -> None:
    before, file = pretrained(tmp_path, objective)
    after = finetune(file, **arguments, **head)
    weight = after.unet.conv_out.weight.detach()
    old = before.unet.conv_out.weight.detach()
    assert not any(torch.equal(row, other) for row in weight for other in old)
    # PyTorch's default: uniform within 1 / sqrt(fan in), and nowhere zero.
    bound = (weight[0].numel()) ** -0.5
    assert 0.9 * bound < weight.abs().max() <= bound
    name = "mid_block.resnets.0.conv1.weight"
    assert torch.equal(after.unet.get_parameter(name), before.unet.get_parameter(name))
    again = finetune(file, **arguments, **head)
    assert torch.equal(again.unet.conv_out.weight, weight)
    other_seed = finetune(file, **arguments, **head, seed=1)
    assert not torch.equal(other_seed.unet.conv_out.weight, weight)


@pytest.mark.parametrize("head", ["auto", "copy"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_supervised_head_of_as_many_classes_is_kept(
    head: str, num_classes: int, tmp_path: Path
) -> None:
    before, file = pretrained(tmp_path, "supervised", num_classes=num_classes)
    image = make_batch()["image"]
    after = finetune(file, head=head, num_classes=num_classes)
    assert torch.equal(after.segment(image), before.segment(image))


@pytest.mark.parametrize(
    ("objective", "num_classes"), [("diffusion", 2), ("hybrid", 3), ("supervised", 3)]
)
def test_copy_needs_as_many_classes(objective: str, num_classes: int, tmp_path: Path) -> None:
    _, file = pretrained(tmp_path, objective)
    with pytest.raises(CheckpointError, match="head: copy needs the same number"):
        finetune(file, head="copy", num_classes=num_classes)


def test_from_nothing_the_head_is_zero_and_the_network_random() -> None:
    module = finetune(None)
    assert not module.segment(make_batch()["image"]).any()
    assert module.unet.conv_in.weight.std() > 0


def test_averaged_weights_are_taken_unless_live_ones_are_asked_for(tmp_path: Path) -> None:
    averaged = with_random_weights(make_module())
    live = {name: value + 1 for name, value in averaged.state_dict().items()}
    file = save(averaged, tmp_path / "ema.ckpt", live)
    name = "unet.conv_in.weight"
    assert torch.equal(finetune(file).state_dict()[name], averaged.state_dict()[name])
    assert torch.equal(finetune(file, init_weights="live").state_dict()[name], live[name])


def test_a_run_directory_gives_its_last_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    best, last = make_module(), with_random_weights(make_module())
    save(best, tmp_path / "checkpoints" / "best.ckpt")
    save(last, tmp_path / "checkpoints" / "last.ckpt")
    name = "unet.conv_in.weight"
    assert torch.equal(finetune(str(tmp_path)).state_dict()[name], last.state_dict()[name])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"channel_mult": [1, 1]}, r"channel_mult: \[1, 2\] there, \[1, 1\] here"),
        ({"image_size": 32}, "image_size: 16 there, 32 here"),
        ({"in_channels": 1}, "in_channels: 3 there, 1 here"),
    ],
)
def test_another_network_is_refused_by_name(
    given: dict[str, Any], named: str, tmp_path: Path
) -> None:
    _, file = pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=named):
        finetune(file, **given)


def test_dropout_may_differ(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path)
    assert finetune(file, dropout=0.3).hparams["dropout"] == 0.3


def test_what_is_no_pretraining_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: is neither"):
        finetune(str(tmp_path / "other.pt"))
    finetuned = finetune(None)
    file = save(finetuned, tmp_path / "finetuned.ckpt")
    with pytest.raises(CheckpointError, match=r"HybridFinetuneModule with recipe: finetune"):
        finetune(file)
    other = SegmentationModule(preset="tiny", image_size=32)
    file = save(other, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"written by SegmentationModule; give .* of Hybrid"):
        finetune(file)


def test_a_supervised_pretraining_is_told_as_such(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path, "supervised")
    start = read_start(file, HybridFinetuneModule(**TINY).network, 3)
    assert (start.objective, start.num_classes) == ("supervised", 2)


@pytest.mark.parametrize("preset", ["paper", "small", "tiny"])
def test_the_recipe_chooses_rate_and_warm_up(preset: str) -> None:
    """Supervised pretraining is trained as hybrid pretraining is (docs/papers/hybrid.md 2c-9)."""
    size = {"paper": 32, "small": 16, "tiny": 16}[preset]
    given: dict[str, Any] = {"preset": preset, "image_size": size, "attention_resolutions": [8]}
    pretraining = HybridDiffusionModule(**given).hparams
    trained = ("learning_rate", "warmup_steps")
    supervised = HybridFinetuneModule(recipe="pretrain", **given).hparams
    assert [supervised[key] for key in trained] == [pretraining[key] for key in trained]
    finetuning = HybridFinetuneModule(**given).hparams
    assert finetuning["warmup_steps"] == 0
    assert HybridFinetuneModule(warmup_steps=7, **given).hparams["warmup_steps"] == 7
    if preset == "paper":
        assert [pretraining[key] for key in trained] == [1e-4, 2000]
        assert finetuning["learning_rate"] == 2e-4


def guided_diffusion_state(module: HybridFinetuneModule) -> dict[str, Tensor]:
    """Random weights under OpenAI's names, with the 6 outputs of their learnt variances."""
    from meddiff.networks.guided_diffusion import _layers, _packed_shape

    unet = adm_unet(in_channels=3, out_channels=6, **module.network)
    generator = torch.Generator().manual_seed(3)
    return {
        f"{layer.name}.{kind}": torch.randn(
            _packed_shape([getattr(ours, kind) for ours in layer.ours]), generator=generator
        )
        for layer in _layers(unet)
        for kind in ("weight", "bias")
    }


def test_it_starts_from_openai_weights_with_a_new_head(tmp_path: Path) -> None:
    state = guided_diffusion_state(HybridFinetuneModule(**TINY))
    torch.save(state, tmp_path / "adm.pt")
    module = finetune(str(tmp_path / "adm.pt"))
    assert torch.equal(module.unet.conv_in.weight, state["input_blocks.0.0.weight"])
    assert module.unet.conv_out.out_channels == 2
    state.pop("time_embed.2.bias")
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=r"time_embed\.2\.bias"):
        finetune(str(tmp_path / "cut.pt"))


def test_time_is_frozen_at_index_0(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path)
    module = finetune(file)
    image = make_batch()["image"]
    expected = module.unet(image, torch.zeros(len(image))).sample
    assert torch.equal(module.segment(image), expected)
    assert not torch.equal(module.unet(image, torch.ones(len(image))).sample, expected)


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path)
    batch = make_batch()
    gradients, kept = [], []
    for switch in (False, True):
        module = finetune(file, gradient_checkpointing=switch, dropout=0.2).train()
        torch.manual_seed(0)
        saved: list[int] = []

        def note(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = module.loss(batch)
        loss.backward()
        kept.append(sum(saved))
        gradients.append([p.grad for p in module.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)
    # Nothing inside the blocks is kept: what is left are the first and the last layers.
    assert kept[1] < 0.2 * kept[0]


class Loaders:
    """One batch, again and again."""

    def __init__(self) -> None:
        batch = make_batch(8)
        items = [{key: value[i] for key, value in batch.items()} for i in range(8)]
        self.loader: DataLoader[Any] = DataLoader(items, batch_size=8)  # type: ignore[arg-type]


def trainer(folder: Path, steps: int) -> Trainer:
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def test_it_learns_and_ends_without_the_pretrained_file(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path, "diffusion")
    module = HybridFinetuneModule(**{**TINY, "init_from": file})
    batch = make_batch(8)
    module.load_start()
    with torch.no_grad():
        start = F.cross_entropy(module.eval().segment(batch["image"]), batch["mask"])
    module.train()
    fitting = trainer(tmp_path, 30)
    fitting.fit(module, Loaders().loader)
    fitting.save_checkpoint(tmp_path / "end.ckpt", weights_only=False)
    Path(file).unlink()
    again = load(tmp_path / "end.ckpt")
    assert isinstance(again, HybridFinetuneModule)
    with torch.no_grad():
        end = F.cross_entropy(again.segment(batch["image"]), batch["mask"])
    assert end < 0.5 * start


def test_only_a_new_fit_needs_the_pretrained_file(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.ckpt")
    module = HybridFinetuneModule(**{**TINY, "init_from": gone})
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        trainer(tmp_path, 1).fit(module, Loaders().loader)
    module = HybridFinetuneModule(**TINY)
    fitting = trainer(tmp_path, 1)
    fitting.fit(module, Loaders().loader)
    fitting.save_checkpoint(tmp_path / "one.ckpt", weights_only=False)
    resumed = HybridFinetuneModule(**{**TINY, "init_from": gone})
    trainer(tmp_path, 2).fit(resumed, Loaders().loader, ckpt_path=tmp_path / "one.ckpt")
    assert resumed.trainer.global_step == 2


def test_the_head_rule_itself(tmp_path: Path) -> None:
    # Rows 3..3 + K of weight and bias, K = 2 of 5.
    before, file = pretrained(tmp_path)
    module = HybridFinetuneModule(**TINY)
    start = read_start(file, module.network, 3)
    load_head(module.unet, start, "auto", seed=0)
    assert torch.equal(module.unet.conv_out.weight, before.unet.conv_out.weight[3:5])
    assert torch.equal(module.unet.conv_out.bias, before.unet.conv_out.bias[3:5])


def test_a_loaded_module_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path)
    module = HybridFinetuneModule(**{**TINY, "init_from": file})
    fitting = trainer(tmp_path, 5)
    fitting.fit(module, Loaders().loader)
    fitting.save_checkpoint(tmp_path / "end.ckpt", weights_only=False)
    again = load(tmp_path / "end.ckpt")
    assert isinstance(again, HybridFinetuneModule)
    again.setup("fit")
    for ours, theirs in zip(again.parameters(), module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
