"""Two runs frame by frame: every frame that both measured under one protocol, with its numbers and where its pictures lie.

Does not belong here: choosing and encoding pictures (`compare_pictures`), or how the page looks (`compare_page`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.leaderboard import (
    UNREFINED,
    UNREFINED_EPOCH,
    MeasuredRun,
    RunKey,
    measured_run,
    run_differences,
    why_not_paired,
)
from thesis_assets.evaluation.metric_tables import MeasuredTask, Row
from thesis_assets.layout import EvaluationTree, frame_name
from thesis_assets.schemas.evaluation import DifferenceRow

Trees = Mapping[str, EvaluationTree]
"""Scene name to tree."""


@dataclass(frozen=True)
class ComparedFrame:
    """One view: both measurements, the difference of the metric it is sorted by, and its three images on disk."""

    scene_name: str
    cam_id: int
    fname: str
    baseline: Row
    tuned: Row
    difference: float | None
    images: tuple[Path, Path, Path]
    """Baseline, tuned, truth: the 8-bit images that entered the metric."""


@dataclass(frozen=True)
class ComparedRuns:
    """A run and what it is compared with, at one epoch.

    Attributes:
        metric: `psnr`, or `psnr_channel_sum` where only that was measured.
        baseline_name: as a person reads it: `baseline`, `v0/baseline`, `unrefined`.
        frames: worst first.
        differences: over scenes, by (task, metric).
        left_out: scene to the reason why it is not compared.
    """

    exp_name: str
    run_name: str
    baseline_name: str
    epoch: int
    step: int | None
    metric: str
    frames: list[ComparedFrame]
    differences: list[DifferenceRow]
    scenes: list[str]
    protocol: dict[str, object]
    values: dict[tuple[str, str, str], tuple[float | None, float | None]]
    """By (scene, task, metric): baseline and tuned."""
    left_out: dict[str, str] = field(default_factory=dict)


def compare_runs(
    tuned: tuple[RunKey, Trees], baseline: tuple[RunKey, Trees] | None, epoch: int | None = None
) -> ComparedRuns:
    """Pair two runs, or a run with its own unrefined renders.

    Args:
        baseline: None compares with epoch 0 of the run itself.
        epoch: None takes the last one that both have.

    Raises:
        InvalidFile: nothing of the two may be compared; the message has the reason of each scene.
    """
    run = measured_run(tuned[0], list(tuned[1].values()))
    other = run if baseline is None else measured_run(baseline[0], list(baseline[1].values()))
    name = _name(tuned[0], None if baseline is None else baseline[0])
    chosen = _epoch(run, other, epoch, itself=baseline is None)
    there = UNREFINED_EPOCH if baseline is None else chosen
    here_tasks, there_tasks = run.tasks.get(("nvs", chosen), {}), other.tasks.get(("nvs", there), {})
    left_out = {
        scene: reason
        for scene in sorted(here_tasks.keys() | there_tasks.keys())
        if (reason := _why_not(here_tasks.get(scene), there_tasks.get(scene))) is not None
    }
    scenes = [scene for scene in sorted(here_tasks) if scene not in left_out]
    if not scenes:
        raise InvalidFile(
            f"there is nothing to compare of {tuned[0][1]} and {name} at epoch {chosen}",
            found="; ".join(f"{scene}: {reason}" for scene, reason in left_out.items()) or "no evaluated scene",
            wanted="one scene at least that both measured over the same cameras and frames under one protocol",
            remedy="evaluate both runs (`thesis-assets run`), or name another run or epoch",
        )
    metric = "psnr" if here_tasks[scenes[0]].stated else "psnr_channel_sum"
    trees = (tuned[1] if baseline is None else baseline[1], tuned[1])
    frames = [
        frame
        for scene in scenes
        for frame in _frames(scene, trees, (there, chosen), there_tasks[scene], here_tasks[scene], metric)
    ]
    ordered = sorted(frames, key=lambda each: (each.difference is None, each.difference or 0.0))
    return ComparedRuns(
        *(*tuned[0], name, chosen, here_tasks[scenes[0]].step, metric, ordered),
        differences=_differences(run, other, chosen, scenes, itself=baseline is None),
        scenes=scenes,
        protocol=dict(here_tasks[scenes[0]].of_all_scenes),
        values=dict(_values(run, other, (there, chosen), scenes)),
        left_out=left_out,
    )


def _name(tuned: RunKey, baseline: RunKey | None) -> str:
    if baseline is None:
        return UNREFINED
    return baseline[1] if baseline[0] == tuned[0] else "/".join(baseline)


def _epoch(run: MeasuredRun, other: MeasuredRun, epoch: int | None, *, itself: bool) -> int:
    epochs = {at for task, at in run.tasks if task == "nvs"} - ({UNREFINED_EPOCH} if itself else set())
    shared = epochs if itself else epochs & {at for task, at in other.tasks if task == "nvs"}
    if (epoch is None and not shared) or (epoch is not None and epoch not in shared):
        raise InvalidFile(
            "the epoch is not measured on both sides" if epoch is not None else "no epoch is measured on both sides",
            key="epoch",
            found=epoch,
            wanted=", ".join(map(str, sorted(shared))) or "an evaluated epoch of novel views in each",
            remedy="evaluate both runs first (`thesis-assets run`)",
        )
    return max(shared) if epoch is None else epoch


def _why_not(here: MeasuredTask | None, there: MeasuredTask | None) -> str | None:
    if here is None:
        return "this run did not measure it"
    return why_not_paired(here, there)


def _frames(
    scene: str,
    trees: tuple[Trees, Trees],
    epochs: tuple[int, int],
    before: MeasuredTask,
    after: MeasuredTask,
    metric: str,
) -> Iterator[ComparedFrame]:
    tasks = [by_scene[scene].task(epoch, "nvs") for by_scene, epoch in zip(trees, epochs, strict=True)]
    for name, row in after.rows.items():
        key = (int(row["camera_id"] or 0), frame_name(int(row["frame_id"] or 0)))
        value, was = row[metric], before.rows[name][metric]
        images = (tasks[0].pred_image(*key), tasks[1].pred_image(*key), tasks[1].gt_image(*key))
        difference = None if value is None or was is None else value - was
        yield ComparedFrame(scene, *key, before.rows[name], row, difference, images)


def _differences(
    run: MeasuredRun, other: MeasuredRun, epoch: int, scenes: Sequence[str], *, itself: bool
) -> list[DifferenceRow]:
    """Over the compared scenes alone."""
    kept = {
        place: {scene: task for scene, task in of_scene.items() if scene in scenes}
        for place, of_scene in run.tasks.items()
        if place[1] in (epoch, UNREFINED_EPOCH)
    }
    baseline = {
        place: {scene: task for scene, task in of_scene.items() if scene in scenes}
        for place, of_scene in other.tasks.items()
    }
    here = MeasuredRun(run.exp_name, run.run_name, {place: tasks for place, tasks in kept.items() if tasks})
    there = None if itself else MeasuredRun(other.exp_name, other.run_name, baseline)
    return [row for row in run_differences(here, there) if row.epoch == epoch and (row.against == UNREFINED) == itself]


def _values(
    run: MeasuredRun, other: MeasuredRun, epochs: tuple[int, int], scenes: Sequence[str]
) -> Iterator[tuple[tuple[str, str, str], tuple[float | None, float | None]]]:
    from thesis_assets.evaluation.metric_tables import mean_of

    for (task, epoch), of_scene in run.tasks.items():
        if epoch != epochs[1]:
            continue
        before = other.tasks.get((task, epochs[0]), {})
        for scene in scenes:
            if scene in of_scene and scene in before:
                for metric in of_scene[scene].metrics:
                    was = mean_of(before[scene].rows.values(), metric)
                    yield (scene, task, metric), (was, mean_of(of_scene[scene].rows.values(), metric))
