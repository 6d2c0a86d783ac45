"""LEDM: features, the pixel cache, the stop rule, checkpoints (docs/papers/hybrid.md 2a, 2g-7)."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from data_modules.kinds.sampler import ResumableDataLoader, ResumableSampler
from meddiff import LEDMModule, load
from meddiff.baselines.ledm.classifier import classify_pixels, pixel_classifier
from meddiff.baselines.ledm.features import DecoderFeatures, scaled_blocks, upsampled
from meddiff.baselines.ledm.pixels import LabelledPixels, PixelFeatures, training_labels
from meddiff.core.checkpoint import CheckpointError
from meddiff.diffusion import NoiseSchedule
from meddiff.hybrid.presets import PRESETS
from meddiff.networks import NETWORK_KEYS, adm_unet
from tests.meddiff.hybrid.test_finetune import TINY, pretrained
from tests.meddiff.hybrid.test_module import make_batch

BLOCKS = [5, 6, 7, 8, 12]


class Items(Dataset[dict[str, Tensor]]):
    """Items by (index, epoch), as the sampler asks for them."""

    def __init__(self, items: list[dict[str, Tensor]]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        return self.items[key[0]]


class Labelled(LightningDataModule):
    """Eight labelled discs."""

    def __init__(self, num: int = 8, batches: int = 2) -> None:
        super().__init__()
        self.batch = make_batch(num)
        self.batches = batches

    def items(self) -> list[dict[str, Tensor]]:
        return [{k: v[i] for k, v in self.batch.items()} for i in range(len(self.batch["index"]))]

    def labelled_images(self) -> Iterator[dict[str, Tensor]]:
        yield from self.items()

    def train_dataloader(self) -> DataLoader[Any]:
        items = Items(self.items())
        size = len(items) // self.batches
        sampler = ResumableSampler(items, multiple=size, skip=lambda: self.done() * size)
        return ResumableDataLoader(items, sampler=sampler, batch_size=size)

    def done(self) -> int:
        """Batches of the epoch that a resumed fit has seen."""
        if self.trainer is None:
            return 0
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)


def trainer(folder: Path, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 1, "log_every_n_steps": 1} | arguments
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def test_the_papers_features_have_length_4224_and_the_published_shapes() -> None:
    network = {"image_size": 256} | {k: v for k, v in PRESETS["paper"].items() if k in NETWORK_KEYS}
    with torch.device("meta"):
        unet = adm_unet(in_channels=3, out_channels=3, **network).eval()
        noise = torch.empty(3, 256, 256)
        features = DecoderFeatures(unet, BLOCKS, [50, 150, 250], noise)
        maps = features(torch.empty(1, 3, 256, 256))
    assert features.length == 4224
    expected = [(512, 32), (256, 32), (256, 32), (256, 64), (128, 128)]
    assert [(m.shape[2], m.shape[3]) for m in maps] == expected
    assert sum(m.shape[1] * m.shape[2] for m in maps) == 4224
    clean = DecoderFeatures(unet, BLOCKS, [0], noise, clean=True)
    assert clean.length == 1408


def test_blocks_scale_with_depth() -> None:
    assert scaled_blocks(BLOCKS, 18) == BLOCKS
    # round(b 7 / 17): 2.06, 2.47, 2.88, 3.29, 4.94
    assert scaled_blocks(BLOCKS, 8) == [2, 3, 5]


def test_features_are_what_the_blocks_give_at_the_three_noise_levels(tmp_path: Path) -> None:
    before, file = pretrained(tmp_path)
    module = LEDMModule(**{**TINY, "init_from": file})
    module.load_start()
    image = make_batch(2)["image"]
    maps = module.features(image)
    noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    schedule = NoiseSchedule()
    # Four decoder blocks: round(b 3 / 17) of 5, 6, 7, 8, 12 is 1, 1, 1, 1, 2.
    seen: list[Tensor] = []
    levels = before.unet.up_blocks
    hooks = [
        levels[0].upsamplers[-1].register_forward_hook(lambda m, i, o: seen.append(o)),
        levels[1].resnets[0].register_forward_hook(lambda m, i, o: seen.append(o)),
    ]
    for step, t in enumerate((50, 150, 250)):
        seen.clear()
        alpha, sigma = schedule.alpha[t], schedule.sigma[t]
        x_t = alpha * image + sigma * noise
        with torch.no_grad():
            before.unet(x_t, torch.full((2,), t))
        torch.testing.assert_close(maps[0][:, step], seen[0])
        torch.testing.assert_close(maps[1][:, step], seen[1])
    for hook in hooks:
        hook.remove()


def test_features_do_not_depend_on_dropout_mode_or_batch(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path, dropout=0.5)
    module = LEDMModule(**{**TINY, "init_from": file})
    module.load_start()
    image = make_batch(3)["image"]
    first = module.train().features(image)
    for maps in (module.eval().features(image), module.train().features(image)):
        assert all(torch.equal(a, b) for a, b in zip(first, maps, strict=True))
    alone = module.features(image[1:2])
    for a, b in zip(first, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


def random_maps(num: int, sizes: tuple[int, ...] = (4, 8, 16)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    widths = (5, 3, 2)
    return [
        torch.randn(num, 2, width, size, size, generator=generator)
        for width, size in zip(widths, sizes, strict=True)
    ]


@pytest.mark.parametrize("size", [16, 32])
def test_the_cache_interpolates_as_torch_does(size: int, tmp_path: Path) -> None:
    maps = random_maps(3)
    cache = PixelFeatures(tmp_path, 3, [block[:1] for block in maps], size)
    for number in range(3):
        cache.put(number, [block[number : number + 1] for block in maps])
    place = torch.cartesian_prod(torch.arange(3), torch.arange(size), torch.arange(size))
    gathered = cache.gather(*place.unbind(1))
    expected = upsampled([block.half().float() for block in maps], size)
    expected = expected.permute(0, 2, 3, 1).reshape(-1, 20)
    torch.testing.assert_close(gathered, expected, rtol=1e-5, atol=1e-5)
    assert {file.stat().st_size for file in tmp_path.iterdir()} == {
        3 * 2 * block[0, 0].numel() * 2 for block in maps
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EOPNOTSUPP])
def test_a_cache_has_its_space_on_the_disk(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write to a map of a full disk kills the process; not all systems can tell before."""

    def refuses(*args: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    if number == errno.ENOSPC:
        with pytest.raises(OSError, match=r"No space left.*block-0\.fp16"):
            PixelFeatures(tmp_path, 1, random_maps(1), 16)
    else:
        PixelFeatures(tmp_path, 1, random_maps(1), 16)


def test_features_beyond_fp16_are_refused(tmp_path: Path) -> None:
    maps = [block * 1e6 for block in random_maps(1)]
    cache = PixelFeatures(tmp_path, 1, maps, 16)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="training image 0"):
        cache.put(0, maps)


def test_whole_images_are_classified_as_their_pixels_are() -> None:
    maps = random_maps(1)
    classifier = pixel_classifier(20, 3, seed=0)
    with torch.no_grad():
        for layer in classifier:
            if isinstance(layer, nn.BatchNorm1d):
                layer.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        classifier.eval()
        pixels = upsampled(maps, 32)[0].flatten(1).T
        expected = classifier(pixels * 30).T.reshape(3, 32, 32)
        logits = classify_pixels(classifier, [block[0] * 30 for block in maps], 32)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("num_classes", "widths"), [(2, [128, 32]), (29, [128, 32]), (30, [256, 128])]
)
def test_the_classifier_is_the_papers(num_classes: int, widths: list[int]) -> None:
    linear = [m for m in pixel_classifier(1000, num_classes, 0) if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [*widths, num_classes]
    assert abs(linear[0].weight.std().item() - 0.02) < 5e-4
    assert not any(m.bias.any() for m in linear)


def test_rare_classes_are_ignored_in_their_image() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.long)
    masks[0, 0, :3] = 1
    masks[1, 0, :4] = 1
    labels = training_labels(list(masks), min_class_pixels=4)
    assert (labels[0] == 255).sum() == 3
    assert torch.equal(labels[1], masks[1])
    assert masks.max() == 1


def labelled(tmp_path: Path, batch_size: int = 10) -> LabelledPixels:
    batch = make_batch(3)
    batch["mask"][0, :2] = 255
    return LabelledPixels(
        [{k: v[i] for k, v in batch.items()} for i in range(3)],
        lambda image: [image[:, None]],
        tmp_path,
        batch_size=batch_size,
        min_class_pixels=1,
    )


def test_an_epoch_sees_every_labelled_pixel_once_and_drops_the_rest(tmp_path: Path) -> None:
    pixels = labelled(tmp_path)
    count = 3 * 256 - 32
    shares = [pixels.share(number, 4, key=7) for number in range(4)]
    together = torch.cat(shares)
    assert together.shape == (count // 10, 10)
    assert len(together.unique()) == together.numel()
    assert not torch.equal(together, torch.cat([pixels.share(n, 4, key=8) for n in range(4)]))
    # However many shares there are, the order is the same.
    assert torch.equal(together, pixels.share(0, 1, key=7))
    assert sum(len(pixels.share(n, 100, key=7)) for n in range(100)) == count // 10


def test_pixels_come_with_their_own_features_and_labels(tmp_path: Path) -> None:
    batch = make_batch(3)
    pixels = labelled(tmp_path)
    seen = 0
    for x, y in pixels.batches(pixels.share(0, 1, key=1), torch.device("cpu")):
        assert x.shape == (10, 3)
        # Red is dark inside a disc and light outside.
        assert ((x[:, 0] < 0) == (y == 1)).float().mean() > 0.8
        assert not (y == 255).any()
        seen += len(y)
    assert seen == 730
    assert batch["mask"].max() == 1


def test_too_few_labelled_pixels_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="736 labelled pixels in 3 images"):
        labelled(tmp_path, batch_size=1000)


def make(tmp_path: Path, **arguments: Any) -> LEDMModule:
    file = tmp_path / "hybrid.ckpt"
    if not file.exists():
        pretrained(tmp_path)
    return LEDMModule(**{**TINY, "init_from": str(file), **arguments})


def test_it_learns_on_frozen_features_and_is_loaded_again(tmp_path: Path) -> None:
    module = make(tmp_path)
    data = Labelled()
    fitting = trainer(tmp_path, max_epochs=3)
    fitting.fit(module, datamodule=data)
    # A Trainer's step is a share of an epoch: two batches, three epochs.
    assert fitting.global_step == 6
    frozen = {k: v.clone() for k, v in module.unet.state_dict().items()}
    fresh = make(tmp_path)
    fresh.load_start()
    assert all(torch.equal(v, frozen[k]) for k, v in fresh.unet.state_dict().items())
    module.eval()
    image, mask = data.batch["image"], data.batch["mask"]
    with torch.no_grad():
        logits = module.segment(image)
    assert (logits.argmax(1) == mask).float().mean() > 0.95
    fitting.save_checkpoint(tmp_path / "ledm.ckpt")
    saved = torch.load(tmp_path / "ledm.ckpt", weights_only=True)
    assert not [name for name in saved["state_dict"] if name.startswith("unet.")]
    with torch.no_grad():
        again = load(tmp_path / "ledm.ckpt")
        assert isinstance(again, LEDMModule)
        torch.testing.assert_close(again.segment(image), logits)
    assert not list(tmp_path.glob("ledm-features-*"))


def test_other_frozen_weights_than_those_it_was_trained_on_are_refused(tmp_path: Path) -> None:
    module = make(tmp_path)
    fitting = trainer(tmp_path)
    fitting.fit(module, datamodule=Labelled())
    fitting.save_checkpoint(tmp_path / "ledm.ckpt")
    file = tmp_path / "hybrid.ckpt"
    changed = torch.load(file, weights_only=True)
    changed["state_dict"]["unet.conv_in.weight"] += 1
    torch.save(changed, file)
    with pytest.raises(CheckpointError, match="other weights than those"):
        load(tmp_path / "ledm.ckpt")
    file.unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load(tmp_path / "ledm.ckpt")


def test_a_random_network_is_kept_in_the_checkpoint(tmp_path: Path) -> None:
    module = LEDMModule(**TINY)
    fitting = trainer(tmp_path)
    fitting.fit(module, datamodule=Labelled())
    fitting.save_checkpoint(tmp_path / "ledm.ckpt")
    image = make_batch(2)["image"]
    module.eval()
    with torch.no_grad():
        again = load(tmp_path / "ledm.ckpt")
        assert isinstance(again, LEDMModule)
        torch.testing.assert_close(again.segment(image), module.segment(image))


class SaveAt(Callback):
    """Saves inside the epoch, as the run's own checkpoints do."""

    def __init__(self, step: int, path: Path) -> None:
        self.step = step
        self.path = path

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_resumed_fit_ends_with_the_same_weights(steps: int, tmp_path: Path) -> None:
    whole = make(tmp_path)
    trainer(tmp_path, max_epochs=3).fit(whole, datamodule=Labelled())
    saving = SaveAt(steps, tmp_path / "part.ckpt")
    first = trainer(tmp_path, max_epochs=3, max_steps=steps, callbacks=[saving])
    first.fit(make(tmp_path), datamodule=Labelled())
    resumed = make(tmp_path)
    second = trainer(tmp_path, max_epochs=3)
    second.fit(resumed, datamodule=Labelled(), ckpt_path=tmp_path / "part.ckpt")
    assert second.global_step == 6
    for a, b in zip(whole.classifier.parameters(), resumed.classifier.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_that_had_stopped_stops_again_at_once(tmp_path: Path) -> None:
    module = make(tmp_path, patience=1)
    first = trainer(tmp_path, max_epochs=100)
    first.fit(module, datamodule=Labelled())
    first.save_checkpoint(tmp_path / "stopped.ckpt")
    again = make(tmp_path, patience=1)
    second = trainer(tmp_path, max_epochs=100)
    (tmp_path / "ledm-features-left").mkdir()
    second.fit(again, datamodule=Labelled(), ckpt_path=tmp_path / "stopped.ckpt")
    assert second.global_step == first.global_step
    for a, b in zip(module.classifier.parameters(), again.classifier.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_killed_runs_cache_is_removed(tmp_path: Path) -> None:
    (tmp_path / "ledm-features-left").mkdir()
    trainer(tmp_path).fit(make(tmp_path), datamodule=Labelled())
    assert not list(tmp_path.glob("ledm-features-*"))


def test_it_is_float32_under_autocast(tmp_path: Path) -> None:
    module = make(tmp_path)
    trainer(tmp_path, max_epochs=2).fit(module, datamodule=Labelled())
    mixed = make(tmp_path)
    trainer(tmp_path, max_epochs=2, precision="bf16-mixed").fit(mixed, datamodule=Labelled())
    for a, b in zip(module.classifier.parameters(), mixed.classifier.parameters(), strict=True):
        assert torch.equal(a, b)
    image = make_batch(2)["image"]
    module.eval()
    with torch.no_grad():
        plain = module.segment(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module.segment(image), plain)


@pytest.mark.parametrize(("size", "pixels"), [(256, 20), (128, 5), (64, 1), (32, 1)])
def test_the_rule_for_rare_classes_scales_with_the_area(size: int, pixels: int) -> None:
    with torch.device("meta"):
        module = LEDMModule(preset="tiny", image_size=size)
    assert module.hparams["min_class_pixels"] == pixels


def test_the_stop_rule_counts_iterations_after_epoch_index_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(tmp_path, pixel_batch_size=64)
    epoch = 3
    monkeypatch.setattr(type(module), "current_epoch", property(lambda self: epoch))
    assert not any(module._enough(9.0) for _ in range(200))
    epoch = 4
    assert not module._enough(2.0)
    assert not any(module._enough(3.0) for _ in range(30))
    assert not module._enough(1.0)
    verdicts = [module._enough(1.0) for _ in range(51)]
    assert verdicts == [False] * 50 + [True]


def test_training_ends_by_the_rule(tmp_path: Path) -> None:
    module = make(tmp_path, patience=1)
    fitting = trainer(tmp_path, max_epochs=100)
    fitting.fit(module, datamodule=Labelled())
    assert 4 <= fitting.current_epoch < 20


def test_a_data_module_without_labelled_images_is_named(tmp_path: Path) -> None:
    class Bare(LightningDataModule):
        def train_dataloader(self) -> DataLoader[Any]:
            return Labelled().train_dataloader()

    with pytest.raises(ValueError, match="Bare does not give labelled images"):
        trainer(tmp_path).fit(make(tmp_path), datamodule=Bare())
