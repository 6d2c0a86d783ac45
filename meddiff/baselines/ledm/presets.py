"""The networks of hybrid diffusion, and what LEDM reads of them (docs/papers/hybrid.md 2a)."""

from meddiff.core.presets import PresetTable
from meddiff.hybrid.presets import NETWORKS

LEDM_PRESETS: PresetTable = {
    name: {
        **{key: value for key, value in network.items() if key != "dropout"},
        "blocks": [5, 6, 7, 8, 12],
        "noise_timesteps": [50, 150, 250],
    }
    for name, network in NETWORKS.items()
}
