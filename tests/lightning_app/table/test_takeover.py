"""Tables that go on with what another machine has finished."""

import json
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from lightning_app.cli import main
from lightning_app.errors import UsageError
from lightning_app.table.plan import Plan
from lightning_app.table.records import Record, Records
from lightning_app.table.report import write_report
from lightning_app.table.takeover import fit_again, take_finished
from lightning_app.table.worker import Worker
from tests.lightning_app.table.toys import Command, option, plan_of


@pytest.fixture
def elsewhere(folder: Path) -> Path:
    """Records as another machine left them: of the first two rows, without their runs."""
    plan = plan_of(folder, seeds=1, rows=(1, 2))
    Worker(plan, Command(folder), time.time(), poll=0.01).run()
    for path in (folder / "out/jobs").iterdir():
        record = json.loads(path.read_text()) | {"host": "elsewhere", "device": "H100"}
        path.write_text(json.dumps(record))
    shutil.copytree(folder / "out/jobs", folder / "theirs")
    shutil.rmtree(folder / "out")
    (folder / "calls.jsonl").unlink()
    return folder / "theirs"


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def go_on(folder: Path, command: Command, **asked: object) -> tuple[Plan, list[str]]:
    """What the command does with `--from theirs`: the plan, and the fits done again."""
    plan = plan_of(folder, **{"seeds": 1, "taken_from": "theirs", **asked})
    records = Records(folder / "out/jobs")
    records.check(plan.jobs.values())
    take_finished(plan, records)
    again = fit_again(plan, records)
    assert Worker(plan, command, time.time(), poll=0.01).run() == 0
    return plan, again


def read(folder: Path, name: str) -> Record:
    return Records(folder / "out/jobs").read(name)


def test_finished_jobs_are_taken_and_not_done_again(folder: Path, elsewhere: Path) -> None:
    command = Command(folder)
    plan, again = go_on(folder, command, rows=(1, 2))
    assert (command.calls, again) == ([], [])
    theirs = json.loads((elsewhere / "near-tuned-seed0.json").read_text())
    assert read(folder, "near-tuned-seed0") == theirs | {"taken": True}
    write_report(plan)
    facts = json.loads((folder / "out/table.json").read_text())
    assert (facts["done"], facts["taken"], facts["jobs"]) == (5, 5, 5)
    assert facts["machine"] == "elsewhere (H100)"
    assert facts["rows"][0]["figures"] == {"near": [50.0], "far": [25.0]}
    text = (folder / "out/table.md").read_text()
    assert "in 5 of 5 jobs (5 taken from other folders), 0 failed" in text
    assert "on elsewhere (H100)" in text
    assert "--from theirs" in text


def test_records_hold_no_path_of_a_machine(folder: Path, elsewhere: Path) -> None:
    for path in elsewhere.iterdir():
        assert str(folder) not in path.read_text()


def test_a_fit_of_which_only_the_record_is_here_is_done_again_for_those_who_need_it(
    folder: Path, elsewhere: Path
) -> None:
    # The third row starts from the pretraining of the second.
    command = Command(folder)
    plan, again = go_on(folder, command)
    assert again == ["large-pretrained"]
    assert command.of("fit") == [
        "large-pretrained-again",
        "near-pretrained-probed-seed0",
        "far-pretrained-probed-seed0",
    ]
    assert command.of("test") == ["near-pretrained-probed-seed0", "far-pretrained-probed-seed0"]
    start = option(command.calls[1], "model.init_args.init_from")
    assert start == str(folder / "out/runs/large-pretrained-again/config/2026-0")
    theirs = json.loads((elsewhere / "large-pretrained.json").read_text())
    assert read(folder, "large-pretrained") == theirs | {"taken": True}
    # Later the same command finds nothing to do, and without --from neither.
    assert go_on(folder, command)[1] == []
    assert go_on(folder, command, taken_from=None)[1] == []
    assert len(command.calls) == 5
    write_report(plan)
    assert "on elsewhere (H100)" in (folder / "out/table.md").read_text()


def test_a_whole_chain_is_fitted_again_without_its_tests(folder: Path) -> None:
    text = (folder / "toy.yaml").read_text()
    text = text.replace("[pretrained, probed]", "[pretrained, tuned, probed]")
    (folder / "toy.yaml").write_text(text)
    Worker(plan_of(folder, seeds=1, rows=(2,)), Command(folder), time.time(), poll=0.01).run()
    shutil.copytree(folder / "out/jobs", folder / "theirs")
    shutil.rmtree(folder / "out")
    (folder / "calls.jsonl").unlink()
    command = Command(folder)
    _, again = go_on(folder, command, columns=("near",))
    assert again == ["large-pretrained", "near-pretrained-tuned-seed0"]
    assert command.of("fit") == [
        "near-tuned-seed0",
        "large-pretrained-again",
        "near-pretrained-tuned-seed0-again",
        "near-pretrained-tuned-probed-seed0",
    ]
    assert command.of("test") == ["near-tuned-seed0", "near-pretrained-tuned-probed-seed0"]


def test_a_test_alone_has_the_fit_done_again_that_it_tests(figures: Path) -> None:
    asked = {"seeds": 1, "columns": ("share",)}
    plan = plan_of(figures, **asked, rows=(2,))
    Worker(plan, Command(figures), time.time(), poll=0.01).run()
    shutil.copytree(figures / "out/jobs", figures / "theirs")
    shutil.rmtree(figures / "out")
    (figures / "calls.jsonl").unlink()
    command = Command(figures)
    _, again = go_on(figures, command, **asked, rows=(2, 4))
    assert again == ["near-tuned-seed0"]
    assert command.of("fit") == ["near-tuned-seed0-again"]
    assert command.of("test") == ["near-tuned-seed0-test-start-source"]
    record = read(figures, "near-tuned-seed0-test-start-source")
    assert record["fit_run"] == "runs/near-tuned-seed0-again/config/2026-0"
    assert "taken" not in record


def test_a_job_with_other_settings_is_an_error(folder: Path, elsewhere: Path) -> None:
    asked = {"seeds": 1, "taken_from": "theirs", "args": {"source": {"trainer.max_steps": 6}}}
    records = Records(folder / "out/jobs")
    told = r"theirs: large-pretrained was .*max_steps was 5 and is 6 now\nGive another --from,"
    with pytest.raises(UsageError, match=told):
        take_finished(plan_of(folder, **asked), records)
    assert not list((folder / "out").glob("jobs/*"))
    # Rows that do not need it can be finished.
    take_finished(plan_of(folder, **asked, rows=(1,)), records)
    assert records.is_done("near-tuned-seed0")


def test_what_is_done_here_wins(folder: Path, elsewhere: Path) -> None:
    Worker(plan_of(folder, seeds=1, rows=(1,)), Command(folder), time.time(), poll=0.01).run()
    figures = {"test/jaccard": 0.9}
    change(elsewhere / "near-tuned-seed0.json", figures=figures, settings={})
    go_on(folder, Command(folder), rows=(1,))
    assert read(folder, "near-tuned-seed0")["figures"] == {"test/jaccard": 0.5}
    # What failed here has been done there.
    change(folder / "out/jobs/far-tuned-seed0.json", state="failed", reason="r", ended=0.0)
    go_on(folder, Command(folder), rows=(1,))
    assert read(folder, "far-tuned-seed0")["taken"]


@pytest.mark.parametrize("state", ["failed", "interrupted", "running"])
def test_what_was_not_finished_is_not_taken(folder: Path, elsewhere: Path, state: str) -> None:
    change(elsewhere / "far-tuned-seed0.json", state=state, reason="broken", ended=time.time())
    (elsewhere / "of-another-table-seed0.json").write_text('{"state": "done"}')
    command = Command(folder)
    go_on(folder, command, rows=(1,))
    assert command.of("fit") == ["far-tuned-seed0"]
    assert sorted(path.stem for path in (folder / "out/jobs").iterdir()) == [
        *("far-tuned-seed0", "near-tuned-seed0")
    ]


def test_the_status_says_what_the_machine_had_that_did_the_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = False
    monkeypatch.setattr("lightning_app.table.plan.pretrained_available", lambda *given: here)
    weights = {"architecture": "deeplabv3", "encoder_weights": "imagenet"}
    asked = {"seeds": 1, "rows": (1,), "args": {"tuned": {"model.init_args": weights}}}
    for had in (False, True):
        here = had
        Worker(plan_of(folder, **asked), Command(folder), time.time(), poll=0.01).run()
        shutil.rmtree(folder / "theirs", ignore_errors=True)
        shutil.move(folder / "out/jobs", folder / "theirs")
        here = False  # on this machine
        plan, _ = go_on(folder, Command(folder), **asked)
        write_report(plan)
        told = "ok" if had else "ok: no ImageNet weights here, started from random ones"
        rows = json.loads((folder / "out/table.json").read_text())["rows"]
        assert rows[0]["status"] == told
        shutil.rmtree(folder / "out")


def test_only_a_test_run_that_is_here_has_a_strip(folder: Path, elsewhere: Path) -> None:
    command = Command(folder)
    plan, _ = go_on(folder, command, columns=("near",))
    assert not (folder / "out/pictures").exists()
    run = folder / "out" / read(folder, "near-pretrained-probed-seed0")["test_run"]
    (run / "samples").mkdir()
    Image.new("RGB", (132, 132)).save(run / "samples/test-00000007.png")
    write_report(plan)
    with Image.open(folder / "out/pictures/near.png") as picture:
        assert picture.size == (300 + 132, 132)


def test_the_command_says_what_it_takes(
    folder: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["toy.yaml", "--scale", "small", "--data", "data", "--out", "out", "--seeds", "1"]
    assert main(["table", *given, "--from", "theirs", "--jobs", "0"]) == 0
    said = capsys.readouterr().out
    assert "table toy: 8 jobs, 5 of them done (5 taken from other folders), on 0 workers" in said
    assert "fitted again, as others need them and only records are here: large-pretrained" in said
    change(elsewhere / "near-tuned-seed0.json", settings={"data": "other"})
    given[given.index("out")] = "new"
    assert main(["table", *given, "--from", "theirs"]) == 2
    assert "near-tuned-seed0 was done with other settings: data was 'other' and is 'data'" in (
        capsys.readouterr().err
    )
