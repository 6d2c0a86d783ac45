"""Random numbers that depend on where a run is, not on how it got there.

Every draw in a step comes from a generator keyed by (seed, batches seen in the run, rank), so a run
that was killed and resumed draws what the uninterrupted one would have drawn.
"""

from collections.abc import Iterable, Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

_MASK = (1 << 64) - 1


def mix(*keys: int) -> int:
    """Hashes integers into one 63-bit seed, the same on every machine.

    Neighbouring keys give unrelated seeds (the finaliser of SplitMix64 between keys), which plain
    sums would not: (seed 1, step 2) and (seed 2, step 1) must differ.
    """
    state = 0
    for key in keys:
        state = (state + (key & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def batches_seen(module: LightningModule) -> int:
    """The number of training batches before the current one, over all epochs and resumes.

    `global_step` would repeat under gradient accumulation.
    """
    return max(int(module.trainer.fit_loop.epoch_loop.total_batch_idx), 0)


def step_generator(module: LightningModule, seed: int) -> torch.Generator:
    """The generator of this training step, on the module's device.

    It also re-seeds torch's global generators, from which dropout draws. To be called first in
    every `training_step`.

    Args:
        module: The module in training, attached to a trainer.
        seed: The seed of the run.
    """
    key = mix(seed, batches_seen(module), module.global_rank)
    torch.manual_seed(key)
    return torch.Generator(module.device).manual_seed(mix(key, 1))


def item_generators(seed: int, index: Tensor | Iterable[int]) -> list[torch.Generator]:
    """One CPU generator an item, keyed by (seed, index).

    What is drawn for an item depends neither on the batch size, nor on the rank, nor on the device.
    """
    indices = index.tolist() if isinstance(index, Tensor) else index
    # torch's CPU generator takes the lower 32 bits of a seed; multiplying by an odd number keeps
    # them apart for all indices of a run, where hashes would collide among many items.
    key = mix(seed)
    return [
        torch.Generator().manual_seed((int(i) * 0x9E3779B1 ^ key) & 0xFFFFFFFF) for i in indices
    ]


def item_noise(seed: int, index: Tensor | Iterable[int], shape: Sequence[int]) -> Tensor:
    """Unit Gaussian noise on the CPU, shape (B, *shape), keyed as in `item_generators`."""
    generators = item_generators(seed, index)
    return torch.stack([torch.randn(*shape, generator=g, dtype=torch.float32) for g in generators])
