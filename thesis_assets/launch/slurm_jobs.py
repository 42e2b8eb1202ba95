"""Jobs on a Slurm cluster: submitted from here, run on a node, followed by files on the file system that both share."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.calls import Call, Calling, Item, Result
from thesis_assets.launch.jobs import Job, JobState, Resources, job_exit
from thesis_assets.launch.slurm_payloads import CommandOnNode
from thesis_assets.launch.slurm_presets import Site
from thesis_assets.launch.slurm_queue import WAITING, SlurmQueue
from thesis_assets.launch.slurm_submission import require_place, submit
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import write_json

KILL_SECONDS = 60.0
"""Slurm's own grace between asking a cancelled job to end and killing it is 30 s unless the site says otherwise."""


class SlurmLauncher:
    """Runs jobs and calls on the cluster that this machine submits to."""

    name = "slurm"

    def __init__(self, site: Site) -> None:
        self.site = site
        self._queue = SlurmQueue(site.poll_seconds)
        self._vanished: dict[str, float] = {}

    def require(self, resources: Resources) -> None:
        """See `Launcher.require`."""
        require_place(self.site, resources)

    def start(self, job: Job, on_wait: Callable[[str], None] | None = None) -> JobRecord:
        """See `Launcher.start`. It waits in Slurm's queue, not here."""
        del on_wait
        job_id = uuid.uuid4().hex
        payload = CommandOnNode(
            words=list(job.command),
            cwd=job.cwd,
            env=dict(job.env),
            stdout=job.stdout.absolute(),
            stderr=job.stderr.absolute(),
            exit_file=job.exit_file.absolute(),
            job_id=job_id,
            save_seconds=max(5.0, self.site.signal_seconds - 30.0),
        )
        job.exit_file.unlink(missing_ok=True)
        record = new_record(job_id, None, list(job.command), job.stdout, job.stderr, job.exit_file)
        # Before it is submitted: killed in between, this process leaves a job that can be found by its comment.
        write_json(job.record, record)
        folder = job.stdout.parent / "slurm"
        try:
            (number,) = self.submitted(lambda: submit(self.site, job.name, job.resources, folder, [payload], job_id))
        except ThesisAssetsError:
            job.record.unlink()
            raise
        except BaseException:
            self.end(record, grace_seconds=0.0)
            raise
        record = record.model_copy(update={"scheduler_id": number})
        write_json(job.record, record)
        return record

    def submitted(self, submission: Callable[[], list[str]]) -> list[str]:
        """Do a submission, and ask the queue anew next time: it does not know what is new."""
        try:
            return submission()
        finally:
            self._queue.forget()

    def state(self, record: JobRecord) -> JobState:
        """See `Launcher.state`."""
        ended = job_exit(record)
        if ended is not None:
            return JobState("ended", ended.returncode)
        number = self._number(record) or "of unknown number"
        seen = self._queue.look(number)
        if seen is not None and seen.is_alive:
            self._vanished.pop(number, None)
            return JobState("pending" if seen.state in WAITING else "running", detail=f"Slurm job {number}: {seen}")
        if self._queue.silence is not None:
            return JobState("running", detail=f"Slurm job {number}: no answer from Slurm ({self._queue.silence})")
        since = self._vanished.setdefault(number, time.monotonic())
        why = f"Slurm job {number}: {seen or 'no longer known to Slurm'}"
        if time.monotonic() - since < self.site.vanished_seconds:
            return JobState("running", detail=why, is_settled=False)
        ended = job_exit(record)
        return JobState("lost", detail=why) if ended is None else JobState("ended", ended.returncode)

    def end(self, record: JobRecord, *, grace_seconds: float) -> None:
        """See `Launcher.end`. How long a job may take to save is also the cluster's to say (`KillWait`)."""
        self.end_all([record], grace_seconds)

    def end_all(self, records: Sequence[JobRecord], grace_seconds: float) -> None:
        """End several jobs by one question to Slurm. One that said how it ended is about to leave the queue by itself.

        Raises:
            ThesisAssetsError: they are there still, after `grace_seconds` and what Slurm itself waits.
        """
        numbers = [number for record in records if job_exit(record) is None and (number := self._number(record))]
        left = self._queue.cancel(numbers, wait_seconds=grace_seconds + KILL_SECONDS)
        if left:
            raise ThesisAssetsError(
                "cancelled Slurm jobs are still there",
                found=", ".join(left),
                remedy="look at `squeue --me` and `scontrol show job`, and cancel them again",
            )

    def _number(self, record: JobRecord) -> str | None:
        return record.scheduler_id or self._queue.number_of(record.job_id or "")

    def run_calls(
        self,
        function: Callable[[Item], Result],
        calls: Sequence[Call[Item]],
        calling: Calling[Item, Result] = Calling(),
    ) -> list[Result | Exception]:
        """See `CallLauncher.run_calls`."""
        from thesis_assets.launch.slurm_calls import run_calls

        return run_calls(self, function, calls, calling)


def new_record(
    job_id: str,
    number: str | None,
    command: list[str],
    stdout: Path,
    stderr: Path,
    exit_file: Path,
    digest: str | None = None,
) -> JobRecord:
    """The record of what was just submitted."""
    return JobRecord(
        launcher=SlurmLauncher.name,
        host=socket.gethostname(),
        process_group=None,
        job_id=job_id,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        stdout=str(stdout),
        stderr=str(stderr),
        exit_file=str(exit_file.absolute()),
        scheduler_id=number,
        digest=digest,
    )
