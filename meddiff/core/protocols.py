"""What a callback may ask of a module.

Callbacks check these protocols and nothing else, so any LightningModule that has the methods gets
the metrics, the sample grids and the prediction writer.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

Generators: TypeAlias = torch.Generator | list[torch.Generator] | None
"""One generator for a batch or a list of them, one an item (the convention of diffusers)."""


@runtime_checkable
class SupportsSampling(Protocol):
    """A module that makes images from noise."""

    def sample(self, num: int, generator: Generators = None, **kwargs: Any) -> dict[str, Tensor]:
        """Returns `image` (num, C, H, W) in [-1, 1] and, where made, `mask` (num, H, W)."""
        ...


@runtime_checkable
class SupportsSegmentation(Protocol):
    """A module that predicts masks."""

    def segment(self, image: Tensor) -> Tensor:
        """Returns logits (B, K, H, W) for images (B, C, H, W) in [-1, 1]."""
        ...


@runtime_checkable
class SupportsTranslation(Protocol):
    """A module that moves an image to another domain."""

    def translate(self, image: Tensor, generator: Generators = None) -> Tensor:
        """Returns images (B, C, H, W) in [-1, 1] for images of the same shape and range."""
        ...


@runtime_checkable
class SupportsClassification(Protocol):
    """A module that predicts image labels."""

    def classify(self, image: Tensor) -> Tensor:
        """Returns logits (B, L) for images (B, C, H, W) in [-1, 1]."""
        ...


@runtime_checkable
class HasNetworks(Protocol):
    """A module that names its trainable networks."""

    def networks(self) -> list[nn.Module]:
        """Returns what EMA averages and what is compiled; frozen encoders are not among them."""
        ...


@runtime_checkable
class ProvidesLabelled(Protocol):
    """A data module that yields its labelled training images one by one."""

    def labelled_images(self) -> Iterator[dict[str, Tensor]]:
        """Yields `image` (C, H, W) in [-1, 1], `mask` (H, W) and `index`, unaugmented."""
        ...


@runtime_checkable
class ProvidesReference(Protocol):
    """A data module that yields its training images of one domain one by one."""

    def reference_images(self, domain: str | None = None) -> Iterator[Tensor]:
        """Yields images (C, H, W) in [-1, 1], unaugmented, the same in every stage.

        `domain` is `source`, `target` or None, which is what the module is trained on.
        """
        ...


@runtime_checkable
class DeclaresHalfPrecision(Protocol):
    """A module that says whether its networks can take fp16 with a gradient scaler."""

    @property
    def supports_fp16(self) -> bool:
        """False: a run that asks for fp16 uses float32 instead and says so."""
        ...


def can_sample(module: object) -> TypeGuard[SupportsSampling]:
    """Whether `sample` is there and, by the module's `samples` property, meaningful."""
    return isinstance(module, SupportsSampling) and getattr(module, "samples", True)


def can_segment(module: object) -> TypeGuard[SupportsSegmentation]:
    """Whether `segment` is there and, by the module's `segments` property, meaningful."""
    return isinstance(module, SupportsSegmentation) and getattr(module, "segments", True)


def can_translate(module: object) -> TypeGuard[SupportsTranslation]:
    """Whether `translate` is there and, by the module's `translates` property, meaningful."""
    return isinstance(module, SupportsTranslation) and getattr(module, "translates", True)
