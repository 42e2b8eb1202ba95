"""Pictures of one camera as a video, by the program `ffmpeg` where it is installed. Does not belong here: any picture."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

FRAMES_A_SECOND = 10
MAX_HEIGHT = 640
NO_FFMPEG = "the program ffmpeg is not installed"
SECONDS = 600


def write_video(path: Path, pictures: Sequence[Path], *, program: str | None) -> str | None:
    """Write an MP4 that any browser plays (H.264, even sides, at most `MAX_HEIGHT` high); one picture a frame.

    A video is something to look at, no result: a failure is said, and fails nothing.

    Args:
        pictures: PNG files of one size, in order.
        program: the path of ffmpeg; None where there is none.

    Returns:
        Why there is no video; None where there is.
    """
    if program is None:
        return NO_FFMPEG
    scale = f"scale=-2:'trunc(min({MAX_HEIGHT},ih)/2)*2':flags=area"
    command = [
        *(program, "-y", "-loglevel", "error", "-f", "image2pipe", "-framerate", str(FRAMES_A_SECOND)),
        *("-c:v", "png", "-i", "-", "-vf", scale, "-c:v", "libx264", "-preset", "veryfast", "-crf", "18"),
        *("-pix_fmt", "yuv420p", "-threads", "1", "-fflags", "+bitexact", "-movflags", "+faststart", str(path)),
    ]
    try:
        with tempfile.TemporaryFile() as said:  # not a pipe: one that is full stops the program, and then us
            status = _run(command, said, pictures)
            said.seek(0)
            why = said.read()[-300:].decode("utf-8", errors="replace").strip()
    except OSError as error:
        status, why = None, str(error)
    if status == 0 and path.is_file() and path.stat().st_size > 0:
        return None
    path.unlink(missing_ok=True)
    if status == -signal.SIGKILL:
        why = f"it did not end within {SECONDS} s"
    return f"ffmpeg failed: {why or f'exit status {status}, and no video'}"


def _run(command: Sequence[str], said: IO[bytes], pictures: Sequence[Path]) -> int:
    """Give the pictures one by one: they are never all in memory. Returns the exit status; what takes too long is killed."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
    )
    clock = threading.Timer(SECONDS, _kill, [process])
    clock.start()
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as given:  # it ended before: what it said tells why
            for picture in pictures:
                given.write(picture.read_bytes())
        return process.wait()
    finally:
        clock.cancel()
        if process.poll() is None:
            _kill(process)
            process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
