"""The files for sbatch, with a stand-in for what SLURM gives them; tests/slurm has a real one."""

import os
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "configs" / "slurm"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder before all others on PATH: `srun` prints what it is to start, `scontrol` too."""
    program(tmp_path, "srun", 'echo srun "$@"\nexit ${CODE:-0}')
    program(tmp_path, "scontrol", 'echo scontrol "$@"')
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def sbatch(name: str, programs: Path, *args: str, **variables: str) -> tuple[int, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run(
        ["bash", str(FILES / name), *args],
        env=clean | {"PATH": f"{programs}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_fit_holds_signals_back_and_takes_its_overlay(programs: Path) -> None:
    code, printed = sbatch("fit.sbatch", programs, "c.yaml", "--ema.decay", "0.9", DATA="/data")
    assert code == 0
    assert printed == (
        "srun --kill-on-bad-exit=1 env --block-signal=USR1,TERM python -m lightning_app fit "
        "--config c.yaml --config configs/hardware/h100x4.yaml "
        "--data.init_args.root /data --resume auto --ema.decay 0.9\n"
    )
    other = sbatch("fit.sbatch", programs, "c.yaml", DATA="/data", OVERLAY="cpu_demo")[1]
    assert "--config configs/hardware/cpu_demo.yaml" in other


def test_an_env_of_old_coreutils_is_done_without(programs: Path) -> None:
    program(programs, "env", 'echo "env: unrecognized option" >&2\nexit 125')
    code, printed = sbatch("fit.sbatch", programs, "c.yaml", DATA="/data")
    assert code == 0
    assert printed.startswith("srun --kill-on-bad-exit=1 python -m lightning_app fit --config")


@pytest.mark.parametrize(
    ("args", "variables", "lacks"),
    [([], {"DATA": "/data"}, "a config, e.g."), (["c.yaml"], {}, "the folder that holds the data")],
)
def test_what_is_lacking_is_said(
    programs: Path, args: list[str], variables: dict[str, str], lacks: str
) -> None:
    code, printed = sbatch("fit.sbatch", programs, *args, **variables)
    assert code == 1
    assert lacks in printed


@pytest.mark.parametrize(
    ("code", "variables", "put_back"),
    [
        ("0", {}, None),
        ("1", {}, None),
        ("143", {}, "42"),
        ("143", {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2"}, "40_2"),
    ],
)
def test_a_worker_of_a_table_that_was_stopped_goes_back(
    programs: Path, code: str, variables: dict[str, str], put_back: str | None
) -> None:
    given = {"DATA": "/data", "OUT": "/out", "CODE": code, "SLURM_JOB_ID": "42", **variables}
    found, printed = sbatch("table.sbatch", programs, "t.yaml", **given)
    assert ("scontrol requeue" in printed) == (put_back is not None)
    assert printed.startswith("srun python -m lightning_app table t.yaml --data /data --out /out")
    if put_back is None:
        assert found == int(code)
    else:
        assert printed.endswith(f"scontrol requeue {put_back}\n")
