import os
import signal
import subprocess
from pathlib import Path

import pytest

from callbacks import slurm
from callbacks.slurm import job_name, requeue_if_taken

NEVER = "StartTime=2026-11-25T13:44:59 PreemptTime=None"
NOW = "StartTime=2026-11-25T13:44:59 PreemptTime=2026-11-25T13:45:02"
BEFORE = "StartTime=2026-11-25T13:44:59 PreemptTime=2026-11-25T13:40:00"

Told = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_JOB_ID", "42")


def scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Puts a program of that name before all others; what it is asked is noted in a file."""
    program = folder / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "asked"


# As SLURM 22.05 says it, and newer versions; tests/slurm asks a real one.
@pytest.mark.parametrize(
    ("received", "said", "taken"),
    [
        ("SIGUSR1", f"JobState=RUNNING Reason=None {NEVER}", True),
        ("SIGUSR1", f"JobState=COMPLETING Reason=None {NEVER}", False),
        ("SIGTERM", f"JobState=RUNNING Reason=None {NEVER}", False),
        ("SIGTERM", f"JobState=RUNNING Reason=None {NOW}", True),
        ("SIGTERM", f"JobState=RUNNING Reason=None {BEFORE}", False),
        ("SIGTERM", "JobState=RUNNING Reason=None StartTime=Unknown PreemptTime=Unknown", False),
        ("SIGTERM", f"JobState=COMPLETING Reason=None {NEVER}", False),
        ("SIGTERM", f"JobState=COMPLETING Reason=TimeLimit {NEVER}", True),
        ("SIGTERM", f"JobState=TIMEOUT Reason=TimeLimit {NEVER}", True),
        ("SIGTERM", f"JobState=CANCELLED Reason=None {NOW}", False),
        ("SIGTERM", f"JobState=REQUEUED Reason=None {NOW}", False),
        ("SIGTERM", f"JobState=PENDING Reason=BeginTime {NOW}", False),
    ],
)
def test_what_the_scheduler_says_decides(
    received: str,
    said: str,
    taken: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Told,
) -> None:
    asked = scontrol(tmp_path, monkeypatch, f"echo JobId=42 {said} Restarts=0")
    assert requeue_if_taken(signal.Signals[received]) is taken
    lines = ["--oneliner show job 42", *(["requeue 42"] if taken else [])]
    assert asked.read_text().splitlines() == lines
    told = "SLURM job 42 goes back into the queue\n" if taken else ""
    assert capfd.readouterr().err == told


def test_ctrl_c_and_a_process_outside_slurm_ask_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scontrol(tmp_path, monkeypatch, f"echo JobState=RUNNING {NOW}")
    assert not requeue_if_taken(signal.SIGINT)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not requeue_if_taken(signal.SIGUSR1)
    assert not asked.exists()


def test_a_task_of_an_array_is_put_back_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "40")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    assert job_name() == "40_7"
    asked = scontrol(tmp_path, monkeypatch, f"echo JobState=RUNNING {NEVER}")
    assert requeue_if_taken(signal.SIGUSR1)
    assert asked.read_text().splitlines() == ["--oneliner show job 40_7", "requeue 40_7"]


@pytest.mark.parametrize("received", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "scontrol is not on PATH"),
        ("echo Unable to contact slurm controller >&2; exit 1", "Unable to contact slurm"),
        ("exec sleep 5", "scontrol gave no answer in 1 s"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_one_line(
    received: signal.Signals,
    script: str | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Told,
) -> None:
    monkeypatch.setattr(slurm, "_SECONDS", 1)
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        scontrol(tmp_path, monkeypatch, script)
    assert not requeue_if_taken(received)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"SLURM job 42 got {received.name} and was not put back into the queue")
    assert reason in line
    assert "scontrol requeue 42" in line


def test_a_job_that_may_not_be_put_back_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Told
) -> None:
    refuses = 'test "$1" != requeue || { echo "Requested operation is disabled" >&2; exit 1; }'
    scontrol(tmp_path, monkeypatch, f"{refuses}\necho JobState=RUNNING {NEVER}")
    assert not requeue_if_taken(signal.SIGUSR1)
    assert "not put back into the queue: Requested operation is disabled" in capfd.readouterr().err


def test_it_needs_the_standard_library_alone() -> None:
    command = ["python", "-S", "-I", str(slurm.__file__)]
    subprocess.run(command, check=True, timeout=30)
