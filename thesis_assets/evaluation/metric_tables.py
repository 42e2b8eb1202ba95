"""The tables, results and protocol of a task: written and read with the columns that the output document fixes, and what is wrong with them.

A tree of older scripts has no `protocol.json`: its PSNR enters as `psnr_channel_sum`, and how it was measured is not known.
Does not belong here: which rows count in a mean (`means`), what a finished task is worth (`measured_tasks`), any comparison
(`leaderboard`), or whether the numbers are those of the saved images (`required_files`).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.means import Values, counted_rows, mean_of
from thesis_assets.evaluation.outputs import Staging
from thesis_assets.layout import TASKS, TaskTree
from thesis_assets.schemas.evaluation import (
    NVS_CAMERA_COLUMNS,
    NVS_FRAME_COLUMNS,
    NVS_MORE_METRICS,
    NVS_RESULT_KEYS,
    PEOPLE_COUNTS,
    POSE_FRAME_COLUMNS,
    POSE_METRICS,
    POSE_MOTION_METRICS,
    RECALL,
    Protocol,
    format_results,
    parse_results,
)

Row = dict[str, float | None]
MAX_TABLE_BYTES = 256 * 1024 * 1024
KEY_COLUMNS = ("camera_id", "frame_id")
REFINER_SIZE = "refiner_size"
RENDER_SIZE = "render_size"
"""In a protocol: that the renders were smaller than the photographs, and by how much."""
"""In the protocol of refined views: predictions refined at different sizes are never paired. Unrefined ones have none."""
OPTIONAL_COLUMNS = frozenset({"lpips", "cd_mm", "pcdr"})
"""What cannot always be measured: without weights, without contact, without a second person. A column that is absent is empty."""
MAY_BE_NAN = frozenset({"cd_mm", "pcdr"})
"""Means over nothing, where a frame has no contact or no two people: some scripts write these as `nan`."""
OLDER_COLUMNS = {task: (NVS_FRAME_COLUMNS if task == "nvs" else POSE_FRAME_COLUMNS)[:5] for task in TASKS}
"""Of a table that older scripts wrote."""
MORE_METRICS = {task: NVS_MORE_METRICS if task == "nvs" else POSE_MOTION_METRICS for task in TASKS}
"""Columns that a table may have after the others, in this order; those of older versions have none."""
CONDITIONING = "conditioning"
"""In the protocol of poses: whether it was looked at if the fit of the two worlds holds its rotation."""
NOT_CHECKED = "not checked: the rotation of the two worlds' alignment may be off"
IMPORTED = "imported"
"""In a protocol's details: the tree that the numbers were taken from, measured by other scripts in a way that nobody wrote down."""
MESH_SIDES = ("pred", "gt_inputs")
MESH_ALIGNMENTS = ("world_aligned", "root_aligned")
ITS_OWN_RESULTS = "its own results"
"""In the details of such a protocol: what the other scripts' file of means says, word for word."""
DAMAGED = "damaged"
"""The first word of why numbers do not count whose files cannot be believed."""
RESULT_TOLERANCE = 1e-4
"""Results are written with four decimals, tables with six."""


def table_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, float | int | None]], *, as_they_are: bool = False
) -> str:
    """CSV: whole numbers for keys, six decimals for metrics, an empty field for an absent value.

    Args:
        as_they_are: metrics that six decimals would round keep all of theirs: others measured them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_field(name, row.get(name), as_they_are) for name in columns])
    return text.getvalue()


def _field(name: str, value: float | None, as_it_is: bool) -> str:
    if value is None:
        return ""
    if name in (*KEY_COLUMNS, *PEOPLE_COUNTS):
        return str(int(value))
    text = format(value, ".6f")
    return repr(value) if as_it_is and float(text) != value else text


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, float | None]]:
    """A metric table back. An empty field and an absent optional column are None; columns after the wanted ones are passed over.

    Raises:
        InvalidFile: missing, empty, cut short, other columns in front, a field that is not a finite number, or two rows of one
            camera and frame.
    """
    rows = list(csv.reader(_bounded_text(path).splitlines()))
    header = tuple(rows[0]) if rows else ()
    there = _columns_there(columns, header)
    if header[: len(there)] != there:
        raise InvalidFile(
            "the table has other columns",
            file=path,
            found=",".join(header)[:300] if rows else "no header",
            wanted=",".join(columns) + " first, in this order",
        )
    if len(rows) == 1:
        raise InvalidFile("the table has no rows", file=path)
    absent: Row = dict.fromkeys(columns)
    found = [{**absent, **_row(path, number, there, len(header), fields)} for number, fields in enumerate(rows[1:], 2)]
    _refuse_twice(path, found)
    return found


def _columns_there(columns: Sequence[str], header: Sequence[str]) -> tuple[str, ...]:
    """The wanted columns without the optional ones that a table does not have."""
    return tuple(name for name in columns if name not in OPTIONAL_COLUMNS or name in header)


def _refuse_twice(path: Path, rows: Sequence[Row]) -> None:
    seen: set[tuple[float | None, ...]] = set()
    for number, row in enumerate(rows, 2):
        key = tuple(row[name] for name in KEY_COLUMNS if name in row)
        if key and key in seen:
            raise InvalidFile(
                "two rows of one camera and frame",
                file=path,
                key=f"line {number}",
                found=", ".join(f"{name} {row[name]:g}" for name in KEY_COLUMNS if name in row),
                wanted="a row each",
            )
        seen.add(key)


def first_columns(path: Path) -> tuple[str, ...]:
    """The names in a table's first line.

    Raises:
        InvalidFile: missing, empty, or not text.
    """
    lines = _bounded_text(path).splitlines()
    return tuple(next(csv.reader(lines[:1]), []))


def _row(path: Path, number: int, columns: Sequence[str], width: int, fields: list[str]) -> dict[str, float | None]:
    if len(fields) != width:
        raise InvalidFile(
            "a row of the table is cut short", file=path, key=f"line {number}", found=len(fields), wanted=width
        )
    row: dict[str, float | None] = {}
    for name, text in zip(columns, fields, strict=False):
        if (text == "" and name not in KEY_COLUMNS) or (name in MAY_BE_NAN and text.lower() == "nan"):
            row[name] = None
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidFile(
                "a field is not a finite number",
                file=path,
                key=f"line {number}, {name}",
                found=ascii(text[:80]),
                wanted="a finite number" + ("" if name in KEY_COLUMNS else ", or nothing for an absent value"),
            )
        row[name] = value
    return row


def read_results(path: Path, keys: Sequence[str]) -> dict[str, float | None]:
    """An overall results file back; `nan` is None.

    Raises:
        InvalidFile: missing, empty, a line that is not `key: number`, or other keys than wanted in front.
    """
    text = _bounded_text(path)
    try:
        values = parse_results(text)
    except ValueError as error:
        raise InvalidFile("the results file cannot be read", file=path, found=str(error)[:200]) from error
    if tuple(values)[: len(keys)] != tuple(keys) or not text.endswith("\n"):
        raise InvalidFile(
            "the results file has other keys, or is cut short",
            file=path,
            found=", ".join(values) or "nothing",
            wanted=", ".join(keys),
        )
    return {key: None if math.isnan(values[key]) else values[key] for key in keys}


def _bounded_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size == 0:
            raise InvalidFile("the file is empty", file=path)
        if size > MAX_TABLE_BYTES:
            raise InvalidFile("the file is larger than any of its kind", file=path, found=f"{size} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path) from error
    except UnicodeDecodeError as error:
        raise InvalidFile("the file is not UTF-8 text", file=path, found=str(error)) from error


def write_tables(stage: Staging, task: TaskTree, rows: list[dict[str, Any]], protocol: Protocol) -> None:
    """Write the rows of single views or frames, their means, and the protocol that goes with them."""
    counted, more = rows, more_columns(task.task, list(rows[0]))
    names, as_they_are = metrics_in(task.task, rows), IMPORTED in protocol.details
    if task.task == "nvs":
        by_camera = [
            {"camera_id": cam_id}
            | {name: mean_of([row for row in rows if row["camera_id"] == cam_id], name) for name in names}
            for cam_id in protocol.comparable["cameras"]
        ]
        text = table_text((*NVS_CAMERA_COLUMNS, *more), by_camera, as_they_are=as_they_are)
        stage.write(task.nvs_per_camera, text.encode())
        counted = counted_rows(rows, protocol.details.get("source_camera"))
    overall = {name: mean_of(counted, name) for name in names}
    if PEOPLE_COUNTS[0] in more:
        overall[RECALL] = recall(rows, protocol)
    if protocol.details.get("results_convention") == "channel_sum":
        overall["psnr"] = overall["psnr_channel_sum"]
    text = table_text((*first_of(task.task), *more), rows, as_they_are=as_they_are)
    stage.write(frame_table(task), text.encode())
    stage.write(task.nvs_results if task.task == "nvs" else task.pose_results, format_results(overall).encode())
    stage.write(task.protocol, storage.to_json_bytes(protocol))


def metrics_of(task_name: str) -> tuple[str, ...]:
    """The metrics of a task that every results file names."""
    return NVS_RESULT_KEYS if task_name == "nvs" else POSE_METRICS


def metrics_in(task_name: str, rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The metrics that rows of a table have, which may be more than the table must have."""
    there = next(iter(rows), {})
    return (*metrics_of(task_name), *(name for name in MORE_METRICS[task_name] if name in there))


def more_columns(task_name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Of a table's names those that it may have after the others."""
    known = MORE_METRICS[task_name] + (() if task_name == "nvs" else PEOPLE_COUNTS)
    return tuple(name for name in known if name in names)


def recall(rows: Iterable[Values], protocol: Protocol) -> float | None:
    """The share of the ground truth's people who were compared, over all frames, those without a prediction too."""
    compared = sum(row["n_people"] or 0 for row in rows)
    missing = sum(map(len, protocol.details["missing_people"].values()))
    return compared / (compared + missing) if compared + missing else None


def read_protocol(task: TaskTree) -> Protocol | None:
    """The protocol of a finished task; None where it is not finished, or written by another version."""
    try:
        return storage.read_json(task.protocol, Protocol)
    except InvalidFile:  # not finished: the task is computed again
        return None


def older_row(task_name: str, row: Row) -> Row:
    """A row that older scripts measured, under the names that tell what its numbers are."""
    if task_name == "nvs":
        return {**row, "psnr": None, "psnr_channel_sum": row["psnr"]}
    unknown: Row = dict.fromkeys(POSE_METRICS)
    return {**unknown, **row, "pcdr": None, "pcdr_legacy": row.get("pcdr_legacy", row["pcdr"])}


@dataclass(frozen=True)
class TaskFiles:
    """What a finished task wrote, as far as it can be read.

    Attributes:
        tables: rows by file; those of means too.
        faults: the files that break their contract, each with what is wrong. Empty: the task is finished and whole.
    """

    protocol: Protocol | None
    tables: dict[Path, Sequence[Row]]
    faults: list[tuple[Path, str]]


def read_task(task: TaskTree) -> TaskFiles:
    """Read the protocol, the rows of frames and the files of means, and hold them against each other."""
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
    if protocol is not None and not _names_frames(protocol):
        faults.append((task.protocol, "details.frames does not name the evaluated frames"))
    elif protocol is not None:
        faults += _content_faults(task, protocol, tables)
    return TaskFiles(protocol, tables, faults)


def task_faults(task: TaskTree) -> list[tuple[Path, str]]:
    """See `TaskFiles.faults`."""
    return read_task(task).faults


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
    """Columns of the task's table of frames: those that it must have, and those that it has of those that it may have."""
    return _with_more(task.task, frame_table(task), first_of(task.task))


def first_of(task_name: str) -> tuple[str, ...]:
    """The columns that a task's table of frames must have, which stand first."""
    return NVS_FRAME_COLUMNS if task_name == "nvs" else POSE_FRAME_COLUMNS


def _with_more(task_name: str, table: Path, first: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return first + more_columns(task_name, first_columns(table))
    except InvalidFile:  # whoever reads the table says so
        return first


def frame_table(task: TaskTree) -> Path:
    """The task's table of frames."""
    return task.nvs_per_frame if task.task == "nvs" else task.pose_per_frame


def row_name(row: Values) -> str:
    """`cam_4/000003` or `000003`, as `protocol.json` names what a row is about."""
    frame = f"{int(row['frame_id'] or 0):06d}"
    return f"cam_{int(row['camera_id'] or 0)}/{frame}" if "camera_id" in row else frame


def _names_frames(protocol: Protocol) -> bool:
    frames = protocol.details.get("frames")
    lists = list(frames.values()) if isinstance(frames, dict) else [frames]
    return all(isinstance(each, list) for each in lists)


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
        return read_table(path, _with_more(task.task, path, NVS_CAMERA_COLUMNS))
    names = frame_columns(task)
    metrics = metrics_in(task.task, [dict.fromkeys(names)])
    return [read_results(path, (*metrics, *((RECALL,) if PEOPLE_COUNTS[0] in names else ())))]


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
    if ITS_OWN_RESULTS in protocol.details:
        said, source = str(protocol.details[ITS_OWN_RESULTS]), protocol.details.get("source_camera")
        now = [{then: row[name] for then, name in _names_then(task.task).items()} | _keys(row) for row in rows]
        yield from ((task.protocol, f"{ITS_OWN_RESULTS}: {text}") for text in _older_means(said, now, source))
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
    counted = counted_rows(rows, protocol.details.get("source_camera"))
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
        if metric == RECALL:
            mean = recall(rows, protocol)
        else:
            mean = mean_of(rows, "psnr_channel_sum" if older and metric == "psnr" else metric)
        if (mean is None) != (value is None) or abs((mean or 0.0) - (value or 0.0)) > RESULT_TOLERANCE:
            yield f"{metric}{place} is {value}, and the mean over the frames is {mean}"


# --- trees of older scripts --------------------------------------------------------------------------------------------


def first_columns_are_older(task: TaskTree) -> bool:
    """Whether the table of frames is one of older scripts; one that cannot be read is none of which that can be said."""
    try:
        header = first_columns(frame_table(task))
        return header == _columns_there(OLDER_COLUMNS[task.task], header)
    except InvalidFile:
        return False


def older_faults(
    task: TaskTree, source_camera: int | None, files: Mapping[str, Path] | None = None
) -> list[tuple[Path, str]]:
    """The files of a tree without a protocol that cannot be read, or that do not agree with its rows of frames.

    How the scripts took their means is not known: over frames or over cameras, with the source camera or without it, each is
    taken for agreement.

    Args:
        files: by name, where they lie elsewhere than the output document says.
    """
    places = {path.name: path for path in task.required_files} | dict(files or {})
    table, columns = places[frame_table(task).name], OLDER_COLUMNS[task.task]
    try:
        rows = read_table(table, columns)
    except InvalidFile as error:
        return [(table, _said(error))]
    faults: list[tuple[Path, str]] = []
    if task.task == "nvs":
        path = places[task.nvs_per_camera.name]
        try:
            lines = read_table(path, [name for name in columns if name != "frame_id"])
        except InvalidFile as error:
            faults.append((path, _said(error)))
        else:
            faults += ((path, text) for text in _older_cameras(lines, rows))
    path = places[task.required_files[0].name]
    try:
        faults += ((path, text) for text in _older_means(_bounded_text(path), rows, source_camera))
    except InvalidFile as error:
        faults.append((path, _said(error)))
    return faults


def _older_cameras(lines: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    by_camera = _by_camera(rows)
    for cam_id in sorted({line["camera_id"] or 0 for line in lines} ^ by_camera.keys()):
        yield f"camera {int(cam_id)} stands only here, or only in the table of frames"
    for line in lines:
        frames = by_camera.get(line["camera_id"] or 0, [])
        for metric, value in line.items():
            mean = mean_of(frames, metric)
            within = _printed_within(row[metric] for row in frames) + _printed_within(each[metric] for each in lines)
            if frames and metric != "camera_id" and None not in (mean, value) and not _near(value, mean, within):
                yield f"{metric} of camera {int(line['camera_id'] or 0)} is {value}, and the mean over the frames is {mean}"


def _older_means(text: str, rows: Sequence[Row], source_camera: object) -> Iterator[str]:
    """`text`: a file of means; a value that is not a number is one over frames of which some have none."""
    try:
        said = {name: value for name, value in parse_results(text).items() if rows and name in rows[0]}
    except ValueError as error:
        yield f"it cannot be read: {error}"
        return
    if not said:
        yield "it names none of the metrics of the table of frames"
    within = _printed_within(said.values())
    for metric, value in said.items():
        means = [
            mean
            for counted in (rows, counted_rows(rows, source_camera))
            for group in (counted, [{metric: mean_of(of, metric)} for of in _by_camera(counted).values()])
            if (mean := mean_of(group, metric)) is not None
        ]
        tolerance = within + _printed_within(row[metric] for row in rows)
        if not math.isnan(value) and not any(_near(value, mean, tolerance) for mean in means):
            yield f"{metric} is {value}, and the mean over the frames is {means[-1] if means else None}"


def _by_camera(rows: Sequence[Row]) -> dict[float, list[Row]]:
    found: dict[float, list[Row]] = {}
    for row in rows:
        found.setdefault(row.get("camera_id") or 0, []).append(row)
    return found


def _printed_within(values: Iterable[float | None]) -> float:
    """How far a number may be from what was computed by the decimals that its column is printed with."""
    places = (len(repr(value).partition(".")[2]) for value in values if value is not None and "e" not in repr(value))
    return 0.5 * 10.0 ** -min(6, max(places, default=6))


def _near(value: float | None, mean: float | None, within: float) -> bool:
    return abs((value or 0.0) - (mean or 0.0)) <= within * (1 + 1e-6) + 1e-9


def _names_then(task_name: str) -> dict[str, str]:
    """What the metrics of a row that was taken over were called by the scripts that measured it."""
    renamed = {"psnr": "psnr_channel_sum"} if task_name == "nvs" else {"pcdr": "pcdr_legacy"}
    return {name: renamed.get(name, name) for name in OLDER_COLUMNS[task_name] if name not in KEY_COLUMNS}


def _keys(row: Row) -> Row:
    return {name: row[name] for name in KEY_COLUMNS if name in row}
