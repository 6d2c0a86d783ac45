"""What libraries print that a user can do nothing about."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LINES = (
    "💡",  # advertising
    "Seed set to",  # it stands in config.yaml and run.json
    "TPU available",
    "HPU available",
    "Restoring states from the checkpoint path",  # told with the step by the run itself
    "Restored all states from the checkpoint",
    "Loading `train_dataloader` to estimate",
)
_WARNINGS = (
    # The sampler of the data modules shuffles; the check looks for torch's own.
    r".*Your `\w+_dataloader`'s sampler has shuffling enabled",
    # A run has as many workers as its config says.
    r".*does not have many workers which may be a bottleneck",
    r".*The number of training batches .* is smaller than the logging interval",
    # The sampler starts inside the epoch.
    r".*You're resuming from a checkpoint that ended before the epoch ended",
    r".*Checkpoint directory .* exists and is not empty",
    # Frozen networks are in evaluation mode by intention.
    r".*module\(s\) in eval mode at the start of training",
    # Callbacks of a run may be changed.
    r".*Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    # A run on the login node, or one that a scheduler's own script starts, needs none.
    r".*The `srun` command is available on your system but is not used",
    r".*treespec, LeafSpec.* is deprecated",
    r".*isinstance\(treespec, LeafSpec\)",
)
_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    return not any(line in record.getMessage() for line in _LINES)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Holds back the traceback of TensorBoard's writer on a full disk, which is raised again."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        writes = type(args.thread).__name__ == "_AsyncWriterThread"
        if not (writes and isinstance(args.exc_value, OSError)):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back these few lines inside the context."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with warnings.catch_warnings(), _quiet_threads():
        for message in _WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.addFilter(_is_worth_telling)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(_is_worth_telling)
