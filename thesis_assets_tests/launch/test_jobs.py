"""A job goes on without its starter, is found again by its record, ends with all of its processes, and holds its GPUs."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from thesis_assets.errors import CellLocked, ThesisAssetsError
from thesis_assets.launch import local_jobs
from thesis_assets.launch.commands import members
from thesis_assets.launch.jobs import Following, Job, JobState, Resources, job_exit, left_running, run_job
from thesis_assets.launch.local_jobs import LocalLauncher, devices
from thesis_assets.layout import device_lock
from thesis_assets.schemas.tuning import JobExit, JobRecord
from thesis_assets.storage import read_json, write_json

# An orphan in a session of its own, deaf to SIGTERM, as helpers of a trainer are.
ORPHAN = (
    "import signal, time, pathlib, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
)
FAMILY = f"""
import pathlib, subprocess, sys, time
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]], start_new_session=True)"
subprocess.run([sys.executable, "-c", middle, {ORPHAN!r}, "orphan"])
while not pathlib.Path("orphan").exists():
    time.sleep(0.02)
"""
# Says that it started, waits for a word, saves.
WAITING = """
import pathlib, sys, time
with open("starts", "a") as file:
    file.write("x")
while not pathlib.Path("go").exists():
    time.sleep(0.02)
print("worked"); sys.exit(5)
"""
STARTER = """
import sys
from pathlib import Path
from thesis_assets.launch.jobs import Job, Resources, run_job
from thesis_assets.launch.local_jobs import LocalLauncher
base, code, gpu = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
job = Job("test", [sys.executable, "-c", code], base / "job.json", base / "job_exit.json", base / "out", base / "err", cwd=base,
          resources=Resources(gpus=1))
run_job(LocalLauncher(lambda: [gpu]), job)
"""


def job_of(base: Path, code: str, *words: str, gpus: int = 0) -> Job:
    return Job(
        name="test",
        command=[sys.executable, "-c", code, *words],
        record=base / "job.json",
        exit_file=base / "job_exit.json",
        stdout=base / "logs" / "out.log",
        stderr=base / "logs" / "err.log",
        cwd=base,
        resources=Resources(gpus=gpus),
    )


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def living(base: Path) -> list[psutil.Process]:
    job_id = read_json(base / "job.json", JobRecord).job_id
    assert job_id is not None
    return members(job_id)


def started(base: Path) -> bool:
    return (base / "starts").is_file()


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> Iterator[None]:
    yield
    for record_file in tmp_path.rglob("job.json"):
        LocalLauncher().end(read_json(record_file, JobRecord), grace_seconds=0)


@pytest.fixture
def gpus() -> Iterator[list[str]]:
    """Two names that no other test and no real job has."""
    names = [f"test-{uuid.uuid4().hex}" for _ in range(2)]
    yield names
    for name in names:
        device_lock(name).unlink(missing_ok=True)


@pytest.fixture
def orphaned(tmp_path: Path, gpus: list[str]) -> list[str]:
    """A job on the first GPU at work in `tmp_path`, whose starter was killed outright."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path), WAITING, gpus[0]])
    until(lambda: started(tmp_path))
    starter.kill()
    starter.wait()
    return gpus


# --- one job ---------------------------------------------------------------------------------------------------------


def test_a_job_leaves_its_status_its_logs_and_a_record(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['COLOUR']); print('oh no', file=sys.stderr); sys.exit(3)"

    state = run_job(LocalLauncher(), replace(job_of(tmp_path, code), env={"COLOUR": "green"}))

    assert state == JobState("ended", 3)
    assert (tmp_path / "logs" / "out.log").read_text() == "green\n"
    assert (tmp_path / "logs" / "err.log").read_text() == "oh no\n"
    record = read_json(tmp_path / "job.json", JobRecord)
    assert (record.launcher, record.returncode) == ("local", 3)
    assert read_json(tmp_path / "job_exit.json", JobExit).job_id == record.job_id


def test_a_job_that_was_just_started_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment the kernel shows no environment of a new process, by which a job's processes are found."""
    launcher = LocalLauncher()
    record = launcher.start(job_of(tmp_path, "import time; time.sleep(60)"))
    try:
        monkeypatch.setattr(local_jobs, "members", lambda job_id: [])
        assert launcher.state(record) == JobState("running")
    finally:
        launcher.end(record, grace_seconds=1)


def test_what_a_job_prints_is_printed_here_too_without_what_an_earlier_one_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; print('to stdout'); print('to stderr', file=sys.stderr)"
    run_job(LocalLauncher(), job_of(tmp_path, code))
    assert capsys.readouterr() == ("", "")

    run_job(LocalLauncher(), job_of(tmp_path, code), following=Following(show_logs=True))

    assert capsys.readouterr() == ("to stdout\n", "to stderr\n")


def test_what_frames_a_job_of_a_cluster_stays_in_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    framed = "submitit INFO (2026-01-01 00:00:00,000) - Job completed successfully\nsubmitit WARNING (x) - Bypassing\n"
    job = job_of(tmp_path, f"print('before'); print({framed!r} + 'after')")
    run_job(LocalLauncher(), job, following=Following(show_logs=True))
    assert capsys.readouterr().out == "before\nsubmitit WARNING (x) - Bypassing\nafter\n"
    assert job.stdout.read_text() == f"before\n{framed}after\n"


def test_a_program_that_does_not_exist_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ThesisAssetsError, match="no-such-program"):
        run_job(LocalLauncher(), replace(job_of(tmp_path, ""), command=["no-such-program"]))

    assert not (tmp_path / "job.json").exists()


def test_what_outlives_its_command_is_ended_with_the_job(tmp_path: Path) -> None:
    assert run_job(LocalLauncher(), job_of(tmp_path, FAMILY), following=Following(grace_seconds=0.5)) == JobState(
        "ended", 0
    )

    assert (tmp_path / "orphan").exists()
    assert living(tmp_path) == []


def test_asked_to_stop_a_job_may_save_and_say_so(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), pathlib.Path('saved').touch(), sys.exit(7)))\n"
        "pathlib.Path('starts').touch(); time.sleep(600)"
    )

    state = run_job(LocalLauncher(), job_of(tmp_path, code), following=Following(should_stop=lambda: started(tmp_path)))

    assert state == JobState("ended", 7)
    assert (tmp_path / "saved").exists()
    assert living(tmp_path) == []


def test_a_command_that_knows_nothing_of_sigterm_ends_by_it(tmp_path: Path) -> None:
    job = replace(job_of(tmp_path, ""), command=["bash", "-c", "touch starts; exec sleep 600"])

    state = run_job(LocalLauncher(), job, following=Following(should_stop=lambda: started(tmp_path)))

    assert state == JobState("ended", -signal.SIGTERM)


@pytest.mark.parametrize("leave_running", [None, lambda: False])
def test_an_interrupt_ends_every_process_also_the_deaf_orphan(
    tmp_path: Path, leave_running: Callable[[], bool] | None
) -> None:
    def interrupt() -> None:
        if (tmp_path / "orphan").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(
            LocalLauncher(),
            job_of(tmp_path, FAMILY + "time.sleep(600)"),
            following=Following(poll=interrupt, leave_running=leave_running, grace_seconds=0.5),
        )

    assert living(tmp_path) == []
    assert read_json(tmp_path / "job.json", JobRecord).returncode is not None


def test_a_job_that_was_killed_outright_is_lost(tmp_path: Path) -> None:
    def kill_all() -> None:
        if started(tmp_path):
            for process in sorted(living(tmp_path), key=lambda one: one.pid):
                process.kill()

    state = run_job(LocalLauncher(), job_of(tmp_path, WAITING), following=Following(poll=kill_all))

    assert state == JobState("lost")
    assert read_json(tmp_path / "job.json", JobRecord).returncode == -signal.SIGKILL


# --- without its starter ---------------------------------------------------------------------------------------------


def test_left_running_a_job_is_followed_by_whoever_comes_next(tmp_path: Path) -> None:
    def interrupt() -> None:
        if started(tmp_path):
            raise KeyboardInterrupt

    job = job_of(tmp_path, WAITING)
    with pytest.raises(KeyboardInterrupt):
        run_job(LocalLauncher(), job, following=Following(poll=interrupt, leave_running=lambda: True))
    assert left_running(LocalLauncher(), job.record) is not None

    state = run_job(LocalLauncher(), job, following=Following(poll=(tmp_path / "go").touch))

    assert state == JobState("ended", 5)
    assert (tmp_path / "starts").read_text() == "x", "it was started once"


def test_a_job_whose_starter_was_killed_goes_on_and_is_followed_to_its_end(tmp_path: Path, orphaned: list[str]) -> None:
    state = run_job(
        LocalLauncher(),
        job_of(tmp_path, "raise SystemExit('a second one')"),
        following=Following(poll=(tmp_path / "go").touch),
    )

    assert state == JobState("ended", 5)
    assert (tmp_path / "starts").read_text() == "x"
    assert (tmp_path / "out").read_text() == "worked\n"


def test_a_signal_to_the_starters_terminal_does_not_reach_the_job(tmp_path: Path, orphaned: list[str]) -> None:
    assert all(os.getsid(process.pid) != os.getsid(0) for process in living(tmp_path))


def test_how_a_job_ended_is_known_though_nobody_watched(tmp_path: Path, orphaned: list[str]) -> None:
    (tmp_path / "go").touch()
    until(lambda: living(tmp_path) == [])

    record = read_json(tmp_path / "job.json", JobRecord)
    assert record.returncode is None
    assert LocalLauncher().state(record) == JobState("ended", 5)


def test_the_exit_of_an_earlier_job_says_nothing_about_this_one(tmp_path: Path) -> None:
    run_job(LocalLauncher(), job_of(tmp_path, ""))
    record = read_json(tmp_path / "job.json", JobRecord)

    assert job_exit(record) is not None
    assert job_exit(record.model_copy(update={"job_id": "another"})) is None


def test_a_job_of_another_machine_is_not_started_a_second_time_here(tmp_path: Path) -> None:
    job = job_of(tmp_path, "")
    run_job(LocalLauncher(), job)
    elsewhere = {"host": "elsewhere", "returncode": None}
    write_json(job.record, read_json(job.record, JobRecord).model_copy(update=elsewhere))
    job.exit_file.unlink()

    with pytest.raises(CellLocked, match="elsewhere"):
        run_job(LocalLauncher(), job)


# --- GPUs ------------------------------------------------------------------------------------------------------------


def held(names: Sequence[str]) -> bool:
    """Whether none of the GPUs can be taken at once."""
    waited: list[str] = []

    def give_up(message: str) -> None:
        waited.append(message)
        raise TimeoutError

    try:
        with devices(names, 1, holder="probe", on_wait=give_up):
            return False
    except TimeoutError:
        return bool(waited)


def test_a_job_sees_only_the_gpus_it_took(tmp_path: Path, gpus: list[str]) -> None:
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"

    with devices(gpus, 1, holder="someone else"):
        run_job(LocalLauncher(lambda: gpus), job_of(tmp_path, code, gpus=1))
    run_job(LocalLauncher(lambda: gpus), job_of(tmp_path, code, gpus=2))

    assert (tmp_path / "logs" / "out.log").read_text().split() == [gpus[1], ",".join(gpus)]


def test_a_gpu_is_held_by_the_job_and_not_by_its_starter(tmp_path: Path, orphaned: list[str]) -> None:
    assert held(orphaned[:1])
    (tmp_path / "go").touch()
    until(lambda: not held(orphaned[:1]))


def test_a_gpu_is_held_as_long_as_its_trainer_lives(tmp_path: Path, orphaned: list[str]) -> None:
    record = read_json(tmp_path / "job.json", JobRecord)
    assert record.process_group is not None
    os.kill(record.process_group, signal.SIGKILL)
    until(lambda: record.process_group not in [process.pid for process in living(tmp_path)])

    assert held(orphaned[:1])
    LocalLauncher().end(record, grace_seconds=0.5)
    assert not held(orphaned[:1])


def test_who_waits_for_a_gpu_is_told_by_whom_it_is_held(tmp_path: Path, orphaned: list[str]) -> None:
    told: list[str] = []

    def on_wait(message: str) -> None:
        told.append(message)
        (tmp_path / "go").touch()

    (tmp_path / "second").mkdir()
    second = job_of(tmp_path / "second", "", gpus=1)
    assert run_job(LocalLauncher(lambda: orphaned[:1]), second, following=Following(on_wait=on_wait)) == JobState(
        "ended", 0
    )

    assert len(told) == 1
    assert f"on {socket.gethostname()}" in told[0]
    assert "test, started by process" in told[0]


def test_who_waits_for_two_gpus_does_not_hold_one_meanwhile(gpus: list[str]) -> None:
    """Or two that each hold one would wait for each other."""
    free: list[bool] = []

    def look(_: str) -> None:
        free.append(not held(gpus[:1]))
        raise TimeoutError

    with (
        devices(gpus[1:], 1, holder="someone else"),
        pytest.raises(TimeoutError),
        devices(gpus, 2, holder="test", on_wait=look),
    ):
        pass

    assert free == [True]


def test_more_gpus_than_there_are_is_refused_before_anything_starts(tmp_path: Path, gpus: list[str]) -> None:
    with pytest.raises(ThesisAssetsError, match="num_processes"):
        run_job(LocalLauncher(lambda: gpus), job_of(tmp_path, "", gpus=3))

    assert not (tmp_path / "job.json").exists()


def test_a_link_in_the_place_of_a_gpus_lock_is_not_followed(tmp_path: Path, gpus: list[str]) -> None:
    (tmp_path / "precious").write_text("precious")
    device_lock(gpus[0]).symlink_to(tmp_path / "precious")

    with pytest.raises(ThesisAssetsError, match="lock file"), devices(gpus, 1, holder="test"):
        pass

    assert (tmp_path / "precious").read_text() == "precious"
