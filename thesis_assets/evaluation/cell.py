"""Which scenes of an experiment are evaluated, and `EvaluationCell`: one of them with its run, epochs, and the tree it may be taken from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidKey
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.experiments.command_template import fill_text
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree, EvaluationTree, TuningRunTree, epoch_name
from thesis_assets.samples import plan
from thesis_assets.samples.sample_rows import scenes_of_rows
from thesis_assets.scenes.matching import nothing_matches
from thesis_assets.scenes.scene import Scene
from thesis_assets.schemas.evaluation import EvaluationManifest
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.tuning.checkpoints import reached_step

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class EvaluationCell:
    """What every step of the evaluation of one scene is given.

    Attributes:
        difix: the data snapshot, with its samples and tuning runs.
        scene: the evaluated scene.
        tree: where its outputs lie.
        device: a torch device, `cpu` or `cuda`.
        lpips_weights: the folder of the two files of LPIPS; None looks into torch's hub cache.
        body_models: the folder of the SMPL and SMPL-X model files; None where there is none.
    """

    exp_name: str
    run_name: str
    experiment: ExperimentSpec
    difix: DifixTree
    scene: Scene
    tree: EvaluationTree
    device: str
    lpips_weights: Path | None = None
    body_models: Path | None = None

    @cached_property
    def looked_up(self) -> dict[str, Any]:
        """What was found of the scene for this cell and takes long to find: several outputs ask for it."""
        return {}

    @property
    def title(self) -> str:
        """As it is told of."""
        return f"{self.run_name}: {self.scene.name}"

    @property
    def run(self) -> RunSpec:
        return self.experiment.runs[self.run_name]

    @property
    def tuning_run(self) -> TuningRunTree:
        return self.difix.tuning_run(self.run_name)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the experiment enables, also those that this scene cannot have."""
        return self.experiment.evaluation.tasks

    @property
    def applies_skip_frames(self) -> bool:
        return self.experiment.generation.frames.apply_skip_frames

    def epoch_steps(self) -> dict[int, int | None]:
        """Checkpoint step by evaluation epoch. None: the unrefined render, or a tree that says nothing of a checkpoint."""
        steps = self.experiment.evaluation.epoch_steps(self.run)
        if self.experiment.evaluation.predictions.source != "refine":
            return taken_steps(self, list(steps))
        # A training that ended early: what would come after stands for its last checkpoint.
        return {epoch: None if step is None else reached_step(self.tuning_run, step) for epoch, step in steps.items()}

    def source_camera(self) -> int:
        """The camera of the monocular video: it is the reference, and never a row of the novel-view tables.

        Raises:
            InvalidScene: the registry does not name one.
            InvalidExperiment: the experiment names one without images.
        """
        return plan.source_camera(self.scene, self.experiment.generation)


def silent(line: str) -> None:
    """A progress function for callers who do not watch."""
    del line


def source_tree(cell: EvaluationCell) -> EvaluationTree | None:
    """Where the predictions of `command` and `existing` lie; None for `refine`.

    Raises:
        InvalidFile: `predictions.tree` names no folder that a tree may have.
    """
    predictions = cell.experiment.evaluation.predictions
    if predictions.source == "command":
        return EvaluationTree(cell.tree.pipeline.output_dir, cell.exp_name)
    if predictions.tree is None:
        return None
    keys = {"scene_name": cell.scene.name, "exp_name": cell.exp_name, "run_name": cell.run_name}
    folder = Path(fill_text(predictions.tree, keys)).expanduser().absolute()
    try:
        return EvaluationTree(folder.parent, folder.name)
    except InvalidKey as error:
        raise InvalidFile(
            "the tree's folder has a name that no experiment may have",
            file=folder,
            key="evaluation.predictions.tree",
            wanted=error.wanted,
            remedy="rename the folder, or name it by a link",
        ) from error


def links_numbers(cell: EvaluationCell) -> bool:
    """Whether the numbers of the tree are taken over as they are: `existing`, and nothing is asked to be measured again."""
    predictions = cell.experiment.evaluation.predictions
    return predictions.source == "existing" and not predictions.recompute


def taken_steps(cell: EvaluationCell, epochs: Sequence[int]) -> dict[int, int | None]:
    """The checkpoint step that each epoch of a source tree was made with: the selected one, or what the tree's manifest says."""
    if cell.experiment.evaluation.predictions.source == "command":
        return dict.fromkeys(epochs, _selected_step(cell))
    tree = source_tree(cell)
    try:
        notes = storage.read_json(tree.manifest, EvaluationManifest).notes if tree else {}
    except InvalidFile:  # an older tree, or one whose manifest says less than ours
        notes = {}
    steps = notes.get("epoch_steps")
    known = steps if isinstance(steps, dict) else {}
    found = {epoch: known.get(epoch_name(epoch)) for epoch in epochs}
    return {epoch: step if isinstance(step, int) else None for epoch, step in found.items()}


def _selected_step(cell: EvaluationCell) -> int | None:
    if cell.run.backend == "pretrained":
        return None
    try:
        return storage.read_json(cell.tuning_run.selected_checkpoint, SelectedCheckpoint).step
    except InvalidFile:  # not selected yet: the command says so when it is to run
        return None


def evaluation_scenes(spec: ExperimentSpec, catalog: list[str], tree: DifixTree, root: Path) -> list[str]:
    """The scenes that `evaluation.scenes` names (globs over the catalog), else the test split's and the reserved ones.

    Where nothing is held out and no run trains, all scenes of the data: nothing here has seen them.

    Args:
        catalog: the scenes on disk.
        root: where they were looked for.

    Raises:
        InvalidExperiment: a pattern matches no scene, or nothing is left to evaluate.
        InvalidFile: the default needs the test manifest, and it is not there yet or cannot be read.
    """
    if spec.evaluation.scenes:
        names: set[str] = set()
        for pattern in spec.evaluation.scenes:
            matched = [name for name in catalog if fnmatchcase(name, pattern)]
            if not matched:
                raise nothing_matches(catalog, [pattern], key="evaluation.scenes", root=root)
            names.update(matched)
        return sorted(names)
    return _by_default(spec, catalog, tree)


def _by_default(spec: ExperimentSpec, catalog: list[str], tree: DifixTree) -> list[str]:
    tested = scenes_of_rows(tree.split_test)
    reserved = {name for name in spec.split.reserved_scenes if name in catalog}
    if not tested | reserved and spec.runs and all(run.backend == "pretrained" for run in spec.runs.values()):
        return sorted(scenes_of_rows(tree.split_train))
    if not tested | reserved:
        raise InvalidExperiment(
            "nothing is held out, so nothing can be evaluated by default",
            key="evaluation.scenes",
            wanted="names or globs of scenes",
            remedy="name scenes whose people are not in training",
        )
    return sorted(tested | reserved)
