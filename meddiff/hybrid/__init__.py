"""Hybrid diffusion: one UNet denoises the image and predicts its mask."""

from meddiff.hybrid.finetune import HybridFinetuneModule
from meddiff.hybrid.module import HybridDiffusionModule

__all__ = ["HybridDiffusionModule", "HybridFinetuneModule"]
