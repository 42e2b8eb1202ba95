"""A program between a command and its starter, that ends the command when the starter dies without a word.

`run_command` ends a command however it is left, but a starter that is killed leaves nothing. Run as a file, in an interpreter
without packages: `python -I -S starter_watch.py <starter's process id> <word> ...`, most often in a session of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
NOT_FOUND = 127
"""What a shell answers for a program that does not exist."""


def watched(words: Sequence[str]) -> list[str]:
    """The command line of a command that ends with this process, with the command's own exit status or signal."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *words]


def watch(starter: int, words: Sequence[str]) -> int:
    """Run the command to its end; end its process group when `starter` is no longer the parent of this process."""
    # Asked to end, the group's members decide by themselves how long they take to save. A handler, unlike `SIG_IGN`, is not inherited.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        command = subprocess.Popen(list(words))
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        return NOT_FOUND
    while command.poll() is None:
        if os.getppid() != starter:
            _end_group(command)
        time.sleep(POLL_SECONDS)
    return command.returncode


def _end_group(command: "subprocess.Popen[bytes]") -> None:
    sys.stderr.write("the process that started this command is gone: it is ended\n")
    os.killpg(0, signal.SIGTERM)
    try:
        command.wait(GRACE_SECONDS)
    finally:
        os.killpg(0, signal.SIGKILL)


def _end_like(returncode: int) -> None:
    if returncode >= 0:
        sys.exit(returncode)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), -returncode)


if __name__ == "__main__":
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # The group that is ended must not be the starter's.
    _end_like(watch(int(sys.argv[1]), sys.argv[2:]))
