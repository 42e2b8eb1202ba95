"""What runs on a cluster's node: a command, or one call of a function. Reports by files only.

Slurm warns every process of a job by SIGUSR2 before its time limit: submitit then asks `checkpoint` what to queue again. SIGTERM
comes to a job that is cancelled, to one that is pre-empted, which Slurm calls running still, and to one whose node is taken away, which
Slurm has queued again already.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thesis_assets.launch.commands import JOB_VARIABLE, end_tree, has_ended
from thesis_assets.launch.job_supervisor import NOT_FOUND, write_exit
from thesis_assets.launch.mapping import picklable_answer
from thesis_assets.launch.telling import tell_to_file
from thesis_assets.layout import JobTree
from thesis_assets.storage import write_bytes

HELPERS_SECONDS = 2.0
CANCELLED = 128 + signal.SIGTERM


@dataclass
class CommandOnNode:
    """A job's command. `save_seconds`: how long it may take to save once it is warned."""

    words: Sequence[str]
    cwd: Path | None
    env: Mapping[str, str]
    stdout: Path
    stderr: Path
    exit_file: Path
    job_id: str
    save_seconds: float
    process_id: int | None = None
    was_asked: bool = False

    def __call__(self) -> None:
        """Run the command to its end, and say how it ended: not where it was asked to, as the job may come again."""
        signal.signal(signal.SIGTERM, self._asked_to_end)
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            try:
                process = subprocess.Popen(
                    list(self.words),
                    cwd=self.cwd,
                    env={**os.environ, **self.env, JOB_VARIABLE: self.job_id},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    # The warning ends every process that knows nothing of it: what stands between here and the trainer too.
                    preexec_fn=_ignore_warning,
                )
            except OSError as error:
                err.write(f"{self.words[0]}: {error.strerror}\n".encode())
                write_exit(str(self.exit_file), self.job_id, NOT_FOUND)
                return
        self.process_id = process.pid
        returncode = process.wait()
        self._end_helpers()
        if not self.was_asked:
            write_exit(str(self.exit_file), self.job_id, returncode)

    def _asked_to_end(self, *_: object) -> None:
        self.was_asked = True
        _requeue_if_preempted()

    def checkpoint(self) -> Any:
        """What is queued again: the same command, which goes on where it stood, once it has saved."""
        import submitit

        deadline = time.monotonic() + self.save_seconds
        while self.process_id is not None and not has_ended(self.process_id) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._end_helpers()
        return submitit.helpers.DelayedSubmission(replace(self, process_id=None, was_asked=False))

    def _end_helpers(self) -> None:
        """End what outlived the command: Slurm without cgroups does not find a process whose parent is gone."""
        end_tree(None, self.job_id, grace_seconds=HELPERS_SECONDS)


@dataclass
class CallOnNode:
    """One call of a function."""

    function: Callable[[Any], Any]
    item: Any
    place: JobTree
    job_id: str

    def __call__(self) -> None:
        """Call, and leave the answer: the result, or the exception, as a pickle."""
        signal.signal(signal.SIGTERM, _requeue_or_end)
        tell_to_file(self.place.told_dir)
        try:
            answer = picklable_answer(self.function, self.item)
        except Exception as error:  # noqa: BLE001 - the caller decides what a failed item means
            answer = error
        write_bytes(self.place.answer, pickle.dumps(answer))
        write_exit(str(self.place.exit_file), self.job_id, 1 if isinstance(answer, Exception) else 0)

    def checkpoint(self) -> Any:
        """What is queued again: the same call. What it has published it does not make again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _ignore_warning() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _requeue_or_end(*_: object) -> None:
    _requeue_if_preempted()
    sys.exit(CANCELLED)


def _requeue_if_preempted() -> None:
    """Where this job was not cancelled, have submitit queue it again, as at its time limit; does not return then."""
    answer = subprocess.run(
        ["squeue", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--format=%T"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if answer.stdout.strip() == "RUNNING":
        signal.raise_signal(signal.SIGUSR2)
