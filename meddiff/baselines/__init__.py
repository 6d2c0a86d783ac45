"""What the papers compare with, each a thin LightningModule."""

from meddiff.baselines.ledm import LEDMModule
from meddiff.baselines.sdedit import SDEditModule
from meddiff.baselines.segmentation import SegmentationModule

__all__ = ["LEDMModule", "SDEditModule", "SegmentationModule"]
