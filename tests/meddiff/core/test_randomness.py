"""Seeds that depend on where a run is."""

import torch

from meddiff.core.randomness import item_generators, item_noise, mix


def test_mix_separates_keys_that_sums_confuse() -> None:
    seeds = {mix(a, b, c) for a in range(20) for b in range(20) for c in range(3)}
    assert len(seeds) == 20 * 20 * 3
    assert mix(1) != mix(1, 0)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_mix_is_the_same_on_every_machine() -> None:
    # SplitMix64's finaliser of 0x9E3779B97F4A7C15 is the published first output for state 0.
    assert mix(0) == 0xE220A8397B1DCDAF >> 1


def test_the_noise_of_an_item_does_not_depend_on_its_batch() -> None:
    together = item_noise(3, torch.tensor([4, 5, 6]), (2, 2))
    assert torch.equal(together[1], item_noise(3, [5], (2, 2))[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(item_noise(4, [5], (2, 2)), item_noise(3, [5], (2, 2)))
    assert item_generators(0, [1])[0].device.type == "cpu"


def test_no_two_items_of_a_run_share_their_seed() -> None:
    # torch's CPU generator ignores the upper half of a seed, so only the lower one counts.
    seeds = {g.initial_seed() for g in item_generators(3, range(20_000))}
    assert len(seeds) == 20_000
    assert max(seeds) < 2**32
