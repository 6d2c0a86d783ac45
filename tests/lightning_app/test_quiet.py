import warnings

import pytest
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from lightning_app.errors import UsageError
from lightning_app.process import Launch, this_launch
from lightning_app.quiet import quiet


@pytest.mark.parametrize("tasks", ["1", "2"])
def test_an_allocation_without_srun_says_what_to_do(
    tasks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_PROCID", "SLURM_JOB_NAME", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", tasks)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(UsageError, match="SLURM_PROCID is not: start the command with srun"):
        this_launch()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_JOB_ID": "7"},
        {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "interactive", "SLURM_JOB_ID": "7"},
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash", "SLURM_JOB_ID": "7"},
    ],
)
def test_the_notice_on_srun_is_held_back_and_no_other(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_JOB_ID", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.warns(UserWarning, match="`srun` command is available"):
        SLURMEnvironment.detect()  # it is said without us
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with quiet():
            assert this_launch() == Launch()
            warnings.warn("of the `srun` command something else", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in told] == ["of the `srun` command something else"]
