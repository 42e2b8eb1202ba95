"""The state of every declared cell of an experiment: done, stale, missing, damaged, failed, running or refused."""

from dataclasses import dataclass

import dagster as dg

from thesis_assets.defs.dead_runs import IN_PROGRESS
from thesis_assets.defs.graph import latest_metadata, look_at
from thesis_assets.defs.history import History
from thesis_assets.defs.jobs import LEVELS, Level
from thesis_assets.defs.levels import assets_of, cells_of_level
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.errors import InvalidExperiment, ThesisAssetsError

ASSET_JOB = "__ASSET_JOB"
"""Dagster's name for runs of backfills and conditions."""
LOOKED_AT = 500


@dataclass(frozen=True)
class CellState:
    """One asset in one cell."""

    exp_name: str
    asset: str
    cell: Cell
    state: str
    """`done`, `stale`, `missing`, `damaged`, `failed`, `running`, or `refused`: its patterns match no scene, or name one that is not there."""
    detail: str = ""


def cell_states(platform: Platform, instance: dg.DagsterInstance, exp_name: str) -> list[CellState]:
    """Every declared cell of every asset with partitions, in the graph's order."""
    states: list[CellState] = []
    for level in LEVELS:
        if level.kind == "none" or level.job == "publish":
            continue
        runs = _latest_runs(instance, level)
        try:
            cells = cells_of_level(platform, level, exp_name, (), ())
        except InvalidExperiment as error:
            why = f"{error.problem}: {error.found}; {error.wanted}"
            states += [CellState(exp_name, asset, Cell(exp_name), "refused", why) for asset in level.assets]
            continue
        for cell in cells:
            last = runs.get(cell.key)
            assets = assets_of(platform, level, cell)
            states += [_state(platform, instance, asset, exp_name, cell, last) for asset in assets]
    return states


def _latest_runs(instance: dg.DagsterInstance, level: Level) -> dict[str | None, dg.DagsterRun]:
    """By partition key the newest run that makes assets of a level, over ranges of scenes too; of the last runs only."""
    history = History(instance)
    records = [
        record
        for job_name in (level.job, ASSET_JOB)
        for record in instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=LOOKED_AT)
    ]
    newest: dict[str | None, dg.DagsterRun] = {}
    for record in sorted(records, key=lambda record: record.storage_id, reverse=True):
        run = record.dagster_run
        selected = {key.to_user_string() for key in run.asset_selection or ()}
        if run.job_name == level.job or selected & set(level.assets):
            for key in history.keys_of_run(run, level.assets[0]):
                newest.setdefault(key, run)
    return newest


def _state(
    platform: Platform, instance: dg.DagsterInstance, asset: str, exp_name: str, cell: Cell, last: dg.DagsterRun | None
) -> CellState:
    selected = last is not None and (not last.asset_selection or dg.AssetKey(asset) in last.asset_selection)
    if last is not None and selected and last.status in IN_PROGRESS:
        return CellState(exp_name, asset, cell, "running", f"run {last.run_id[:8]}")
    try:
        found = look_at(platform, asset, cell)
    except ThesisAssetsError as error:
        return CellState(exp_name, asset, cell, "missing", error.problem)
    known = latest_metadata(instance, asset, cell) is not None
    if known and found.is_made:
        return CellState(exp_name, asset, cell, "done", "; ".join(found.notes))
    if last is not None and selected and last.status == dg.DagsterRunStatus.FAILURE:
        return CellState(exp_name, asset, cell, "failed", f"run {last.run_id[:8]}")
    if not known:
        return CellState(exp_name, asset, cell, "missing")
    return CellState(exp_name, asset, cell, found.state, "; ".join(found.reasons))
