"""Which file an item of the data came from."""

from typing import Protocol, runtime_checkable

from lightning.pytorch import Trainer


@runtime_checkable
class NamesItems(Protocol):
    """A data module that knows which file an item came from."""

    def item_path(self, split: str, index: int) -> str:
        """Returns the path of an item relative to the data root."""
        ...


def source_of(trainer: Trainer, split: str, index: int) -> str | None:
    """An item's path relative to the data root; None where the data module names none."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    return data.item_path(split, index) if isinstance(data, NamesItems) else None
