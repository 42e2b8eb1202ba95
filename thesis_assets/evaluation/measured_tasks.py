"""What was measured of a run, read for its content: the numbers that count, and why others do not.

Whoever reads numbers reads them here. A file with other bytes than its record names, or files that do not agree with each other, give
no numbers: the task is `damaged`, with the reason, and enters no mean. What is stale is given out with what moved.
Does not belong here: taking differences (`leaderboard`), or whether the saved images give these numbers (`required_files`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.means import counted_rows, mean_of
from thesis_assets.evaluation.metric_tables import (
    CONDITIONING,
    DAMAGED,
    NOT_CHECKED,
    OLDER_COLUMNS,
    REFINER_SIZE,
    Row,
    first_columns_are_older,
    frame_table,
    metrics_in,
    older_faults,
    older_row,
    read_table,
    read_task,
    row_name,
)
from thesis_assets.evaluation.outputs import holds
from thesis_assets.evaluation.units import prediction_unit, task_unit
from thesis_assets.evaluation.views import epochs_on_disk
from thesis_assets.layout import TASKS, EvaluationTree, TaskTree, parse_epoch
from thesis_assets.provenance import Contents, MadeFrom, Place, forget_stats, read_record
from thesis_assets.provenance.verdict import NOT_VERIFIED
from thesis_assets.schemas.evaluation import EvaluationManifest

OF_THE_SCENE = ("cameras", "depth_camera", "identity_mapping", "missing_people", REFINER_SIZE)
"""Parts of a protocol that may differ between scenes which are averaged: the source camera is not the same everywhere."""
NOT_STATED = {"protocol": "not stated: there is no protocol.json"}
_PICTURES = re.compile(r"viz/|(pred|gt_inputs)/cam_\d+/metrics_input/")
"""What is only looked at, and further names of what was measured: where these are lost, the numbers stand."""

RunKey = tuple[str, str]
"""Experiment and run."""


@dataclass(frozen=True)
class TaskState:
    """What a look at all files of a task found: why its numbers may not count, and what moved since they were made."""

    damaged: str = ""
    moved: str = ""


@dataclass(frozen=True)
class SceneFacts:
    """What the trees alone do not tell of an evaluated scene.

    Attributes:
        seen: whether the run was trained on people of the scene.
        leaked: what stands on both sides of the data that the run was trained on; empty: nothing.
        state: of a task at an epoch; None: nobody looked.
    """

    scene_name: str
    seen: bool = False
    leaked: str = ""
    state: Callable[[int, str], TaskState] | None = None


@dataclass(frozen=True, eq=False)
class MeasuredTask:
    """One task of one scene at one epoch.

    Attributes:
        step: the checkpoint; None is unrefined, or not known.
        comparable: what must be equal between two that are paired.
        rows: the rows that count, by `cam_4/000003` or `000003`; empty where it is damaged.
        stated: whether a protocol says how the numbers were made.
        damaged: why its numbers do not count; empty where they do.
        moved: what moved since they were made; empty where nothing did.
        seen: whether the run was trained on its people.
        leaked: what stands on both sides of the data that the run was trained on; empty where nothing does.
        why_empty: by metric why it may have no value, as its protocol says.
        data_version: of its record; None where it has none.
        checkpoint: sha256 of the weights that it was made with, where its protocol names them.
    """

    task: str
    epoch: int
    step: int | None
    comparable: dict[str, Any]
    rows: dict[str, Row]
    stated: bool
    damaged: str = ""
    moved: str = ""
    seen: bool = False
    leaked: str = ""
    why_empty: Mapping[str, str] = field(default_factory=dict)
    data_version: str | None = None
    checkpoint: str | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        return metrics_in(self.task, self.rows.values())

    def mean(self, metric: str) -> float | None:
        """Over its frames; None where none has a value."""
        return mean_of(self.rows.values(), metric)

    @property
    def protocol_digest(self) -> str:
        """Equal where two may be paired."""
        return storage.sha256_value(self.comparable)

    @property
    def of_all_scenes(self) -> dict[str, Any]:
        """The parts of the protocol that every scene of a table shares."""
        if not self.stated:
            return NOT_STATED | {key: self.comparable[key] for key in (CONDITIONING,) if key in self.comparable}
        return {key: value for key, value in self.comparable.items() if key not in OF_THE_SCENE}

    @cached_property
    def table_digest(self) -> str:
        """Equal where two may stand in one table and be averaged over scenes."""
        return storage.sha256_value(self.of_all_scenes)


@dataclass(frozen=True)
class MeasuredRun:
    """Everything measured of one run: by (task, epoch), by scene."""

    exp_name: str
    run_name: str
    tasks: dict[tuple[str, int], dict[str, MeasuredTask]]


def each_once(said: Iterable[str]) -> str:
    """What is to be known of several, each thing once; empty where there is nothing."""
    return "; ".join(dict.fromkeys(filter(None, said)))


def measured_run(
    key: RunKey, trees: Sequence[EvaluationTree], facts: Mapping[Path, SceneFacts] | None = None
) -> MeasuredRun:
    """Read what the trees of one run hold.

    Args:
        facts: of a scene by the base of its tree; without them only the files of the numbers are compared with their records.
    """
    tasks: dict[tuple[str, int], dict[str, MeasuredTask]] = {}
    for tree in trees:
        listed = _listed(tree)
        if listed is None:
            continue
        fact = (facts or {}).get(tree.base) or SceneFacts(listed.scene_name)
        for name, why in listed.lost.items():
            for epoch in listed.lost_epochs:
                empty = _damaged(tree.task(epoch, name), epoch, [])
                lost = replace(empty, damaged=why, seen=fact.seen, leaked=fact.leaked)
                tasks.setdefault((name, epoch), {})[fact.scene_name] = lost
        for epoch in listed.epochs:
            for name in listed.tasks:
                task = tree.task(epoch, name)
                measured = measured_task(task, epoch, listed.source_camera)
                if measured is None and listed.by_record:
                    measured = _damaged(task, epoch, [f"`{task.metrics_dir.name}/` (missing)"])
                if measured is None:
                    continue
                of_ours = measured.stated or measured.data_version is not None
                state = fact.state(epoch, name) if fact.state is not None and of_ours else TaskState()
                damaged = "; ".join(filter(None, (listed.damaged, measured.damaged or state.damaged)))
                tasks.setdefault((name, epoch), {})[fact.scene_name] = replace(
                    measured,
                    rows={} if damaged else measured.rows,
                    damaged=damaged,
                    moved="" if damaged else measured.moved or state.moved,
                    seen=fact.seen,
                    leaked=fact.leaked,
                )
    return MeasuredRun(*key, {place: _in_one_table(place, scenes, tasks) for place, scenes in tasks.items()})


def _in_one_table(
    place: tuple[str, int],
    scenes: dict[str, MeasuredTask],
    tasks: Mapping[tuple[str, int], dict[str, MeasuredTask]],
) -> dict[str, MeasuredTask]:
    """A task without a protocol that can be believed stands, without a number, in the table of its neighbours."""
    others = [scenes, *(each for (task, _), each in tasks.items() if task == place[0])]
    whole = next((each for group in others for each in group.values() if each.comparable), None)
    like = (whole.comparable, whole.stated) if whole is not None else (NOT_STATED, False)
    return {
        name: each if each.comparable else replace(each, comparable=like[0], stated=like[1])
        for name, each in scenes.items()
    }


@dataclass(frozen=True)
class _Listed:
    """What a tree says that it holds.

    Attributes:
        by_record: its manifest is what its record names.
        lost: tasks that it cannot have, as the numbers that they were to be taken from are damaged, each with what is wrong.
        lost_epochs: at which they were to be taken.
    """

    scene_name: str
    epochs: list[int]
    tasks: list[str]
    source_camera: int | None
    by_record: bool = False
    damaged: str = ""
    lost: Mapping[str, str] = field(default_factory=dict)
    lost_epochs: Sequence[int] = ()


def _listed(tree: EvaluationTree) -> _Listed | None:
    """By its manifest; of a tree whose manifest cannot be believed what lies on disk. None: it was not evaluated yet."""
    place, why = Place(tree.base, tree.manifest_made_from), ""
    if not tree.manifest.exists() and not place.record.exists():
        return None
    try:
        record = read_record(place)
        why = "; ".join(_other_bytes(place, record, [tree.manifest]))
        manifest = storage.read_json(tree.manifest, EvaluationManifest)
        if not why:
            epochs = [parse_epoch(name) for name in manifest.eval_epochs]
            by_record = record is not None
            lost, all_epochs = _lost(manifest) if by_record else ({}, ())
            of_tree = (manifest.scene_name, epochs, manifest.tasks, manifest.source_camera_id)
            return _Listed(*of_tree, by_record, lost=lost, lost_epochs=all_epochs)
        scene_name = manifest.scene_name
    except InvalidFile as error:
        why, scene_name = why or _said(tree.base, error), tree.base.parent.name
    epochs = epochs_on_disk(tree)
    tasks = [name for name in TASKS if any(tree.task(epoch, name).metrics_dir.is_dir() for epoch in epochs)]
    return _Listed(scene_name, epochs, tasks, None, damaged=f"damaged: {why}")


def _lost(manifest: EvaluationManifest) -> tuple[dict[str, str], list[int]]:
    """Tasks whose numbers were damaged where they were to be taken from, and the epochs that were asked for."""
    absent, incomplete = manifest.notes.get("absent_tasks"), manifest.notes.get("incomplete_epochs")
    lost = {str(task): str(why) for task, why in dict(absent or {}).items() if str(why).startswith(DAMAGED)}
    return lost, sorted({parse_epoch(name) for name in [*manifest.eval_epochs, *dict(incomplete or {})]})


def measured_task(tree: TaskTree, epoch: int, source_camera: int | None = None) -> MeasuredTask | None:
    """What was measured of a task that a tree says it has; None where nothing of it lies there.

    Args:
        source_camera: for trees of older scripts, whose manifest alone may name it.
    """
    if not tree.metrics_dir.is_dir():
        return None
    place = Place(tree.base, tree.made_from)
    try:
        record = read_record(place)
    except InvalidFile as error:
        return _damaged(tree, epoch, [_said(tree.base, error)])
    if record is None and not tree.protocol.exists() and first_columns_are_older(tree):
        return _older(tree, epoch, source_camera)
    if record is None and not holds(tree.protocol, "input_digest"):
        name = place.name(place.record)
        return _damaged(
            tree, epoch, [f"`{name}` (missing: nothing says that these are the numbers that were measured)"]
        )
    wrong = _other_bytes(place, record, [tree.protocol, *tree.required_files])
    files, said = read_task(tree), " ".join(wrong)
    faults = [f"`{place.name(path)}` ({text})" for path, text in files.faults if f"`{place.name(path)}`" not in said]
    wrong += faults[:3]
    protocol = files.protocol
    if protocol is not None and (protocol.task, protocol.epoch) != (tree.task, epoch):
        wrong.append(f"`{place.name(tree.protocol)}` (it is of {protocol.task} at epoch {protocol.epoch})")
    if protocol is None or wrong:
        believed = protocol is not None and not any(tree.protocol.name in line for line in wrong)
        return _damaged(tree, epoch, wrong, protocol.comparable if protocol is not None and believed else {}, record)
    rows = counted_rows(files.tables[frame_table(tree)], protocol.details.get("source_camera"))
    checkpoint = protocol.details.get("checkpoint_sha256")
    return MeasuredTask(
        tree.task,
        epoch,
        protocol.step,
        {**_conditioning(tree.task, protocol.comparable.get("world_alignment")), **protocol.comparable},
        {row_name(row): row for row in rows},
        _is_stated(protocol.comparable),
        moved=NOT_VERIFIED if record is None else "",
        why_empty=protocol.empty_metrics,
        data_version=None if record is None else record.data_version,
        checkpoint=checkpoint if isinstance(checkpoint, str) else None,
    )


def _conditioning(task_name: str, alignment: object = None) -> dict[str, Any]:
    """What is to be said of poses whose protocol says nothing of it; by `camera` nothing was fitted."""
    return {} if task_name == "nvs" or alignment == "camera" else {CONDITIONING: NOT_CHECKED}


def _is_stated(comparable: Mapping[str, Any]) -> bool:
    """A tree of older scripts that was taken over has a protocol that says just that, under this key."""
    return "protocol" not in comparable


def _damaged(
    tree: TaskTree,
    epoch: int,
    wrong: Sequence[str],
    comparable: dict[str, Any] | None = None,
    record: MadeFrom | None = None,
) -> MeasuredTask:
    comparable = comparable or {}
    return MeasuredTask(
        tree.task,
        epoch,
        None,
        comparable,
        {},
        _is_stated(comparable),
        damaged=f"damaged: {'; '.join(wrong)}",
        data_version=None if record is None else record.data_version,
    )


def _other_bytes(place: Place, record: MadeFrom | None, paths: Sequence[Path]) -> list[str]:
    """Files that are not what their record names, in the words of a look; the next look then reads them, whatever their times."""
    wrong = []
    for path in paths if record is not None else ():
        named = record.output(place.name(path)) if record is not None else None
        if named is None:
            wrong.append(f"`{place.name(path)}` (its record does not name it)")
        elif not path.is_file():
            wrong.append(f"`{place.name(path)}` (missing)")
        elif storage.sha256_file(path) != named.sha256:
            wrong.append(f"`{place.name(path)}` (other bytes than were recorded)")
    if wrong:
        forget_stats(place)
    return wrong


def _said(base: Path, error: InvalidFile) -> str:
    path = Path(error.file or "")
    name = path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
    return f"`{name}` ({error.problem})"


def _older(tree: TaskTree, epoch: int, source_camera: int | None) -> MeasuredTask:
    """The rows of an older tree under the names that tell what they are."""
    # Two older trees may have been measured in two ways; within one tree the script was the same.
    comparable = {**NOT_STATED, "tree": str(tree.base.parent.parent), **_conditioning(tree.task)}
    if faults := older_faults(tree, source_camera):
        wrong = [f"`{path.relative_to(tree.base).as_posix()}` ({text})" for path, text in faults[:3]]
        return _damaged(tree, epoch, wrong, comparable)
    rows = counted_rows(read_table(frame_table(tree), OLDER_COLUMNS[tree.task]), source_camera)
    renamed = {row_name(row): older_row(tree.task, row) for row in rows}
    return MeasuredTask(tree.task, epoch, None, comparable, renamed, stated=False)


def task_state(cell: EvaluationCell, epoch: int, task: str, contents: Contents) -> TaskState:
    """What a look at a task, and at the predictions that it was measured from, finds; pictures of it decide nothing."""
    if epoch not in cell.epoch_steps() or task not in cell.tasks:
        return TaskState(moved="the experiment does not evaluate this any more")
    try:
        units = [task_unit(cell, epoch, task), *([prediction_unit(cell, epoch)] if task == "nvs" else [])]
        verdicts = [unit.look(contents) for unit in units]
    except ThesisAssetsError as error:
        return TaskState(moved=f"whether it is current cannot be told: {error.in_one_line}")
    lost = [name for each in verdicts for name in (*each.damaged, *each.missing) if not _PICTURES.match(name)]
    words = "; ".join(each.in_words for each in verdicts if not each.is_made)
    if lost:
        return TaskState(damaged=words)
    unverified = any(NOT_VERIFIED in each.notes for each in verdicts)
    return TaskState(moved=words or (NOT_VERIFIED if unverified else ""))
