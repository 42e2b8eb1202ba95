"""`Platform`: the settings, the experiment files and the trees, as one resource; and which cells are declared.

Belongs here: turning a cell into the values that the rooms want. Does not belong here: any step of the work.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.execution.context.system import StepExecutionContext

from thesis_assets.errors import (
    InvalidExperiment,
    InvalidFile,
    InvalidKey,
    ThesisAssetsError,
    Undeclared,
    first_names,
    near_names,
)
from thesis_assets.experiments import ExperimentFolder, ExperimentSpec
from thesis_assets.experiments.reading import place_in_file
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.experiments.sweeps import SweepPoint
from thesis_assets.graph.cells import Cell
from thesis_assets.layout import DifixTree, EvaluationTree, SceneRunTree, evaluation_tree
from thesis_assets.provenance import Contents
from thesis_assets.settings import Settings

if TYPE_CHECKING:
    from thesis_assets.evaluation.cell import EvaluationCell
    from thesis_assets.launch.jobs import Launcher
    from thesis_assets.scenes.listing import SceneRoots
    from thesis_assets.scenes.scene import Scene
    from thesis_assets.schemas.samples import Exclusion
    from thesis_assets.tuning.trainer_start import Reported
    from thesis_assets.tuning.training_plan import TrainingPlan


def _silent(line: str) -> None:
    del line


@dataclass(frozen=True)
class Platform:
    """What assets, checks and the command line share. `echo` receives every progress line; those of a step at work are indented."""

    settings: Settings
    echo: Callable[[str], None] = field(default=_silent)
    _said: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @cached_property
    def experiments(self) -> ExperimentFolder:
        return ExperimentFolder(self.settings.experiments_dir, self._is_begun)

    def _is_begun(self, exp_name: str, run_name: str) -> bool:
        return DifixTree(self.settings.difix_data_root, exp_name).tuning_run(run_name).train_config.is_file()

    @cached_property
    def roots(self) -> "SceneRoots":
        from thesis_assets.scenes.listing import SceneRoots

        settings = self.settings
        return SceneRoots(
            canonical_gt=settings.canonical_gt_root,
            preprocessing=settings.preprocessing_root,
            registry=settings.scene_registry_dir,
            renders=settings.renders_root,
        )

    @cached_property
    def contents(self) -> Contents:
        """Digests of files that were read: what several assets are made from is read once."""
        return Contents()

    @cached_property
    def device(self) -> str:
        """Where jobs compute, `cuda` or `cpu`. The setting `auto` takes a GPU where there is one; a cluster's jobs have one."""
        if self.settings.device == "auto" and self.settings.launcher == "slurm":
            return "cuda"
        return self.local_device

    @cached_property
    def local_device(self) -> str:
        """Where this process computes: on a cluster's login node not where the jobs do."""
        if self.settings.device != "auto":
            return self.settings.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def launcher(self) -> "Launcher":
        """Where work runs."""
        from thesis_assets.launch.local_jobs import LocalLauncher, visible_gpus

        if self.settings.launcher == "local":
            return LocalLauncher(lambda: visible_gpus(self.device), self.child_variables)
        from thesis_assets.launch.slurm_cluster import Site, presets_with
        from thesis_assets.launch.slurm_jobs import SlurmLauncher

        settings = self.settings
        return SlurmLauncher(
            Site(
                account=settings.slurm_account,
                partition=settings.slurm_partition,
                qos=settings.slurm_qos,
                setup=settings.slurm_setup,
                presets=presets_with(settings.slurm_presets),
                at_once=settings.slurm_array_at_once,
                signal_seconds=settings.slurm_signal_seconds,
                poll_seconds=settings.slurm_poll_seconds,
            ),
            self.child_variables,
        )

    @cached_property
    def child_variables(self) -> dict[str, str]:
        """What every process that does work is given by the settings."""
        from thesis_assets.launch.child_environment import child_variables

        settings = self.settings
        return child_variables(
            hf_home=settings.hf_cache_dir,
            wandb_dir=settings.wandb_root,
            hydra_root=settings.hydra_root,
            conda_env=settings.conda_env,
        )

    @property
    def workers(self) -> int:
        return self.settings.workers or os.cpu_count() or 1

    def reporter(self, context: dg.AssetExecutionContext | StepExecutionContext) -> Callable[[str], None]:
        """A progress function: the line goes to the run's log and to whoever watches this process."""

        def report(line: str) -> None:
            context.log.info(line)
            self.echo(f"  {line}")

        return report

    # --- what is declared --------------------------------------------------------------------------------------------

    def spec(self, cell: Cell) -> ExperimentSpec:
        """The experiment of a cell.

        Raises:
            InvalidExperiment: there is none of that name, or it is not valid.
        """
        return self.experiments.read(cell.exp_name)

    def scene_names(self, spec: ExperimentSpec) -> list[str]:
        """The scenes that the experiment's names and globs match in the catalog, sorted.

        A glob of a frozen experiment matches no scene that came later: its runs resume on what it has, and a fork takes the
        new ones. What it was frozen with stays its own where the scene itself is gone. A scene that is named stays named, and
        is refused when it is exported.

        Raises:
            InvalidExperiment: nothing matches, a named scene is not on disk, or `scenes_from` is no directory of scene files.
        """
        from thesis_assets.scenes.catalog import list_scenes
        from thesis_assets.scenes.matching import nothing_matches

        generation = spec.generation
        try:
            matched, frozen = self._matched(spec)
            if frozen is not None:
                matched = [name for name in matched if name in frozen or name in generation.scenes]
            if not matched and not spec.evaluation_only:
                raise nothing_matches(
                    list_scenes(self.roots),
                    generation.scenes or [f"the scene files of {generation.scenes_from}"],
                    key="generation.scenes_from" if generation.scenes_from else "generation.scenes",
                    root=self.roots.canonical_gt,
                    exclude=generation.exclude,
                )
        except InvalidExperiment as error:
            raise self._placed(spec, error) from error
        return matched

    def _matched(self, spec: ExperimentSpec) -> tuple[list[str], frozenset[str] | None]:
        """What the experiment's patterns match of the scenes that there are or that it was frozen with, and the latter."""
        from thesis_assets.samples.snapshot import frozen_scenes
        from thesis_assets.scenes.catalog import list_scenes
        from thesis_assets.scenes.matching import match_scenes

        frozen = frozen_scenes(DifixTree(self.settings.difix_data_root, spec.exp_name))
        known = [*list_scenes(self.roots), *(frozen or ()), *self._exported(spec.exp_name)]
        return match_scenes(known, spec.generation, self.settings.experiments_dir), frozen

    def _exported(self, exp_name: str) -> list[str]:
        """Scenes with a shard: an experiment keeps them where the scenes themselves are gone from the roots."""
        folder = DifixTree(self.settings.difix_data_root, exp_name).scene_runs_dir
        return (
            [path.name for path in folder.iterdir() if SceneRunTree(path).made_from.is_file()]
            if folder.is_dir()
            else []
        )

    def _placed(self, spec: ExperimentSpec, error: InvalidExperiment) -> InvalidExperiment:
        """The error with the line of its key in the experiment's file."""
        return InvalidExperiment(
            error.problem,
            file=place_in_file(self.experiments.path(spec.exp_name), error.key or "generation"),
            key=error.key,
            found=error.found if error.found is not None else error.file,
            wanted=error.wanted,
            remedy=error.remedy,
        )

    def late_scenes(self, spec: ExperimentSpec) -> list[str]:
        """The scenes that an experiment's globs match and that came after it was frozen; none while it is open."""
        if spec.generation.on_new_scenes == "ignore" or not self.is_frozen(spec.exp_name):
            return []
        return sorted(set(self._matched(spec)[0]) - set(self.scene_names(spec)))

    def idle_globs(self, spec: ExperimentSpec) -> list[str]:
        """A line for each glob of an experiment that matches no scene, beside others that do: a slip, or scenes to come."""
        from thesis_assets.samples.snapshot import frozen_scenes
        from thesis_assets.scenes.catalog import list_scenes
        from thesis_assets.scenes.matching import idle_globs

        there = list_scenes(self.roots)
        frozen = frozen_scenes(self.difix(Cell(spec.exp_name))) or ()
        return [
            f"{key}: {pattern} matches no scene of {self.roots.canonical_gt} ({near_names(there, [pattern])})"
            for key, patterns, known in (
                ("generation.scenes", spec.generation.scenes, [*there, *frozen]),
                ("evaluation.scenes", spec.evaluation.scenes, there),
            )
            for pattern in idle_globs(known, patterns)
        ]

    def refuse_no_match(self, spec: ExperimentSpec, *, evaluated: bool = True) -> None:
        """Refuse an experiment before its first step where it has no scene to work on, or none to evaluate.

        Raises:
            InvalidExperiment: as `scene_names` and `evaluation_scenes`.
        """
        if not spec.evaluation_only:
            self.scene_names(spec)
        if evaluated and spec.runs and spec.evaluation.scenes:
            self.evaluation_scenes(spec)

    def run_spec(self, cell: Cell) -> RunSpec:
        """The run of a cell.

        Raises:
            InvalidExperiment: the experiment declares no such run; the message lists those it has.
        """
        runs = self.spec(cell).runs
        if cell.run_name not in runs:
            points = self.spec(cell).runs_named(cell.run_name)
            raise Undeclared(
                "this is a sweep, and one run is needed" if points else "the experiment does not declare this run",
                file=self.experiments.path(cell.exp_name),
                key="runs",
                found=cell.run_name,
                wanted=f"one of its runs: {first_names(points)}" if points else ", ".join(runs) or "no run is declared",
                remedy="name one of them"
                if points
                else f"correct the name ({near_names(list(runs), [cell.run_name])}), or declare it in the experiment's file",
            )
        return runs[cell.run_name]

    def why_undeclared(self, cell: Cell) -> InvalidExperiment | InvalidKey | None:
        """Why a product's cell stands for nothing that an experiment file declares, with what it does; None where it does."""
        if cell == Cell():
            return None
        try:
            spec = self.spec(cell)
            if cell.run_name:
                self.run_spec(cell)
            declared = self.scene_names(spec) if cell.scene_name else []
        except (InvalidExperiment, InvalidKey) as error:
            return error
        if not cell.scene_name or cell.scene_name in declared:
            return None
        return Undeclared(
            "the experiment does not name this scene",
            file=self.experiments.path(cell.exp_name),
            key="generation.scenes",
            found=cell.scene_name,
            wanted=", ".join(declared),
        )

    def refuse_undeclared(self, cells: list[Cell]) -> None:
        """Fail at once, without retry, where a cell is not declared.

        Raises:
            dagster.Failure: with the declared cells of the same experiment.
        """
        for cell in cells:
            error = self.why_undeclared(cell)
            if error is not None:
                raise dg.Failure(description=str(error), metadata={"cell": str(cell)}, allow_retries=False) from error

    # --- values of a cell --------------------------------------------------------------------------------------------

    def difix(self, cell: Cell) -> DifixTree:
        return DifixTree(self.settings.difix_data_root, cell.exp_name)

    def tree(self, cell: Cell, scene_name: str) -> EvaluationTree:
        return evaluation_tree(
            self.settings.output_dir,
            results_root=self.settings.results_root,
            exp_name=cell.exp_name,
            run_name=cell.run_name,
            scene_name=scene_name,
        )

    def scene(self, scene_name: str, *, and_gone: bool = False, recipe: str = "") -> "Scene":
        """A scene of the roots.

        Args:
            and_gone: also one whose folders are not there (any more): nothing can be read of it.
            recipe: see `open_scene`.
        """
        from thesis_assets.scenes.scene import open_scene

        return open_scene(self.roots, scene_name, and_gone=and_gone, recipe=recipe)

    def evaluation_scenes(self, spec: ExperimentSpec) -> list[str]:
        """The evaluated scenes: those the file names, else the test split's and the reserved ones with ground truth."""
        from thesis_assets.evaluation.cell import evaluation_scenes
        from thesis_assets.scenes.catalog import list_scenes

        catalog = [*list_scenes(self.roots), *self._evaluated(spec)]
        try:
            return evaluation_scenes(spec, catalog, self.difix(Cell(spec.exp_name)), self.roots.canonical_gt)
        except InvalidExperiment as error:
            raise self._placed(spec, error) from error

    def _evaluated(self, spec: ExperimentSpec) -> list[str]:
        """Scenes that a run of the experiment was evaluated on, whether or not they are there still."""
        found: set[str] = set()
        for cell in (Cell(spec.exp_name, run_name=run_name) for run_name in spec.runs):
            any_scene = "any_scene"
            parts = self.tree(cell, any_scene).manifest.parts
            place = next((number for number, part in enumerate(parts) if any_scene in part), None)
            folder = Path(*parts[:place])
            if place is None or not folder.is_dir():
                continue
            before, _, after = parts[place].partition(any_scene)
            names = {path.name.removeprefix(before).removesuffix(after) for path in folder.iterdir()}
            found |= {name for name in names if self._has_manifest(cell, name)}
        return sorted(found)

    def _has_manifest(self, cell: Cell, scene_name: str) -> bool:
        try:
            return self.tree(cell, scene_name).manifest.is_file()
        except InvalidKey:  # a folder of something else
            return False

    def evaluation_groups(self, spec: ExperimentSpec) -> set[str]:
        """`<dataset>/<group_id>` of every evaluated scene."""
        from thesis_assets.layout import dataset_of
        from thesis_assets.scenes.matching import group_id

        rules = spec.split.group_rules
        return {f"{dataset_of(name)}/{group_id(name, rules)}" for name in self.evaluation_scenes(spec)}

    def reported(self, cell: Cell) -> "Reported":
        """What of an experiment is evaluated, for the training of a run."""
        from thesis_assets.tuning.trainer_start import Reported

        spec = self.spec(cell)
        steps = spec.evaluation.epoch_steps(self.run_spec(cell)).values()
        return Reported(
            groups=frozenset(self.evaluation_groups(spec)),
            downscale_factor=spec.evaluation.nvs.downscale_factor,
            steps=tuple(sorted({step for step in steps if step is not None})),
        )

    def plan_of_training(self, cell: Cell) -> "TrainingPlan | None":
        """What a training would be; None where its data is not there yet.

        Raises:
            ThesisAssetsError: what its start would be refused for, but that it is too large for the disk.
        """
        from thesis_assets.tuning.training_plan import plan_of_run

        tree = self.difix(cell)
        if not tree.split_train.is_file():
            return None
        weights, reported = self.settings.lpips_weights, self.reported(cell)
        run = self.run_spec(cell)
        return plan_of_run(tree, cell.run_name, run, self.device, lpips_weights=weights, reported=reported)

    def trained_on(self, cell: Cell) -> set[str] | None:
        """`<dataset>/<group_id>` of the people that a run was trained on; None where it was not trained here.

        Raises:
            InvalidFile: the summary of the split is missing, or cannot be read.
        """
        from thesis_assets.schemas.samples import SplitSummary
        from thesis_assets.storage import read_json

        if self.spec(cell).evaluation_only or self.run_spec(cell).backend == "pretrained":
            return None
        return set(read_json(self.difix(cell).split_summary, SplitSummary).train_group_ids)

    def leak(self, exp_name: str) -> str:
        """`<check>: <what>` stands on both sides of an experiment's data; empty: nothing does.

        Raises:
            InvalidFile: a manifest or a shard's record is missing, or cannot be read.
            InvalidExperiment: a group rule cannot read a scene's name.
        """
        from thesis_assets.splits.snapshot_guard import leak_of

        cell = Cell(exp_name)
        return leak_of(self.difix(cell), self.spec(cell).split, self.roots)

    def evaluation_cells(self, cell: Cell, *, and_gone: bool = False) -> list["EvaluationCell"]:
        """One value a scene for the evaluation room.

        Args:
            and_gone: also scenes whose folders are not there any more.
        """
        from thesis_assets.evaluation.cell import EvaluationCell

        spec = self.spec(cell)
        return [
            EvaluationCell(
                exp_name=cell.exp_name,
                run_name=cell.run_name,
                experiment=spec,
                difix=self.difix(cell),
                scene=self.scene(name, and_gone=and_gone, recipe=spec.generation.evaluated_renders),
                tree=self.tree(cell, name),
                device=self.device,
                lpips_weights=self.settings.lpips_weights,
                body_models=self.settings.body_models,
            )
            for name in self.evaluation_scenes(spec)
        ]

    def evaluation_trees(self, cell: Cell) -> dict[str, EvaluationTree]:
        """Scene name to tree, without opening the scenes."""
        return {name: self.tree(cell, name) for name in self.evaluation_scenes(self.spec(cell))}

    def evaluated_scenes(self, cell: Cell, *, and_lost: bool = False) -> dict[str, EvaluationTree]:
        """Scene name to tree of a run's scenes that have a manifest.

        An experiment whose scenes are gone from the roots, or whose test manifest cannot be read, has none, which is said: it
        must not take the others' numbers away.

        Args:
            and_lost: also those whose manifest is gone, and its record is not.
        """
        if not (self.difix(cell).split_test.is_file() or self.spec(cell).evaluation.scenes):
            return {}
        try:
            trees = self.evaluation_trees(cell)
        except (InvalidExperiment, InvalidFile) as error:
            line = f"{cell.exp_name} is left out: {error.problem}: {error.key}: {error.found}"
            line += f" ({error.file})" if isinstance(error, InvalidFile) else ""
            if line not in self._said:  # several reports ask, for each run
                self._said.add(line)
                self.echo(line)
            return {}
        return {
            name: tree
            for name, tree in trees.items()
            if tree.manifest.is_file() or (and_lost and tree.manifest_made_from.is_file())
        }

    def evaluated_trees(self) -> list[tuple[str, EvaluationTree]]:
        """(run name, tree) of every declared run's evaluated scenes, also of those that lost their manifest."""
        return [
            (cell.run_name, tree)
            for cell in self.run_cells()
            for tree in self.evaluated_scenes(cell, and_lost=True).values()
        ]

    def baselines(self) -> dict[tuple[str, str], tuple[str, str]]:
        """By (experiment, run) the run of the same experiment that it is compared with: the one that trains nothing."""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for spec in self.readable_experiments():
            baseline = next((name for name, run in spec.runs.items() if run.backend == "pretrained"), None)
            if baseline is not None and not spec.evaluation_only:
                keys = [(spec.exp_name, name) for name in spec.runs if name != baseline]
                found |= dict.fromkeys(keys, (spec.exp_name, baseline))
        return found

    def controls(self) -> dict[tuple[str, str], tuple[str, str]]:
        """By (experiment, run) its control: the run of the experiment that does the same without the tuned checkpoint."""
        return {
            (spec.exp_name, name): (spec.exp_name, control)
            for spec in self.readable_experiments()
            if spec.evaluation.control is not None
            for name, run in spec.runs.items()
            if (control := spec.beside(spec.evaluation.control, run.seed)) not in (None, name)
        }

    def sweep_points(self) -> dict[tuple[str, str], SweepPoint]:
        """By (experiment, run) the point of a sweep that the run is."""
        return {
            (spec.exp_name, run): point
            for spec in self.readable_experiments()
            for run, point in spec.sweeps.points.items()
        }

    def runs_named(self, exp_name: str, names: Sequence[str]) -> list[str]:
        """Runs by their names; those of a sweep or of a group of seeds by its name. A name that is neither stays, to be refused."""
        spec = self.experiments.read(exp_name)
        return list(dict.fromkeys(run for name in names for run in spec.runs_named(name) or [name]))

    def run_cells(self) -> list[Cell]:
        """Every declared (experiment, run)."""
        return [
            Cell(spec.exp_name, run_name=run_name) for spec in self.readable_experiments() for run_name in spec.runs
        ]

    def readable_experiments(self) -> Iterator[ExperimentSpec]:
        """Every valid experiment. One bad file must not stop the others: registering says what is wrong with it."""
        for name in self.experiments.names():
            with contextlib.suppress(InvalidExperiment):
                yield self.experiments.read(name)

    def refused_with_data(self) -> list[str]:
        """Experiments whose file is refused, and whose data is there: it stays, and nothing of it is made."""
        readable = {spec.exp_name for spec in self.readable_experiments()}
        return [
            name for name in self.experiments.names() if name not in readable and self.difix(Cell(name)).base.is_dir()
        ]

    def exclusions(self, cell: Cell) -> "list[Exclusion]":
        """The samples that the halves of an experiment are made without: of a frozen one those that it was frozen with.

        Raises:
            InvalidFile: the file of them is no such table.
        """
        from thesis_assets.splits.exclusions import read_exclusions

        frozen = self.is_frozen(cell.exp_name)
        return read_exclusions(self.difix(cell).exclusions if frozen else self.experiments.exclusions(cell.exp_name))

    def is_frozen(self, exp_name: str) -> bool:
        """Whether an experiment's data snapshot may not change any more."""
        from thesis_assets.samples.snapshot import is_frozen

        return is_frozen(self.difix(Cell(exp_name)))


class OneLook(Platform):
    """A platform for one look at everything: which scenes an experiment has, and what their evaluation is given, is found once.

    What the platform knows of files and experiments' texts is shared with it.
    """

    @classmethod
    def of(cls, platform: Platform) -> "OneLook":
        """For a look that begins now."""
        look = cls(platform.settings, platform.echo)
        look.__dict__.update(contents=platform.contents, experiments=platform.experiments, _said=platform._said)
        return look

    @cached_property
    def _cells(self) -> "dict[tuple[Cell, bool], list[EvaluationCell]]":
        return {}

    @cached_property
    def _found(self) -> dict[tuple[str, str], list[str] | ThesisAssetsError]:
        return {}

    @cached_property
    def _leaks(self) -> dict[str, str]:
        return {}

    def leak(self, exp_name: str) -> str:
        if exp_name not in self._leaks:
            self._leaks[exp_name] = super().leak(exp_name)
        return self._leaks[exp_name]

    def scene_names(self, spec: ExperimentSpec) -> list[str]:
        return self._once("data", spec, super().scene_names)

    def evaluation_scenes(self, spec: ExperimentSpec) -> list[str]:
        return self._once("evaluation", spec, super().evaluation_scenes)

    def evaluation_cells(self, cell: Cell, *, and_gone: bool = False) -> list["EvaluationCell"]:
        key = (cell, and_gone)
        if key not in self._cells:
            self._cells[key] = super().evaluation_cells(cell, and_gone=and_gone)
        return self._cells[key]

    def _once(self, what: str, spec: ExperimentSpec, find: Callable[[ExperimentSpec], list[str]]) -> list[str]:
        key = (what, spec.exp_name)
        if key not in self._found:
            try:
                self._found[key] = find(spec)
            except ThesisAssetsError as error:
                self._found[key] = error
        found = self._found[key]
        if isinstance(found, ThesisAssetsError):
            raise found
        return found


PlatformParam = dg.ResourceParam[Platform]
"""How a step asks for the platform: a parameter `platform` of this type."""
