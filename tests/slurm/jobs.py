"""A job on the SLURM of the tests, and what to wait for."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED")
SECONDS = 400


@dataclass
class Job:
    """A job that was submitted.

    Args:
        cluster: Where.
        number: As `scontrol` takes it.
        folder: Of its `job.out` and its run.
    """

    cluster: Cluster
    number: str
    folder: Path

    def field(self, name: str) -> str:
        """What `scontrol show job` says."""
        found = re.search(rf"\b{name}=(\S+)", self.cluster.show("job", self.number))
        assert found is not None
        return found[1]

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Waits, and fails with the job's output where it takes too long."""
        deadline = time.monotonic() + SECONDS
        while not ready():
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} in {SECONDS} s: {self.output()[-3000:]}")
            time.sleep(0.1)

    def wait_for_restart(self) -> None:
        """Until the job was put back once."""
        self.wait("requeue", lambda: self.field("Restarts") == "1")

    def wait_for_start(self) -> None:
        """Until Python runs, which then begins to import."""

        def there() -> bool:
            asked = self.cluster.call("scontrol", "listpids", self.number, check=False)[1]
            pids = [line.split()[0] for line in asked.splitlines()[1:]]
            return any(_is_python(pid) for pid in pids)

        self.wait("start of Python", there)

    def end(self) -> str:
        """The state in which the job ended, which may be after further starts."""
        self.wait("end", lambda: self.field("JobState") in ENDED)
        return self.field("JobState")

    def output(self) -> str:
        """What it printed at all its starts."""
        path = self.folder / "job.out"
        return path.read_text() if path.exists() else ""


def take_the_node(cluster: Cluster) -> None:
    """A job that takes the node away from all jobs of lower priority, and ends soon."""
    cluster.call(
        *("sbatch", "--partition=high", "--exclusive", "--output=/dev/null"),
        *("--wrap", "sleep 3"),
    )


def set_time_limit(job: Job, minutes: int) -> None:
    """Changes the time limit of a job that may be running."""
    job.cluster.call("scontrol", "update", f"JobId={job.number}", f"TimeLimit={minutes}")


def _is_python(pid: str) -> bool:
    try:
        return Path("/proc", pid, "cmdline").read_text().startswith("python\0-m\0lightning_app")
    except OSError:  # it has ended
        return False
