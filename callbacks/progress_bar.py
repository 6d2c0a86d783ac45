"""The progress bar of a terminal."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import (
    BatchesProcessedColumn,
    CustomBarColumn,
)
from rich.progress import ProgressColumn, Task, TextColumn
from rich.text import Text

from callbacks.progress import Progress


class RunProgressBar(RichProgressBar):
    """Lightning's bar of an epoch or of another loop, with what `Progress` says of the run."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Has `Progress` speak through the bar."""
        super().setup(trainer, pl_module, stage)
        for progress in _progress_of(trainer):
            progress.in_bar = True

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """The bar, the batches and the text."""
        return [
            TextColumn("[progress.description]{task.description}"),
            CustomBarColumn(bar_width=20),
            BatchesProcessedColumn(style=self.theme.batch_progress),
            _Said(self),
        ]

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning's counts from 0, of -2 where there is no limit.
        return f"{f'Epoch {current_epoch + 1}':{len(self.validation_description)}}"


class _Said(ProgressColumn):
    """What `Progress` said last of the loop that a task stands for."""

    def __init__(self, bar: RunProgressBar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:
        loop = "fit" if task.id == self._bar.train_progress_bar_id else "loop"
        texts = [progress.texts.get(loop, "") for progress in _progress_of(self._bar.trainer)]
        return Text(texts[0] if texts else "")


def _progress_of(trainer: Trainer) -> list[Progress]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, Progress)]
