"""What the Trainer has to leave to the handlers of the command, and to pass on to its children."""

import signal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from lightning_app.signals import Stopped


class Stopping(Callback):
    """Keeps Lightning from handling signals, and stops the processes that it launched."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets Lightning set no handlers.

        Its own save, requeue or talk to other processes in the middle of anything, and hide the
        signal from the evaluation that it should end.
        """
        trainer._signal_connector.register_signal_handlers = _no_handlers  # type: ignore[method-assign]

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stops the processes that Lightning launched; a scheduler signals all by itself."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, Stopped) and isinstance(launcher, _SubprocessScriptLauncher):
            # SIGINT stops at once also where SIGTERM waits for the end of a batch.
            launcher.kill(signal.SIGINT)


def _no_handlers() -> None:
    """Sets none."""
