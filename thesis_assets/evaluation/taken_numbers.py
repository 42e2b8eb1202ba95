"""Numbers of a tree that was there, taken over by hard links: nothing is computed again.

A tree with `protocol.json` keeps its tables as they are. One without was measured by other scripts: its PSNR enters as
`psnr_channel_sum`, its PCDR as `pcdr_legacy`, never under the name of ours, and its protocol equals none of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thesis_assets import __version__, storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.metric_tables import mean_of, read_table, table_text
from thesis_assets.evaluation.nvs_tables import write_nvs_tables
from thesis_assets.evaluation.protocols import read_protocol
from thesis_assets.evaluation.source_trees import source_epoch, source_tree
from thesis_assets.evaluation.staging import Staging, staged
from thesis_assets.evaluation.task_faults import IMPORTED, frame_table, task_faults
from thesis_assets.evaluation.task_units import NVS_FOLDERS, POSE_FOLDERS, outputs_of, task_unit
from thesis_assets.evaluation.unit_parts import verified
from thesis_assets.evaluation.withdrawal import withdraw
from thesis_assets.layout import EvaluationTree, TaskTree, epoch_name, frame_name
from thesis_assets.provenance import Contents, begin
from thesis_assets.schemas.evaluation import (
    NVS_FRAME_COLUMNS,
    POSE_FRAME_COLUMNS,
    POSE_METRICS,
    Protocol,
    format_results,
)

OLDER_NVS_COLUMNS = NVS_FRAME_COLUMNS[:5]
OLDER_POSE_COLUMNS = POSE_FRAME_COLUMNS[:5]
OLDER = "measured by other scripts: the tree has no protocol.json"
ENTERS_AS = {
    "psnr": f"{OLDER}, so its PSNR enters as psnr_channel_sum",
    "pcdr": f"{OLDER}, so its PCDR enters as pcdr_legacy",
}


def take_numbers(
    cell: EvaluationCell,
    epoch: int,
    task_name: str,
    on_progress: Progress = silent,
    contents: Contents | None = None,
) -> Protocol:
    """Link one task of one epoch; what is as wanted is left alone.

    Raises:
        InvalidFile: the tree lacks the epoch or a required file, or a table cannot be read.
    """
    task, unit = cell.tree.task(epoch, task_name), task_unit(cell, epoch, task_name)
    if verified(unit, contents).is_made:
        return storage.read_json(task.protocol, Protocol)
    tree = source_tree(cell)
    assert tree is not None, "the source `existing` has a tree"
    source_epoch(cell, tree, epoch)
    source, making = tree.task(epoch, task_name), begin(unit, contents)
    protocol = read_protocol(source)
    if protocol is not None:
        if faults := task_faults(source):
            raise InvalidFile(
                "the tree that is to be taken over is not whole",
                file=faults[0][0],
                found=faults[0][1],
                remedy="mend it, or let its renders be measured again (`recompute: true`)",
            )
        protocol = protocol.model_copy(update={"epoch": epoch, "step": cell.epoch_steps()[epoch]})
    withdraw(cell.tree, epoch, task)
    for name in NVS_FOLDERS if task_name == "nvs" else POSE_FOLDERS:
        with staged(task.base / name) as stage:
            stage.link_all(source.base / name)
    with staged(task.metrics_dir) as stage:
        if protocol is not None:
            stage.link_all(source.metrics_dir)
            stage.write(task.protocol, storage.to_json_bytes(protocol))
        else:
            protocol = _older(cell, epoch, tree, source, task, stage)
    making.finish(outputs_of(task), noted={"from": str(tree.base)})
    on_progress(f"{cell.scene.name} {epoch_name(epoch)} {task_name}: taken over from {tree.base}")
    return protocol


def _older(
    cell: EvaluationCell,
    epoch: int,
    tree: EvaluationTree,
    source: TaskTree,
    task: TaskTree,
    stage: Staging,
) -> Protocol:
    """Write the tables of a tree without a protocol in the columns of ours, and the protocol that says so."""
    rows = _older_nvs_rows(source) if task.task == "nvs" else _older_pose_rows(source)
    empty = sorted({name for row in rows for name, value in row.items() if value is None})
    comparable: dict[str, Any] = {"prediction_source": "existing", "protocol": OLDER}
    frames: Any = [frame_name(row["frame_id"]) for row in rows]
    if task.task == "nvs":
        comparable["cameras"] = sorted({row["camera_id"] for row in rows})
        frames = {
            str(cam_id): [frame_name(row["frame_id"]) for row in rows if row["camera_id"] == cam_id]
            for cam_id in comparable["cameras"]
        }
    else:
        comparable["world_alignment"] = _older_alignment(tree)
    protocol = Protocol(
        task=task.task,
        epoch=epoch,
        step=cell.epoch_steps()[epoch],
        comparable=comparable,
        empty_metrics={name: ENTERS_AS.get(name, OLDER) for name in empty},
        versions={"thesis_assets": __version__},
        details={
            IMPORTED: str(tree.base),
            "frames": frames,
            "source_camera": cell.source_camera(),
            "its own results": _older_results(source),
        },
    )
    if task.task == "nvs":
        write_nvs_tables(stage, task, rows, protocol)
    else:
        overall = {metric: mean_of(rows, metric) for metric in POSE_METRICS}
        stage.write(task.pose_per_frame, table_text(POSE_FRAME_COLUMNS, rows).encode())
        stage.write(task.pose_results, format_results(overall).encode())
        stage.write(task.protocol, storage.to_json_bytes(protocol))
    return protocol


def _older_nvs_rows(source: TaskTree) -> list[dict[str, Any]]:
    rows = [
        {
            "camera_id": int(row["camera_id"] or 0),
            "frame_id": int(row["frame_id"] or 0),
            **{"psnr": None, "ssim": row["ssim"], "lpips": row["lpips"], "psnr_channel_sum": row["psnr"]},
        }
        for row in read_table(frame_table(source), OLDER_NVS_COLUMNS)
    ]
    return sorted(rows, key=lambda row: (row["camera_id"], row["frame_id"]))


def _older_pose_rows(source: TaskTree) -> list[dict[str, Any]]:
    found = _first_readable(source, (POSE_FRAME_COLUMNS, OLDER_POSE_COLUMNS))
    rows = [
        {**dict.fromkeys(POSE_METRICS), **row, "frame_id": int(row["frame_id"] or 0)}
        | {"pcdr": None, "pcdr_legacy": row.get("pcdr_legacy", row["pcdr"])}
        for row in found
    ]
    return sorted(rows, key=lambda row: row["frame_id"])


def _first_readable(source: TaskTree, forms: Sequence[tuple[str, ...]]) -> list[dict[str, float | None]]:
    for columns in forms[:-1]:
        try:
            return read_table(frame_table(source), columns)
        except InvalidFile:  # the scripts before wrote fewer columns
            continue
    return read_table(frame_table(source), forms[-1])


def _older_results(source: TaskTree) -> str:
    """What its overall file says, word for word: the means in our table are ours, without the source camera."""
    path = source.required_files[0]
    if not path.is_file():
        raise InvalidFile("the tree that is to be taken over lacks a required file", file=path)
    return path.read_bytes()[:2000].decode("utf-8", errors="replace")


def _older_alignment(tree: EvaluationTree) -> str:
    try:
        value = storage.read_json_value(tree.manifest)
    except InvalidFile:  # the scripts before did not always write one
        return "unknown"
    said = value.get("pose_eval_world_alignment_method") if isinstance(value, dict) else None
    return said if isinstance(said, str) else "unknown"
