import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

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
@pytest.mark.parametrize(("where", "when", "saved"), [("validation", 0, 1), ("validation", 8, 9)])
def test_sigterm_outside_a_batch_waits_for_the_next_one(
    tmp_path: Path, where: str, when: int, saved: int
) -> None:
    done = run(tmp_path, where=where, when=when)
    assert done.returncode == 143, done.stderr
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == saved


@pytest.mark.slow
def test_sigterm_before_training_leaves_at_once(tmp_path: Path) -> None:
    # Before the callback's own hook: Lightning's handler is still in place.
    done = run(tmp_path, where="sanity", when=0)
    assert done.returncode == 143, done.stderr
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
def test_two_processes_leave_together(tmp_path: Path) -> None:
    done = run(tmp_path, devices=2)
    assert done.returncode == 143, done.stderr
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4


def slurm(root: Path) -> dict[str, str]:
    """The environment of job 42 on a machine whose `scontrol` notes what it was asked."""
    root.mkdir(exist_ok=True)
    scontrol = root / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {root}/asked\n')
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
    assert (tmp_path / "asked").read_text() == "requeue 42\n"
    assert read(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4
    # Lightning's own handler would have left its file.
    assert not list(tmp_path.glob("hpc_ckpt*"))


@pytest.mark.slow
def test_sigusr1_of_an_array_task(tmp_path: Path) -> None:
    array = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "7"}
    run(tmp_path, "SIGUSR1", env=slurm(tmp_path) | array)
    assert (tmp_path / "asked").read_text() == "requeue 40_7\n"


@pytest.mark.slow
def test_sigterm_does_not_requeue(tmp_path: Path) -> None:
    done = run(tmp_path, "SIGTERM", env=slurm(tmp_path))
    assert done.returncode == 143, done.stderr
    assert not (tmp_path / "asked").exists()


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


def test_failed_requeue_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from callbacks import preemption

    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(UserWarning, match="SLURM job 42 could not be requeued"):
        preemption._requeue()


def test_interval_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"preemption\.every_n_steps"):
        Preemption(0)
