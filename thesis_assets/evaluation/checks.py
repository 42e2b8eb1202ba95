"""Checks of an evaluation tree: required files, manifest, layout version, clean input data, numbers that can be recomputed.

Each looks at what is on disk, names the files that offend, and stays silent about what another check says.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey, command_for, first_names
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.input_data import (
    NV_DEBUG_KINDS,
    TEST_PARTS,
    TRAIN_PARTS,
    documented_folders,
    input_data_unit,
)
from thesis_assets.evaluation.manifest import manifest_facts
from thesis_assets.evaluation.metric_tables import (
    IMPORTED,
    Row,
    first_columns_are_older,
    frame_columns,
    frame_table,
    older_faults,
    read_protocol,
    read_table,
    read_task,
    row_name,
    task_faults,
    wanted_names,
)
from thesis_assets.evaluation.nvs_metrics import comparison_of, downscale_mask, lpips_or_reason, view_metrics
from thesis_assets.evaluation.outputs import files_below
from thesis_assets.evaluation.pose_inputs import body_model
from thesis_assets.evaluation.pose_metrics import UNHELD, FrameMetrics, emptied, frame_metrics, read_compared
from thesis_assets.evaluation.pose_motion import FrameJoints, motion_metrics
from thesis_assets.evaluation.units import absent_tasks, task_unit
from thesis_assets.evaluation.views import epochs_on_disk
from thesis_assets.images.lpips_files import COLUMNS
from thesis_assets.layout import (
    OUTPUT_LAYOUT_VERSION,
    TEMPORARY_PREFIX,
    SceneFolders,
    TaskTree,
    epoch_name,
    frame_name,
    parse_epoch,
)
from thesis_assets.provenance import Contents
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.evaluation import POSE_MOTION_METRICS, EvaluationManifest, InputDataRecord, Protocol

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips

TOP_LEVEL = (
    "manifest.json",
    "manifest.made_from.json",
    "manifest.made_from.stats.json",
    "training_artifacts",
    "input_data",
    "evaluation",
    "rerun",
)
RECOMPUTED_ROWS = 8
"""A task and epoch: of a whole demo scene a quarter, of a long one enough to notice a wrong image set."""
TOLD_ROWS = 3
TOLERANCE = 1e-5
"""Tables have six decimals; SSIM runs in float32, whose last bit depends on the machine."""
LPIPS_TOLERANCE = 1e-3
"""Sixteen layers in float32, on a GPU with shorter products."""


ABSENT = "absent"
"""The count of a check: scenes that cannot have the task."""


def check_required_files(cell: EvaluationCell, task_name: str) -> CheckOutcome:
    """`nvs_required_files` and the like: every required file of every epoch is there, whole, with its columns and values."""
    if task_name not in cell.tasks:
        return CheckOutcome.of([], message=f"the experiment does not enable {task_name}", counts={"epochs": 0})
    absent = absent_tasks(cell).get(task_name)
    if absent is not None:
        return CheckOutcome.of([], message=f"absent: {absent}", counts={"epochs": 0, ABSENT: 1})
    epochs, contents = list(cell.epoch_steps()), Contents()
    offenders = [line for epoch in epochs for line in _faults(cell, epoch, task_name, contents)]
    return CheckOutcome.of(
        offenders,
        message=f"required files of {task_name}, {cell.scene.name}"
        + (f": `{command_for(task_name, cell.exp_name, cell.run_name)}` makes again what is lost" if offenders else ""),
        counts={"epochs": len(epochs), "files": len(epochs) * len(cell.tree.task(0, task_name).required_files)},
    )


def _faults(cell: EvaluationCell, epoch: int, task_name: str, contents: Contents) -> list[str]:
    """What breaks the contract of a task's files, then what else of them is not as it was recorded."""
    task = cell.tree.task(epoch, task_name)
    faults = task_faults(task)
    named = {path for path, _ in faults}
    verdict = task_unit(cell, epoch, task_name).look(contents)
    for names, problem in ((verdict.damaged, "other bytes than were recorded"), (verdict.missing, "it is missing")):
        faults += [(path, problem) for name in names if (path := task.base / name) not in named]
    return [f"{cell.tree.relative(path)}: {problem}" for path, problem in faults]


def check_lpips(cell: EvaluationCell) -> CheckOutcome:
    """`lpips_present`, a warning: the tables of novel views have LPIPS, or say why they do not."""
    protocols = {epoch: read_protocol(cell.tree.task(epoch, "nvs")) for epoch in cell.epoch_steps()}
    empty: dict[str, list[str]] = {}
    columns: set[str] = set()
    for epoch, protocol in protocols.items():
        lacking = set() if protocol is None else protocol.empty_metrics.keys() & COLUMNS.values()
        columns |= lacking
        for reason in sorted({protocol.empty_metrics[column] for column in lacking} if protocol else ()):
            empty.setdefault(reason, []).append(epoch_name(epoch))
    offenders = [
        f"{cell.scene.name}, {'every epoch' if len(epochs) == len(protocols) else ', '.join(epochs)}: {reason}"
        for reason, epochs in empty.items()
    ]
    n_empty = len({epoch for epochs in empty.values() for epoch in epochs})
    of_all = f"{n_empty} of {len(protocols)} epoch{'' if len(protocols) == 1 else 's'}"
    names = f"column{'' if len(columns) == 1 else 's'} {', '.join(sorted(columns))}"
    message = (
        f"the {names} {'is' if len(columns) == 1 else 'are'} empty in {of_all}" if empty else "LPIPS in every epoch"
    )
    return CheckOutcome.of(offenders, message=message, counts={"epochs": len(protocols)})


def check_manifest(cell: EvaluationCell) -> CheckOutcome:
    """`manifest_matches_disk`: it names the epochs and tasks that are finished on disk, and no others."""
    try:
        manifest = storage.read_json(cell.tree.manifest, EvaluationManifest)
    except InvalidFile as error:
        return CheckOutcome.of([f"manifest.json: {error}"], message="manifest.json cannot be read")
    offenders = list(_manifest_faults(cell, manifest))
    return CheckOutcome.of(
        offenders,
        message=f"manifest.json of {cell.scene.name} against the tree",
        counts={"epochs": len(manifest.eval_epochs), "tasks": len(manifest.tasks)},
    )


def _manifest_faults(cell: EvaluationCell, manifest: EvaluationManifest) -> Iterator[str]:
    absent = absent_tasks(cell)
    finished = {
        epoch_name(epoch): [task for task in _finished_tasks(cell, epoch) if task.task not in absent]
        for epoch in epochs_on_disk(cell.tree)
    }
    listed = [finished[name] for name in manifest.eval_epochs if name in finished]
    protocols = [protocol for tasks in listed for task in tasks if (protocol := read_protocol(task)) is not None]
    facts = manifest_facts(cell, [task for task in cell.tasks if task not in absent], protocols)
    steps = {epoch_name(each.epoch): each.step for each in protocols}
    for key, found, wanted in (
        *((key, getattr(manifest, key), wanted) for key, wanted in facts.items()),
        ("notes.epoch_steps", manifest.notes.get("epoch_steps"), steps),
        ("notes.absent_tasks", sorted(manifest.notes.get("absent_tasks", "none")), sorted(absent)),
    ):
        if found != wanted:
            yield f"manifest.json, {key}: {found}, and the tree has {wanted}"
    for name in manifest.eval_epochs:
        lacking = set(manifest.tasks) - {task.task for task in finished.get(name, [])}
        yield from (
            f"manifest.json, eval_epochs: {name} is listed, and {task} is not finished" for task in sorted(lacking)
        )
    for name, tasks in finished.items():
        if name not in manifest.eval_epochs and {task.task for task in tasks} >= set(manifest.tasks):
            yield f"manifest.json, eval_epochs: {name} is finished on disk, and not listed"


def _finished_tasks(cell: EvaluationCell, epoch: int) -> list[TaskTree]:
    return [task for name in cell.tasks if (task := cell.tree.task(epoch, name)).protocol.exists()]


def check_layout_version(cell: EvaluationCell) -> CheckOutcome:
    """`layout_version_is_v1`: the manifest says v1, and the tree has the folders of v1 and no others."""
    offenders: list[str] = []
    try:
        value = storage.read_json_value(cell.tree.manifest)
        version = value.get("output_layout_version") if isinstance(value, dict) else None
        if version != OUTPUT_LAYOUT_VERSION:
            offenders.append(f"manifest.json, output_layout_version: {version!r}, wanted {OUTPUT_LAYOUT_VERSION!r}")
    except InvalidFile as error:
        offenders.append(f"manifest.json: {error.problem}")
    top_level = (*TOP_LEVEL, *([cell.tree.nv_generation_dir.name] if cell.tree.with_thesis_names else []))
    offenders += [f"{name}: no entry of the layout" for name in _names(cell.tree.base) if name not in top_level]
    for name in _names(cell.tree.evaluation_dir):
        try:
            parse_epoch(name)
        except InvalidKey:
            offenders.append(f"evaluation/{name}: not an epoch's folder")
    return CheckOutcome.of(offenders, message=f"output layout of {cell.scene.name}")


def _names(folder: Path) -> list[str]:
    """What lies in a folder, without what is being written."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY_PREFIX))


def check_input_data_clean(cell: EvaluationCell) -> CheckOutcome:
    """`input_data_clean`: the documented folders and no others; `est_*` only under `train/misc/nv_generation/`."""
    tree = cell.tree
    train, test = tree.input_data("train"), tree.input_data("test")
    offenders = [
        f"{tree.relative(path)}: the folder is missing" for path in documented_folders(tree) if not path.is_dir()
    ]
    nv_generation = train.nv_generation_debug("images").parent
    unit = input_data_unit(cell)
    ours = (tree.input_data_record, unit.place.record, unit.place.stats)
    for folder, allowed in (
        (tree.input_data_dir, {"train", "test", *(path.name for path in ours)}),
        (train.base, {*TRAIN_PARTS, "misc"}),
        (test.base, set(TEST_PARTS)),
        (nv_generation.parent, {nv_generation.name}),
        (nv_generation, {train.nv_generation_debug(kind).name for kind in NV_DEBUG_KINDS}),
        *((side.seg_dir, {side.masks_dir.name}) for side in (train, test)),
    ):
        offenders += [
            f"{tree.relative(folder / name)}: not input data" for name in _names(folder) if name not in allowed
        ]
    offenders += [f"{tree.relative(path)}: debug output among core inputs" for path in _misplaced_debug(train, test)]
    try:
        storage.read_json(tree.input_data_record, InputDataRecord)
    except InvalidFile as error:
        offenders.append(f"{tree.relative(tree.input_data_record)}: {error.problem}")
    verdict = unit.look()
    for names, problem in (
        (verdict.damaged, "other bytes than were linked"),
        (verdict.missing, "the file is missing"),
    ):
        offenders += [f"{tree.relative(unit.place.base / name)}: {problem}" for name in names]
    n_files = len(files_below(tree.input_data_dir))
    return CheckOutcome.of(offenders, message=f"input data of {cell.scene.name}", counts={"files": n_files})


def _misplaced_debug(train: SceneFolders, test: SceneFolders) -> Iterator[Path]:
    nv_generation = train.nv_generation_debug("images").parent
    for side in (train, test):
        for path in sorted(side.base.rglob("est_*")):
            if not path.is_relative_to(nv_generation):
                yield path


def check_evaluated_unseen(evaluation_groups: Set[str], train_groups: Set[str] | None) -> CheckOutcome:
    """`evaluated_people_unseen`: numbers of a scene whose people were trained on say how well it was learned, no more.

    Args:
        evaluation_groups: `<dataset>/<group_id>` of every evaluated scene.
        train_groups: of the samples that the run was trained on; None where it was not trained here.
    """
    counts = {"evaluation_groups": len(evaluation_groups), "train_groups": len(train_groups or ())}
    if train_groups is None:
        return CheckOutcome(passed=True, message="the run was not trained here, on people unknown", counts=dict(counts))
    trained = {group.casefold() for group in train_groups}
    both = sorted(group for group in evaluation_groups if group.casefold() in trained)
    message = (
        f"people that are evaluated were trained on: {', '.join(both)}; report others, or hold these out "
        "(split.test_groups of a fork)"
        if both
        else "none of the people that are evaluated was trained on"
    )
    return CheckOutcome.of(both, message=message, counts=dict(counts))


def check_metrics_recompute(cell: EvaluationCell, seed: int = 0) -> CheckOutcome:
    """`metrics_recompute`: a seeded sample of rows a task and epoch, computed again from the saved images and arrays."""
    offenders: list[str] = []
    rows_seen = unreadable = imported = 0
    for epoch in cell.epoch_steps():
        for task in _finished_tasks(cell, epoch):
            protocol = read_protocol(task)
            try:
                rows = read_table(frame_table(task), frame_columns(task))
            except InvalidFile:  # the required-files check of the task says so
                unreadable += 1
                continue
            if protocol is None:
                unreadable += 1
                continue
            if IMPORTED in protocol.details:  # how they were measured is not known
                imported += len(rows)
                continue
            drawn = random.Random(f"{seed}/{epoch}/{task.task}").sample(rows, min(RECOMPUTED_ROWS, len(rows)))  # noqa: S311 - a choice of rows, no secret
            rows_seen += len(drawn)
            wrong = differences(task, protocol, drawn, _measured_lpips(cell, protocol))
            offenders += [f"{cell.tree.relative(task.base)}/{text}" for text in wrong]
    return CheckOutcome.of(
        offenders,
        message=f"metrics of {cell.scene.name} from what is saved",
        counts={"rows": rows_seen, "unreadable_tables": unreadable, "imported_rows": imported},
    )


@dataclass(frozen=True)
class Recomputed:
    """What the files of one task say of each other. `n_rows`: those that were computed again; `faults`: files, each with what is wrong."""

    n_rows: int
    faults: list[tuple[Path, str]]


def recomputed(work: tuple[EvaluationCell, int, str]) -> Recomputed:
    """Hold the tables of a task against each other, and every row against the saved images and arrays.

    Args:
        work: the scene, an epoch, a task. How numbers of other scripts were measured is not known: they are not computed again.
    """
    cell, epoch, name = work
    task = cell.tree.task(epoch, name)
    if not task.metrics_dir.is_dir():  # not made yet, or gone: comparing with the record says so
        return Recomputed(0, [])
    if not task.protocol.exists() and first_columns_are_older(task):
        return Recomputed(0, older_faults(task, cell.source_camera()))
    files = read_task(task)
    rows = files.tables.get(frame_table(task))
    if files.protocol is None or rows is None or IMPORTED in files.protocol.details:
        return Recomputed(0, files.faults)
    lpips = _measured_lpips(cell, files.protocol)
    wrong = differences(task, files.protocol, rows, lpips)
    said = first_names(wrong, TOLD_ROWS) if wrong else ""
    return Recomputed(len(rows), [*files.faults, *([(frame_table(task), said)] if wrong else [])])


def _measured_lpips(cell: EvaluationCell, protocol: Protocol) -> Mapping[str, Lpips]:
    """By column: what measures LPIPS here as the protocol says that it was measured, where its weights are here."""
    measured = [convention for convention, column in COLUMNS.items() if column in protocol.comparable]
    return lpips_or_reason(cell.lpips_weights, cell.device, measured)[0]


def recompute_row(
    task: TaskTree,
    protocol: Protocol,
    row: Row,
    lpips: Mapping[str, Lpips] | None = None,
    motion: Mapping[str, FrameMetrics] | None = None,
) -> Row:
    """The metrics of one row of the table of frames, from the saved files.

    A written LPIPS is left out where its weights are not those of `lpips` (by column), metrics of motion without `motion`.

    Raises:
        InvalidFile: a saved image or array is missing or cannot be read.
    """
    fname = frame_name(int(row["frame_id"] or 0))
    if task.task != "nvs":
        compared = read_compared(task.input_body(fname), task.true_body(fname), body_model(task.task))
        found = frame_metrics(compared).with_more((motion or {}).get(fname, FrameMetrics({})))
        empty = protocol.details.get("alignment", {}).get(UNHELD, ())
        return {name: value for name, value in emptied(found, empty).values.items() if name in row}
    from thesis_assets.images.codecs import read_mask, read_rgb

    key = (int(row["camera_id"] or 0), fname)
    mask, how = task.input_mask(*key), comparison_of(protocol.comparable)
    lpips = lpips or {}
    measured = view_metrics(
        read_rgb(task.pred_image(*key)),
        read_rgb(task.gt_image(*key)),
        downscale_mask(read_mask(mask), how.downscale_factor) if mask.exists() else None,
        how,
        lpips,
    )
    written = {column: str(protocol.comparable[column]) for column in COLUMNS.values() if column in protocol.comparable}
    unknown = [column for column, said in written.items() if column not in lpips or lpips[column].digest not in said]
    return {name: value for name, value in measured.values.items() if name not in unknown}


def saved_motion(task: TaskTree, protocol: Protocol) -> dict[str, FrameMetrics]:
    """The metrics of motion of every frame, from the saved bodies; nothing where one cannot be read, which its row says."""
    model = body_model(task.task)
    try:
        joints = {
            fname: FrameJoints.of(read_compared(task.input_body(fname), task.true_body(fname), model))
            for fname in wanted_names(protocol)
        }
    except InvalidFile:
        return {}
    return motion_metrics(joints, protocol.comparable["frames_per_second"])


def differences(
    task: TaskTree, protocol: Protocol, rows: Sequence[Row], lpips: Mapping[str, Lpips] | None = None
) -> list[str]:
    """Rows whose numbers the saved files do not give, each with what they give instead."""
    found: list[str] = []
    motion = saved_motion(task, protocol) if any(POSE_MOTION_METRICS[0] in row for row in rows) else None
    for row in rows:
        try:
            again = recompute_row(task, protocol, row, lpips, motion)
        except InvalidFile as error:
            found.append(f"{row_name(row)}: {error.problem}: {error.file}")
            continue
        for metric, value in again.items():
            written, tolerance = row[metric], LPIPS_TOLERANCE if metric in COLUMNS.values() else TOLERANCE
            if (value is None) != (written is None) or abs((value or 0.0) - (written or 0.0)) > tolerance:
                found.append(f"{row_name(row)}: {metric} is written as {written}, and the saved files give {value}")
    return found
