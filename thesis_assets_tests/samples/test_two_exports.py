"""Two processes that export one scene at once."""

import json
import re
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from thesis_assets_tests.samples.interrupted_export import NAME
from thesis_assets_tests.samples.tiny_scenes import roots, work, write_scene


def start(base: Path, seconds_a_frame: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "thesis_assets_tests.samples.interrupted_export", str(base), "d", str(seconds_a_frame)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_one_works_and_the_other_says_who_does_where_and_since_when(tmp_path: Path) -> None:
    write_scene(roots(tmp_path), NAME, frames=range(4))
    began = time.time()
    first = start(tmp_path, 60)  # It waits in its first frame, until it is no longer needed.
    assert first.stdout is not None
    assert [first.stdout.readline() for _ in range(2)] == ["ready\n", "frame 000000 1\n"]

    second = start(tmp_path, 0)
    told = second.communicate(timeout=60)[1]
    assert second.returncode == 1
    assert f"another process works on the scene {NAME} of v1" in told
    holder = json.loads(re.search(r"found: (\{.*\})", told)[1])
    assert (holder["host"], holder["pid"]) == (socket.gethostname(), first.pid)
    assert began - 1 <= datetime.strptime(holder["since"], "%Y-%m-%dT%H:%M:%S%z").timestamp() <= time.time()
    assert first.poll() is None

    first.kill()  # A dead holder holds nothing.
    first.communicate(timeout=30)
    third = start(tmp_path, 0)
    assert third.communicate(timeout=60)[0].splitlines()[-1] == "done"
    assert len(list(work(tmp_path, NAME, root="d").tree.samples_dir.iterdir())) == 4
