"""A command line killed outright leaves a run that says it goes on: the next one closes it, and no other."""

import subprocess
import sys

import dagster as dg
import psutil
from dagster._core.test_utils import create_run_for_test

from thesis_assets.defs.dead_runs import HOST_TAG, PROCESS_TAG, close_dead_runs, holder_tags


def test_a_run_of_a_dead_process_is_closed_and_a_living_ones_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    child.kill()
    child.wait()
    here = holder_tags()
    gone = here | {PROCESS_TAG: f"{child.pid}-{started:.2f}"}
    reused = here | {PROCESS_TAG: here[PROCESS_TAG].split("-")[0] + "-1.00"}
    elsewhere = gone | {HOST_TAG: "another-host"}
    with dg.DagsterInstance.ephemeral() as instance:
        runs = {
            name: create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags)
            for name, tags in {
                "gone": gone,
                "reused": reused,
                "mine": here,
                "elsewhere": elsewhere,
                "daemon": {},
            }.items()
        }
        closed = close_dead_runs(instance)
        after = {name: instance.get_run_by_id(run.run_id) for name, run in runs.items()}
    assert sorted(closed) == sorted([runs["gone"].run_id, runs["reused"].run_id])
    failed = {name for name, run in after.items() if run is not None and run.status == dg.DagsterRunStatus.FAILURE}
    assert failed == {"gone", "reused"}
