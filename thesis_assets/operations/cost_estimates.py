"""What work will cost: its seconds, and those on GPUs, by what such work took before, or by what a probe measured.

Does not belong here: making a probe (`probing`).
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import GPU_ASSETS, NODES, SECONDS, STEP
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import Pair
from thesis_assets.layout import SampleId
from thesis_assets.schemas.probes import Probe
from thesis_assets.storage import read_json, sha256_value

if TYPE_CHECKING:
    from thesis_assets.launch.slurm_cluster import Preset


LOOKED_AT = 50
PRESET = "data_gen"
"""Of every job but a training's."""
_OF_SCENES = {"scenes", "scenes_from", "exclude", "on_new_scenes", "auto_fork"}
_OF_RUN = {
    *("backend", "model", "resolution", "train_batch_size", "gradient_accumulation_steps", "dataloader_num_workers"),
    *("mixed_precision", "lambda_lpips", "lambda_l2", "lambda_gram", "mv_unet", "num_processes", "preset", "external"),
    "extra_args",
}
"""Keys that the seconds of a step depend on: runs that differ in others share a probe."""
_OF_RUN_WHERE_SET = {
    *("crop", "lora_rank_unet", "ema_decay", "gradient_checkpointing", "allow_tf32", "channels_last", "save_optimizer"),
}


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


def estimate_lines(past: "PastWork", pairs: Sequence[Pair], *, queued: bool = True) -> list[str]:
    """What cells take by asset, and in all: hours, hours on GPUs, what that is known by, and what is not known.

    Args:
        queued: they wait for a cluster first.
    """
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
            f"estimate: in all about {_hours(whole)}, {known_by(whole)}{without}"
            + ("; time in the queue comes on top" if queued else "")
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


class ProbeCosts:
    """The probes that are kept for the experiments of one platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._views: dict[Cell, list[int]] = {}

    @cached_property
    def presets(self) -> "dict[str, Preset]":
        from thesis_assets.launch.slurm_cluster import presets_with

        return presets_with(self._platform.settings.slurm_presets)

    def of_data(self, spec: ExperimentSpec) -> str:
        """Digest of what the seconds of an export depend on."""
        settings, preset = self._platform.settings, self.presets[PRESET]
        generation = spec.generation.model_dump(mode="json", exclude=_OF_SCENES)
        return sha256_value(
            [generation, settings.device, preset.model_dump(exclude={"minutes"}), _place(self._platform)]
        )

    def of_run(self, cell: Cell) -> str:
        """Digest of what the seconds of a run's steps and views depend on; without a run of no run."""
        if not cell.run_name:
            return sha256_value("no run")
        run, evaluation = self._platform.run_spec(cell), self._platform.spec(cell).evaluation
        name = run.preset or f"tune_{run.num_processes}gpu"
        preset = self.presets[name].model_dump(exclude={"minutes"}) if name in self.presets else name
        protocol = [evaluation.nvs.model_dump(mode="json"), evaluation.predictions.source]
        settings = run.model_dump(mode="json", include=_OF_RUN)
        settings |= run.model_dump(mode="json", include=_OF_RUN_WHERE_SET, exclude_defaults=True)
        return sha256_value([settings, preset, protocol])

    def kept(self, cell: Cell) -> Probe | None:
        """The measurement that tells of a cell: of its data and its run, or of its data alone where the cell has no run."""
        if self._platform.settings.launcher != "slurm":
            return None
        of_data, tree = self.of_data(self._platform.spec(cell)), self._platform.settings.probes
        paths = [tree.kept(of_data, self.of_run(cell))] if cell.run_name else tree.of_data(of_data)
        for path in paths:
            try:
                if path.is_file():
                    return read_json(path, Probe)
            except InvalidFile:
                continue  # of another version: asked again
        return None

    def seconds(self, asset: str, cell: Cell) -> tuple[float, float] | None:
        """Seconds of a cell, and of its GPUs; None where no probe tells, or what the cell consists of cannot be told yet."""
        if asset not in ("scene_samples", "tuned_checkpoint", "predictions", "nvs"):
            return None
        try:
            probe = self.kept(cell)
            if probe is None or asset not in probe.costs:
                return None
            return self._of(asset, cell, probe)
        except ThesisAssetsError:  # its scene or its experiment cannot be read: what makes it says so
            return None

    def _of(self, asset: str, cell: Cell, probe: Probe) -> tuple[float, float]:
        from thesis_assets.tuning.trainer_start import N_EVALUATED

        cost, at_once = probe.costs[asset], self._platform.settings.slurm_array_at_once
        if asset == "scene_samples":
            seconds = cost.start + cost.unit * self._n_triplets(cell)
            return seconds / at_once, seconds
        run = self._platform.run_spec(cell)
        if asset == "tuned_checkpoint":
            if not cost.unit:
                return cost.start, cost.start
            evaluations = -(-run.max_train_steps // run.eval_freq)
            scored = (
                evaluations * N_EVALUATED * (probe.costs["predictions"].unit if "predictions" in probe.costs else 0)
            )
            seconds = (
                cost.start + cost.unit * run.max_train_steps + probe.seconds_a_save * len(run.saved_steps()) + scored
            )
            return seconds, seconds * run.num_processes
        views = self._n_views(cell)
        units = [self._workers(asset, n) for n in views]
        seconds = sum(cost.start + cost.unit * n / workers for n, workers in zip(views, units, strict=True))
        return seconds / max(1, min(at_once, len(views))), seconds

    def _workers(self, asset: str, n_views: int) -> int:
        from thesis_assets.evaluation.shared_work import VIEWS_A_WORKER

        return 1 if asset == "predictions" else max(1, min(4, self.presets[PRESET].cores, n_views // VIEWS_A_WORKER))

    def _n_triplets(self, cell: Cell) -> int:
        from thesis_assets.samples.plan import plan_scene

        return len(
            plan_scene(self._platform.scene(cell.scene_name), self._platform.spec(cell).generation, "any").candidates
        )

    def _n_views(self, cell: Cell) -> list[int]:
        """Views that are compared, over all epochs, of each evaluated scene."""
        if cell not in self._views:
            from thesis_assets.evaluation.cell import EvaluationCell
            from thesis_assets.evaluation.views import evaluated_views

            platform, spec = self._platform, self._platform.spec(cell)
            self._views[cell] = [
                len(evaluated_views(evaluated).views) * len(evaluated.epoch_steps())
                for name in self._evaluated_scenes(spec)
                for evaluated in [
                    EvaluationCell(
                        exp_name=cell.exp_name,
                        run_name=cell.run_name,
                        experiment=spec,
                        difix=platform.difix(cell),
                        scene=platform.scene(name),
                        tree=platform.tree(cell, name),
                        device="cpu",
                    )
                ]
            ]
        return self._views[cell]

    def _evaluated_scenes(self, spec: ExperimentSpec) -> list[str]:
        """The evaluated scenes; before there is data, those that its hold-out would leave."""
        from thesis_assets.samples.sample_rows import row_of
        from thesis_assets.splits.manifests import group_finder, split_rows

        if spec.evaluation.scenes or self._platform.difix(Cell(spec.exp_name)).split_test.is_file():
            return self._platform.evaluation_scenes(spec)
        group_of = group_finder(spec.split.group_rules)
        rows = [
            row_of(SampleId(name, 0, 1, "000000", "000000"), group_of(name)[1])
            for name in self._platform.scene_names(spec)
        ]
        reserved = set(spec.split.reserved_scenes)
        return sorted({row.scene_name for row in split_rows(rows, spec.split, group_of).test} | reserved)


def _place(platform: Platform) -> list[str | None]:
    settings = platform.settings
    return [settings.slurm_account, settings.slurm_partition, settings.slurm_qos]
