"""What kept probes say of cells of the same kind: their seconds, by the number of triplets, steps and views that they have.

Does not belong here: making a probe (`probing`).
"""

from functools import cached_property
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import SampleId
from thesis_assets.schemas.probes import Probe
from thesis_assets.storage import read_json, sha256_value

if TYPE_CHECKING:
    from thesis_assets.launch.slurm_cluster import Preset

PRESET = "data_gen"
"""Of every job but a training's."""
_OF_SCENES = {"scenes", "scenes_from", "exclude", "on_new_scenes", "auto_fork"}
_OF_RUN = {
    *("backend", "model", "resolution", "train_batch_size", "gradient_accumulation_steps", "dataloader_num_workers"),
    *("mixed_precision", "lambda_lpips", "lambda_l2", "lambda_gram", "mv_unet", "num_processes", "preset", "external"),
    "extra_args",
}
"""Keys that the seconds of a step depend on: runs that differ in others share a probe."""


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
        return sha256_value([run.model_dump(mode="json", include=_OF_RUN), preset, protocol])

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
