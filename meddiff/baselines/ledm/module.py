"""LEDM: a pixel classifier on the features of a frozen UNet (docs/papers/hybrid.md 2a, 2c-11)."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F

from meddiff.baselines.ledm.classifier import classify_pixels, pixel_classifier
from meddiff.baselines.ledm.features import DecoderFeatures, fingerprint
from meddiff.baselines.ledm.pixels import LabelledPixels
from meddiff.baselines.ledm.presets import LEDM_PRESETS
from meddiff.core.checkpoint import LIVE, CheckpointError
from meddiff.core.portable import RUN, from_run, run_of_trainer, start_in_config
from meddiff.core.precision import full_precision
from meddiff.core.protocols import ProvidesLabelled
from meddiff.core.randomness import mix
from meddiff.core.ranges import (
    NonNegativeInt,
    NonNegativeNumber,
    PaperBlock,
    Seed,
    TimeIndex,
    TwoOrMore,
)
from meddiff.core.segmenter import Segmenter
from meddiff.core.start import StartsFrom
from meddiff.networks import ADMModule, adm_unet
from meddiff.networks.adm_start import load_backbone, read_start

_LAST_EPOCH_WITHOUT_STOP = 3
_CACHE = "ledm-features-"
_GIVE = (
    "Give its pretraining run as model.init_args.init_from (in Python: "
    "meddiff.load(RUN, init_from=...))"
)


class LEDMModule(StartsFrom, Segmenter, ADMModule):
    """Label-efficient segmentation with a diffusion model: an MLP on frozen pixel features.

    Features of a pixel are the outputs of some decoder blocks at some noise levels, with one shared
    noise. They are computed once, when a fit begins, and the MLP is trained on pixels of all
    labelled images in random order. The Trainer's batches only count: batch b of B trains on the
    b-th of B shares of an epoch's pixels, whatever images it holds, and a Trainer's step is one
    share. One device trains, in float32 in every precision: the classifier is small, and features
    of another precision than those it was trained on would be others.

    Args:
        init_from: Run directory (its last checkpoint) or checkpoint of the frozen network. None: a
            random one. Test and predict need it too: the checkpoint holds the classifier, a hash of
            the frozen weights and where they were as seen from its run, not the weights.
        blocks: Decoder blocks of the paper's network of 18; of another depth n block b is
            round(b (n - 1) / 17).
        noise_timesteps: Time indices at which noisy images are looked at.
        clean_features: Whether the clean image at t = 0 is looked at instead, for a network that
            never saw noise (2c-11).
        noise_seed: Seed of the shared noise.
        min_class_pixels: A class with fewer pixels in a training image is ignored there; None: the
            reference's 20 of 256 x 256, scaled with the area.
        pixel_batch_size: Pixels of an iteration.
        learning_rate: Rate of Adam.
        patience: Training stops once, after epoch index 3, more iterations than this have passed
            without a new best training loss of a batch.
        **kwargs: As `StartsFrom`, `Segmenter` and `ADMModule`, without `dropout`.
    """

    presets = LEDM_PRESETS

    def __init__(
        self,
        init_from: str | None = None,
        blocks: list[PaperBlock] | None = None,
        noise_timesteps: list[TimeIndex] | None = None,
        clean_features: bool = False,
        noise_seed: Seed = 0,
        min_class_pixels: NonNegativeInt | None = None,
        pixel_batch_size: TwoOrMore = 64,
        learning_rate: NonNegativeNumber = 1e-3,
        patience: NonNegativeInt = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_from=init_from, dropout=0.0, **kwargs)
        # No argument of this class: a frozen network drops nothing out.
        self.hparams.pop("dropout", None)
        channels, size = self.hparams["in_channels"], self.hparams["image_size"]
        self.automatic_optimization = False
        self.unet = adm_unet(in_channels=channels, out_channels=1, **self.network)
        self.unet.requires_grad_(False).eval()
        self.features = DecoderFeatures(
            self.unet,
            self.hparams["blocks"],
            [0] if clean_features else self.hparams["noise_timesteps"],
            torch.randn(
                (channels, size, size), generator=torch.Generator().manual_seed(noise_seed)
            ),
            clean=clean_features,
        )
        self.classifier = pixel_classifier(
            self.features.length, self.hparams["num_classes"], self.hparams["seed"]
        )
        # The frozen weights are left out of the checkpoint where they are had elsewhere.
        self.strict_loading = init_from is None
        self._frozen: str | None = None
        self._told: list[Path] = []
        self._folder: TemporaryDirectory[str] | None = None
        self._best_loss = float("inf")
        self._without_gain = 0

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with what the preset has for them, the least class area by image size."""
        filled = super().filled(given)
        if filled.get("min_class_pixels") is None:
            filled["min_class_pixels"] = max(1, round(20 * (given["image_size"] / 256) ** 2))
        return filled

    @property
    def supports_fp16(self) -> bool:
        """The classifier's many small steps are taken without a gradient scaler."""
        return False

    def networks(self) -> list[nn.Module]:
        """The pixel classifier; the UNet is frozen."""
        return [self.classifier]

    def train(self, mode: bool = True) -> Self:
        """The UNet stays in evaluation mode: its features do not depend on dropout."""
        super().train(mode)
        self.unet.eval()
        return self

    def load_start(self) -> None:
        """Loads the frozen UNet.

        Raises:
            CheckpointError: If it is not there or does not fit.
        """
        init_from = self.hparams["init_from"]
        if init_from is None or self._frozen is not None:
            return
        given = Path(init_from).expanduser()
        start = read_start(
            next((path for path in [given, *self._told] if path.exists()), given),
            self.network,
            self.hparams["in_channels"],
            self.hparams["init_weights"],
        )
        load_backbone(self.unet, start)
        self._frozen = fingerprint(self.unet)
        rank_zero_info(f"frozen features of {start.source} ({start.objective})")

    def on_train_start(self) -> None:
        """Computes the features of all labelled images into a cache in the run directory.

        A resumed run that had already stopped by its rule stops again at once.

        Raises:
            ValueError: If there are several devices, the data module does not give its labelled
                images, or they have fewer labelled pixels than one iteration takes.
        """
        if self.trainer.world_size > 1:
            raise ValueError("LEDMModule trains a small classifier on one device; give devices: 1")
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ProvidesLabelled):
            raise ValueError(f"LEDMModule: {type(data).__name__} does not give labelled images")
        if self._without_gain > self.hparams["patience"]:
            self.trainer.should_stop = True
            return
        run = Path(self.trainer.default_root_dir)
        for left_by_a_killed_run in run.glob(f"{_CACHE}*"):
            shutil.rmtree(left_by_a_killed_run)
        self._folder = TemporaryDirectory(dir=run, prefix=_CACHE)
        self._pixels = LabelledPixels(
            data.labelled_images(),
            lambda image: self.features(image.to(self.device)),
            Path(self._folder.name),
            batch_size=self.hparams["pixel_batch_size"],
            min_class_pixels=self.hparams["min_class_pixels"],
        )

    def on_train_end(self) -> None:
        """Removes the cache."""
        if self._folder is not None:
            self._folder.cleanup()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """Trains on the batch's share of this epoch's pixels; returns their mean loss."""
        key = mix(self.hparams["seed"], self.current_epoch)
        share = self._pixels.share(batch_idx, int(self.trainer.num_training_batches), key)
        optimizer: Any = self.optimizers()
        losses: list[Tensor] = []
        for x, y in self._pixels.batches(share, self.device):
            optimizer.zero_grad()
            # The backward pass too, which otherwise runs under the autocast of this step.
            with full_precision(self.device):
                loss = F.cross_entropy(self.classifier(x), y)
                self.manual_backward(loss)
            losses.append(loss.detach())
            # The rule of the paper's code needs each loss: the one step that waits for the device.
            stop = self._enough(float(losses[-1]))
            last = stop or len(losses) == len(share)
            # Lightning counts the steps of its own wrapper: one a share.
            (optimizer if last else optimizer.optimizer).step()
            if stop:
                self.trainer.should_stop = True
                break
        if not losses:
            return None
        mean = torch.stack(losses).mean()
        self.log("train/loss", mean, batch_size=len(losses))
        return mean

    def _enough(self, loss: float) -> bool:
        if self.current_epoch <= _LAST_EPOCH_WITHOUT_STOP:
            return False
        gained = loss < self._best_loss
        self._best_loss = min(loss, self._best_loss)
        self._without_gain = 0 if gained else self._without_gain + 1
        return self._without_gain > int(self.hparams["patience"])

    def segment(self, image: Tensor) -> Tensor:
        """Logits of all pixels of clean images.

        Args:
            image: In [-1, 1], shape (B, C, H, W).

        Returns:
            Float32, shape (B, K, H, W).
        """
        maps = self.features(image)
        # One image at a time: the vectors of a batch of images would not fit.
        with full_precision(image.device):
            each = [
                classify_pixels(self.classifier, [block[b] for block in maps], image.shape[-1])
                for b in range(len(image))
            ]
        return torch.stack(each)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at a constant rate on the classifier."""
        return torch.optim.Adam(
            self.classifier.parameters(),
            lr=self.hparams["learning_rate"],
            fused=self.device.type in ("cpu", "cuda"),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves the frozen weights out and writes what they were."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["ledm"] = {
            "best_loss": self._best_loss,
            "without_gain": self._without_gain,
            "frozen": self._frozen,
        }
        if self.hparams["init_from"] is None:
            return
        if self._trainer is not None:
            checkpoint["ledm"] |= self._places(run_of_trainer(self._trainer))
        for key in {"state_dict", LIVE} & checkpoint.keys():
            kept = {k: v for k, v in checkpoint[key].items() if not k.startswith("unet.")}
            checkpoint[key] = kept

    def _places(self, run: Path) -> dict[str, str | None]:
        """Where the frozen weights are, as seen from the run; its config knows, if nothing else."""
        places = [Path(self.hparams["init_from"]).expanduser(), *self._told]
        there = next((path for path in places if path.exists()), None)
        return {"run": RUN, "start": None if there is None else from_run(there, run)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Loads the frozen weights that a checkpoint belongs to.

        Raises:
            CheckpointError: If they are gone or are other ones, or the classifier is missing.
        """
        super().on_load_checkpoint(checkpoint)
        remembered = checkpoint["ledm"]
        self._best_loss, self._without_gain = remembered["best_loss"], remembered["without_gain"]
        if "run" in remembered:
            start, run = remembered["start"], Path(remembered["run"])
            self._told = [Path(start)] if start is not None else []
            self._told += start_in_config(run, "init_from")
        try:
            self.load_start()
        except CheckpointError as error:
            raise CheckpointError(f"the frozen network of LEDMModule: {error}\n{_GIVE}") from error
        if remembered["frozen"] != self._frozen:
            raise CheckpointError(
                f"{self.hparams['init_from']}: holds other weights than those that this classifier "
                f"was trained on\n{_GIVE}"
            )
        names = [f"classifier.{name}" for name in self.classifier.state_dict()]
        missing = [name for name in names if name not in checkpoint["state_dict"]]
        if missing:
            raise CheckpointError(f"a checkpoint of LEDMModule without {', '.join(missing[:3])}")
