"""The sbatch file of tables on a real SLURM, with a stand-in for the command that it starts."""

import os
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Job, set_time_limit, take_the_node

pytestmark = pytest.mark.slurm

TABLE = Path(__file__).parents[2] / "configs" / "slurm" / "table.sbatch"

# Ends as a worker does: 143 when it is told to stop; at its second start it is done at once.
WORKER = """#!/bin/sh
test "${SLURM_RESTART_COUNT:-0}" = 0 || exit 0
trap 'echo saved; exit 143' TERM
echo works
while true; do sleep 0.1; done
"""


@pytest.fixture
def job(cluster: Cluster, tmp_path: Path) -> Job:
    """A worker that works, in the partition with grace."""
    python = tmp_path / "python"
    python.write_text(WORKER)
    python.chmod(0o755)
    exported = f"--export=ALL,DATA=/data,OUT=/out,PATH={tmp_path}:{os.environ['PATH']}"
    number = cluster.call(
        *("sbatch", "--parsable", f"--output={tmp_path}/job.out", "--partition=grace"),
        *("--gpus-per-task=0", "--cpus-per-task=1", "--time=60", exported, str(TABLE), "t.yaml"),
    )[1]
    worker = Job(cluster, number.strip(), tmp_path)
    worker.wait("worker", lambda: "works" in worker.output())
    return worker


def check_put_back(job: Job) -> None:
    assert job.end() == "COMPLETED"
    assert job.field("Restarts") == "1"
    assert job.output().count("saved") == 1


def test_the_time_is_nearly_up(job: Job) -> None:
    set_time_limit(job, 3)
    check_put_back(job)


def test_the_node_is_taken(job: Job) -> None:
    take_the_node(job.cluster)
    check_put_back(job)


def test_a_cancelled_worker_stays_cancelled(job: Job) -> None:
    job.cluster.call("scancel", job.number)
    assert job.end() == "CANCELLED"
    time.sleep(10)
    assert job.field("JobState") == "CANCELLED"
    assert job.field("Restarts") == "0"
