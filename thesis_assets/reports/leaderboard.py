"""The leaderboard: a row a metric of every (experiment, run, scene, epoch, task), and its paired differences.

Differences are paired by frame: the effect is about 0.1 dB, a tenth of what frames differ among themselves. Two rows are paired
only over the same scenes, cameras and frames under the same protocol; else the difference is empty, with the reason. How sure a mean is
stands with it: an interval over scenes or frames, and the exact sign-flip test.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from thesis_assets.errors import first_names
from thesis_assets.evaluation.means import mean_of, split_by_people
from thesis_assets.evaluation.measured_tasks import (
    MeasuredRun,
    MeasuredTask,
    RunKey,
    SceneFacts,
    each_once,
    measured_run,
)
from thesis_assets.evaluation.metric_tables import REFINER_SIZE
from thesis_assets.layout import EvaluationTree
from thesis_assets.reports.difference_statistics import PairedSummary, summarise
from thesis_assets.reports.sweeps import Points, shown, with_seeds
from thesis_assets.schemas.evaluation import DifferenceRow, LeaderboardRow
from thesis_assets.schemas.tuning import RecipeScore

UNREFINED_EPOCH = 0
UNREFINED = "unrefined"
DIFIX = "DiFix"
RECONSTRUCTION = "reconstruction and DiFix together"
"""Whose a gain is where a scene was reconstructed anew with DiFix: the difference to epoch 0 holds both."""


@dataclass(frozen=True)
class Leaderboard:
    """What every run measured.

    Attributes:
        rows: one a scene; also one over the seeds of a sweep, where there are several.
        differences: one a run, over its scenes; also one over seeds.
        protocols: how a table was measured, by its digest.
        comparable: how a scene was measured, by its protocol's digest.
        why_empty: by table's digest and metric why it may have no value, as the protocols say.
        by_recipe: of runs whose data has recipes, the scores of their checkpoint on the test samples of each.
    """

    rows: list[LeaderboardRow]
    differences: list[DifferenceRow] = field(default_factory=list)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    comparable: dict[str, dict[str, Any]] = field(default_factory=dict)
    why_empty: dict[tuple[str, str], str] = field(default_factory=dict)
    by_recipe: Sequence[RecipeScore] = ()

    def shown(self, *, each_seed: bool = False) -> Leaderboard:
        """What a person looks at: the rows over seeds, or those of each seed."""
        rows, differences = shown(self.rows, each_seed=each_seed), shown(self.differences, each_seed=each_seed)
        return replace(self, rows=rows, differences=differences)


@dataclass(frozen=True)
class Baselines:
    """By run what it is compared with at the same epoch.

    Attributes:
        of: a baseline, which differs from the run in anything.
        controls: the same without the tuned checkpoint: the difference to it is DiFix's.
    """

    of: Mapping[RunKey, RunKey] = field(default_factory=dict)
    controls: Mapping[RunKey, RunKey] = field(default_factory=dict)

    def get(self, run: RunKey) -> RunKey | None:
        """The run that another is compared with: its control where it has one."""
        return self.controls.get(run) or self.of.get(run)


def build_leaderboard(
    trees: Sequence[tuple[str, EvaluationTree]],
    baselines: Baselines | None = None,
    facts: Mapping[Path, SceneFacts] | None = None,
    points: Points | None = None,
) -> Leaderboard:
    """Rows of every evaluated scene, in the order of the trees, then task, epoch and metric.

    A tree without a manifest has not been evaluated and gives no row; damaged numbers give rows without a value.

    Args:
        trees: (run_name, tree) of each evaluated scene; those of a run side by side.
        facts: see `measured_run`.
        points: the runs that are points of sweeps.
    """
    baselines = baselines or Baselines()
    grouped = {
        key: [tree for _, tree in group]
        for key, group in itertools.groupby(trees, key=lambda each: (each[1].exp_name, each[0]))
    }
    rows: list[LeaderboardRow] = []
    differences: list[DifferenceRow] = []
    protocols: dict[str, dict[str, Any]] = {}
    comparable: dict[str, dict[str, Any]] = {}
    why_empty: dict[tuple[str, str], str] = {}
    # One baseline at a time stays in memory: a run of long scenes has a million numbers.
    kept: tuple[RunKey, MeasuredRun] | None = None
    for key, of_run in grouped.items():
        measured = measured_run(key, of_run, facts)
        baseline_key = baselines.get(key)
        baseline = None
        if baseline_key is not None and baseline_key != key:
            if kept is None or kept[0] != baseline_key:
                kept = (baseline_key, measured_run(baseline_key, grouped.get(baseline_key, []), facts))
            baseline = kept[1]
        rows += _scene_rows(measured, baseline)
        differences += run_differences(measured, baseline, is_control=key in baselines.controls)
        for scenes in measured.tasks.values():
            protocols |= {each.table_digest: each.of_all_scenes for each in scenes.values()}
            comparable |= {each.protocol_digest: each.comparable for each in scenes.values()}
            for each in scenes.values():
                why_empty |= {(each.table_digest, metric): why for metric, why in each.why_empty.items()}
    return Leaderboard(*with_seeds(rows, differences, points or {}), protocols, comparable, why_empty)


def _scene_rows(run: MeasuredRun, baseline: MeasuredRun | None) -> Iterator[LeaderboardRow]:
    for (task, epoch), scenes in run.tasks.items():
        for scene_name, measured in scenes.items():
            unrefined = run.tasks.get((task, UNREFINED_EPOCH), {}).get(scene_name)
            why_not = _why_no_difference_to_unrefined(measured, unrefined)
            other = baseline.tasks.get((task, epoch), {}).get(scene_name) if baseline else None
            why_not_baseline = why_not_paired(measured, other) if baseline else None
            for metric in measured.metrics:
                yield LeaderboardRow(
                    exp_name=run.exp_name,
                    run_name=run.run_name,
                    scene_name=scene_name,
                    epoch=epoch,
                    step=measured.step,
                    task=task,
                    metric=metric,
                    value=measured.mean(metric),
                    difference_to_unrefined=_difference(measured, unrefined, metric, why_not),
                    unrefined_reason=why_not,
                    baseline=_name(baseline) if baseline else None,
                    difference_to_baseline=_difference(measured, other, metric, why_not_baseline),
                    baseline_reason=why_not_baseline,
                    n_frames=sum(row[metric] is not None for row in measured.rows.values()),
                    protocol_digest=measured.protocol_digest,
                    table_digest=measured.table_digest,
                    protocol_stated=measured.stated,
                    damaged=measured.damaged,
                    moved=measured.moved,
                    seen_people=measured.seen,
                    leaked=measured.leaked,
                    data_version=measured.data_version,
                    checkpoint_sha256=measured.checkpoint,
                )


def run_differences(
    run: MeasuredRun, baseline: MeasuredRun | None = None, *, is_control: bool = False
) -> Iterator[DifferenceRow]:
    """The differences of a run over its scenes: to the unrefined render, and to the baseline where there is one.

    Scenes of people that it was trained on have differences of their own.

    Args:
        is_control: the baseline is the run's control.
    """
    for (task, epoch), scenes in run.tasks.items():
        if epoch != UNREFINED_EPOCH:
            others = run.tasks.get((task, UNREFINED_EPOCH), {})
            yield from _of_people(run, task, epoch, UNREFINED, scenes, others, "")
        if baseline is not None:
            others = baseline.tasks.get((task, epoch), {})
            yield from _of_people(run, task, epoch, _name(baseline), scenes, others, DIFIX if is_control else "")


def _of_people(
    run: MeasuredRun,
    task: str,
    epoch: int,
    against: str,
    scenes: dict[str, MeasuredTask],
    others: dict[str, MeasuredTask],
    whose: str,
) -> Iterator[DifferenceRow]:
    sides = (scenes, others)
    seen = {name: any(side[name].seen for side in sides if name in side) for name in scenes.keys() | others.keys()}
    for kind, names in split_by_people(dict.fromkeys([*scenes, *others]), seen):
        here, there = ({name: side[name] for name in names if name in side} for side in sides)
        if here:
            for row in _differences(run, task, epoch, against, here, there):
                yield row.model_copy(update={"seen_people": kind, "whose": whose or _whose(against, here)})


def _whose(against: str, scenes: Mapping[str, MeasuredTask]) -> str:
    """Whose a difference to epoch 0 is; nothing is said of one to another run, which may differ in anything, nor of older trees."""
    sources = {each.comparable.get("prediction_source") for each in scenes.values()}
    if against != UNREFINED:
        return ""
    return DIFIX if sources == {"refine"} else RECONSTRUCTION if sources <= {"command", "existing"} else ""


def _differences(
    run: MeasuredRun,
    task: str,
    epoch: int,
    against: str,
    scenes: dict[str, MeasuredTask],
    others: dict[str, MeasuredTask],
) -> Iterator[DifferenceRow]:
    reason = _why_runs_are_not_paired(scenes, others, against)
    first = next(iter(scenes.values()))
    moved, leaked = (_said(scenes, others, what) for what in ("moved", "leaked"))
    for metric in first.metrics:
        by_scene = (
            {}
            if reason
            else {
                name: frames
                for name, measured in scenes.items()
                if (frames := frame_differences(measured, others[name], metric))
            }
        )
        yield DifferenceRow(
            exp_name=run.exp_name,
            run_name=run.run_name,
            epoch=epoch,
            task=task,
            metric=metric,
            against=against,
            table_digest=first.table_digest,
            n_scenes=len(by_scene),
            **asdict(summarise(list(by_scene.values())) if by_scene else PairedSummary()),
            by_scene={name: _mean(frames.values()) for name, frames in by_scene.items()},
            moved=moved if by_scene else "",
            leaked=leaked if by_scene else "",
            reason=reason or (None if by_scene else f"no frame has a value of {metric} on both sides"),
        )


def _why_runs_are_not_paired(
    scenes: dict[str, MeasuredTask], others: dict[str, MeasuredTask], against: str
) -> str | None:
    if len({measured.table_digest for measured in scenes.values()}) > 1:
        return "the scenes of the run were measured under several protocols"
    if not others:
        return f"{'epoch 0' if against == UNREFINED else against} was not measured"
    alone, missing = sorted(scenes.keys() - others.keys()), sorted(others.keys() - scenes.keys())
    if alone or missing:
        parts = [
            f"without {first_names(alone, 3)}" if alone else "",
            f"also {first_names(missing, 3)}" if missing else "",
        ]
        return f"the scenes differ: {against} is measured {' and '.join(part for part in parts if part)}"
    for name, measured in scenes.items():
        to_unrefined = against == UNREFINED
        reason = (_why_no_difference_to_unrefined if to_unrefined else why_not_paired)(measured, others[name])
        if reason:
            return f"{name}: {reason}"
    return None


def _said(scenes: Mapping[str, MeasuredTask], others: Mapping[str, MeasuredTask], what: str) -> str:
    """What is to be known of either side (`moved`, `leaked`), each thing once."""
    return each_once(getattr(each, what) for side in (scenes, others) for each in side.values())


def _why_no_difference_to_unrefined(measured: MeasuredTask, unrefined: MeasuredTask | None) -> str | None:
    """Why a task has no difference to epoch 0; None where it has."""
    if measured.epoch == UNREFINED_EPOCH:
        return "this is epoch 0"
    if unrefined is not None and unrefined.step is not None:
        return f"epoch 0 is not unrefined: it was made with the checkpoint of step {unrefined.step}"
    return why_not_paired(measured, unrefined)


def why_not_paired(measured: MeasuredTask, other: MeasuredTask | None) -> str | None:
    """Why two tasks of one scene may not be paired; None where they may."""
    if measured.damaged:
        return measured.damaged
    if other is None:
        return "the other one was not measured"
    if other.damaged:
        return f"the other one is {other.damaged}"
    if not (measured.stated and other.stated) and measured.comparable != other.comparable:
        return "the protocol of at least one is not stated"
    unrefined = any(side.step is None and REFINER_SIZE not in side.comparable for side in (measured, other))
    keys = sorted(measured.comparable.keys() | other.comparable.keys())
    for key in keys:
        if key == REFINER_SIZE and unrefined:  # what was not refined was so at no size
            continue
        ours, theirs = measured.comparable.get(key), other.comparable.get(key)
        if ours != theirs:
            return f"the protocols differ: {key} is {_short(ours)}, and there {_short(theirs)}"
    apart = measured.rows.keys() ^ other.rows.keys()
    if apart:
        return f"the frames differ: {len(apart)} are on one side only, such as {min(apart)}"
    return None if measured.rows else "the table of frames cannot be read"


def _short(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def frame_differences(measured: MeasuredTask, other: MeasuredTask, metric: str) -> dict[str, float]:
    """By frame (value - other value), where both have one."""
    found = {}
    for name, row in measured.rows.items():
        value, before = row[metric], other.rows[name][metric]
        if value is not None and before is not None:
            found[name] = value - before
    return found


def _mean(values: Iterable[float]) -> float:
    """Of the differences of a scene's frames: at least one."""
    return mean_of([{"": value} for value in values], "") or 0.0


def _difference(measured: MeasuredTask, other: MeasuredTask | None, metric: str, why_not: str | None) -> float | None:
    if other is None or why_not is not None:
        return None
    found = frame_differences(measured, other, metric)
    return _mean(found.values()) if found else None


def _name(run: MeasuredRun) -> str:
    return f"{run.exp_name}/{run.run_name}"
