"""Samplers that make a resumed run see what the uninterrupted one would have seen."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class ResumableSampler(DistributedSampler[Any]):
    """Shuffles by (seed, epoch) and starts in the middle of an epoch where a run was resumed.

    A subclass of DistributedSampler because Lightning replaces every other one under DDP. It yields
    `(index, epoch)`, so that a worker that lives on over epochs augments by the right epoch.
    Every rank gets the same number of items: the rest is dropped where `multiple` is given and
    filled from the start of the order where it is not.

    Args:
        dataset: Its length counts.
        num_replicas: Number of processes.
        rank: This process.
        seed: Seed of the order.
        multiple: Each rank's share is cut down to a multiple of this many items; None keeps all.
        skip: Number of items of this epoch that this rank has already seen; asked when iteration
            starts, when Lightning has restored its counters.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        multiple: int | None = None,
        skip: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, seed=seed)
        self.skip = skip
        if multiple is not None:
            share = len(dataset) // num_replicas  # type: ignore[arg-type]
            self.num_samples = share - share % multiple
            self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # Not seed + epoch as in the parent: (0, 1) and (1, 0) would share their order.
        key = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]
        length = len(self.dataset)  # type: ignore[arg-type]
        order = torch.randperm(length, generator=torch.Generator().manual_seed(int(key)))
        share = order.repeat(-(-self.total_size // length))[: self.total_size]
        epoch = self.epoch
        for index in share[self.rank :: self.num_replicas].tolist()[self.skip() :]:
            yield index, epoch


class UnpaddedSampler(DistributedSampler[Any]):
    """Rank r gets items r, r + world, ...: each item once, so that metrics are exact under DDP.

    Args:
        dataset: Its length counts.
        num_replicas: Number of processes.
        rank: This process.
    """

    def __init__(self, dataset: Dataset[Any], *, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.share = range(rank, len(dataset), num_replicas)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


class ResumableDataLoader(DataLoader[Any]):
    """A data loader that starts only when the first batch is asked for.

    Lightning calls `iter` on the loaders before it has restored its counters (with
    `estimated_stepping_batches` even before the checkpoint is read), and workers would prefetch
    from the wrong place at once.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()

    # The place in the data is in Lightning's own counters. These two only tell Lightning that the
    # loader can resume; it warns of every other one.
    def state_dict(self) -> dict[str, Any]:
        """Nothing: the sampler follows the trainer's counters."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes nothing, see `state_dict`."""
