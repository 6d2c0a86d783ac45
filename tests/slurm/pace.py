"""Makes steps last, whatever the machine: a scheduler looks only every half minute."""

import time
from typing import Any

from lightning.pytorch import Callback


class Paced(Callback):
    """Waits before each batch of the training.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds

    def on_train_batch_start(self, *args: Any) -> None:
        """Waits."""
        time.sleep(self._seconds)
