"""What the papers compare with, each a thin LightningModule on a library."""

from meddiff.baselines.segmentation import SegmentationModule

__all__ = ["SegmentationModule"]
