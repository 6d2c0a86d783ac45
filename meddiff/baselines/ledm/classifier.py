"""The pixel classifier of LEDM (docs/papers/hybrid.md 2a)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meddiff.core.randomness import mix

_MANY_CLASSES = 30


def pixel_classifier(features: int, num_classes: int, seed: int) -> nn.Sequential:
    """The MLP: weights N(0, 0.02), biases 0.

    Args:
        features: Length of a pixel's vector.
        num_classes: K; from 30 classes on the hidden widths are 256 and 128, below 128 and 32.
        seed: Seed of the weights.
    """
    wide, narrow = (128, 32) if num_classes < _MANY_CLASSES else (256, 128)
    classifier = nn.Sequential(
        nn.Linear(features, wide),
        nn.ReLU(),
        nn.BatchNorm1d(wide),
        nn.Linear(wide, narrow),
        nn.ReLU(),
        nn.BatchNorm1d(narrow),
        nn.Linear(narrow, num_classes),
    )
    # torch's CPU generator takes the lower 32 bits alone.
    generator = torch.Generator().manual_seed(mix(seed) & 0xFFFFFFFF)
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
            nn.init.zeros_(layer.bias)
    return classifier


def classify_pixels(classifier: nn.Sequential, maps: Sequence[Tensor], size: int) -> Tensor:
    """Logits of all pixels of one image, in a fraction of the memory of their vectors.

    The first layer and bilinear upsampling are both linear: taken in the other order, 128 channels
    are upsampled and not 4224. The rest is computed in chunks, one row of pixels each.

    Args:
        classifier: Of `pixel_classifier`, in evaluation mode.
        maps: The image's features, (S, c, h, w) a block.
        size: Height and width of the image.

    Returns:
        Shape (K, size, size).
    """
    first, *rest = classifier
    if not isinstance(first, nn.Linear):
        raise TypeError(f"the first layer is {type(first).__name__}, not Linear")
    inputs = [block[step : step + 1] for step in range(len(maps[0])) for block in maps]
    columns = first.weight.split([x.shape[1] for x in inputs], dim=1)
    hidden = first.bias.view(-1, 1, 1)
    for x, weight in zip(inputs, columns, strict=True):
        narrow = F.conv2d(x, weight[:, :, None, None])
        wide = F.interpolate(narrow, size=(size, size), mode="bilinear", align_corners=False)
        hidden = hidden + wide[0]
    head = nn.Sequential(*rest)
    rows = [head(row.T) for row in hidden.unbind(1)]
    return torch.stack(rows).permute(2, 0, 1)
