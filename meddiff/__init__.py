"""Five diffusion papers as LightningModules for medical imaging."""

from importlib.metadata import PackageNotFoundError, version

from meddiff.checkpoint import load
from meddiff.hybrid import HybridDiffusionModule

try:
    __version__ = version("meddiff")
except PackageNotFoundError:  # a source tree that is on the path but was never installed
    __version__ = "0+unknown"

__all__ = ["HybridDiffusionModule", "__version__", "load"]
