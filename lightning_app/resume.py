"""How far a run has come, and whether that is its end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_app.record import read_record


@dataclass(frozen=True)
class Limits:
    """Where a fit ends; -1 is never.

    Args:
        steps: `trainer.max_steps`.
        epochs: `trainer.max_epochs`.
    """

    steps: int
    epochs: int

    @classmethod
    def of(cls, config: dict[str, Any]) -> Limits:
        """The limits that a resolved config asks for."""
        trainer = config["trainer"]
        steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs")
        if epochs is None:
            epochs = -1 if steps != -1 else 1000  # the default of Lightning
        return cls(steps, epochs)

    def beyond(self, other: Limits) -> bool:
        """Whether either limit lies further than the other's."""

        def further(mine: int, theirs: int) -> bool:
            return theirs != -1 and (mine == -1 or mine > theirs)

        return further(self.steps, other.steps) or further(self.epochs, other.epochs)


def last_checkpoint(directory: Path) -> Path | None:
    """The newest state of a run, or None where it has none yet."""
    path = directory / "checkpoints" / "last.ckpt"
    return path if os.path.lexists(path) else None


def is_finished(directory: Path, limits: Limits) -> bool:
    """Whether a run has come to its end, and that lies not before the limits now asked for.

    One that was stopped between its last batch and its end lacks the figures that it ends with.
    """
    record = read_record(directory)
    if record.get("state") != "finished":
        return False
    return record.get("subcommand") != "fit" or not limits.beyond(Limits(**record["limits"]))
