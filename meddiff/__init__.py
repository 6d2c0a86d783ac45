"""Five diffusion papers as LightningModules for medical imaging."""

from importlib.metadata import PackageNotFoundError, version

from meddiff.baselines import SDEditModule, SegmentationModule
from meddiff.checkpoint import load
from meddiff.hybrid import HybridDiffusionModule, HybridFinetuneModule, LEDMModule
from meddiff.lmi import LMIDiffusionModule, local_mutual_information, mutual_information

try:
    __version__ = version("meddiff")
except PackageNotFoundError:  # a source tree that is on the path but was never installed
    __version__ = "0+unknown"

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
