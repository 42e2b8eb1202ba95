"""Somebody is told of a failed run: a command by its environment, a mailbox as text; nothing of it is ever a shell's."""

import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest

from thesis_assets.cli.run import run_experiment
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.platform import Platform
from thesis_assets.operations.failures import run_failure_command, send_failure_mail, tell_of_failure
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, experiment, tiny_world
from thesis_assets_tests.worlds import World

FACTS = {
    "THESIS_FAILED_RUN": "abc",
    "THESIS_FAILED_JOB": "export_scenes",
    "THESIS_FAILED_CELL": "v1|$(touch pwned)",
    "THESIS_FAILED_REASON": '`touch pwned`; touch pwned\n"; touch pwned',
    "THESIS_FAILED_ASSETS": "scene_samples",
    "THESIS_FAILED_HOST": "h",
}


def saving(path: Path) -> str:
    """A command that writes the facts it was given, as JSON."""
    program = path.with_suffix(".py")
    program.write_text(
        "import json, os, sys\n"
        "open(sys.argv[1], 'w').write(json.dumps({k: v for k, v in os.environ.items() if k.startswith('THESIS_FAILED')}))\n"
    )
    return f"{sys.executable} {program} {path}"


def test_the_command_gets_the_facts_word_for_word_and_no_shell_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_failure_command(saving(tmp_path / "told.json"), FACTS)
    assert json.loads((tmp_path / "told.json").read_text()) == FACTS
    run_failure_command(f"{saving(tmp_path / 'told.json')} ; touch pwned $(touch pwned)", FACTS)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "command", ["/no/such/program", f"{sys.executable} -c 'raise SystemExit(3)'", "echo 'unclosed", "  "]
)
def test_a_command_that_does_not_work_is_named(command: str) -> None:
    with pytest.raises(ThesisAssetsError, match="failure command"):
        run_failure_command(command, FACTS)


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as one delivery needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.decode())
                self.server.mails.append("".join(lines))  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def mailbox() -> Iterator[socketserver.TCPServer]:
    with socketserver.TCPServer(("127.0.0.1", 0), Mailbox) as server:
        server.mails = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_mail_has_what_failed_and_its_subject_stays_one_line(tmp_path: Path, mailbox: socketserver.TCPServer) -> None:
    port = mailbox.server_address[1]
    settings = tiny_world(tmp_path).settings.model_copy(
        update={"failure_mail": "someone@example.org", "smtp_host": "127.0.0.1", "smtp_port": port}
    )
    send_failure_mail(settings, FACTS | {"THESIS_FAILED_CELL": "v1\nBcc: everybody@example.org"})
    [text] = mailbox.mails  # type: ignore[attr-defined]
    mail = message_from_string(text)
    assert mail["To"] == "someone@example.org"
    assert mail["Bcc"] is None
    assert "export_scenes failed for v1 Bcc" in mail["Subject"]
    assert "touch pwned" in mail.get_payload()


@pytest.mark.parametrize(
    ("address", "host"),
    [("someone@example.org", "mail..example"), ("<", "127.0.0.1"), ("a\nb@example.org", "127.0.0.1")],
)
def test_an_address_or_a_server_that_is_none_is_named(tmp_path: Path, address: str, host: str) -> None:
    settings = tiny_world(tmp_path).settings.model_copy(update={"failure_mail": address, "smtp_host": host})
    with pytest.raises(ThesisAssetsError, match="THESIS_SMTP_HOST"):
        send_failure_mail(settings, FACTS)


def test_the_mail_is_sent_where_the_command_fails(tmp_path: Path, mailbox: socketserver.TCPServer) -> None:
    import dagster as dg

    settings = tiny_world(tmp_path).settings.model_copy(
        update={
            "failure_command": "/no/such/program",
            "failure_mail": "someone@example.org",
            "smtp_host": "127.0.0.1",
            "smtp_port": mailbox.server_address[1],
        }
    )
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(ThesisAssetsError, match="failure command"):
        tell_of_failure(settings, instance, dg.DagsterRun(job_name="export_scenes"), "it failed")
    assert "it failed" in mailbox.mails[0]  # type: ignore[attr-defined]


def failing_world(tmp_path: Path) -> World:
    world = tiny_world(tmp_path)
    world.write(experiment("v1", generation={"target_cameras": {"mode": "explicit", "ids": [28]}}))
    add_scene(world, "hi4d_pair00_hug")
    return world


def test_a_run_of_the_command_line_tells_where_no_daemon_does(tmp_path: Path) -> None:
    world = failing_world(tmp_path)
    settings = world.settings.model_copy(update={"failure_command": saving(tmp_path / "told.json")})
    with world.instance() as instance:
        assert run_experiment(Platform(settings), instance, "v1").exit_code == 1
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["THESIS_FAILED_CELL"] == "v1|hi4d_pair00_hug"
    assert told["THESIS_FAILED_JOB"] == "export_scenes"
    assert "28" in told["THESIS_FAILED_REASON"]


def test_a_command_that_cannot_be_told_does_not_hide_the_failure(tmp_path: Path) -> None:
    world = failing_world(tmp_path)
    settings = world.settings.model_copy(update={"failure_command": "/no/such/program"})
    lines: list[str] = []
    with world.instance() as instance:
        assert run_experiment(Platform(settings, lines.append), instance, "v1").exit_code == 1
    assert any("nobody could be told" in line for line in lines)
    assert any("FAILED" in line for line in lines)


def test_the_daemons_sensor_tells_of_a_failed_run(tmp_path: Path) -> None:
    import dagster as dg

    from thesis_assets.defs.sensors import failed_runs

    world = failing_world(tmp_path)
    settings = world.settings.model_copy(update={"failure_command": saving(tmp_path / "told.json")})
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(world, instance)
        ticks.tick("new_scenes")
        [run] = instance.get_runs()
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, run.job_name, message="it failed")
        context = dg.build_run_status_sensor_context(
            "failed_runs", event, instance, run, resources={"platform": Platform(settings)}
        ).for_run_failure()
        failed_runs(context, Platform(settings))
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["THESIS_FAILED_RUN"] == run.run_id
    assert "28" in told["THESIS_FAILED_REASON"]
