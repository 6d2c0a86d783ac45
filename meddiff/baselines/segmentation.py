"""The rivals of hybrid diffusion: any segmenter of segmentation-models-pytorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from meddiff.baselines.architectures import build, check_size, trial
from meddiff.baselines.encoders import Normalisation, load_encoder
from meddiff.baselines.presets import SEGMENTATION_PRESETS, default_encoder
from meddiff.core.checkpoint import (
    CheckpointError,
    check_written_by,
    find_checkpoint,
    public_name,
    read_checkpoint,
)
from meddiff.core.optimization import AdamWModule
from meddiff.core.randomness import mix
from meddiff.core.segmenter import Segmenter
from meddiff.core.start import StartsFrom, check_same_network, weights_of
from meddiff.networks.pretrained import local_weights

_HEAD = "network.segmentation_head."


class SegmentationModule(StartsFrom, Segmenter, AdamWModule):
    """A segmenter trained by cross-entropy: DeepLabV3, SegFormer, U-Net and others.

    It starts from nothing, from an encoder trained on ImageNet, or from an earlier run of its own,
    whose head is kept where it has as many classes, else begun anew (docs/papers/hybrid.md 2c-3 and
    2e: ImageNet, then supervised pretraining, then 20 labels). Its initial weights depend on the
    arguments alone.

    Args:
        architecture: `deeplabv3`, `segformer` or another name of
            `segmentation_models_pytorch.create_model`.
        encoder: An encoder of that library (`tu-...`: of timm).
        encoder_weights: None: random. Else `imagenet` or another name of weights that the library
            has on the hub, or a local file or folder. Read when a new fit begins, unless
            `init_from` is given; a resumed fit, test and predict do without.
        **kwargs: As `StartsFrom`, `Segmenter` and `AdamWModule`.
    """

    mean: Tensor
    std: Tensor

    presets = SEGMENTATION_PRESETS
    starts = ("init_from", "encoder_weights")

    def __init__(
        self,
        architecture: str = "deeplabv3",
        encoder: str | None = None,
        encoder_weights: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        channels, size = self.hparams["in_channels"], self.hparams["image_size"]
        names = {"architecture": architecture, "encoder": self.hparams["encoder"]}
        self._name = f"{architecture} with {names['encoder']}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.hparams["seed"]))
            self.network = build(
                **names, in_channels=channels, num_classes=self.hparams["num_classes"]
            )
            check_size(self.network, self._name, channels, size)
            self._trains_on_one = trial(self.network, channels, size, batch=1) is None
        normalisation = Normalisation().for_channels(channels)
        self.register_buffer("mean", torch.tensor(normalisation.mean))
        self.register_buffer("std", torch.tensor(normalisation.std))

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with what the preset has for them; the encoder is the architecture's."""
        filled = super().filled(given)
        encoder = given["encoder"] or default_encoder(given["architecture"], given["preset"])
        return filled | {"encoder": encoder}

    def networks(self) -> list[nn.Module]:
        """The segmenter."""
        return [self.network]

    def segment(self, image: Tensor) -> Tensor:
        """Logits of images.

        Args:
            image: In [-1, 1], shape (B, C, H, W); normalised here as the encoder's weights want it.

        Returns:
            Float32, shape (B, K, H, W).

        Raises:
            ValueError: If one image alone is trained on, and the network cannot normalise it.
        """
        if self.training and len(image) == 1 and not self._trains_on_one:
            raise ValueError(
                f"{self._name} cannot train on a batch of one image: its batch normalisation "
                "averages over the images of a batch where one value a channel is left of each; "
                "give data.init_args.batch_size of 2 or more, and data.init_args.drop_last: true "
                "where an epoch ends with one image"
            )
        mean, std = (figure.float().view(1, -1, 1, 1) for figure in (self.mean, self.std))
        normalised = ((image.float() + 1) / 2 - mean) / std
        logits: Tensor = self.network(normalised.to(next(self.network.parameters()).dtype))
        return logits.float()

    def start_file(self, argument: str, value: str) -> Path | None:
        """The checkpoint, or the encoder's weights where they are a file of this disk.

        Raises:
            CheckpointError: If it is not there.
        """
        if argument != "encoder_weights":
            return super().start_file(argument, value)
        return local_weights(value, argument=argument, encoder=self.hparams["encoder"])

    def load_start(self) -> None:
        """Loads the weights of an earlier run or of the encoder.

        Raises:
            CheckpointError: If they are not there or do not fit.
        """
        if self.hparams["init_from"] is not None:
            self._load_run(self.hparams["init_from"])
        elif self.hparams["encoder_weights"] is not None:
            normalisation = load_encoder(
                self.network,
                self.hparams["architecture"],
                self.hparams["encoder"],
                self.hparams["encoder_weights"],
                self.hparams["in_channels"],
            )
            self.mean.copy_(torch.tensor(normalisation.mean))
            self.std.copy_(torch.tensor(normalisation.std))

    def _load_run(self, init_from: str) -> None:
        # The weights at the end of pretraining are the paper's.
        file = find_checkpoint(init_from, prefer=("last", "best"))
        checkpoint = read_checkpoint(file)
        check_written_by(checkpoint, [public_name(SegmentationModule)], file)
        remembered = checkpoint["hyper_parameters"]
        check_same_network(
            remembered,
            {key: self.hparams[key] for key in ("architecture", "encoder", "in_channels")},
            file,
            "Give the same as model.init_args.architecture and encoder (in_channels: "
            "data.init_args)",
        )
        state = dict(weights_of(checkpoint, self.hparams["init_weights"]))
        other_classes = remembered["num_classes"] != self.hparams["num_classes"]
        if other_classes:
            own = self.state_dict()
            fresh = {k for k in state if k.startswith(_HEAD) and state[k].shape != own[k].shape}
            state |= {key: own[key] for key in fresh}
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"{file}: {error}") from error
        head = "a new head" if other_classes else "its head"
        rank_zero_info(f"starts from {file} ({self._name}), with {head}")
