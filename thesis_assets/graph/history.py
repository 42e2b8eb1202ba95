"""What the instance knows of all cells, read in a few queries: which were made, which are at work now.

Belongs here: facts for sensors and plans over thousands of cells. Does not belong here: whether a cell is current (`states`).
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

import dagster as dg

from thesis_assets.graph.cells import PARTITIONS
from thesis_assets.graph.nodes import LEVELS, NODES
from thesis_assets.graph.run_processes import HOST_TAG, IN_PROGRESS, is_dead, made_by_command_line

PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
ASKED_BY = "thesis_assets/asked_by"
"""On a run or a backfill: the sensor or schedule that asked for it."""
ASSETS_OF_JOB = {level.job: level.assets for level in LEVELS}


class History:
    """One look at the instance; what happens later is not seen."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._made: dict[str, set[str]] = {}
        self._orders: dict[str, dict[str, int]] = {}

    def made(self, asset: str) -> set[str]:
        """The partition keys of an asset that were ever materialized."""
        if asset not in self._made:
            self._made[asset] = self._instance.get_materialized_partitions(dg.AssetKey(asset))
        return self._made[asset]

    def is_made(self, asset: str, key: str | None) -> bool:
        """Whether a cell was ever materialized."""
        if key is not None:
            return key in self.made(asset)
        return self._instance.get_latest_materialization_event(dg.AssetKey(asset)) is not None

    def maker(self, asset: str, key: str | None) -> str | None:
        """Which run or backfill that is not over yet will make a cell, and since when; None where none will."""
        return self._busy.get((asset, key))

    def makers_of(self, exp_name: str) -> list[str]:
        """What `maker` says of all cells of an experiment, each thing once."""
        return list(
            dict.fromkeys(told for (_, key), told in self._busy.items() if (key or "").split("|")[0] == exp_name)
        )

    @cached_property
    def _busy(self) -> dict[tuple[str, str | None], str]:
        return dict([*self._of_backfills(), *self._of_runs()])

    def _of_runs(self) -> Iterator[tuple[tuple[str, str | None], str]]:
        for record in self._instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS)):
            run = record.dagster_run
            if made_by_command_line(run) and is_dead(run):
                continue  # it was killed, and nobody starts it again; a daemon's own is closed by its sensor
            since = f"{record.create_timestamp.astimezone():%Y-%m-%d %H:%M:%S}"
            told = f"run {run.run_id[:8]} since {since}{_host(run)}"
            selected = [key.to_user_string() for key in run.asset_selection or ()]
            if run.asset_check_selection and not selected:
                continue  # it makes checks alone
            for asset in selected or ASSETS_OF_JOB.get(run.job_name, ()):
                for key in self.keys_of_run(run, asset):
                    yield (asset, key), told

    def keys_of_run(self, run: dg.DagsterRun, asset: str) -> Iterable[str | None]:
        """The partition keys that a run makes of an asset: one, or a range of neighbours."""
        start, end = run.tags.get(RANGE_START), run.tags.get(RANGE_END)
        if start is None or end is None:
            return (run.tags.get(PARTITION),)
        order = self._order(asset)
        if start not in order or end not in order:
            return (start, end)
        return [key for key, place in order.items() if order[start] <= place <= order[end]]

    def _order(self, asset: str) -> dict[str, int]:
        kind = NODES[asset].kind if asset in NODES else "none"
        if kind not in self._orders:
            definition = PARTITIONS[kind]
            keys = definition.get_partition_keys(dynamic_partitions_store=self._instance) if definition else []
            self._orders[kind] = {str(key): place for place, key in enumerate(keys)}
        return self._orders[kind]

    def _of_backfills(self) -> Iterator[tuple[tuple[str, str | None], str]]:
        from dagster._core.execution.backfill import (  # no public name yet; weight, as in `operations.execution`
            BulkActionsFilter,
            BulkActionStatus,
        )

        active = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        for backfill in self._instance.get_backfills(filters=active):
            if backfill.asset_backfill_data is None:
                continue
            undone = backfill.asset_backfill_data.get_targeted_partitions_without_materialization_status()
            for item in undone.iterate_asset_partitions():
                yield (item.asset_key.to_user_string(), item.partition_key), f"backfill {backfill.backfill_id}"


def _host(run: dg.DagsterRun) -> str:
    return f" on {run.tags[HOST_TAG]}" if HOST_TAG in run.tags else ""
