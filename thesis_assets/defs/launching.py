"""Where a step's work runs, by the settings; and what a step does with its jobs when it is told to end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import dagster as dg

from thesis_assets.defs.assets.declaration import ended_by_person
from thesis_assets.defs.metadata import table
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import wanted_digest
from thesis_assets.graph.platform import Platform
from thesis_assets.launch.jobs import Call, Calling, Following, Resources
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import read_json, sha256_value

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Place:
    """What a call needs. `preset`: on a cluster, None = it is done here even so; `gpus`: held on this machine meanwhile."""

    preset: str | None
    gpus: int = 0


HERE = Place(None)
"""Links and small files: a job of its own would take longer to start."""
CPU = Place("cpu")
GPU = Place("data_gen", gpus=1)
SHARED_GPU = Place("data_gen")
"""Computes on a GPU now and then: on this machine it does not wait until a training run of hours has left it."""


def following(context: dg.AssetExecutionContext, report: Callable[[str], None]) -> Following:
    """How a step follows its jobs: their logs are the run's compute logs; a user's terminate ends them, a restart leaves them."""

    return Following(leave_running=lambda: not ended_by_person(context), on_wait=report, show_logs=True)


def run_calls(
    context: dg.AssetExecutionContext,
    platform: Platform,
    function: Callable[[Item], Result],
    calls: Sequence[Call[Item]],
    place: Place,
    *,
    workers: int = 1,
    on_done: Callable[[Item, Result | Exception], None] | None = None,
) -> list[Result | Exception]:
    """Make calls where the settings say, with what they tell in the run's log. See `jobs.Launcher.run_calls`.

    Args:
        workers: calls at once on this machine; a cluster has its own cap.
    """
    from thesis_assets.launch.local_jobs import LocalLauncher

    report = platform.reporter(context)
    calling = Calling(
        workers=workers,
        resources=Resources(gpus=place.gpus if platform.device != "cpu" else 0, preset=place.preset),
        on_done=on_done,
        on_line=report,
        following=following(context, report),
    )
    launcher = platform.launcher if place.preset is not None else LocalLauncher()
    try:
        return launcher.run_calls(function, calls, calling)
    finally:
        _show_jobs(context, calls, launcher.name)


def job_cores(platform: Platform, place: Place) -> int | None:
    """Cores that a cluster's job of this place has to itself; None on this machine, where calls share them."""
    from thesis_assets.launch.slurm_cluster import presets_with

    if platform.settings.launcher == "local" or place.preset is None:
        return None
    return presets_with(platform.settings.slurm_presets)[place.preset].cores


def _show_jobs(context: dg.AssetExecutionContext, calls: Sequence[Call[Any]], launcher: str) -> None:
    """Numbers and logs of the calls' jobs, on the step's output; those of a step that fails stand in its log."""
    if launcher == "local":
        return
    records = {call.name: read_json(call.place.record, JobRecord) for call in calls if call.place.record.is_file()}
    rows = [(name, record.scheduler_id or "", record.stdout, record.stderr) for name, record in records.items()]
    for name, number, stdout, _ in rows:
        context.log.info(f"{name}: Slurm job {number}, {stdout}")
    context.add_output_metadata({"jobs": table(("call", "Slurm job", "stdout", "stderr"), rows)})


def run_call(
    context: dg.AssetExecutionContext,
    platform: Platform,
    cell: Cell,
    function: Callable[[Item], Result],
    item: Item,
    place: Place,
) -> Result:
    """Make the one call that the step's cell consists of.

    Raises:
        Exception: what the function raised.
    """
    call = cell_call(context, platform, context.asset_key.to_user_string(), cell, item)
    (outcome,) = run_calls(context, platform, function, [call], place)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def cell_call(
    context: dg.AssetExecutionContext, platform: Platform, asset: str, cell: Cell, item: Item, part: str = ""
) -> Call[Item]:
    """The call of one asset's cell, or of a part of it: its identity is that of the cell's inputs."""
    names = [asset, *(name for name in (cell.run_name, cell.scene_name, part) if name)]
    digest = sha256_value([part, wanted_digest(platform, asset, cell), platform.device])
    return Call(" ".join(names), item, digest, platform.difix(cell).job("--".join(names)))
