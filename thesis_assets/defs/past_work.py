"""How long work took before, so that a plan can say what it will cost."""

import statistics
from collections import Counter

import dagster as dg

from thesis_assets.defs.steps import SECONDS, STEP
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES
from thesis_assets.graph.platform import Platform

LOOKED_AT = 50


class PastWork:
    """Seconds a unit of each asset: a training step of `tuned_checkpoint`, a cell of every other."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance) -> None:
        self._platform, self._instance = platform, instance
        self._rates: dict[str, dict[str, float]] = {}

    def seconds(self, asset: str, cell: Cell) -> float | None:
        """What a cell would take by the median of past ones: of its experiment where there are any, else of all."""
        rates = self._rates_of(asset)
        rate = rates.get(cell.exp_name, rates.get(""))
        return None if rate is None else rate * self._units(asset, cell)

    def _units(self, asset: str, cell: Cell) -> float:
        return float(self._platform.run_spec(cell).max_train_steps) if asset == "tuned_checkpoint" else 1.0

    def _rates_of(self, asset: str) -> dict[str, float]:
        if asset not in self._rates:
            self._rates[asset] = self._measured(asset)
        return self._rates[asset]

    def _measured(self, asset: str) -> dict[str, float]:
        records = self._instance.fetch_materializations(dg.AssetKey(asset), limit=LOOKED_AT).records
        cells_of_step = Counter(record.run_id for record in records)
        rates: dict[str, list[float]] = {}
        for record in records:
            event = record.asset_materialization
            if event is None or SECONDS not in event.metadata or STEP not in event.metadata:
                continue
            try:
                cell = Cell.parse(NODES[asset].kind, event.partition)
                units = self._units(asset, cell)
            except (ThesisAssetsError, AttributeError):
                continue  # of an experiment or a run that is no longer declared
            # Cells of one single-run step share its seconds.
            seconds = float(str(event.metadata[SECONDS].value)) / cells_of_step[record.run_id] / max(units, 1.0)
            for name in {cell.exp_name, ""}:
                rates.setdefault(name, []).append(seconds)
        return {name: statistics.median(values) for name, values in rates.items()}
