"""The state of every declared cell of an experiment: done, stale, missing, failed or running."""

from dataclasses import dataclass

import dagster as dg

from thesis_assets.defs.dead_runs import IN_PROGRESS
from thesis_assets.defs.graph import is_current, latest_metadata
from thesis_assets.defs.history import RANGE_START
from thesis_assets.defs.jobs import LEVELS, Level
from thesis_assets.defs.levels import assets_of, cells_of_level
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.errors import ThesisAssetsError


@dataclass(frozen=True)
class CellState:
    """One asset in one cell."""

    exp_name: str
    asset: str
    cell: Cell
    state: str
    """`done`, `stale`, `missing`, `failed` or `running`."""
    detail: str = ""


def cell_states(platform: Platform, instance: dg.DagsterInstance, exp_name: str) -> list[CellState]:
    """Every declared cell of every asset with partitions, in the graph's order."""
    states: list[CellState] = []
    for level in LEVELS:
        if level.kind == "none" or level.job == "publish":
            continue
        for cell in cells_of_level(platform, level, exp_name, (), ()):
            last = _latest_run(instance, level, cell)
            assets = assets_of(platform, level, cell)
            states += [_state(platform, instance, asset, exp_name, cell, last) for asset in assets]
    return states


def _latest_run(instance: dg.DagsterInstance, level: Level, cell: Cell) -> dg.DagsterRun | None:
    found = [
        record
        for tag in ("dagster/partition", RANGE_START)
        for record in instance.get_run_records(dg.RunsFilter(tags={tag: str(cell.key)}), limit=20)
        if set(level.assets) & {key.to_user_string() for key in record.dagster_run.asset_selection or ()}
        or record.dagster_run.job_name == level.job
    ]
    return max(found, key=lambda record: record.storage_id).dagster_run if found else None


def _state(
    platform: Platform, instance: dg.DagsterInstance, asset: str, exp_name: str, cell: Cell, last: dg.DagsterRun | None
) -> CellState:
    selected = last is not None and (not last.asset_selection or dg.AssetKey(asset) in last.asset_selection)
    if last is not None and selected and last.status in IN_PROGRESS:
        return CellState(exp_name, asset, cell, "running", f"run {last.run_id[:8]}")
    try:
        if is_current(platform, instance, asset, cell):
            return CellState(exp_name, asset, cell, "done")
    except ThesisAssetsError as error:
        return CellState(exp_name, asset, cell, "missing", error.problem)
    if last is not None and selected and last.status == dg.DagsterRunStatus.FAILURE:
        return CellState(exp_name, asset, cell, "failed", f"run {last.run_id[:8]}")
    made = latest_metadata(instance, asset, cell) is not None
    return CellState(exp_name, asset, cell, "stale" if made else "missing")
