import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lightning_app.errors import UsageError
from lightning_app.lock import RunLock
from lightning_app.process import Launch
from lightning_app.table.records import Records
from lightning_app.table.worker import Worker
from tests.lightning_app.table.toys import Command, option, plan_of
from tests.lightning_app.test_lock import write_lock

Captured = pytest.CaptureFixture[str]


def work(folder: Path, command: Command, since: float | None = None, **asked: object) -> int:
    since = time.time() if since is None else since
    return Worker(plan_of(folder, **asked), command, since, poll=0.01).run()


def test_all_jobs_are_done_once_and_tested_with_the_fitted_run(
    folder: Path, capfd: Captured
) -> None:
    command = Command(folder)
    assert work(folder, command) == 0
    assert len(command.of("fit")) == 13
    assert len(command.of("test")) == 12
    assert command.of("fit")[0] == "large-pretrained"
    fit, test = command.calls[1:3]
    assert option(fit, "resume") == "auto"
    assert option(fit, "data.init_args.root") == str(folder / "data")
    run = folder / "out/runs/near-tuned-seed0/config/2026-0"
    assert option(test, "ckpt_path") == str(run)
    assert "--model.init_args.init_from" not in fit
    starts = {
        option(args, "model.init_args.init_from")
        for args, job in zip(
            [args for args in command.calls if args[0] == "fit"], command.of("fit"), strict=True
        )
        if "-pretrained-" in job
    }
    assert starts == {str(folder / "out/runs/large-pretrained/config/2026-0")}
    record = Records(folder / "out/jobs").read("far-tuned-seed1")
    assert (record["state"], record["figures"]) == ("done", {"test/miou": 0.255})
    assert record["fit_run"] == "runs/far-tuned-seed1/config/2026-0"
    assert record["validation"] == {"val/jaccard": 1.25}
    assert Records(folder / "out/jobs").read("large-pretrained")["validation"] == {}
    assert "did fit" in (folder / "out/logs/far-tuned-seed1.log").read_text()
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 13
    assert lines[0].startswith("[1/13] large-pretrained: done (")
    assert lines[1].startswith("[2/13] near-tuned-seed0: jaccard 50.00 % (")
    assert work(folder, command) == 0
    assert len(command.calls) == 25


def test_more_seeds_and_columns_do_only_what_is_missing(folder: Path) -> None:
    command = Command(folder)
    assert work(folder, command, seeds=1, columns=("near",)) == 0
    before = len(command.calls)
    assert work(folder, command, seeds=2) == 0
    assert len(command.of("fit")) == 13
    assert "large-pretrained" not in command.of("fit")[before:]


def test_other_settings_of_a_finished_job_are_an_error(folder: Path) -> None:
    command, records = Command(folder), Records(folder / "out/jobs")
    work(folder, command, seeds=1)
    records.check(plan_of(folder).jobs.values())
    changes = {"source": {"trainer.max_steps": 6}}
    with pytest.raises(
        UsageError,
        match=r"large-pretrained was done.*trainer.max_steps was 5 and is 6 now.*\n.*another --out",
    ):
        records.check(plan_of(folder, args=changes).jobs.values())
    with pytest.raises(UsageError, match=r"trainer.max_steps was 5 and is 100 now \(and 1 more\)"):
        records.check(plan_of(folder, scale="large").jobs.values())
    (folder / "data").rename(folder / "other")
    with pytest.raises(UsageError, match="data was 'data' and is 'other' now"):
        records.check(plan_of(folder, data=folder / "other").jobs.values())


def test_rows_that_differ_in_the_test_share_a_fit(figures: Path, capfd: Captured) -> None:
    command = Command(figures)
    assert work(figures, command, seeds=1, columns=("share",), rows=(2, 4)) == 0
    assert command.of("fit") == ["near-tuned-seed0"]
    assert command.of("test") == ["near-tuned-seed0", "near-tuned-seed0-test-start-source"]
    fitted = figures / "out/runs/near-tuned-seed0/config/2026-0"
    for args in command.calls[1:]:
        assert option(args, "ckpt_path") == str(fitted)
        assert option(args, "metrics.num") == "2"  # over the number that all tables have
        assert option(args, "data.init_args.batch_size") == "9"
    assert "--model.init_args.start" not in command.calls[1]
    assert option(command.calls[2], "model.init_args.start") == "source"
    record = Records(figures / "out/jobs").read("near-tuned-seed0-test-start-source")
    assert record["figures"] == {
        "test/jaccard": 0.5,
        "test/miou": 0.25,
        "test/psnr": 20.0,
        "test/psnr_sd": 1.0,
    }
    assert record["test_run"] == "runs/near-tuned-seed0-test-start-source/test/config/2026-0"
    assert "near-tuned-seed0: jaccard 50.0 %, psnr 20.00 (" in capfd.readouterr().out
    # Another of its columns needs nothing more.
    assert work(figures, command, seeds=1, columns=("level",), rows=(2, 4)) == 0
    assert len(command.calls) == 3


def test_a_test_alone_that_was_stopped_starts_again_from_its_fit(figures: Path) -> None:
    name = "near-tuned-seed0-test-start-source"

    def stop(args: Sequence[str]) -> int:
        return 143 if Path(option(args, "run_root")).parent.name == name else 0

    asked: dict[str, Any] = {"seeds": 1, "columns": ("share",), "rows": (4,)}
    assert work(figures, Command(figures, stop), **asked) == 143
    assert Records(figures / "out/jobs").read(name)["state"] == "interrupted"
    command = Command(figures)
    assert work(figures, command, **asked) == 0
    assert command.of("fit") == ["near-tuned-seed0"]
    assert command.of("test") == ["near-tuned-seed0", name, name]


def test_a_test_alone_fails_with_its_fit(figures: Path) -> None:
    command = failing("near-tuned-seed0", 2, "error: no")
    assert work(figures, command, seeds=1, columns=("share",), rows=(4,)) == 1
    record = Records(figures / "out/jobs").read("near-tuned-seed0-test-start-source")
    assert record["reason"] == "near-tuned-seed0 failed: no"


def test_a_finished_job_without_a_figure_of_the_table_is_an_error(folder: Path) -> None:
    command, records = Command(folder), Records(folder / "out/jobs")
    work(folder, command, seeds=1)
    name = "far-tuned-seed0"
    records.write(name, {**records.read(name), "figures": {"test/dice": 0.31}})
    with pytest.raises(UsageError, match=rf"{name} was done without test/miou.*\nRemove {name}.js"):
        records.check(plan_of(folder, seeds=1).jobs.values())


def test_a_damaged_record_is_named(folder: Path) -> None:
    (folder / "out/jobs").mkdir(parents=True)
    (folder / "out/jobs/near-tuned-seed0.json").write_text("<<<<<<< HEAD")
    with pytest.raises(UsageError, match=r"jobs/near-tuned-seed0.json: is no record of a job"):
        Records(folder / "out/jobs").check(plan_of(folder).jobs.values())


def test_weights_that_came_later_do_not_belong_to_a_finished_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, here = Records(folder / "out/jobs"), False
    monkeypatch.setattr("lightning_app.table.plan.pretrained_available", lambda *given: here)
    weights = {"architecture": "deeplabv3", "encoder_weights": "imagenet"}
    sets = {"tuned": {"model.init_args": weights}}
    asked: dict[str, Any] = {"seeds": 1, "rows": (1,), "args": sets}
    work(folder, Command(folder), **asked)
    here = True
    with pytest.raises(UsageError, match=r"lacking_weights was 'imagenet' and is None now\n.*rem"):
        records.check(plan_of(folder, **asked).jobs.values())
    for name in ("near-tuned-seed0", "far-tuned-seed0"):
        (folder / "out/jobs" / f"{name}.json").unlink()
    work(folder, Command(folder), **asked)
    # Done with the weights, it counts where they are not.
    here = False
    records.check(plan_of(folder, **asked).jobs.values())


def failing(job: str, how: Exception | int, text: str = "") -> Command:
    def before(args: Sequence[str]) -> int:
        if Path(option(args, "run_root")).name != job:
            return 0
        if isinstance(how, Exception):
            raise how
        print(text)
        return how

    return Command(Path(), before)


def test_a_failure_is_told_and_stops_nothing_else(folder: Path, capfd: Captured) -> None:
    text = "a line\nerror: broken.png: cannot be read\nGive another one"
    command = failing("near-tuned-seed0", 2, text)
    began = time.time()
    assert work(folder, command) == 1
    record = Records(folder / "out/jobs").read("near-tuned-seed0")
    assert record["state"] == "failed"
    assert record["reason"] == "broken.png: cannot be read / Give another one"
    assert "near-tuned-seed0: FAILED: broken.png" in capfd.readouterr().out
    assert len(command.of("test")) == 11
    # Another worker of the same call leaves it; the next call tries it again.
    command = Command(folder)
    calls = len(command.calls)
    assert work(folder, command, since=began) == 1
    assert len(command.calls) == calls
    assert work(folder, command) == 0
    assert command.of("fit")[-1] == "near-tuned-seed0"


def test_what_needs_a_failed_pretraining_fails_with_its_reason(folder: Path) -> None:
    command = failing("large-pretrained", RuntimeError("a bug\nin two lines"))
    assert work(folder, command, seeds=1) == 1
    assert command.of("fit") == ["large-pretrained", "near-tuned-seed0", "far-tuned-seed0"]
    reason = Records(folder / "out/jobs").read("far-pretrained-tuned-seed0")["reason"]
    assert reason == "its pretraining failed: RuntimeError: a bug in two lines"
    assert "Traceback" in (folder / "out/logs/large-pretrained.log").read_text()
    assert work(folder, Command(folder), seeds=1) == 0


def test_a_test_without_the_figure_is_a_failure(folder: Path) -> None:
    text = (folder / "toy.yaml").read_text().replace("test/miou", "test/dice")
    (folder / "toy.yaml").write_text(text)
    assert work(folder, Command(folder), seeds=1) == 1
    assert Records(folder / "out/jobs").read("far-tuned-seed0")["reason"] == (
        "the test measured no test/dice"
    )


@pytest.mark.parametrize("code", [130, 138, 143, None])
def test_a_worker_that_is_told_to_stop_leaves_its_job_for_later(
    folder: Path, code: int | None
) -> None:
    def stop(args: Sequence[str]) -> int:
        if Path(option(args, "run_root")).name != "near-pretrained-tuned-seed0":
            return 0
        if code is None:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does
            time.sleep(5)
        return int(code or 0)

    command, before = Command(folder, stop), signal.getsignal(signal.SIGTERM)
    assert work(folder, command) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert command.of("fit")[-1] == "near-pretrained-tuned-seed0"
    assert (
        Records(folder / "out/jobs").read("near-pretrained-tuned-seed0")["state"] == "interrupted"
    )
    assert not list((folder / "out").rglob("run.lock"))
    assert work(folder, Command(folder)) == 0
    assert len(command.of("fit")) == 14


def test_a_job_of_a_dead_worker_is_taken_over_but_not_for_ever(folder: Path) -> None:
    command, records, name = Command(folder), Records(folder / "out/jobs"), "near-tuned-seed0"
    ended = subprocess.Popen(["true"])
    ended.wait()
    (folder / "out/runs" / name).mkdir(parents=True)
    write_lock(folder / "out/runs" / name, pid=ended.pid)
    since = time.time()
    records.write(name, {"state": "running", "started": since + 1, "seconds": 7, "crashes": 0})
    assert work(folder, command, since) == 0
    assert records.read(name)["state"] == "done"
    assert records.read(name)["seconds"] >= 7
    records.write(name, {"state": "running", "started": since + 1, "seconds": 7, "crashes": 1})
    assert work(folder, command, since) == 1
    assert "its process died 2 times" in records.read(name)["reason"]
    assert work(folder, command) == 0


def test_a_worker_waits_for_what_another_one_does(folder: Path) -> None:
    pretraining = folder / "out/runs/large-pretrained"
    pretraining.mkdir(parents=True)
    other = RunLock(pretraining, Launch())
    other.acquire()

    def finish(args: Sequence[str]) -> int:
        if Path(option(args, "run_root")).name == "far-tuned-seed1":  # nothing else is left
            other.release()
        return 0

    command = Command(folder, finish)
    assert work(folder, command) == 0
    done_first = command.of("fit")[:5]
    assert done_first[-1] == "large-pretrained"
    assert all("-pretrained-" not in job for job in done_first)


def test_several_workers_share_the_jobs(folder: Path) -> None:
    def slowly(args: Sequence[str]) -> int:
        time.sleep(0.02)
        return 0

    command, since = Command(folder, slowly), time.time()
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(folder, command, since)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(command.of("fit")) == sorted(plan_of(folder).jobs)
    logs = [path.read_text() for path in (folder / "out/logs").iterdir()]
    assert len({line for log in logs for line in log.split() if line.isdigit()}) > 1


def test_a_figure_of_images_that_were_trained_on_is_none(folder: Path) -> None:
    class Seen(Command):
        def __call__(self, args: Sequence[str]) -> int:
            code = super().__call__(args)
            for file in Path(option(args, "run_root")).glob("config/*/metrics.csv"):
                file.write_text(file.read_text().replace("test/", "test/seen_"))
            return code

    assert work(folder, Seen(folder), seeds=1, columns=("near",), rows=(1,)) == 1
    reason = Records(folder / "out/jobs").read("near-tuned-seed0")["reason"]
    assert "test/seen_jaccard, on images that were trained on, and no test/jaccard" in reason


def test_a_refused_test_fails_its_job_with_the_reason(folder: Path) -> None:
    told = "error: test: 27 of 27 images were seen by these weights: 27 trained on"

    def refuse(args: Sequence[str]) -> int:
        if args[0] == "test":
            print(told)
        return 2 if args[0] == "test" else 0

    assert work(folder, Command(folder, refuse), seeds=1, columns=("near",), rows=(1,)) == 1
    reason = Records(folder / "out/jobs").read("near-tuned-seed0")["reason"]
    assert reason == told.removeprefix("error: ")


def test_what_was_seen_is_recorded_and_told_where_unknown(folder: Path) -> None:
    class Unknown(Command):
        def __call__(self, args: Sequence[str]) -> int:
            code = super().__call__(args)
            for file in Path(option(args, "run_root")).glob("config/*/run.json"):
                file.write_text(json.dumps(json.loads(file.read_text()) | {"seen": "unknown"}))
            return code

    assert work(folder, Unknown(folder), seeds=1, columns=("near",), rows=(1,)) == 0
    assert Records(folder / "out/jobs").read("near-tuned-seed0")["seen"] == "unknown"
    status = json.loads((folder / "out/table.json").read_text())["rows"][0]["status"]
    assert status == "ok: whether the weights had seen the test images is not known"
