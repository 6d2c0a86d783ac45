"""The time that training takes, without what comes between two batches on other business."""

import time
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.data import extract_batch_size


class TrainingClock:
    """Measures batches and the waits between them, from the second batch of a run on.

    The first one compiles, allocates and tunes. Validation and the saving of checkpoints do not
    count. Nothing waits for the device: sums over many batches are right because a GPU runs only
    a few steps behind.

    Attributes:
        batches: Batches since `restart`.
        images: Their images, on this process.
        seconds: Their time.
        waited: The part of it from the end of a batch to the start of the next.
    """

    def __init__(self) -> None:
        self._started = 0.0
        self.begin()

    def begin(self) -> None:
        """Forgets an earlier run."""
        self._ended: float | None = None
        self._warm = False
        self.restart()

    def restart(self) -> None:
        """Sums up anew."""
        self.batches = self.images = 0
        self.seconds = self.waited = 0.0

    def interrupt(self) -> None:
        """Leaves the time until the next batch out."""
        self._ended = None

    def batch_started(self) -> None:
        """Counts the wait for a batch."""
        self._started = time.perf_counter()
        if self._ended is not None:
            wait = self._started - self._ended
            self.waited += wait
            self.seconds += wait

    def batch_ended(self, batch: Any) -> None:
        """Counts a batch."""
        self._ended = time.perf_counter()
        if not self._warm:
            self._warm = True
            return
        self.batches += 1
        self.images += images_in(batch)
        self.seconds += self._ended - self._started


def images_in(batch: Any) -> int:
    """The size of a batch; 0 where it does not tell."""
    try:
        return extract_batch_size(batch)
    except MisconfigurationException:
        return 0
