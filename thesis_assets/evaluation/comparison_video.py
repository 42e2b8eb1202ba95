"""A camera's comparisons as a video, encoded by ffmpeg beside the work that makes the pictures."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAMES_A_SECOND = 10
MAX_VIDEO_HEIGHT = 640
NO_FFMPEG = "the program ffmpeg is not installed"
ANOTHER_SIZE = "the pictures have several sizes"
VIDEO_SECONDS = 600
"""To take one picture, or to end after the last one."""


class Video:
    """An MP4 that any browser plays (H.264, even sides, at most `MAX_VIDEO_HEIGHT` high); one picture a frame.

    The program takes pixels as they are: of a PNG it would spend as much on decoding as on all the rest.
    A video is something to look at, no result: a failure is said, and fails nothing.

    Args:
        path: where it is written.
        program: the path of ffmpeg; None where there is none.

    Attributes:
        reason: why there is no video; None where there is one, once the context has ended.
    """

    def __init__(self, path: Path, *, program: str | None) -> None:
        self.reason = None if program is not None else NO_FFMPEG
        self._path, self._program = path, program
        self._shape: tuple[int, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Video:
        self._said = tempfile.TemporaryFile()  # not a pipe: one that is full stops the program, and then us
        return self

    def add(self, picture: NDArray[np.uint8]) -> None:
        """The next frame: (H, W, 3) uint8 RGB, contiguous. Passed over where there is a reason already."""
        if self.reason is not None:
            return
        try:
            if self._process is None:
                self._shape, self._process = picture.shape, self._started(*picture.shape[:2])
            process = self._process
            assert process.stdin is not None
            if picture.shape == self._shape:
                _in_time(process, process.stdin.write, picture.data)
            else:
                self.reason = ANOTHER_SIZE
        except OSError as error:
            self.reason = f"ffmpeg failed: {error}"

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        with self._said:
            try:
                if self._process is not None and self.reason is None and failure is None:
                    self.reason = self._ended(self._process)
            finally:
                if self._process is not None:
                    _kill(self._process)
                    self._process.wait()
            if self.reason is not None:
                self._path.unlink(missing_ok=True)

    def _started(self, height: int, width: int) -> subprocess.Popen[bytes]:
        scale = f"scale=-2:'trunc(min({MAX_VIDEO_HEIGHT},ih)/2)*2':flags=area"
        command = [
            *(str(self._program), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-video_size", f"{width}x{height}", "-framerate", str(FRAMES_A_SECOND), "-i", "-"),
            *("-vf", scale, "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p"),
            *("-threads", "1", "-fflags", "+bitexact", "-movflags", "+faststart", str(self._path)),
        ]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, start_new_session=True
        )

    def _ended(self, process: subprocess.Popen[bytes]) -> str | None:
        """Why a program that has all pictures left no video."""
        assert process.stdin is not None
        _in_time(process, process.stdin.close)
        _in_time(process, process.wait)
        status = process.returncode
        if status == 0 and self._path.is_file() and self._path.stat().st_size > 0:
            return None
        if status == -signal.SIGKILL:
            return f"ffmpeg failed: it did not end within {VIDEO_SECONDS} s"
        self._said.seek(0)
        why = self._said.read()[-300:].decode("utf-8", errors="replace").strip()
        return f"ffmpeg failed: {why or f'exit status {status}, and no video'}"


def _in_time(process: subprocess.Popen[bytes], call: Callable[..., object], *given: object) -> None:
    """Call what waits for a program; one that takes too long is killed, and of one that ended before it is said at the end."""
    clock = threading.Timer(VIDEO_SECONDS, _kill, [process])
    clock.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            call(*given)
    finally:
        clock.cancel()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
