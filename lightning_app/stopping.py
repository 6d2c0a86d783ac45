"""The processes that Lightning launched stop with the one that launched them."""

import signal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from lightning_app.signals import Stopped


class Stopping(Callback):
    """Tells the processes that Lightning launched where the first one is told to stop.

    Lightning's own handlers did, and `Preemption` keeps it from setting any. A scheduler tells all
    processes by itself.
    """

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stops them at once."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, Stopped) and isinstance(launcher, _SubprocessScriptLauncher):
            # SIGTERM would wait for the end of a batch, which the first one will not see.
            launcher.kill(signal.SIGINT)
