"""A command ends with everything it started, whatever ends it, and leaves a record and logs."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.commands import end_running, members, run_command
from thesis_assets.launch.jobs import log_tail
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import read_json

# A child in the same group, a grandchild in a session of its own whose parent dies at once, and both deaf to SIGTERM.
FAMILY = """
import os, subprocess, sys, time, pathlib
deaf = "import os, signal, time, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", deaf, sys.argv[1] + "/child"])
middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}, sys.argv[1]], start_new_session=True)"
subprocess.Popen([sys.executable, "-c", middle, sys.argv[1] + "/orphan"]).wait()
print("started", flush=True)
if sys.argv[2] == "stay":
    time.sleep(600)
"""


def run(tmp_path: Path, code: str, *args: str, **options: object) -> int:
    return run_command(
        [sys.executable, "-c", code, *args],
        stdout=tmp_path / "logs" / "out.log",
        stderr=tmp_path / "logs" / "err.log",
        job=tmp_path / "job.json",
        **options,  # type: ignore[arg-type]
    )


def family_started(tmp_path: Path) -> bool:
    return all((tmp_path / name).is_file() and (tmp_path / name).read_text() for name in ("child", "orphan"))


def living(tmp_path: Path) -> list[int]:
    pids = [int((tmp_path / name).read_text()) for name in ("child", "orphan")]
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_the_exit_status_logs_and_record_are_kept(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['COLOUR']); print('oh no', file=sys.stderr); sys.exit(3)"
    assert run(tmp_path, code, env={"COLOUR": "green"}) == 3
    assert (tmp_path / "logs" / "out.log").read_text() == "green\n"
    assert log_tail(tmp_path / "logs" / "err.log") == "oh no"
    record = read_json(tmp_path / "job.json", JobRecord)
    assert record.returncode == 3
    assert record.command[0] == sys.executable
    assert members(str(record.job_id)) == []


def test_logs_of_an_earlier_attempt_are_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        run(tmp_path, f"print({word!r})")
    assert (tmp_path / "logs" / "out.log").read_text() == "first\nsecond\n"


def test_an_interrupt_ends_children_grandchildren_and_orphans(tmp_path: Path) -> None:
    def interrupt() -> None:
        if family_started(tmp_path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FAMILY, str(tmp_path), "stay", poll=interrupt, grace_seconds=0.3)
    assert living(tmp_path) == []
    assert read_json(tmp_path / "job.json", JobRecord).returncode == -15


def test_a_stop_request_ends_the_tree(tmp_path: Path) -> None:
    returncode = run(
        tmp_path, FAMILY, str(tmp_path), "stay", should_stop=lambda: family_started(tmp_path), grace_seconds=0.3
    )
    assert returncode == -15
    assert living(tmp_path) == []


def test_what_a_finished_command_left_behind_is_ended(tmp_path: Path) -> None:
    code = FAMILY + "\nwhile not all(os.path.exists(sys.argv[1] + n) for n in ('/child', '/orphan')): time.sleep(0.01)"
    assert run(tmp_path, code, str(tmp_path), "go", grace_seconds=0.3) == 0
    assert living(tmp_path) == []


def test_a_process_that_saves_on_sigterm_is_given_the_time(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time, pathlib\n"
        "def save(*_):\n    time.sleep(0.5); pathlib.Path(sys.argv[1], 'saved').touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\npathlib.Path(sys.argv[1], 'ready').touch()\ntime.sleep(600)"
    )
    assert run(tmp_path, code, str(tmp_path), should_stop=(tmp_path / "ready").exists) == 0
    assert (tmp_path / "saved").exists()


def test_a_job_whose_starter_was_killed_is_still_found_and_ended(tmp_path: Path) -> None:
    starter = (
        "import sys; from pathlib import Path; from thesis_assets.launch.commands import run_command; p = Path(sys.argv[1])\n"
        "run_command([sys.executable, '-c', 'import time; time.sleep(600)'], stdout=p/'o', stderr=p/'e', job=p/'job.json')"
    )
    process = subprocess.Popen([sys.executable, "-c", starter, str(tmp_path)])
    deadline = time.monotonic() + 20
    while not (tmp_path / "job.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    record = read_json(tmp_path / "job.json", JobRecord)
    assert len(members(str(record.job_id))) == 1
    end_running(record)
    assert members(str(record.job_id)) == []


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ThesisAssetsError, match="no-such-program"):
        run_command(["no-such-program"], stdout=tmp_path / "o", stderr=tmp_path / "e", job=tmp_path / "job.json")
