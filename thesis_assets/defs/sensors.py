"""The sensors: experiment files become partitions, complete scenes shards, what moved is made again, lost runs are found.

Belongs here: ticks. Does not belong here: what is asked for (`operations.run_requests`), whom to tell of a failure (`operations.failures`).
Concept: https://docs.dagster.io/guides/automate/sensors
"""

import time
from collections.abc import Callable

import dagster as dg

from thesis_assets.defs.automation import cheap_assets_sensor
from thesis_assets.defs.jobs import JOBS
from thesis_assets.graph.nodes import LEVELS
from thesis_assets.graph.platform import Platform, PlatformParam
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.graph.states import Plan
from thesis_assets.operations.failures import tell_of_failure
from thesis_assets.operations.lost_runs import close_dead_runs, lost_jobs
from thesis_assets.operations.metadata import as_markdown
from thesis_assets.operations.registration import (
    LateScenes,
    fork_for_late_scenes,
    late_scenes,
    plan_registration,
    register,
)
from thesis_assets.operations.run_requests import (
    EXPORT,
    LOOK_SECONDS,
    PREPARE,
    Asked,
    Cursor,
    declared_runs,
    lost_processes,
    moved_cells,
    new_shards,
    run_requests,
)
from thesis_assets.settings import Settings

SHOWN, LOGGED = 8, 100
"""Lines that stand on a tick, and in its log."""


def experiment_files(context: dg.SensorEvaluationContext, platform: PlatformParam) -> dg.SensorResult:
    """Register the partitions that the experiment files declare; refuse a bad file with its line and key.

    With `THESIS_AUTO_START=everything` the declared runs are asked for as well: tuning once the data is whole, then evaluation,
    then recordings.
    """
    instance = context.instance
    plan = plan_registration(platform, instance)
    register(instance, plan)
    said = [f"refused {name}: {' '.join(reason.split())}" for name, reason in plan.refused.items()]
    said += plan.warnings
    said += [f"{name}: {len(keys)} new keys" for name, keys in plan.added.items() if keys]
    said += [
        f"no longer declared, kept (`thesis-assets sync --remove-withdrawn` removes them): {name} {', '.join(keys)}"
        for name, keys in plan.withdrawn.items()
        if keys
    ]
    for line in said[: len(plan.refused)]:
        context.log.error(line)
    asked: Asked = {}
    if platform.settings.auto_start == "everything":
        tick = declared_runs(Plan(platform, instance))
        asked = tick.asked
        said += tick.said
    return _result(context, platform, asked, Cursor(), said)


def new_scenes(context: dg.SensorEvaluationContext, platform: PlatformParam) -> dg.SensorResult:
    """Ask for the missing shards of open experiments once their scenes are complete; fork frozen ones, or name the command."""
    instance = context.instance
    cursor = Cursor.parse(context.cursor)
    ready = ReadyScenes(platform, time.time(), cursor.scenes)
    said = [_told(late) for late in fork_for_late_scenes(platform, ready)]
    said += [_told(late) for late in late_scenes(platform, ready)]
    register(instance, plan_registration(platform, instance))
    tick = new_shards(Plan(platform, instance, ready), seconds=LOOK_SECONDS)
    cursor.scenes = ready.kept()
    return _result(context, platform, tick.asked, cursor, said + tick.said)


def _told(late: LateScenes) -> str:
    if late.by_itself:
        return f"{late.exp_name} is frozen; its fork {late.fork} is written, with {', '.join(late.scenes)}"
    return f"{late.exp_name} is frozen, and {', '.join(late.scenes)} came later: `{late.command}` takes them"


def stale_data(context: dg.SensorEvaluationContext, platform: PlatformParam) -> dg.SensorResult:
    """Ask for cells that are stale or damaged: their scene, section of the experiment file or upstream moved, or files are lost.

    Tuning, evaluation and recordings are asked for only with `THESIS_AUTO_START=everything`; else they are named.
    """
    cursor = Cursor.parse(context.cursor)
    ready = ReadyScenes(platform, time.time(), cursor.scenes)
    plan = Plan(platform, context.instance, ready)
    levels = LEVELS if platform.settings.auto_start == "everything" else (EXPORT, PREPARE)
    tick, cursor.place = moved_cells(plan, levels, start=cursor.place, seconds=LOOK_SECONDS)
    cursor.scenes = ready.kept()
    return _result(context, platform, tick.asked, cursor, tick.said)


def lost_runs(context: dg.SensorEvaluationContext, platform: PlatformParam) -> dg.SensorResult:
    """Close runs of command lines that were killed; name jobs that go on while no run follows them; ask again for cells whose
    trainer was killed alone, three times at most, and name what failed."""
    closed = close_dead_runs(context.instance)
    said = [f"run {run_id[:8]} was killed before it ended; it is closed" for run_id in closed]
    said += [job.told for job in lost_jobs(platform, context.instance)]
    tick = lost_processes(Plan(platform, context.instance))
    return _result(context, platform, tick.asked, Cursor(), said + tick.said)


def failed_runs(context: dg.RunFailureSensorContext, platform: PlatformParam) -> None:
    """Tell a command or a mailbox of every failed run, where the settings name one."""
    tell_of_failure(platform.settings, context.instance, context.dagster_run, context.failure_event.message or "")


def _result(
    context: dg.SensorEvaluationContext, platform: Platform, asked: Asked, cursor: Cursor, said: list[str]
) -> dg.SensorResult:
    """What a tick comes to. Every line goes to the tick's log; where no run is asked for, the first ones stand on the tick."""
    for line in said[:LOGGED]:
        context.log.info(line)
    requests = run_requests(platform, context.instance, asked, asked_by=context.sensor_name)
    more = f"; and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    reason = None if requests else "; ".join(said[:SHOWN]) + more or "all is current"
    return dg.SensorResult(run_requests=requests, skip_reason=reason, cursor=cursor.dump())


def _described(tick: Callable[..., object]) -> str:
    return as_markdown(" ".join((tick.__doc__ or "").split()))


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """All sensors. Those that start work are off where `THESIS_AUTO_START` is `nothing`, until somebody turns them on."""
    on = dg.DefaultSensorStatus.RUNNING
    working = dg.DefaultSensorStatus.STOPPED if settings.auto_start == "nothing" else on
    often, seldom = settings.sensor_seconds, 10 * settings.sensor_seconds
    export = next(job for job in JOBS if job.name == EXPORT.job)
    return [
        dg.sensor(
            minimum_interval_seconds=often, default_status=on, jobs=JOBS, description=_described(experiment_files)
        )(experiment_files),
        dg.sensor(
            minimum_interval_seconds=often, default_status=working, jobs=[export], description=_described(new_scenes)
        )(new_scenes),
        dg.sensor(
            minimum_interval_seconds=seldom, default_status=working, jobs=JOBS, description=_described(stale_data)
        )(stale_data),
        dg.sensor(minimum_interval_seconds=2 * often, default_status=on, jobs=JOBS, description=_described(lost_runs))(
            lost_runs
        ),
        dg.run_failure_sensor(minimum_interval_seconds=often, default_status=on, description=_described(failed_runs))(
            failed_runs
        ),
        cheap_assets_sensor(working, often),
    ]
