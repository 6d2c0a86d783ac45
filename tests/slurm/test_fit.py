"""The sbatch file that ships, on a real SLURM: however a job is stopped, its run ends as if not."""

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from data_modules.registry import write_phantom
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Job, set_time_limit, take_the_node

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]
STEPS = 40


def run_of(job: Job) -> Path:
    (run,) = job.folder.glob("runs/*/*")
    return run


def record_of(job: Job) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_of(job) / "run.json").read_text())
    return content


def wait_for_step(job: Job, step: int) -> None:
    def there() -> bool:
        tables = list(job.folder.glob("runs/*/*/metrics.csv"))
        return bool(tables) and len(tables[0].read_text().splitlines()) > step + 1

    job.wait(f"step {step}", there)


@dataclass
class Submit:
    """Submits jobs: `configs/slurm/fit.sbatch` with the smallest overlay."""

    cluster: Cluster
    data: Path

    def __call__(self, folder: Path, *options: str, tasks: int = 1) -> Job:
        folder.mkdir(exist_ok=True)
        paced = json.dumps([{"class_path": "tests.slurm.pace.Paced"}])
        several = ("--trainer.devices", str(tasks), "--trainer.strategy", "ddp")
        printed = self.cluster.call(
            *("sbatch", "--parsable", f"--output={folder}/job.out", f"--chdir={REPOSITORY}"),
            *(f"--ntasks-per-node={tasks}", "--gpus-per-node=0", "--cpus-per-task=1"),
            *("--time=60", f"--export=ALL,OVERLAY=cpu_demo,DATA={self.data}", *options),
            *(str(REPOSITORY / "configs/slurm/fit.sbatch"), "configs/hybrid_isic.yaml"),
            *("--run_root", str(folder / "runs"), "--trainer.max_steps", str(STEPS)),
            *("--trainer.val_check_interval", "10", "--trainer.log_every_n_steps", "1"),
            *("--last.every_n_steps", "1000", "--samples.num", "0", "--ema.decay", "0.99"),
            *("--model.init_args.dropout", "0.1", "--preemption.every_n_steps", "3"),
            *("--data.init_args.batch_size", "2", "--data.init_args.num_workers", "1"),
            *("--trainer.callbacks", paced, *(several if tasks > 1 else ())),
        )[1]
        return Job(self.cluster, printed.strip(), folder)


@pytest.fixture(scope="session")
def submit(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Submit:
    data = tmp_path_factory.mktemp("data")
    write_phantom("isic", data, num=24, seed=0)
    cluster.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    cluster.environment["OMP_NUM_THREADS"] = "1"
    cluster.environment["PYTHONUNBUFFERED"] = "1"
    return Submit(cluster, data)


def tensors(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    found = {f"ema/{name}": value for name, value in checkpoint["state_dict"].items()}
    found |= {f"live/{name}": value for name, value in checkpoint["current_model_state"].items()}
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        found |= {f"adam/{number}/{name}": value for name, value in state.items()}
    return found


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    # Speed is told by the clock, some of it in rows of its own.
    told = [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in read]
    return [row for row in told if any(value for key, value in row.items() if key != "step")]


@pytest.fixture(scope="session")
def whole(submit: Submit, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The run of a job that nobody stopped, by its number of processes."""
    runs: dict[int, Path] = {}

    def of(tasks: int) -> Path:
        if tasks not in runs:
            job = submit(tmp_path_factory.mktemp("whole"), tasks=tasks)
            assert job.end() == "COMPLETED", job.output()[-3000:]
            runs[tasks] = run_of(job)
        return runs[tasks]

    return of


def check(job: Job, whole: Path, restarts: int = 1, stops: tuple[int, ...] = (1,)) -> None:
    """The job ended well after it was put back, and its run is the one that was never stopped."""
    state = job.end()
    printed = job.output()
    assert state == "COMPLETED", printed[-3000:]
    assert job.field("Restarts") == str(restarts)
    assert "Traceback" not in printed
    record = record_of(job)
    assert record["state"] == "finished"
    earlier = [one["state"] for one in record["earlier_launches"]]
    assert earlier in [["interrupted"] * number for number in stops]
    assert not (run_of(job) / "run.lock").exists()
    expected, found = tensors(whole), tensors(run_of(job))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert rows(run_of(job)) == rows(whole)


@pytest.mark.parametrize(("signal", "word"), [("USR1@600", "SIGUSR1"), ("CONT@1", "SIGTERM")])
def test_the_time_is_up(
    submit: Submit, whole: Callable[[int], Path], tmp_path: Path, signal: str, word: str
) -> None:
    """Told before, and by SIGTERM alone, half a minute before SIGKILL."""
    expected = whole(1)
    job = submit(tmp_path, f"--signal={signal}")
    wait_for_step(job, 3)
    set_time_limit(job, 1 if word == "SIGTERM" else 9)
    job.wait_for_restart()
    set_time_limit(job, 60)
    check(job, expected)
    assert f"{word}: saving at step" in job.output()
    assert f"SLURM job {job.number} goes back into the queue" in job.output()


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("partition", ["low", "grace"])
def test_the_node_is_taken(
    submit: Submit, whole: Callable[[int], Path], tmp_path: Path, partition: str, tasks: int
) -> None:
    expected = whole(tasks)
    job = submit(tmp_path, f"--partition={partition}", tasks=tasks)
    wait_for_step(job, 12)
    take_the_node(submit.cluster)
    check(job, expected)
    assert "SIGTERM: saving at step" in job.output()
    by_us = f"SLURM job {job.number} goes back into the queue" in job.output()
    assert by_us == (partition == "grace")


def test_somebody_puts_the_job_back(
    submit: Submit, whole: Callable[[int], Path], tmp_path: Path
) -> None:
    expected = whole(1)
    job = submit(tmp_path)
    wait_for_step(job, 12)
    submit.cluster.call("scontrol", "requeue", job.number)
    check(job, expected)


def test_one_task_of_an_array_is_put_back_by_a_signal(
    submit: Submit, whole: Callable[[int], Path], tmp_path: Path
) -> None:
    expected = whole(1)
    job = submit(tmp_path, "--array=3")
    job.number += "_3"
    wait_for_step(job, 12)
    submit.cluster.call("scancel", "--signal=USR1", job.number)
    check(job, expected)
    assert f"SLURM job {job.number} goes back into the queue" in job.output()


def test_a_cancelled_job_stays_cancelled_and_can_go_on(
    submit: Submit, whole: Callable[[int], Path], tmp_path: Path
) -> None:
    expected = whole(1)
    job = submit(tmp_path)
    wait_for_step(job, 12)
    submit.cluster.call("scancel", job.number)
    assert job.end() == "CANCELLED"
    assert record_of(job)["state"] == "interrupted"
    assert "goes back into the queue" not in job.output()
    time.sleep(10)
    assert job.field("JobState") == "CANCELLED"
    check(submit(tmp_path), expected, restarts=0)


@pytest.mark.parametrize("how", ["USR1", "taken"])
def test_a_signal_during_start_up(
    submit: Submit, whole: Callable[[int], Path], tmp_path: Path, how: str
) -> None:
    expected = whole(1)
    job = submit(tmp_path, "--partition=grace")
    job.wait_for_start()
    if how == "USR1":
        submit.cluster.call("scancel", "--signal=USR1", job.number)
    else:
        take_the_node(submit.cluster)
    job.wait_for_restart()
    assert "step 1 of" not in job.output()
    check(job, expected, stops=(0, 1))


def test_a_cancelled_start_up(submit: Submit, tmp_path: Path) -> None:
    job = submit(tmp_path)
    job.wait_for_start()
    submit.cluster.call("scancel", job.number)
    assert job.end() == "CANCELLED"
    assert "SIGTERM: stopped;" in job.output()
    assert "goes back into the queue" not in job.output()
