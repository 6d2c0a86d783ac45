"""Networks that two or more papers share."""

from meddiff.networks.adm import NETWORK_KEYS, adm_unet, checkpoint_blocks, decoder_blocks
from meddiff.networks.adm_module import ADMModule
from meddiff.networks.guided_diffusion import load_guided_diffusion

__all__ = [
    "NETWORK_KEYS",
    "ADMModule",
    "adm_unet",
    "checkpoint_blocks",
    "decoder_blocks",
    "load_guided_diffusion",
]
