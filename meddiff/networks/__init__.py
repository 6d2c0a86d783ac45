"""Networks that two or more papers share."""

from meddiff.networks.adm import adm_unet
from meddiff.networks.guided_diffusion import load_guided_diffusion

__all__ = ["adm_unet", "load_guided_diffusion"]
