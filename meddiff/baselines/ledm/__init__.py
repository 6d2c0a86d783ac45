"""LEDM: a pixel classifier on the features of a frozen UNet."""

from meddiff.baselines.ledm.module import LEDMModule

__all__ = ["LEDMModule"]
