"""What the instance knows of all cells, read in a few queries: which were made, which are at work now.

Belongs here: facts for sensors and plans over thousands of cells. Does not belong here: whether a cell is current (`graph`).
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

import dagster as dg

from thesis_assets.defs.dead_runs import IN_PROGRESS
from thesis_assets.defs.graph import NODES
from thesis_assets.defs.jobs import LEVELS
from thesis_assets.defs.partitions import PARTITIONS

PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
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

    def is_busy(self, asset: str, key: str | None) -> bool:
        """Whether a run that is not over yet, or a backfill, will make a cell."""
        return (asset, key) in self._busy

    @cached_property
    def _busy(self) -> set[tuple[str, str | None]]:
        busy = set(self._of_runs())
        return busy | set(self._of_backfills())

    def _of_runs(self) -> Iterator[tuple[str, str | None]]:
        for run in self._instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS)):
            selected = [key.to_user_string() for key in run.asset_selection or ()]
            for asset in selected or ASSETS_OF_JOB.get(run.job_name, ()):
                for key in self.keys_of_run(run, asset):
                    yield asset, key

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

    def _of_backfills(self) -> Iterator[tuple[str, str | None]]:
        from dagster._core.execution.backfill import (  # no public name yet; weight, as in `backfill_runs`
            BulkActionsFilter,
            BulkActionStatus,
        )

        active = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        for backfill in self._instance.get_backfills(filters=active):
            if backfill.asset_backfill_data is None:
                continue
            undone = backfill.asset_backfill_data.get_targeted_partitions_without_materialization_status()
            for item in undone.iterate_asset_partitions():
                yield item.asset_key.to_user_string(), item.partition_key
