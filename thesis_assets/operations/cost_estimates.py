"""How long work took before, or how long a probe says it will, so that a plan can say what it costs."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import GPU_ASSETS, NODES, SECONDS, STEP
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import Pair
from thesis_assets.operations.probe_costs import ProbeCosts

LOOKED_AT = 50


@dataclass(frozen=True)
class Cost:
    """What a cell takes.

    Attributes:
        gpu_seconds: on all of its GPUs.
        by_probe: it is told by a probe, as nothing of its kind was made yet.
        of_its_kind: what tells it was made by settings that take as long.
    """

    seconds: float
    gpu_seconds: float
    by_probe: bool = False
    of_its_kind: bool = True


def estimate_lines(past: "PastWork", pairs: Sequence[Pair]) -> list[str]:
    """What cells take by asset, and in all: hours, hours on GPUs, what that is known by, and what is not known."""
    by_asset: dict[str, list[Cost | None]] = {}
    for asset, cell in pairs:
        by_asset.setdefault(asset, []).append(past.cost(asset, cell))
    known = {asset: [cost for cost in costs if cost is not None] for asset, costs in by_asset.items()}
    lines = [
        f"estimate: {asset}: {len(by_asset[asset])} cells, about {_hours(costs)}"
        for asset, costs in known.items()
        if costs and asset in GPU_ASSETS
    ]
    unknown = [asset for asset, costs in by_asset.items() if None in costs]
    whole = [cost for costs in known.values() for cost in costs]
    if whole:
        without = f"; without {', '.join(unknown)}, never made" if unknown else ""
        lines.append(
            f"estimate: in all about {_hours(whole)}, {known_by(whole)}{without}; time in the queue comes on top"
        )
    return lines


def _hours(costs: Sequence["Cost"]) -> str:
    hours, on_gpus = (sum(getattr(cost, name) for cost in costs) / 3600 for name in ("seconds", "gpu_seconds"))
    return f"{hours:.2f} hours, {on_gpus:.2f} GPU hours"


def known_by(costs: Sequence["Cost"]) -> str:
    """What estimates were made from."""
    ways = {cost.by_probe: "by a probe job" if cost.by_probe else "by past runs" for cost in costs}
    return " and ".join(ways[way] for way in sorted(ways))


class PastWork:
    """Seconds a unit of each asset: a training step of `tuned_checkpoint`, a cell of every other; by a probe where there are none."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance) -> None:
        self._platform, self._instance = platform, instance
        self._rates: dict[str, dict[str, float]] = {}
        self._probes = ProbeCosts(platform)

    def cost(self, asset: str, cell: Cell) -> Cost | None:
        """What a cell would take by the median of past ones of its kind; else by a probe; else of its experiment, or of all."""
        rates = self._rates_of(asset)
        rate = rates.get(self._kind(asset, cell))
        of_its_kind = rate is not None
        if rate is None:
            found = self._probes.seconds(asset, cell)
            if found is not None:
                return Cost(*found, by_probe=True)
            rate = rates.get(cell.exp_name, rates.get(""))
        if rate is None:
            return None
        seconds = rate * self._units(asset, cell)
        gpus = self._platform.run_spec(cell).num_processes if asset == "tuned_checkpoint" else 1
        return Cost(seconds, seconds * gpus if asset in GPU_ASSETS else 0.0, of_its_kind=of_its_kind)

    def seconds(self, asset: str, cell: Cell) -> float | None:
        """See `cost`."""
        cost = self.cost(asset, cell)
        return None if cost is None else cost.seconds

    def _kind(self, asset: str, cell: Cell) -> str:
        """What its seconds depend on beside the number of its units: exports by the same settings, runs of as long steps."""
        if not cell.exp_name:
            return ""
        of_run = self._probes.of_run(cell) if cell.run_name else ""
        return (
            f"{asset} {self._probes.of_data(self._platform.spec(cell)) if cell.scene_name else of_run or cell.exp_name}"
        )

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
                units, kind = self._units(asset, cell), self._kind(asset, cell)
            except (ThesisAssetsError, AttributeError):
                continue  # of an experiment or a run that is no longer declared
            # Cells of one single-run step share its seconds.
            seconds = float(str(event.metadata[SECONDS].value)) / cells_of_step[record.run_id] / max(units, 1.0)
            for name in {kind, cell.exp_name, ""}:
                rates.setdefault(name, []).append(seconds)
        return {name: statistics.median(values) for name, values in rates.items()}
