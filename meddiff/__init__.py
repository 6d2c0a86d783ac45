"""Five diffusion papers as LightningModules for medical imaging."""

from meddiff.baselines import SDEditModule, SegmentationModule
from meddiff.checkpoint import load, version
from meddiff.hybrid import HybridDiffusionModule, HybridFinetuneModule, LEDMModule
from meddiff.lmi import LMIDiffusionModule, local_mutual_information, mutual_information

__version__ = version()

__all__ = [
    "HybridDiffusionModule",
    "HybridFinetuneModule",
    "LEDMModule",
    "LMIDiffusionModule",
    "SDEditModule",
    "SegmentationModule",
    "__version__",
    "load",
    "local_mutual_information",
    "mutual_information",
]
