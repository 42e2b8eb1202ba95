"""A command that ends with its starter, and ends as if nothing stood between them."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from thesis_assets.launch.supervisors import watched


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -signal.SIGKILL), ("kill -TERM $$", -signal.SIGTERM)],
)
def test_the_commands_own_status_comes_through(script: str, status: int) -> None:
    assert subprocess.run(watched(["bash", "-c", script]), start_new_session=True, timeout=20).returncode == status


def test_a_program_that_is_not_there_is_said_as_a_shell_does() -> None:
    done = subprocess.run(watched(["no-such-program", "x"]), capture_output=True, text=True, timeout=20)

    assert (done.returncode, done.stderr) == (127, "no-such-program: No such file or directory\n")


def test_the_command_ends_when_its_starter_is_killed() -> None:
    starting = (
        "import subprocess, time; from thesis_assets.launch.supervisors import watched\n"
        "subprocess.Popen(watched(['bash', '-c', 'sleep 64.5 & sleep 64.5']), start_new_session=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", starting])
    try:
        wait_for(2)
        starter.kill()
        starter.wait()
        wait_for(0)
    finally:
        starter.kill()


def test_the_command_is_asked_to_end_and_may_save_first() -> None:
    script = "trap 'echo saved; exit 5' TERM; echo ready; while true; do sleep 0.05; done"
    process = subprocess.Popen(
        watched(["bash", "-c", script]), start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.poll() is None, "the one between waits for the command"
    for child in psutil.Process(process.pid).children():
        child.send_signal(signal.SIGTERM)

    assert process.communicate(timeout=10)[0] == "saved\n"
    assert process.returncode == 5


def wait_for(count: int) -> None:
    deadline = time.monotonic() + 15
    while len(sleepers()) != count:
        assert time.monotonic() < deadline, f"{len(sleepers())} processes, not {count}"
        time.sleep(0.1)


def sleepers() -> list[psutil.Process]:
    return [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "64.5"]]
