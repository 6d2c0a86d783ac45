"""`--from`: jobs that were finished elsewhere, of which only the records are here."""

from dataclasses import replace
from pathlib import Path

from lightning_app.table.plan import Job, Plan
from lightning_app.table.records import Records, exclusive


def take_finished(plan: Plan, records: Records) -> None:
    """Copies the records of finished jobs from `--from`, marked as `taken`; none that is done here.

    Raises:
        UsageError: If one was done with other settings; names what differs.
    """
    if plan.asked.taken_from is None:
        return
    source = Records(Path(plan.asked.taken_from), "--from")
    with exclusive(plan.asked.out):
        missing = [job for name, job in plan.jobs.items() if not records.is_done(name)]
        jobs = [job for job in missing if source.is_done(job.name)]
        source.check(jobs)
        for job in jobs:
            records.write(job.name, source.read(job.name) | {"taken": True})


def fit_again(plan: Plan, records: Records) -> list[str]:
    """Adds to a plan the fits that jobs still to do need, and of which only a record is here.

    They are jobs of their own, `<name>-again`, so that the record with the figures stays as it is.

    Returns:
        The names of the jobs whose fit is done again.
    """
    jobs: dict[str, Job] = {}
    names: list[str] = []

    def with_fit(job: Job) -> Job:
        if job.needs is None or not records.is_done(job.needs):
            return job
        if (plan.asked.out / records.read(job.needs)["fit_run"]).is_dir():
            return job
        again = f"{job.needs}-again"
        if again not in jobs:
            fit = replace(plan.jobs[job.needs], name=again, metrics=(), test=(), group=None)
            jobs[again] = with_fit(fit)
            names.append(job.needs)
        return replace(job, needs=again)

    for name, job in plan.jobs.items():
        jobs[name] = job if records.is_done(name) else with_fit(job)
    plan.jobs = jobs
    return names
