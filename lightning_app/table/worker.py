"""A worker: takes one job after another and calls the command's `main` for it."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType

import torch

from lightning_app.record import git_state, read_record
from lightning_app.signals import STOPPING
from lightning_app.table.plan import ROOT, Job, Plan
from lightning_app.table.records import (
    JobError,
    Record,
    Records,
    claim,
    newest_run,
    read_figures,
    read_validation,
)
from lightning_app.table.report import write_report

STOPPED = tuple(128 + number for number in STOPPING)
"""Exit codes of a command that was told to stop."""

INIT_FROM = "model.init_args.init_from"
COMMON = ("--trainer.enable_progress_bar", "false")
PICTURES = 6
CRASHES = 2
"""A job in which so many workers died is given up."""

Main = Callable[[Sequence[str]], int]


class Stopped(BaseException):
    """The worker was told to stop; what it was doing can go on later, so it is no failure."""


class Worker:
    """Does the jobs of a plan that no other worker does.

    Args:
        plan: The jobs.
        main: The command.
        since: Jobs that failed before this time are tried again.
        poll: Seconds between two looks at what other workers have finished.
    """

    def __init__(self, plan: Plan, main: Main, since: float, poll: float = 2.0) -> None:
        self._plan = plan
        self._main = main
        self._since = since
        self._poll = poll
        self._out = plan.asked.out
        self._records = Records(self._out / "jobs")
        self._asked_to_stop = False
        self._parent = os.getppid()
        git = git_state()
        self._commit = "unknown" if git is None else git["commit"][:9]
        if git is not None and git["dirty"]:
            self._commit += " (and changes)"

    def run(self) -> int:
        """Works until every job is done or failed.

        Returns:
            0, or 1 if a job failed, or 143 if the worker was told to stop.
        """
        with self._stopping_on_signals():
            try:
                while self._one_job():
                    # Whoever started this worker may have been killed.
                    if self._asked_to_stop or os.getppid() != self._parent:
                        return 128 + signal.SIGTERM
            except (Stopped, SystemExit):
                return 128 + signal.SIGTERM
        states = [self._records.read(name)["state"] for name in self._plan.jobs]
        return int("failed" in states)

    def _one_job(self) -> bool:
        """Does one job, or waits a little for those of others; False where none is left."""
        left = [job for job in self._plan.jobs.values() if not self._is_settled(job.name)]
        for job in left:
            if job.needs is not None and not self._is_settled(job.needs):
                continue
            lock = claim(self._out / "runs" / job.name)
            if lock is None:
                continue
            try:
                if self._is_settled(job.name):  # by the one who had it until now
                    return True
                self._do(job)
            finally:
                lock.release()
            self._tell(job)
            return True
        if left:
            time.sleep(self._poll)
        return bool(left)

    def _is_settled(self, name: str) -> bool:
        return self._records.is_settled(name, self._since)

    def _do(self, job: Job) -> None:
        earlier, started = self._records.read(job.name), time.time()
        died_in_it = earlier["state"] == "running" and earlier["started"] >= self._since
        crashes = earlier.get("crashes", 0) + 1 if died_in_it else 0
        record = {
            "state": "running",
            "started": started,
            "seconds": earlier.get("seconds", 0.0),
            "crashes": crashes,
            "settings": job.settings,
            "commit": self._commit,
            "host": socket.gethostname(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        }
        self._records.write(job.name, record)
        log = self._out / "logs" / f"{job.name}.log"
        result: Record = {"state": "interrupted"}
        try:
            if crashes >= CRASHES:
                raise JobError(f"its process died {crashes} times, for lack of memory?")
            with _printed_to(log):
                result = {"state": "done", **self._runs_of(job, log)}
        except Exception as error:
            kind = "" if isinstance(error, JobError) else f"{type(error).__name__}: "
            result = {"state": "failed", "reason": _one_line(f"{kind}{error}")}
        finally:
            ended = time.time()
            record["seconds"] += ended - started
            self._records.write(job.name, record | result | {"ended": ended})
            _clean_up()

    def _runs_of(self, job: Job, log: Path) -> Record:
        run = self._fitted(job, log)
        result: Record = {
            "fit_run": run.relative_to(self._out).as_posix(),
            "validation": read_validation(run),
        }
        if job.metrics:
            root = self._out / "runs" / job.name / "test"
            test = ["--ckpt_path", str(run), "--run_root", str(root), *COMMON]
            self._call(["test", *test, "--metrics.num", str(PICTURES), *job.test], log)
            test_run = newest_run(root, "test")
            result["test_run"] = test_run.relative_to(self._out).as_posix()
            result["figures"] = read_figures(test_run, job.metrics)
            result["seen"] = read_record(test_run).get("seen")
        return result

    def _fitted(self, job: Job, log: Path) -> Path:
        """Fits, or finds the fit of the job that a test alone needs; returns the run."""
        args = [*job.args, f"--{ROOT}", str(self._plan.asked.data)]
        if job.needs is not None:
            needed = self._records.read(job.needs)
            if needed["state"] == "failed":
                what = "its pretraining" if job.args else job.needs
                raise JobError(f"{what} failed: {needed['reason']}")
            run = self._out / str(needed["fit_run"])
            if not job.args:
                return run
            args += [f"--{INIT_FROM}", str(run)]
        root = self._out / "runs" / job.name
        self._call(["fit", *args, "--run_root", str(root), "--resume", "auto", *COMMON], log)
        return newest_run(root, "fit")

    def _call(self, args: list[str], log: Path) -> None:
        """Calls the command.

        Raises:
            JobError: If it failed; with what it printed.
            Stopped: If it was told to stop.
        """
        print("$ lightning", *args, flush=True)
        before = log.stat().st_size
        try:
            code = self._main(args)
        except Exception:
            traceback.print_exc()
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        if code in STOPPED or self._asked_to_stop:
            raise Stopped
        if code:
            printed = log.read_bytes()[before:].decode(errors="replace")
            raise JobError(_reason(printed) or f"`lightning {args[0]}` ended with code {code}")

    def _tell(self, job: Job) -> None:
        """One line for the job, and the table as it is now."""
        settled = sum(self._is_settled(name) for name in self._plan.jobs)
        record = self._records.read(job.name)
        if record["state"] == "failed":
            text = f"FAILED: {record['reason']}"
        else:
            text = self._figures(job, record) or "done"
        count, seconds = f"[{settled}/{len(self._plan.jobs)}]", f"({record['seconds']:.0f} s)"
        print(count, f"{job.name}:", text, seconds, flush=True)
        write_report(self._plan, job.group)

    def _figures(self, job: Job, record: Record) -> str:
        table, texts = self._plan.table, []
        for name in table.group_of(job.group) if job.group else []:
            column = table.columns[name]
            value = column.shown(column.scaled(record["figures"][column.metric]))
            unit = " %" if column.percent else ""
            texts.append(f"{column.metric.rpartition('/')[2]} {value}{unit}")
        return ", ".join(texts)

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        """SIGTERM ends the command that runs; Ctrl-C is the same, as Lightning would exit on it."""

        def stop(number: int, frame: FrameType | None) -> None:
            if not self._asked_to_stop:
                self._asked_to_stop = True
                raise SystemExit(128 + number)

        def pass_on(number: int, frame: FrameType | None) -> None:
            signal.raise_signal(signal.SIGTERM)  # to whoever handles it now

        before = signal.signal(signal.SIGTERM, stop), signal.signal(signal.SIGINT, pass_on)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])


@contextmanager
def _printed_to(log: Path) -> Iterator[None]:
    """Sends to a file what this process prints, libraries and their processes included."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a") as file:
        saved = {number: os.dup(number) for number in (1, 2)}
        for number in saved:
            os.dup2(file.fileno(), number)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            file.flush()
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)


def _reason(printed: str) -> str:
    """What the command told last: its error, or the last lines."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    told = lines[starts[-1] :] if starts else lines[-3:]
    return _one_line(" / ".join(told).removeprefix("error: "))


def _one_line(text: str, length: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def _clean_up() -> None:
    """Leaves the next job the memory of this one."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()  # else the graphs of all jobs count against one limit
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
