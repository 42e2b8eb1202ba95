"""The program above a job's command: waits for it, and writes how it ended, whether or not its starter is still there.

Run as a file, in an interpreter without packages: `python -I -S job_supervisor.py <exit file> <job id> <word> ...`, in a session of
its own. SIGTERM and SIGUSR2 are the command's to answer: asked to end, it decides itself how long it takes to save.
"""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

NOT_FOUND = 127
"""What a shell answers for a program that does not exist."""


def supervise(exit_file: str, job_id: str, words: list[str]) -> int:
    """Run the command to its end and write its exit status. Returns it."""
    # A handler, unlike `SIG_IGN`, is not inherited by the command: SIGTERM must end what does not answer it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    # This one is inherited, and must be: a cluster warns every process of a job by SIGUSR2, which ends those that know nothing of it.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        # What is open stays open in the command: a device's lock is held by whoever of them lives longest.
        command = subprocess.Popen(words, close_fds=False)
        returncode = command.wait()
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        returncode = NOT_FOUND
    write_exit(exit_file, job_id, returncode)
    return returncode


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


if __name__ == "__main__":
    returncode = supervise(sys.argv[1], sys.argv[2], sys.argv[3:])
    sys.exit(returncode if returncode >= 0 else 128 - returncode)
