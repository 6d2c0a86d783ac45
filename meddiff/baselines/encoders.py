"""Pretrained weights for the encoder of a segmenter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from meddiff.baselines.architectures import build
from meddiff.core.checkpoint import CheckpointError
from meddiff.networks.pretrained import Pretrained, load_pretrained

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

_ARGUMENT = "model.init_args.encoder_weights"
_LINE = 200


class Normalisation(NamedTuple):
    """Mean and standard deviation of each channel, of images in [0, 1]."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def for_channels(self, channels: int) -> Normalisation:
        """The figures themselves for colour images, else their averages for each channel."""
        if channels == len(self.mean):
            return self
        return Normalisation(
            (sum(self.mean) / len(self.mean),) * channels,
            (sum(self.std) / len(self.std),) * channels,
        )


def load_encoder(
    network: nn.Module, architecture: str, encoder: str, weights: str, in_channels: int
) -> Normalisation:
    """Loads pretrained weights into `network.encoder`, in place.

    The first convolution is fitted to `in_channels` as the library does: summed over the colours
    for one channel, else repeated and scaled.

    Args:
        network: What `build` gave for the other arguments.
        architecture: Its architecture.
        encoder: Its encoder.
        weights: Name of weights on the hub, or a local file or folder.
        in_channels: Channels of its images.

    Returns:
        How the images were normalised that the weights were trained on.

    Raises:
        CheckpointError: If they are not there or do not fit; the network is then as it was.
    """
    pretrained = load_pretrained(weights, argument=_ARGUMENT, encoder=encoder)
    with torch.random.fork_rng(devices=[]):
        if encoder.startswith("tu-"):
            donor = _timm_donor(architecture, encoder, pretrained, in_channels)
            normalisation = _timm_normalisation(encoder)
        else:
            donor = _smp_donor(architecture, encoder, pretrained, in_channels)
            normalisation = _smp_normalisation(pretrained)
    network.get_submodule("encoder").load_state_dict(donor.state_dict())
    return normalisation.for_channels(in_channels)


def _smp_donor(
    architecture: str, encoder: str, pretrained: Pretrained, in_channels: int
) -> nn.Module:
    donor = build(architecture, encoder, in_channels=3, num_classes=2).get_submodule("encoder")
    try:
        # A copy: the library's encoders take a classifier's weights out of what they are given.
        donor.load_state_dict(dict(pretrained.state))
    except RuntimeError as error:
        raise _misfit(encoder, pretrained, str(error).splitlines()[1:]) from error
    donor.set_in_channels(in_channels, pretrained=True)  # type: ignore[operator]
    return donor


def _timm_donor(
    architecture: str, encoder: str, pretrained: Pretrained, in_channels: int
) -> nn.Module:
    import timm

    # timm leaves out in silence what it does not find, once a classifier is not asked for.
    whole = timm.create_model(encoder.removeprefix("tu-"))
    settings = _timm_settings(encoder)
    classifier = (settings.classifier if settings else None) or ()
    heads = [classifier] if isinstance(classifier, str) else list(classifier)
    wanted, given = (
        {key for key in state if not key.startswith(tuple(f"{head}." for head in heads))}
        for state in (whole.state_dict(), pretrained.state)
    )
    problems = {"missing": wanted - given, "unknown": given - wanted}
    if wanted != given:
        lines = [f"{what}: {', '.join(sorted(keys))}" for what, keys in problems.items() if keys]
        raise _misfit(encoder, pretrained, lines)
    overlay = {"state_dict": dict(pretrained.state)}
    try:
        donor = build(
            architecture,
            encoder,
            in_channels=in_channels,
            num_classes=2,
            pretrained_cfg_overlay=overlay,
        )
    except RuntimeError as error:
        raise _misfit(encoder, pretrained, str(error).splitlines()[1:]) from error
    return donor.get_submodule("encoder")


def _smp_normalisation(pretrained: Pretrained) -> Normalisation:
    # Repositories of timm keep the same figures one level deeper.
    config = pretrained.config.get("pretrained_cfg", pretrained.config)
    if config.get("input_space", "RGB") != "RGB" or config.get("input_range", [0, 1])[-1] != 1:
        raise CheckpointError(
            f"{_ARGUMENT}: {pretrained.source} wants images in {config.get('input_space')} up to "
            f"{config.get('input_range')}; only RGB in [0, 1] is known here, give other weights"
        )
    known = {key: tuple(config[key]) for key in ("mean", "std") if key in config}
    return Normalisation(**known)


def _timm_normalisation(encoder: str) -> Normalisation:
    settings = _timm_settings(encoder)
    return Normalisation(settings.mean, settings.std) if settings else Normalisation()


def _timm_settings(encoder: str) -> PretrainedCfg | None:
    import timm

    return timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)


def _misfit(encoder: str, pretrained: Pretrained, lines: list[str]) -> CheckpointError:
    shown = [line.strip() for line in lines[:5]]
    cut = [line if len(line) <= _LINE else f"{line[:_LINE]} ..." for line in shown]
    more = [f"and {len(lines) - len(shown)} lines more"] if len(lines) > len(shown) else []
    return CheckpointError(
        f"{_ARGUMENT}: the weights of {pretrained.source} are not those of {encoder}\n"
        + "\n".join(f"  {line}" for line in [*cut, *more])
    )
