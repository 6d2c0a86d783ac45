"""A SLURM job that is told to end: back into the queue if its machine is being taken.

The standard library alone, so that a run which is told so while it imports can ask here as well.
"""

import os
import re
import signal
import subprocess
import sys

_SECONDS = 10
"""How long to wait for the scheduler's answer; it leaves 30 seconds by default in all."""

_FIELD = re.compile(r"\b(JobState|Reason|StartTime|PreemptTime)=(\S+)")


def requeue_if_taken(received: signal.Signals) -> bool:
    """Puts this SLURM job, if there is one, back into the queue where its machine is being taken.

    To be called last by the first process alone: SLURM ends a job that was put back.

    Args:
        received: SIGUSR1 means that the time is nearly up (`#SBATCH --signal=USR1@180`), or that
            somebody wants the job put back (`scancel --signal=USR1`). SIGTERM comes with a
            preemption, with `scancel`, and when the time is up.

    Returns:
        Whether the job goes back into the queue by this call.
    """
    job = job_name()
    if job is None or received not in (signal.SIGTERM, signal.SIGUSR1):
        return False
    try:
        found = dict(_FIELD.findall(_scontrol("--oneliner", "show", "job", job)))
        if not _is_taken(received, found):
            return False
        _scontrol("requeue", job)
    except (OSError, subprocess.SubprocessError) as error:
        _tell(
            f"SLURM job {job} got {received.name} and was not put back into the queue: "
            f"{_reason(error)}. If it was not cancelled: scontrol requeue {job}, or sbatch again"
        )
        return False
    _tell(f"SLURM job {job} goes back into the queue")
    return True


def job_name() -> str | None:
    """The job as `scontrol` takes it, `<job>_<task>` for a task of an array; None outside SLURM."""
    array_job, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array_job}_{task}" if array_job and task else os.environ.get("SLURM_JOB_ID")


def _is_taken(received: signal.Signals, found: dict[str, str]) -> bool:
    """Whether the job would go on if it had its machine longer.

    A job that `scancel` or a preemption without grace ended is COMPLETING, or CANCELLED or
    REQUEUED in other versions: SLURM does with it what was asked for. So is one whose time is up,
    with TimeLimit for a reason. A preemption that leaves time to save shows in PreemptTime.
    """
    if found.get("Reason") == "TimeLimit" or found.get("JobState") == "TIMEOUT":
        return True
    if found.get("JobState") != "RUNNING":
        return False
    # Times of one format compare as text; an earlier start of the job may have been preempted too.
    preempted = found.get("StartTime", "") <= found.get("PreemptTime", "") < "A"
    return received == signal.SIGUSR1 or preempted


def _scontrol(*words: str) -> str:
    done = subprocess.run(
        ["scontrol", *words], check=True, capture_output=True, text=True, timeout=_SECONDS
    )
    return done.stdout


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    if isinstance(error, FileNotFoundError):
        return "scontrol is not on PATH"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"scontrol gave no answer in {_SECONDS} s"
    said = str(getattr(error, "stderr", None) or error).strip()
    return " ".join(said.split())


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
