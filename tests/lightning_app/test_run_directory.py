import os
from pathlib import Path

import pytest
import yaml

from lightning_app import run_directory
from lightning_app.errors import UsageError
from lightning_app.process import RUN_DIR_VARIABLE, Launch, left_as_found, this_launch
from lightning_app.run_directory import config_name, make_run_directory, next_config_file

ALONE = Launch()


def test_two_runs_in_one_second_get_two_directories(tmp_path: Path) -> None:
    made = [make_run_directory(tmp_path, ALONE) for _ in range(20)]
    assert len(set(made)) == 20
    assert any(path.name.endswith("-2") for path in made)


def test_processes_of_one_job_agree_without_talking(tmp_path: Path) -> None:
    ranks = [Launch(rank, "slurm-7.0-r0") for rank in (1, 0, 2)]
    made = {make_run_directory(tmp_path, launch) for launch in ranks}
    assert made == {tmp_path / "slurm-7.0-r0"}
    assert (tmp_path / "slurm-7.0-r0").is_dir()
    with pytest.raises(UsageError, match="there already"):
        make_run_directory(tmp_path, ranks[1])


def test_a_run_is_named_after_its_first_config(tmp_path: Path) -> None:
    files = [Path("configs/hybrid_isic.yaml"), Path("configs/hardware/cpu.yaml")]
    assert config_name(files, "meddiff.hybrid.HybridDiffusionModule") == "hybrid_isic"
    assert config_name([], "meddiff.hybrid.HybridDiffusionModule") == "HybridDiffusionModule"
    run = tmp_path / "hybrid_isic" / "20260101-000000"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    assert config_name([run / "config.yaml"], "x.Y") == "hybrid_isic"


def test_configs_of_a_run_are_numbered(tmp_path: Path) -> None:
    for number in range(1, 12):
        path = next_config_file(tmp_path)
        path.write_text(f"launch: {number}")
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "config.10.yaml"
    assert (tmp_path / "config.yaml").read_text() == "launch: 1"
    assert yaml.safe_load(run_directory.config_files_of(tmp_path)[-1].read_text()) == {"launch": 11}


def test_who_launched_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SLURM", "TORCHELASTIC", "LOCAL_", "RANK", "WORLD", MEDDIFF)):
            monkeypatch.delenv(name)
    assert this_launch() == ALONE
    monkeypatch.setenv(RUN_DIR_VARIABLE, "runs/x/1")
    assert this_launch() == ALONE, "a run inside a run is its own"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert this_launch() == Launch(1, None, "runs/x/1")


MEDDIFF = "MEDDIFF"


def test_srun_names_the_job_and_its_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {"JOB_ID": "7", "STEP_ID": "0", "NTASKS": "2", "PROCID": "1", "JOB_NAME": "train"}
    for key, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    assert this_launch() == Launch(1, "slurm-7.0-r0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert this_launch() == Launch(1, "slurm-7.0-r2")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert this_launch() == ALONE


def test_torchrun_without_an_id_is_told_apart_by_its_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elastic = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2"}
    for key, value in elastic.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match="--rdzv-id"):
        this_launch()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    found = this_launch()
    assert found.rank == 1
    assert str(os.getppid()) in str(found.job)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    assert this_launch().job == "torchrun-mine-r0"


def test_what_a_run_sets_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    with left_as_found():
        os.environ["KEPT"] = "2"
        os.environ["NEW"] = "3"
    assert os.environ["KEPT"] == "1"
    assert "NEW" not in os.environ
