"""The programs that stand above a command: one says how a job ended, one ends the command when its starter dies without a word.

Run as a file, in an interpreter without packages: `python -I -S supervisors.py supervise <exit file> <job id> <word> ...`, in a session
of its own, or `... watch <starter's process id> <word> ...`, most often in one. Asked to end, a command decides itself how long it takes
to save: the program above it waits.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
NOT_FOUND = 127
"""What a shell answers for a program that does not exist."""


def supervised(exit_file: str, job_id: str, words: Sequence[str]) -> list[str]:
    """The command line of a command whose exit status is written to a file, whether or not its starter is still there."""
    return [sys.executable, "-I", "-S", __file__, "supervise", exit_file, job_id, *words]


def watched(words: Sequence[str]) -> list[str]:
    """The command line of a command that ends with this process, with the command's own exit status or signal."""
    return [sys.executable, "-I", "-S", __file__, "watch", str(os.getpid()), *words]


def write_exit(exit_file: str, job_id: str, returncode: int) -> None:
    """Publish how the job ended: a temporary name, then a rename."""
    ended_at = datetime.now(UTC).isoformat(timespec="seconds")
    temporary = f"{exit_file}.{os.getpid()}.partial"
    with open(temporary, "w", encoding="utf-8") as handle:  # noqa: PTH123 - no packages, and pathlib is slow to load
        json.dump({"job_id": job_id, "returncode": returncode, "ended_at": ended_at}, handle)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, exit_file)  # noqa: PTH105


def _supervise(exit_file: str, job_id: str, words: Sequence[str]) -> int:
    """Run the command to its end, and write its exit status."""
    # This one is inherited, and must be: a cluster warns every process of a job by SIGUSR2, which ends those that know nothing of it.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    command = _started(words)
    returncode = command.wait() if command else NOT_FOUND
    write_exit(exit_file, job_id, returncode)
    return returncode if returncode >= 0 else 128 - returncode


def _watch(starter: int, words: Sequence[str]) -> int:
    """Run the command to its end; end its process group when `starter` is no longer the parent of this process."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # The group that is ended must not be the starter's.
    command = _started(words)
    if command is None:
        return NOT_FOUND
    while command.poll() is None:
        if os.getppid() != starter:
            _end_group(command)
        time.sleep(POLL_SECONDS)
    if command.returncode < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -command.returncode)
    return command.returncode


def _started(words: Sequence[str]) -> "subprocess.Popen[bytes] | None":
    # A handler, unlike `SIG_IGN`, is not inherited by the command: SIGTERM must end what does not answer it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        # What is open stays open in the command: a device's lock is held by whoever of them lives longest.
        return subprocess.Popen(list(words), close_fds=False)
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        return None


def _end_group(command: "subprocess.Popen[bytes]") -> None:
    sys.stderr.write("the process that started this command is gone: it is ended\n")
    os.killpg(0, signal.SIGTERM)
    try:
        command.wait(GRACE_SECONDS)
    finally:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    mode, first, *rest = sys.argv[1:]
    sys.exit(_supervise(first, rest[0], rest[1:]) if mode == "supervise" else _watch(int(first), rest))
