"""Telling somebody of a failed run: a command or a mail, by the settings.

What is told comes from files and from other programs: it goes to the command as environment variables and to the mail as text,
and never through a shell.
"""

import os
import shlex
import smtplib
import socket
import subprocess
from collections.abc import Mapping
from email.message import EmailMessage

import dagster as dg

from thesis_assets.errors import ThesisAssetsError, printable
from thesis_assets.graph.history import PARTITION, RANGE_END, RANGE_START
from thesis_assets.settings import Settings

COMMAND_SECONDS = 60
MAX_REASON = 4000


def tell_of_failure(settings: Settings, instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> None:
    """Start `THESIS_FAILURE_COMMAND` and write to `THESIS_FAILURE_MAIL`, where they are set. Where one fails, the other is tried.

    Raises:
        ThesisAssetsError: the command could not be started or failed, or the mail could not be handed over.
    """
    facts = failure_facts(instance, run, reason)
    try:
        if settings.failure_command:
            run_failure_command(settings.failure_command, facts)
    finally:
        if settings.failure_mail:
            send_failure_mail(settings, facts)


def failure_facts(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> dict[str, str]:
    """What a command gets as environment variables."""
    events = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=3, ascending=False
    ).records
    described = [failure_reason(record.event_log_entry.dagster_event) for record in events]
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    ends = [run.tags[name] for name in (RANGE_START, RANGE_END) if name in run.tags]
    return {
        "THESIS_FAILED_RUN": run.run_id,
        "THESIS_FAILED_JOB": run.job_name,
        "THESIS_FAILED_ASSETS": ",".join(assets),
        "THESIS_FAILED_CELL": printable(run.tags.get(PARTITION) or "..".join(ends)),
        "THESIS_FAILED_REASON": printable("\n".join(described) or reason)[:MAX_REASON],
        "THESIS_FAILED_HOST": socket.gethostname(),
    }


def failure_reason(event: dg.DagsterEvent | None) -> str:
    """A failed step and its own description; for anything unforeseen the innermost error."""
    if event is None or event.event_type != dg.DagsterEventType.STEP_FAILURE:
        return ""
    failure = event.step_failure_data
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return f"{event.step_key}: {failure.user_failure_data.description}"
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error is not None else 'failed without an error'}"


def run_failure_command(command: str, facts: Mapping[str, str]) -> None:
    """Start the command with the facts in its environment. It is split into words, and never seen by a shell."""
    try:
        done = subprocess.run(
            shlex.split(command) or [command],
            env={**os.environ, **facts},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ThesisAssetsError(
            "the failure command could not be run",
            key="THESIS_FAILURE_COMMAND",
            found=f"{command}: {error}",
            wanted=f"a program and its arguments that ends within {COMMAND_SECONDS} s",
        ) from error
    if done.returncode != 0:
        raise ThesisAssetsError(
            f"the failure command ended with status {done.returncode}",
            key="THESIS_FAILURE_COMMAND",
            found=printable(done.stderr.decode("utf-8", "replace")[-500:]) or command,
        )


def send_failure_mail(settings: Settings, facts: Mapping[str, str]) -> None:
    """Hand a mail over to the SMTP server of the settings."""
    assert settings.failure_mail is not None, "the caller looked"
    mail = EmailMessage()
    where = facts["THESIS_FAILED_CELL"] or facts["THESIS_FAILED_JOB"]
    try:
        mail["Subject"] = " ".join(f"thesis-assets: {facts['THESIS_FAILED_JOB']} failed for {where}".split())[:200]
        mail["From"] = settings.failure_mail
        mail["To"] = settings.failure_mail
        mail.set_content(
            "\n".join(f"{name.removeprefix('THESIS_FAILED_').lower()}: {value}" for name, value in facts.items())
        )
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=COMMAND_SECONDS) as server:
            server.send_message(mail)
    except Exception as error:  # where an address is none, `email` raises an IndexError
        raise ThesisAssetsError(
            "the mail of a failure could not be handed over",
            key="THESIS_FAILURE_MAIL",
            found=f"{settings.smtp_host}:{settings.smtp_port}: {error}",
            remedy="set THESIS_SMTP_HOST and THESIS_SMTP_PORT to a server that takes mail from this machine without a password",
        ) from error
