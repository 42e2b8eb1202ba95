"""A probe: one scene's first frames exported, trained on for some steps and evaluated, all below a folder of its own, and timed.

It does what the assets do, by their functions, on a cut-down experiment; nothing of the trees is read or written. Each part is done
with one frame twice and then with several: the first tells what a job's start costs, the others what one more frame does.
Does not belong here: when a probe is made, and what follows from it (`operations.probing`).
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.nvs import measure_views
from thesis_assets.evaluation.scene_steps import predict_views
from thesis_assets.evaluation.shared_work import Outcomes, SceneEpochs, joined
from thesis_assets.evaluation.units import absent_tasks
from thesis_assets.evaluation.views import evaluated_views
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.experiments.spec import EpochCheckpoint, RunSpec, SplitSpec, Tracker
from thesis_assets.launch.local_jobs import LocalLauncher, visible_gpus
from thesis_assets.launch.mapping import Course, map_items
from thesis_assets.launch.telling import tell
from thesis_assets.layout import DifixTree, EvaluationTree
from thesis_assets.samples.export import ShardWork, export_shard
from thesis_assets.samples.shards import collect_sample_set, write_sample_set
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import open_scene
from thesis_assets.schemas.probes import Probe, StepCost
from thesis_assets.schemas.tuning import ProgressLine
from thesis_assets.splits.data_json import write_data_json
from thesis_assets.splits.manifests import group_finder, split_rows, write_split_manifests
from thesis_assets.tuning.tuning_run import tune

FRAMES = 8
EVALUATED_FRAMES = 4
STEPS = 20
MOST_SECONDS = 600
EPOCH = 1


@dataclass(frozen=True)
class ProbeWork:
    """What is measured. Picklable.

    Attributes:
        run_name: of the run that is trained and evaluated; empty: none, only the export.
        folder: that the probe may write to, and nowhere else; on the file system that the nodes share. Emptied first: what a job left
            that was queued again would be found made.
        of_data: see `Probe`; so is `of_run`.
    """

    experiment: ExperimentSpec
    scene_name: str
    run_name: str
    roots: SceneRoots
    folder: Path
    device: str
    threads: int
    of_data: str
    of_run: str
    lpips_weights: Path | None = None
    body_models: Path | None = None

    @property
    def run(self) -> RunSpec | None:
        """The run, with so few steps; saved at the last one."""
        if not self.run_name:
            return None
        own = self.experiment.runs[self.run_name]
        cut: dict[str, Any] = {
            "max_train_steps": STEPS,
            # The published script saves at steps 1, 1 + n, ...
            "checkpointing_steps": STEPS - 1 if own.backend == "external" else STEPS,
            "eval_freq": STEPS,
            "tracker": Tracker(kind="none"),
            # A part of the loss that most of the run's steps have.
            "gram_loss_warmup_steps": 0 if own.gram_loss_warmup_steps * 2 < own.max_train_steps else STEPS,
        }
        return own.model_copy(update=cut)


def probe(work: ProbeWork) -> Probe:
    """Measure; takes about two minutes.

    Raises:
        ThesisAssetsError: what the work would fail of, too; or it takes more than ten minutes.
    """
    began = time.time() - psutil.Process().create_time()
    shutil.rmtree(work.folder, ignore_errors=True)
    signal.signal(signal.SIGALRM, _refuse_to_go_on)
    signal.alarm(MOST_SECONDS)
    try:
        return _measured(work, began)
    finally:
        signal.alarm(0)


def _refuse_to_go_on(*_: object) -> None:
    raise ThesisAssetsError(f"the probe took more than {MOST_SECONDS / 60:.0f} minutes", wanted="about two")


def _measured(work: ProbeWork, start: float) -> Probe:
    """`start`: seconds that this process took to come here."""
    began = time.perf_counter()
    import torch  # noqa: F401 - each job imports it once

    with_torch = start + time.perf_counter() - began
    tell(f"probe: the first frames of {work.scene_name} are exported")
    costs = {"scene_samples": _fitted(lambda frames: _export(work, frames), with_torch, FRAMES)["scene_samples"]}
    seconds_a_save = 0.0
    run = work.run
    if run is not None:
        tell(f"probe: {STEPS} steps of {work.run_name} are trained")
        costs["tuned_checkpoint"], seconds_a_save = _train(work, run, start)
        if _is_evaluated(work):
            tell(f"probe: views of {work.scene_name} are evaluated")
            costs |= _fitted(lambda frames: _evaluate(work, frames), with_torch, EVALUATED_FRAMES)
    return Probe(
        of_data=work.of_data,
        of_run=work.of_run,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        scene_name=work.scene_name,
        run_name=work.run_name,
        costs=costs,
        seconds_a_save=round(seconds_a_save, 3),
    )


Times = dict[str, tuple[float, int]]
"""Seconds and number of units, by asset."""


def _fitted(measure: Callable[[int], Times], start: float, most: int) -> dict[str, StepCost]:
    """What is measured of one frame, cold and warm, and of several, as a start and a unit each."""
    cold, one, several = measure(1), measure(1), measure(most)
    costs = {}
    for asset, (seconds, units) in several.items():
        more = units - one[asset][1]
        unit = (seconds - one[asset][0]) / more if more > 0 else seconds / max(units, 1)
        unit = max(unit, 0.0)
        costs[asset] = StepCost(
            start=round(start + max(cold[asset][0] - unit * cold[asset][1], 0.0), 3), unit=round(unit, 6)
        )
    return costs


def _snapshot(work: ProbeWork) -> DifixTree:
    """What the run is trained on: the last export."""
    return DifixTree(work.folder / f"frames_{FRAMES}", work.experiment.exp_name)


def _export(work: ProbeWork, frames: int) -> Times:
    generation = work.experiment.generation
    cut = generation.frames.model_copy(update={"max_samples_per_camera": frames})
    root = work.folder / f"frames_{frames}"
    tree = DifixTree(root if not root.exists() else work.folder / f"frames_{frames}_again", work.experiment.exp_name)
    _, group = group_finder(work.experiment.split.group_rules)(work.scene_name)
    shard = ShardWork(
        tree=tree,
        roots=work.roots,
        scene_name=work.scene_name,
        generation=generation.model_copy(update={"frames": cut}),
        group_id=group,
        device=work.device,
        threads=work.threads,
    )
    began = time.perf_counter()
    stats = export_shard(shard).stats
    return {"scene_samples": (time.perf_counter() - began, stats.n_total_candidates)}


def _train(work: ProbeWork, run: RunSpec, start: float) -> tuple[StepCost, float]:
    """The cost of the run's steps, and seconds of a save."""
    tree, own = _snapshot(work), work.experiment.split
    rules = own.group_rules
    split = SplitSpec(train_only=True, group_rules=rules, override_builtin_rule=own.override_builtin_rule)
    samples = collect_sample_set(tree, [work.scene_name])
    write_sample_set(tree, samples)
    halves = split_rows(samples.rows, split, group_finder(rules))
    write_split_manifests(tree, samples.rows, halves, split, samples.dropped, samples.shards)
    write_data_json(tree, halves.train, halves.test, work.experiment.generation.export.prompt)
    lines: list[ProgressLine] = []
    began = time.perf_counter()
    tune(
        tree,
        work.run_name,
        run,
        split=split,
        device=work.device,
        launcher=LocalLauncher(lambda: visible_gpus(work.device)),
        roots=work.roots,
        lpips_weights=work.lpips_weights,
        on_progress=lines.append,
    )
    seconds = time.perf_counter() - began
    steps = [line.seconds for line in lines if line.event == "step"]
    if len(steps) < 2:  # nothing is trained
        return StepCost(start=round(start + seconds, 3), unit=0.0), 0.0
    # The first ones have the start of readers and kernels in them.
    later = steps[len(steps) // 2 :] if len(steps) > 3 else steps
    unit = (later[-1] - later[0]) / max(len(later) - 1, 1)
    saved = [line.seconds for line in lines if line.event == "checkpoint"]
    save = max(saved[-1] - steps[-1], 0.0) if saved else 0.0
    return StepCost(start=round(start + max(seconds - STEPS * unit - save, 0.0), 3), unit=round(unit, 6)), save


def _is_evaluated(work: ProbeWork) -> bool:
    evaluation = work.experiment.evaluation
    if evaluation.predictions.source != "refine" or "nvs" not in evaluation.tasks:
        return False
    return "nvs" not in absent_tasks(_evaluated(work, 1, work.folder))


def _evaluated(work: ProbeWork, frames: int, root: Path) -> EvaluationCell:
    own, run = work.experiment, work.run
    assert run is not None, "who evaluates has trained"
    evaluation = own.evaluation.model_copy(
        update={
            "scenes": (work.scene_name,),
            "tasks": ("nvs",),
            "epochs": {EPOCH: EpochCheckpoint(step=run.saved_steps()[-1])},
            "frames": own.evaluation.frames.model_copy(update={"max_per_camera": frames}),
        }
    )
    return EvaluationCell(
        exp_name=own.exp_name,
        run_name=work.run_name,
        experiment=own.model_copy(update={"runs": {work.run_name: run}, "evaluation": evaluation}),
        difix=_snapshot(work),
        scene=open_scene(work.roots, work.scene_name, recipe=own.generation.evaluated_renders),
        tree=EvaluationTree(root, own.exp_name),
        device=work.device,
        lpips_weights=work.lpips_weights,
        body_models=work.body_models,
    )


def _evaluate(work: ProbeWork, frames: int) -> Times:
    root = work.folder / f"evaluated_{frames}"
    cell = _evaluated(work, frames, root if not root.exists() else work.folder / f"evaluated_{frames}_again")
    times: Times = {}
    steps: dict[str, Callable[[SceneEpochs], Course[Outcomes[Any]]]] = {
        "predictions": predict_views,
        "nvs": measure_views,
    }
    for asset, step in steps.items():
        began = time.perf_counter()
        joined(map_items(step, [SceneEpochs(cell, (EPOCH,))], workers=1)).raise_failures()
        times[asset] = (time.perf_counter() - began, len(evaluated_views(cell).views))
    return times
