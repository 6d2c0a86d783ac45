import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from callbacks import EMACallback, LastCheckpoint
from callbacks.preemption import Preemption
from tests.callbacks.toys import ToyModule, assert_same, loader, read, trainer_in, weights_of

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, signal, sys
from pathlib import Path
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy
from callbacks import EMACallback, LastCheckpoint, Preemption
from tests.callbacks.toys import ToyModule, loader, trainer_in

number, when, where, devices = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])

class Sends(Callback):
    '''Signals this process from a place in the run.'''

    def send(self, trainer, place, step):
        if place == where and step == int(when) and trainer.is_global_zero:
            os.kill(os.getpid(), getattr(signal, number))

    def on_train_batch_start(self, trainer, *args):
        self.send(trainer, "batch", trainer.global_step)

    def on_sanity_check_start(self, trainer, *args):
        self.send(trainer, "sanity", 0)

    def on_validation_start(self, trainer, *args):
        self.send(trainer, "validation", trainer.global_step)

kwargs = {}
if devices == 2:
    kwargs = {"devices": 2, "strategy": DDPStrategy(process_group_backend="gloo")}
trainer = trainer_in(
    Path(sys.argv[1]), Sends(), EMACallback(0.9), Preemption(2), LastCheckpoint(100),
    num_sanity_val_steps=1, **kwargs,
)
trainer.fit(ToyModule(), loader(16), loader(4))
print("ran to the end")
"""


def run(
    root: Path,
    number: str = "SIGTERM",
    when: int = 3,
    where: str = "batch",
    devices: int = 1,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    root.mkdir(exist_ok=True)
    script = root / "train.py"
    script.write_text(SCRIPT)
    arguments = [str(root), number, str(when), where, str(devices)]
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # Sums of floats depend on the number of threads.
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            **(env or {}),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_sigterm_saves_exits_143_and_resumes_exactly(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 143, done.stderr
    assert "ran to the end" not in done.stdout
    assert "Traceback" not in done.stderr
    last = tmp_path / "checkpoints" / "last.ckpt"
    # Sent before the fourth batch, saved after it.
    assert read(last)["global_step"] == 4
    whole, resumed = ToyModule(), ToyModule()
    trainer_in(tmp_path / "whole", EMACallback(0.9), LastCheckpoint()).fit(whole, loader(16))
    trainer_in(tmp_path, EMACallback(0.9), LastCheckpoint()).fit(
        resumed, loader(16), ckpt_path=last
    )
    assert_same(weights_of(whole), weights_of(resumed))
    assert_same(
        read(tmp_path / "whole/checkpoints/last.ckpt")["state_dict"], read(last)["state_dict"]
    )


@pytest.mark.slow
def test_a_signal_in_a_validation_leaves_when_the_epoch_is_closed(tmp_path: Path) -> None:
    done = run(tmp_path, where="validation", when=8)
    assert done.returncode == 143, done.stderr
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sanity", "validation"])
def test_a_signal_before_training_leaves_before_the_first_batch(tmp_path: Path, where: str) -> None:
    done = run(tmp_path, where=where, when=0)
    assert done.returncode == 143, done.stderr
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


class Handlers(Callback):
    """Notes who handles the signals at the moments of a fit."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def _note(self, *args: Any, **kwargs: Any) -> None:
        numbers = (signal.SIGTERM, signal.SIGUSR1)
        self.seen += [getattr(signal.getsignal(n), "__func__", None) for n in numbers]

    on_fit_start = on_sanity_check_start = on_train_start = on_train_end = on_fit_end = _note
    on_validation_start = _note


def test_its_handlers_stay_from_setup_to_the_end(tmp_path: Path) -> None:
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    handlers = Handlers()
    trainer = trainer_in(tmp_path, handlers, Preemption(), num_sanity_val_steps=1, max_steps=3)
    trainer.fit(ToyModule(), loader(), loader(4))
    assert len(handlers.seen) == 12
    assert set(handlers.seen) == {Preemption._note}
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_validation_alone_keeps_the_handlers_that_were_there(tmp_path: Path) -> None:
    """Lightning's own would hide those of the process."""
    handlers = Handlers()
    trainer_in(tmp_path, handlers, Preemption()).validate(ToyModule(), loader(4), verbose=False)
    assert handlers.seen == [None, None]


@pytest.mark.slow
def test_two_processes_leave_together(tmp_path: Path) -> None:
    done = run(tmp_path, devices=2)
    assert done.returncode == 143, done.stderr
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4


def slurm(root: Path) -> dict[str, str]:
    """The environment of job 42 on a machine whose `scontrol` notes what it was asked."""
    root.mkdir(exist_ok=True)
    scontrol = root / "scontrol"
    state = "JobState=RUNNING Reason=None StartTime=Unknown PreemptTime=None"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {root}/asked\necho {state}\n')
    scontrol.chmod(0o755)
    return {
        "PATH": f"{root}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "42",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_JOB_NAME": "train",
        "SLURM_NODELIST": "localhost",
    }


def test_sigusr1_requeues_once_after_saving(tmp_path: Path) -> None:
    done = run(tmp_path, "SIGUSR1", env=slurm(tmp_path))
    assert done.returncode == 128 + signal.SIGUSR1, done.stderr
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "requeue 42"
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4
    # Lightning's own handler would have left its file.
    assert not list(tmp_path.glob("hpc_ckpt*"))


def test_half_an_optimiser_step_is_finished_first(tmp_path: Path) -> None:
    class Signalled(ToyModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if batch_idx == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().training_step(batch, batch_idx)

    trainer = trainer_in(tmp_path, Preemption(), LastCheckpoint(), accumulate_grad_batches=4)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        trainer.fit(Signalled(), loader(32))
    assert left.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    checkpoint = read(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 2
    assert trainer.fit_loop.epoch_loop.batch_progress.current.ready == 8


def test_interval_out_of_range() -> None:
    with pytest.raises(ValueError, match="every_n_steps: 0 given"):
        Preemption(0)
