"""Five diffusion papers as LightningModules for medical imaging."""

from meddiff.baselines import LEDMModule, SDEditModule, SegmentationModule
from meddiff.core.checkpoint import version
from meddiff.core.loading import load
from meddiff.hybrid import HybridDiffusionModule, HybridFinetuneModule
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
