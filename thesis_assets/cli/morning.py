"""How the morning summary of `thesis-assets status --since` is printed."""

from collections import Counter

from thesis_assets.cli.console import print_table
from thesis_assets.defs.morning import Morning

REASON = 300


def print_morning(night: Morning) -> None:
    """Counts first, then what needs a person: failed runs, failed checks, jobs nobody follows, what waits."""
    counts = Counter(run.status for run in night.runs)
    summary = ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no run"
    print(f"since {night.since.astimezone():%Y-%m-%d %H:%M}: {summary}; " + _daemon(night))
    failed = [
        (run.run_id[:8], run.job, run.cells, " ".join(run.reason.split())[:REASON])
        for run in night.of("failure", "canceled")
    ]
    if failed:
        print_table("Runs that did not end well", ("run", "job", "cells", "why"), failed)
    at_work = [
        (run.run_id[:8], run.job, run.cells, run.status, "" if run.seconds is None else f"{run.seconds:.0f} s")
        for run in night.runs
        if run.status not in ("success", "failure", "canceled")
    ]
    if at_work:
        print_table("At work", ("run", "job", "cells", "state", "for"), at_work)
    checks = [(row.status, f"{row.asset}.{row.check}", row.cell, row.message[:REASON]) for row in night.checks]
    if checks:
        print_table("Checks", ("status", "check", "partition", "found"), checks)
    for job in night.jobs:
        print(job.told)
    for name, why in night.waiting.items():
        print(f"waits: {name}: {why[:REASON]}")


def _daemon(night: Morning) -> str:
    return (
        "a daemon runs"
        if night.daemon
        else "no daemon runs: sensors and schedules rest (`thesis-assets ui` starts one)"
    )


def morning_json(night: Morning) -> dict[str, object]:
    """The summary as plain values."""
    return {
        "since": night.since.isoformat(timespec="seconds"),
        "daemon": night.daemon,
        "runs": [run.__dict__ for run in night.runs],
        "checks": [row.__dict__ for row in night.checks],
        "jobs": [job.__dict__ | {"cell": str(job.cell), "told": job.told} for job in night.jobs],
        "waiting": night.waiting,
    }
