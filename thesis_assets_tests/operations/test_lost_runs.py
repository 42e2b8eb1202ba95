"""A process killed outright leaves a run that says it goes on: it is closed, and no other is."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id

from thesis_assets.defs.resources import platform_resource
from thesis_assets.graph.history import History
from thesis_assets.graph.run_processes import HOST_TAG, PROCESS_TAG, WORKER_TAG, holder_tags, made_by_command_line
from thesis_assets.operations.lost_runs import close_dead_runs, dead_runs
from thesis_assets_tests.worlds import World

HERE = {HOST_TAG: holder_tags("")[HOST_TAG]}
STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def killed() -> Iterator[str]:
    """`<process id>-<start time>` of a process that was killed, and that nobody has waited for."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    yield f"{child.pid}-{started:.2f}"
    child.communicate()


def run_with(
    instance: dg.DagsterInstance, tag: str, holder: str, *, of: str | None = None, **more: object
) -> dg.DagsterRun:
    """A run made by `holder`; `of`: the run that its tags speak of, where it is another."""
    run_id = make_new_run_id()
    tags = HERE | {tag: f"{holder}-{of or run_id}"}
    return create_run_for_test(instance, **{"run_id": run_id, "status": STARTED, "tags": tags, **more})


def test_a_killed_command_line_makes_nothing_any_more_also_before_anybody_closed_its_run(
    instance: dg.DagsterInstance, killed: str
) -> None:
    def maker() -> str | None:
        return History(instance).maker("tuned_checkpoint", None)

    of_asset = {"job_name": "tune", "asset_selection": frozenset({dg.AssetKey("tuned_checkpoint")})}
    run_with(instance, PROCESS_TAG, killed, **of_asset)
    assert maker() is None
    run_id = make_new_run_id()
    create_run_for_test(instance, run_id=run_id, status=STARTED, tags=holder_tags(run_id), **of_asset)
    assert (maker() or "").startswith(f"run {run_id[:8]} since ")


def test_a_run_of_a_dead_process_is_closed_and_a_living_ones_is_not(instance: dg.DagsterInstance, killed: str) -> None:
    run_id = make_new_run_id()
    mine = holder_tags(run_id)
    runs = {
        "gone": run_with(instance, PROCESS_TAG, killed),
        "worker gone": run_with(instance, WORKER_TAG, killed),
        "reused": run_with(instance, PROCESS_TAG, mine[PROCESS_TAG].split("-")[0] + "-1.00"),
        "mine": create_run_for_test(instance, run_id=run_id, status=STARTED, tags=mine),
        "elsewhere": create_run_for_test(
            instance, status=STARTED, tags={HOST_TAG: "another-host", PROCESS_TAG: f"{killed}-x"}
        ),
        "daemon": create_run_for_test(instance, status=STARTED),
    }
    closed = close_dead_runs(instance)
    after = {name: instance.get_run_by_id(run.run_id) for name, run in runs.items()}
    failed = {name for name, run in after.items() if run is not None and run.status == dg.DagsterRunStatus.FAILURE}
    assert failed == {"gone", "worker gone", "reused"}
    assert sorted(closed) == sorted(runs[name].run_id for name in failed)
    assert close_dead_runs(instance) == []


@pytest.mark.parametrize("tag", [PROCESS_TAG, WORKER_TAG])
def test_a_run_that_is_started_again_is_not_judged_by_the_process_of_the_one_before(
    instance: dg.DagsterInstance, killed: str, tag: str
) -> None:
    before = run_with(instance, tag, killed, status=dg.DagsterRunStatus.FAILURE)
    again = run_with(instance, tag, killed, of=before.run_id, parent_run_id=before.run_id, root_run_id=before.run_id)
    assert dead_runs(instance) == []
    assert not made_by_command_line(again)


def test_a_run_of_an_earlier_versions_command_line_is_closed_too(instance: dg.DagsterInstance, killed: str) -> None:
    run = create_run_for_test(instance, status=STARTED, tags=HERE | {PROCESS_TAG: killed})
    assert close_dead_runs(instance) == [run.run_id]


def test_a_run_that_waits_or_is_being_cancelled_is_left_to_the_daemon(
    instance: dg.DagsterInstance, killed: str
) -> None:
    for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.CANCELING):
        run_with(instance, WORKER_TAG, killed, status=status)
    assert dead_runs(instance) == []


def test_a_run_that_ended_between_the_two_looks_keeps_its_end(
    instance: dg.DagsterInstance, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(instance, WORKER_TAG, killed)
    looks = iter([[run]])
    look_again = instance.get_runs
    instance.report_run_failed(run, "it said so itself")
    monkeypatch.setattr(instance, "get_runs", lambda *given, **more: next(looks, None) or look_again(*given, **more))
    assert dead_runs(instance) == []


def test_a_run_says_which_process_makes_it_and_a_command_lines_keeps_its_own_word(
    new_world: Callable[..., World],
) -> None:
    @dg.op(required_resource_keys={"platform"})
    def step() -> None:
        return None

    @dg.job(resource_defs={"platform": platform_resource(new_world().platform)})
    def job() -> None:
        step()

    run_id = make_new_run_id()
    with dg.DagsterInstance.ephemeral() as instance:
        by_daemon = job.execute_in_process(instance=instance).dagster_run
        by_person = job.execute_in_process(instance=instance, run_id=run_id, tags=holder_tags(run_id)).dagster_run
        told = instance.get_run_by_id(by_daemon.run_id)
        kept = instance.get_run_by_id(by_person.run_id)
    assert told is not None
    assert kept is not None
    mine = holder_tags(by_daemon.run_id)
    assert (told.tags[HOST_TAG], told.tags[WORKER_TAG]) == (mine[HOST_TAG], mine[PROCESS_TAG])
    assert made_by_command_line(kept)
    assert WORKER_TAG not in kept.tags


@pytest.mark.parametrize("closed_before", [False, True])
def test_the_place_in_a_pool_that_a_killed_process_held_is_given_back(
    tmp_path: Path, killed: str, closed_before: bool
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        storage = instance.event_log_storage
        assert close_dead_runs(instance) == [], "where nobody holds a place"
        storage.set_concurrency_slots("render", 2)
        gone = run_with(instance, PROCESS_TAG, killed)
        run_id = make_new_run_id()
        create_run_for_test(instance, run_id=run_id, status=STARTED, tags=holder_tags(run_id))
        for holder in (gone.run_id, run_id):
            assert storage.claim_concurrency_slot("render", holder, "scene_samples").is_claimed
        if closed_before:
            instance.report_run_failed(gone)
        assert not storage.claim_concurrency_slot("render", "next", "scene_samples").is_claimed
        storage.free_concurrency_slots_for_run("next")
        close_dead_runs(instance)
        assert storage.get_concurrency_run_ids() == {run_id}
        assert storage.claim_concurrency_slot("render", "next", "scene_samples").is_claimed
