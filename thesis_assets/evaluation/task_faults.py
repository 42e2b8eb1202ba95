"""What is wrong with the files of a finished task: missing, cut short, other columns, unexplained gaps, means that do not fit.

Reads the tree alone. Does not belong here: whether the numbers are right (`recomputation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.metric_tables import Values, mean_of, read_results, read_table
from thesis_assets.evaluation.nvs_tables import overall_rows
from thesis_assets.layout import TaskTree
from thesis_assets.schemas.evaluation import (
    NVS_CAMERA_COLUMNS,
    NVS_FRAME_COLUMNS,
    NVS_RESULT_KEYS,
    POSE_FRAME_COLUMNS,
    POSE_METRICS,
    Protocol,
)

Row = dict[str, float | None]

IMPORTED = "imported"
"""In a protocol's details: the tree that the numbers were taken from, measured by other scripts in a way that nobody wrote down."""
MESH_SIDES = ("pred", "gt_inputs")
MESH_ALIGNMENTS = ("world_aligned", "root_aligned")
RESULT_TOLERANCE = 1e-4
"""Results are written with four decimals, tables with six."""


def task_faults(task: TaskTree) -> list[tuple[Path, str]]:
    """The files of a task that break their contract, each with what is wrong. Empty: the task is finished and whole."""
    faults: list[tuple[Path, str]] = []
    try:
        protocol = storage.read_json(task.protocol, Protocol)
    except InvalidFile as error:
        faults.append((task.protocol, error.problem))
        protocol = None
    tables: dict[Path, Sequence[Row]] = {}
    for path in task.required_files:
        try:
            tables[path] = _read(task, path)
        except InvalidFile as error:
            faults.append((path, _said(error)))
    if protocol is not None:
        faults += _content_faults(task, protocol, tables)
    return faults


def missing_sources(task: TaskTree) -> Iterator[Path]:
    """Saved images, arrays and meshes that the protocol speaks of and that are not there."""
    protocol = storage.read_json(task.protocol, Protocol)
    for name in wanted_names(protocol) if IMPORTED not in protocol.details else ():
        folder, _, fname = name.rpartition("/")
        if task.task == "nvs":
            key = (int(folder.removeprefix("cam_")), fname)
            paths = [task.input_render(*key), task.pred_image(*key), task.gt_image(*key)]
        else:
            meshes = [task.mesh(side, how, fname) for side in MESH_SIDES for how in MESH_ALIGNMENTS]
            paths = [task.input_body(fname), task.true_body(fname), *meshes]
        yield from (path for path in paths if not path.exists())


def frame_columns(task: TaskTree) -> tuple[str, ...]:
    """Columns of the task's table of frames."""
    return NVS_FRAME_COLUMNS if task.task == "nvs" else POSE_FRAME_COLUMNS


def frame_table(task: TaskTree) -> Path:
    """The task's table of frames."""
    return task.nvs_per_frame if task.task == "nvs" else task.pose_per_frame


def row_name(row: Values) -> str:
    """`cam_4/000003` or `000003`, as `protocol.json` names what a row is about."""
    frame = f"{int(row['frame_id'] or 0):06d}"
    return f"cam_{int(row['camera_id'] or 0)}/{frame}" if "camera_id" in row else frame


def wanted_names(protocol: Protocol) -> list[str]:
    """The rows that a task's table of frames must have, in order."""
    frames: Any = protocol.details["frames"]
    if isinstance(frames, dict):
        return [f"cam_{cam_id}/{fname}" for cam_id, fnames in frames.items() for fname in fnames]
    return [str(fname) for fname in frames]


def _read(task: TaskTree, path: Path) -> Sequence[Row]:
    if path == frame_table(task):
        return read_table(path, frame_columns(task))
    if task.task == "nvs" and path == task.nvs_per_camera:
        return read_table(path, NVS_CAMERA_COLUMNS)
    return [read_results(path, NVS_RESULT_KEYS if task.task == "nvs" else POSE_METRICS)]


def _said(error: InvalidFile) -> str:
    detail = [f"{name} {value}" for name in ("key", "found") if (value := getattr(error, name)) is not None]
    return error.problem + (f" ({', '.join(detail)})" if detail else "")


def _content_faults(
    task: TaskTree, protocol: Protocol, tables: dict[Path, Sequence[Row]]
) -> Iterator[tuple[Path, str]]:
    """What the files say against the protocol, and against each other where both can be read."""
    path = frame_table(task)
    rows = tables.get(path)
    if rows is None:
        return
    found, wanted = [row_name(row) for row in rows], wanted_names(protocol)
    if found != wanted:
        missing = sorted(set(wanted) - set(found))
        what = f"first missing: {missing[0]}" if missing else "other frames, or another order"
        yield path, f"{len(found)} rows where {len(wanted)} frames were evaluated; {what}"
        return
    yield from ((path, text) for row in rows for text in _unexplained(row, protocol))
    for other, sources in _summaries(task, rows, tables, protocol):
        yield from ((other, text) for summary, of in sources for text in _wrong_means(summary, of, task, protocol))


def _unexplained(row: Row, protocol: Protocol) -> Iterator[str]:
    """Empty fields that neither the metric nor the frame has a reason for in the protocol."""
    of_frame = protocol.details.get("empty_values", {}).get(row_name(row), {})
    never = () if IMPORTED in protocol.details else ("psnr", "ssim")
    for metric, value in row.items():
        may_be_empty = metric in of_frame or (metric in protocol.empty_metrics and metric not in never)
        if value is None and not may_be_empty:
            yield f"{metric} of {row_name(row)} is empty, and protocol.json does not say why"


def _summaries(
    task: TaskTree, rows: Sequence[Row], tables: dict[Path, Sequence[Row]], protocol: Protocol
) -> Iterator[tuple[Path, list[tuple[Row, Sequence[Row]]]]]:
    """Each file of means, with the rows that each of its lines is the mean of."""
    if task.task != "nvs":
        yield task.pose_results, [(line, rows) for line in tables.get(task.pose_results, [])]
        return
    counted = overall_rows(rows, protocol)
    yield task.nvs_results, [(line, counted) for line in tables.get(task.nvs_results, [])]
    cameras = tables.get(task.nvs_per_camera)
    if cameras is not None:
        by_camera: list[tuple[Row, Sequence[Row]]] = [
            (line, [row for row in rows if row["camera_id"] == line["camera_id"]]) for line in cameras
        ]
        seen = {row["camera_id"] for row in rows}
        yield task.nvs_per_camera, by_camera + [({"camera_id": cam}, []) for cam in seen - _cameras_of(cameras)]


def _cameras_of(lines: Sequence[Row]) -> set[float | None]:
    return {line["camera_id"] for line in lines}


def _wrong_means(summary: Row, rows: Sequence[Row], task: TaskTree, protocol: Protocol) -> Iterator[str]:
    place = f" of camera {int(summary['camera_id'] or 0)}" if "camera_id" in summary else ""
    if place and (not rows or len(summary) == 1):
        yield f"the row{place} does not fit the table of frames"
        return
    older = task.task == "nvs" and not place and protocol.details.get("results_convention") == "channel_sum"
    for metric, value in summary.items():
        if metric == "camera_id":
            continue
        mean = mean_of(rows, "psnr_channel_sum" if older and metric == "psnr" else metric)
        if (mean is None) != (value is None) or abs((mean or 0.0) - (value or 0.0)) > RESULT_TOLERANCE:
            yield f"{metric}{place} is {value}, and the mean over the frames is {mean}"
