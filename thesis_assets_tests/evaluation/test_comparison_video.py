"""A video of pictures as they are made, and a program that does not make one."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation import comparison_video
from thesis_assets.evaluation.comparison_video import ANOTHER_SIZE, Video
from thesis_assets.images.codecs import encode_png

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def reason_of(path: Path, given: Sequence[np.ndarray], program: str | None) -> str | None:
    with Video(path, program=program) as video:
        for picture in given:
            video.add(picture)
    return video.reason


def a_program(folder: Path, code: str) -> str:
    program = folder / "ffmpeg"
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(0o755)
    return str(program)


@needs_ffmpeg
def test_pixels_give_the_video_that_the_saved_pictures_give(tmp_path: Path) -> None:
    given = pictures(5)
    assert reason_of(tmp_path / "pixels.mp4", given, shutil.which("ffmpeg")) is None
    from_files = [
        *("ffmpeg", "-loglevel", "error", "-f", "image2pipe", "-framerate", "10", "-c:v", "png", "-i", "-"),
        *("-vf", "scale=-2:48:flags=area", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18"),
        *("-pix_fmt", "yuv420p", "-threads", "1", "-fflags", "+bitexact", "-movflags", "+faststart"),
        str(tmp_path / "files.mp4"),
    ]
    subprocess.run(from_files, input=b"".join(map(encode_png, given)), check=True)
    assert (tmp_path / "pixels.mp4").read_bytes() == (tmp_path / "files.mp4").read_bytes()


@needs_ffmpeg
def test_pictures_of_several_sizes_make_no_video_and_it_is_said(tmp_path: Path) -> None:
    given = [*pictures(2), *pictures(1, height=30)]
    assert reason_of(tmp_path / "a.mp4", given, shutil.which("ffmpeg")) == ANOTHER_SIZE
    assert list(tmp_path.iterdir()) == []


def test_a_video_program_that_cannot_be_started_is_a_reason_and_no_failure(tmp_path: Path) -> None:
    assert "Permission denied" in str(reason_of(tmp_path / "a.mp4", pictures(2), str(tmp_path)))


def test_work_that_fails_leaves_no_video_program_behind(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def work() -> None:
        with Video(tmp_path / "a.mp4", program=a_program(tmp_path, code)) as video:
            video.add(pictures(1)[0])
            while not told.exists() or not told.read_text():
                time.sleep(0.01)
            raise InvalidFile("an image cannot be read")

    with pytest.raises(InvalidFile):
        work()
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import time; time.sleep(60)", "did not end within 1 s"),
        ("import subprocess; subprocess.run(['sleep', '60'])", "did not end within 1 s"),
        ("import sys; sys.stderr.write('x' * 1_000_000 + 'no such codec'); sys.exit(1)", "no such codec"),
        ("import sys; sys.stdin.buffer.read()", "no video"),
    ],
)
def test_a_video_program_that_hangs_shouts_or_makes_nothing_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    monkeypatch.setattr(comparison_video, "VIDEO_SECONDS", 1)
    began = time.monotonic()
    assert told in str(reason_of(tmp_path / "a.mp4", pictures(3, 500, 700), a_program(tmp_path, code)))
    assert time.monotonic() - began < 30
