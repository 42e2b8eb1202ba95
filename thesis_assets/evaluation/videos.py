"""Pictures of one camera as a video, by the program `ffmpeg` where it is installed. Does not belong here: any picture."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

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
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        return f"ffmpeg could not be started: {error.strerror}"
    try:
        said = _feed(process, pictures)
    except (subprocess.TimeoutExpired, OSError) as error:
        process.kill()
        process.communicate()
        said = f"it did not end within {SECONDS} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
    if process.returncode == 0:
        return None
    path.unlink(missing_ok=True)
    return f"ffmpeg failed: {said[-300:].strip() or f'exit status {process.returncode}'}"


def _feed(process: subprocess.Popen[bytes], pictures: Sequence[Path]) -> str:
    """Give the pictures one by one: they are never all in memory. Returns what it said on stderr."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It ended before the last picture; its stderr says why.
        for picture in pictures:
            process.stdin.write(picture.read_bytes())
        process.stdin.close()
    process.stdin = None
    _, errors = process.communicate(timeout=SECONDS)
    return errors.decode("utf-8", errors="replace")
