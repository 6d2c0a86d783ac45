"""Networks of segmentation-models-pytorch, and what each of them can take."""

import difflib
import itertools
from typing import Any

import torch
from torch import nn

_SIZES = range(32, 513, 32)


def build(
    architecture: str, encoder: str, *, in_channels: int, num_classes: int, **timm: Any
) -> nn.Module:
    """Builds a segmenter with random weights; nothing is downloaded.

    Args:
        architecture: A name of `segmentation_models_pytorch.create_model`.
        encoder: An encoder of that library; `tu-...` are timm's.
        in_channels: Channels of the images.
        num_classes: Channels of the logits.
        **timm: Further arguments of a `tu-` encoder.

    Raises:
        ValueError: If there is no such architecture or encoder, or the two do not go together.
    """
    import segmentation_models_pytorch as smp

    check_names(architecture, encoder)
    if architecture == "dpt":
        # Positions are interpolated, so that any multiple of the patch size goes.
        timm = {"dynamic_img_size": True, **timm}
    weights = True if "pretrained_cfg_overlay" in timm else None
    try:
        network: nn.Module = smp.create_model(
            architecture,
            encoder,
            encoder_weights=weights,
            in_channels=in_channels,
            classes=num_classes,
            **timm,
        )
    except (ValueError, TypeError, KeyError, NotImplementedError, AssertionError) as error:
        raise ValueError(
            f"encoder: {encoder} does not go with architecture {architecture} "
            f"({_first_line(error)}); give another encoder"
        ) from error
    return network


def check_names(architecture: str, encoder: str) -> None:
    """Checks that both names exist.

    Raises:
        ValueError: If one does not; names the nearest ones.
    """
    import segmentation_models_pytorch as smp
    import timm

    architectures = list(smp.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in architectures:
        near = _nearest(architecture, architectures)
        raise ValueError(
            f"architecture: {architecture!r} is not one of {', '.join(architectures)}{near}"
        )
    if encoder in smp.encoders.encoders or timm.is_model(encoder.removeprefix("tu-")):
        if encoder in smp.encoders.encoders or encoder.startswith("tu-"):
            return
        raise ValueError(f"encoder: {encoder!r} is timm's; give tu-{encoder}")
    near = _nearest(encoder, list(smp.encoders.encoders))
    raise ValueError(
        f"encoder: {encoder!r} is neither an encoder of segmentation-models-pytorch nor "
        f"tu- with a model of timm{near}"
    )


def check_size(network: nn.Module, what: str, in_channels: int, image_size: int) -> None:
    """Checks that a network takes images of a size and gives logits of the same.

    Args:
        network: What `build` gave.
        what: Its name, for the message.
        in_channels: Channels of the images.
        image_size: Height and width in pixels.

    Raises:
        ValueError: If it does not; says why and names the nearest size that fits.
    """
    problem = trial(network, in_channels, image_size)
    if problem is None:
        return
    nearby = sorted(_SIZES, key=lambda size: abs(size - image_size))
    fitting = (size for size in nearby if trial(network, in_channels, size) is None)
    size = next(fitting, None)
    advice = f"give data.init_args.image_size: {size}" if size else "give another encoder"
    raise ValueError(f"image_size: {what} takes no {image_size} pixels ({problem}); {advice}")


def trial(network: nn.Module, in_channels: int, image_size: int, batch: int = 2) -> str | None:
    """What goes wrong in a training batch of a size, None if nothing does.

    Shapes alone are computed, on torch's meta device, so that it costs next to nothing; the
    network stays as it is.
    """
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    shapes = {name: tensor.to("meta") for name, tensor in tensors}
    image = torch.zeros(batch, in_channels, image_size, image_size, device="meta")
    try:
        logits = torch.func.functional_call(network, shapes, (image,))
    except (RuntimeError, ValueError, AssertionError) as error:
        return _first_line(error)
    size = tuple(logits.shape[-2:])
    return None if size == (image_size, image_size) else f"the logits have {size}"


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
