"""SegmentationModule under Lightning, on phantom lesions of 32 pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

import meddiff
from data_modules.phantoms.painters.lesion import paint
from meddiff import HybridDiffusionModule, SegmentationModule
from meddiff.baselines.architectures import build
from meddiff.baselines.presets import default_encoder
from meddiff.core.checkpoint import CheckpointError
from meddiff.core.protocols import can_sample, can_segment


def make_module(**arguments: Any) -> SegmentationModule:
    tiny: dict[str, Any] = {"preset": "tiny", "image_size": 32}
    return SegmentationModule(**(tiny | arguments))


def make_trainer(**settings: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "max_steps": 1}
    quiet |= {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**(quiet | settings))


def lesions(num: int = 4) -> list[dict[str, Tensor]]:
    """Phantom lesions in [-1, 1], with their masks."""
    items = []
    for i in range(num):
        image, mask = paint(np.random.default_rng(i), 64, 64)
        small = np.asarray(Image.fromarray(image).resize((32, 32)), dtype=np.float32)
        labels = np.asarray(Image.fromarray(mask).resize((32, 32), Image.Resampling.NEAREST))
        items.append(
            {
                "image": torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1),
                "mask": torch.from_numpy((labels > 127).astype(np.int64)),
                "index": torch.tensor(i),
            }
        )
    return items


def make_loader(num: int = 4, batch_size: int = 4) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(lesions(num), batch_size=batch_size)  # type: ignore[arg-type]


def same_weights(a: nn.Module, b: nn.Module, prefix: str = "") -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    keys = [key for key in ours if key.startswith(prefix)]
    assert keys
    return all(torch.equal(ours[key], theirs[key]) for key in keys)


class Losses(SegmentationModule):
    """Remembers the loss of each step."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        assert loss is not None
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss


@pytest.mark.parametrize("architecture", ["deeplabv3", "segformer"])
def test_the_loss_falls_on_lesions(architecture: str) -> None:
    module = Losses(preset="tiny", architecture=architecture, image_size=32)
    make_trainer(max_steps=15).fit(module, make_loader())
    assert module.losses[-1] < 0.5 * module.losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["deeplabv3", "segformer"])
def test_the_lesions_are_found(architecture: str) -> None:
    module = make_module(architecture=architecture, learning_rate=5e-4)
    make_trainer(max_steps=45).fit(module, make_loader())
    batch = next(iter(make_loader()))
    with torch.no_grad():
        logits = module.eval().segment(batch["image"])
    predicted, true = logits.argmax(1) == 1, batch["mask"] == 1
    assert (predicted & true).sum() / (predicted | true).sum() > 0.6


def test_presets_stand_for_the_paper_s_and_for_small_encoders() -> None:
    assert default_encoder("deeplabv3", "paper") == "resnet50"
    assert default_encoder("segformer", "paper") == "mit_b3"
    assert default_encoder("deeplabv3", "small") == default_encoder("unet", "tiny") == "resnet18"
    assert make_module(architecture="segformer").hparams["encoder"] == "mit_b0"
    paper = make_module(preset="paper", architecture="segformer", encoder="mit_b0")
    assert (paper.hparams["learning_rate"], paper.hparams["adam_betas"]) == (2e-4, (0.95, 0.99))
    assert (paper.hparams["weight_decay"], paper.hparams["warmup_steps"]) == (1e-6, 0)


def test_the_networks_of_the_paper_have_their_sizes() -> None:
    def count(architecture: str, encoder: str) -> int:
        network = build(architecture, encoder, in_channels=3, num_classes=2)
        return sum(parameter.numel() for parameter in network.get_submodule("encoder").parameters())

    # ResNet-50 without its classifier (25,557,032 - 2,049,000), as torchvision counts it.
    assert count("deeplabv3", "resnet50") == 25_557_032 - 2_049_000
    # Table 1 of the SegFormer paper gives 44.0 M.
    assert count("segformer", "mit_b3") == pytest.approx(44.0e6, rel=0.003)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = make_module(seed=5)
    state = torch.get_rng_state()
    second = make_module(seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(first, second)
    assert not same_weights(first, make_module(seed=6), "network.encoder.conv1")


class Spy(nn.Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x


def test_images_are_normalised_as_imagenet_is() -> None:
    module = make_module()
    module.network = spy = Spy()
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    unit = torch.rand(2, 3, 4, 4)
    module.segment(unit * 2 - 1)
    torch.testing.assert_close(spy.seen, (unit - mean) / std)


def test_it_segments_and_bears_fp16() -> None:
    module = make_module()
    assert can_segment(module)
    assert not can_sample(module)
    assert module.supports_fp16
    assert module.networks() == [module.network]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "segfromer"}, "did you mean segformer"),
        ({"encoder": "resnet19"}, "did you mean resnet18"),
        ({"encoder": "convnext_atto"}, "give tu-convnext_atto"),
        ({"architecture": "linknet", "encoder": "mit_b0"}, "does not go with architecture linknet"),
        ({"image_size": 20}, r"takes no 20 pixels .*give data.init_args.image_size: 32"),
        ({"architecture": "segformer", "image_size": 40}, r"segformer with mit_b0 takes no 40"),
        ({"architecture": "pan"}, "takes no 32 pixels .*image_size: 128"),
        ({"num_classes": 1}, "num_classes: 1"),
        ({"preset": "large"}, "preset: 'large' is not one of paper, small, tiny"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_module(**arguments)


def test_one_image_alone_trains_only_a_network_that_can() -> None:
    with pytest.raises(ValueError, match=r"batch of one image.*data\.init_args\.batch_size of 2"):
        make_trainer().fit(make_module(), make_loader(1, 1))
    make_trainer().fit(make_module(architecture="segformer"), make_loader(1, 1))
    with torch.no_grad():
        make_module().eval().segment(torch.zeros(1, 3, 32, 32))


def test_encoder_weights_are_loaded_when_a_fit_begins(tmp_path: Path) -> None:
    other = make_module(seed=9)
    save_file(other.network.get_submodule("encoder").state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}')
    module = make_module(encoder_weights=str(tmp_path))
    fresh = make_module()
    assert same_weights(module, fresh)
    module.load_start()
    assert same_weights(module, other, "network.encoder")
    assert same_weights(module, fresh, "network.decoder")
    assert module.mean.tolist() == [0.5] * 3
    assert module.std.tolist() == [0.25] * 3


def make_segformer(**arguments: Any) -> SegmentationModule:
    """The smaller of the two, for what concerns checkpoints."""
    return make_module(**({"architecture": "segformer"} | arguments))


def finished_run(folder: Path, **arguments: Any) -> Path:
    module = make_segformer(**arguments)
    trainer = make_trainer(max_steps=2)
    trainer.fit(module, make_loader())
    trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt")
    return folder


def test_fine_tuning_keeps_the_head_of_as_many_classes(tmp_path: Path) -> None:
    run = finished_run(tmp_path, seed=3)
    trained = meddiff.load(run)
    module = make_segformer(init_from=str(run), encoder_weights="imagenet")
    module.load_start()
    assert same_weights(module, trained)


def test_fine_tuning_begins_a_new_head_for_other_classes(tmp_path: Path) -> None:
    run = finished_run(tmp_path, seed=3)
    module = make_segformer(init_from=str(run), num_classes=4)
    module.load_start()
    trained = meddiff.load(run)
    assert same_weights(module, trained, "network.encoder")
    assert same_weights(module, trained, "network.decoder")
    assert same_weights(module, make_segformer(num_classes=4), "network.segmentation_head")


def test_a_run_of_another_network_is_declined(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    for arguments, message in (
        ({"architecture": "deeplabv3"}, "architecture: 'segformer' there, 'deeplabv3' here"),
        ({"encoder": "mit_b1"}, "encoder: 'mit_b0' there, 'mit_b1' here"),
        ({"in_channels": 1}, "in_channels: 3 there, 1 here"),
    ):
        module = make_segformer(init_from=str(run), **arguments)
        with pytest.raises(CheckpointError, match=message):
            module.load_start()


def test_a_run_of_another_method_is_declined(tmp_path: Path) -> None:
    other = HybridDiffusionModule(preset="tiny", image_size=16, attention_resolutions=[8])
    trainer = make_trainer()
    trainer.strategy.connect(other)
    trainer.save_checkpoint(tmp_path / "hybrid.ckpt")
    with pytest.raises(CheckpointError, match="written by HybridDiffusionModule"):
        make_module(init_from=str(tmp_path / "hybrid.ckpt")).load_start()


def test_only_a_new_fit_needs_the_weights_it_starts_from(tmp_path: Path) -> None:
    first = tmp_path / "first"
    run = finished_run(first)
    second = finished_run(tmp_path / "second", init_from=str(run), seed=4)
    (run / "checkpoints" / "last.ckpt").unlink()
    checkpoint = second / "checkpoints" / "last.ckpt"
    loaded = meddiff.load(second)
    make_trainer().test(loaded, make_loader(), verbose=False)
    resumed = make_segformer(init_from=str(run), seed=4)
    make_trainer(max_steps=3).fit(resumed, make_loader(), ckpt_path=checkpoint)
    with pytest.raises(CheckpointError, match="first: holds no"):
        make_trainer().fit(make_segformer(init_from=str(run)), make_loader())


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    def fit(steps: int, start: Path | None = None) -> LightningModule:
        module = make_segformer(seed=2)
        trainer = make_trainer(max_steps=steps)
        trainer.fit(module, make_loader(), ckpt_path=start)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return module

    whole = fit(3)
    fit(2)
    assert same_weights(whole, fit(3, tmp_path / "2.ckpt"))


def test_masks_are_predicted_with_their_index() -> None:
    module = make_segformer().eval()
    batch = next(iter(make_loader()))
    prediction = module.predict_step(batch, 0)
    assert prediction["mask"].shape == (4, 32, 32)
    assert prediction["index"].tolist() == [0, 1, 2, 3]
