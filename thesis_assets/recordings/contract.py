"""Checks of recordings: they load, are current and small, and hold what the files of a tree or a run say, and nothing else.

What must be there is derived from the files alone, apart from the exporters on purpose: every file is asked where it went, so that
a folder an exporter forgets is found. Does not belong here: reading an .rrd (`verification`).
"""

from __future__ import annotations

import contextlib
import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import TASKS, DifixTree, EvaluationTree, TaskTree, epoch_name
from thesis_assets.provenance import Contents
from thesis_assets.recordings.exports import BYTES_PER_MB, TreeExports, task_recordings
from thesis_assets.recordings.recording import STEP, recording_facts
from thesis_assets.recordings.tracks import ExportOptions, files_below, left_out_paths
from thesis_assets.recordings.tree_tracks import evaluated_epochs
from thesis_assets.recordings.triplets import (
    chosen_samples,
    finished_steps,
    sample_entity,
    triplet_recording_unit,
)
from thesis_assets.recordings.verification import (
    EntityContent,
    RecordingContent,
    layout_offenders,
    read_recording,
    verify_recording,
)
from thesis_assets.scenes.bounded_files import read_npz
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.evaluation import POSE_METRICS, parse_results

NVS_CURVES = ("psnr", "ssim", "lpips")

_IMAGE, _MASK, _DEPTH = "EncodedImage:blob", "SegmentationImage:buffer", "EncodedDepthImage:blob"
_POINTS, _MESH, _SCALAR = "Points3D:positions", "Mesh3D:vertex_positions", "Scalars:scalars"
_PINHOLE, _POSE, _TEXT = "Pinhole:image_from_camera", "Transform3D:translation", "TextDocument:text"
_ROW_COMPONENTS = frozenset({_IMAGE, _MASK, _DEPTH, _POINTS, _MESH, _SCALAR, _PINHOLE, _POSE, _TEXT})
"""Components that come from files; the others (colours, names, axes, clears) dress them."""

# What a file gives that is not one row of one component.
_CAMERA_FILE, _BODY_FILE, _MESH_FILE, _NOT_RECORDED = "camera", "body", "mesh", ""

_FRAME = r"(?P<frame>\d{6,12})"
_PICTURE = rf"{_FRAME}\.(?:jpe?g|png)"
_CAM = r"(?P<cam>0|[1-9]\d*)"
_SPLIT = r"(?P<split>train|test)"
_DEBUG = r"train/misc/nv_generation/(?P<kind>est_\w+_debug)"
_DEBUG_ENTITY = "train/misc/nv_generation/{kind}"
_TASK_NOT_RECORDED = (
    r"viz/.*|metrics/.*|inputs/predictions\.json|gt_inputs/(smplx|smpl)/.*|(pred|gt_inputs)/cam_\d+/metrics_input/.*"
)
"""Metrics are expected by their content; `viz/` and `metrics_input/` show the same pictures; true bodies are recorded as their meshes."""

_RULES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "input_data": (
        (rf"{_SPLIT}/images/{_CAM}/{_PICTURE}", "{split}/cameras/cam_{cam}/image", _IMAGE),
        (rf"{_SPLIT}/seg/img_seg_mask/{_CAM}/(?:all|\d+)/{_FRAME}\.png", "{split}/cameras/cam_{cam}/mask", _MASK),
        (rf"{_SPLIT}/depths/{_CAM}/{_FRAME}\.npy", "{split}/cameras/cam_{cam}/depth", _DEPTH),
        (rf"{_SPLIT}/all_cameras/{_CAM}/{_FRAME}\.npz", "{split}/cameras/cam_{cam}", _CAMERA_FILE),
        (rf"{_SPLIT}/(?P<model>smplx|smpl)/{_FRAME}\.npz", "{split}/people", _BODY_FILE),
        (rf"{_DEBUG}/{_CAM}/{_PICTURE}", _DEBUG_ENTITY + "/cam_{cam}", _IMAGE),
        (rf"{_DEBUG}/{_CAM}/{_FRAME}\.npy", _DEBUG_ENTITY + "/cam_{cam}", _DEPTH),
        (rf"{_DEBUG}/{_PICTURE}", _DEBUG_ENTITY, _IMAGE),
        (rf"{_DEBUG}/{_FRAME}\.npy", _DEBUG_ENTITY, _DEPTH),
        (  # files of the scene contract that the recordings' page gives no entity
            r"input_data\.json|(train|test)/(skip_frames\.csv|meta\.npz|meshes/.*|gaussians/.*|canon_3dgs_lhm/.*"
            r"|misc/(?!nv_generation/).*)",
            "",
            _NOT_RECORDED,
        ),
    ),
    "nvs": (
        (rf"inputs/cam_{_CAM}/render/{_PICTURE}", "inputs/cam_{cam}/render", _IMAGE),
        (rf"inputs/cam_{_CAM}/mask/{_FRAME}\.png", "inputs/cam_{cam}/mask", _MASK),
        (rf"inputs/cam_{_CAM}/camera/{_FRAME}\.npz", "inputs/cam_{cam}", _CAMERA_FILE),
        (rf"(?P<side>pred|gt_inputs)/cam_{_CAM}/{_PICTURE}", "{side}/cam_{cam}", _IMAGE),
        (_TASK_NOT_RECORDED, "", _NOT_RECORDED),
    ),
    "pose": (
        (
            r"(?P<side>pred|gt_inputs)/(?P<alignment>world_aligned|root_aligned)/posed_(?:smplx|smpl)_meshes_per_frame/"
            rf"(?:(?P<person>\d+)/)?{_FRAME}\.obj",
            "{side}/{alignment}",
            _MESH_FILE,
        ),
        (rf"inputs/(?P<model>smplx|smpl)/{_FRAME}\.npz", "inputs", _BODY_FILE),
        (_TASK_NOT_RECORDED, "", _NOT_RECORDED),
    ),
}
"""Of each part of a tree: pattern of a file's place, template of its entity below the part's, component or kind of file."""


# --- the checks ------------------------------------------------------------------------------------------------------


def check_recording_contract(
    tree: EvaluationTree, *, epochs: Sequence[int] | None = None, tasks: Sequence[str] | None = None
) -> CheckOutcome:
    """Whether the recordings hold what the tree holds, and nothing else: entity, timeline and row.

    Every file must have its row, unless the recording's record names it as left out; every row must have its file.

    Args:
        epochs: None = all that are on disk.
        tasks: None = those that each recording says it was asked for.
    """
    wanted: list[tuple[Path, str, int | None, Sequence[str] | None]] = []
    if tree.input_data_dir.is_dir():
        wanted.append((tree.input_data_recording, "input_data", None, None))
    for epoch in evaluated_epochs(tree) if epochs is None else epochs:
        wanted.append((tree.evaluation_recording(epoch), "evaluation", epoch, tasks))
        wanted += [(path, task, epoch, (task,)) for task, path in task_recordings(tree, epoch).items()]
    offenders: list[str] = []
    counts: dict[str, int | float] = {"recordings": 0, "entities": 0, "rows": 0, "files": 0}
    for path, kind, of_epoch, of_tasks in wanted:
        try:
            offenders += [f"{path.name}: {line}" for line in _differences(tree, path, kind, of_epoch, of_tasks, counts)]
        except InvalidFile as error:
            offenders.append(f"{path.name}: {error.problem}")
    return CheckOutcome.of(
        offenders,
        message=f"{len(wanted)} recordings held against the tree: {len(offenders)} differences",
        counts=counts,
    )


def check_recordings_verify(tree: EvaluationTree) -> CheckOutcome:
    """Whether every recording of a tree loads without error."""
    outcomes = [verify_recording(path) for path in recordings_of(tree)]
    offenders = [line for outcome in outcomes for line in outcome.offenders]
    return CheckOutcome.of(
        offenders,
        message=f"{len(outcomes)} recordings verified, {len(offenders)} cannot be loaded",
        counts={"recordings": len(outcomes)},
    )


def check_recordings_current(
    tree: EvaluationTree,
    *,
    run_name: str | None = None,
    scene_name: str | None = None,
    tasks: Sequence[str] = TASKS,
    options: ExportOptions | None = None,
) -> CheckOutcome:
    """Whether every recording is whole and was made from what is on disk now. `options`: None: those that each was made by."""
    exports = TreeExports(tree, run_name, scene_name, options)
    units = {tree.input_data_recording: exports.input_data_unit()} if tree.input_data_dir.is_dir() else {}
    for epoch in evaluated_epochs(tree):
        units |= exports.epoch_units(epoch, tasks)
    contents = Contents()
    verdicts = {path: unit.look(contents) for path, unit in units.items()}
    offenders = [f"{path.name}: {verdict.in_words}" for path, verdict in verdicts.items() if not verdict.is_made]
    return CheckOutcome.of(
        offenders,
        message=f"{len(units)} recordings, {len(offenders)} of them not current",
        counts={"recordings": len(units)},
    )


def check_recording_sizes(tree: EvaluationTree, max_megabytes: int) -> CheckOutcome:
    """Whether every recording stays within the size budget; the web viewer ends near 2300 MB of memory.

    An epoch that is there by task as well may be larger as a whole.
    """
    whole = {tree.evaluation_recording(epoch) for epoch in evaluated_epochs(tree) if task_recordings(tree, epoch)}
    sizes = {path: path.stat().st_size for path in recordings_of(tree) if path not in whole}
    offenders = [
        f"{path.name}: {size / BYTES_PER_MB:.1f} MB, above {max_megabytes} MB"
        for path, size in sizes.items()
        if size > max_megabytes * BYTES_PER_MB
    ]
    total = sum(sizes.values())
    return CheckOutcome.of(
        offenders,
        message=f"{len(sizes)} recordings, {total / BYTES_PER_MB:.1f} MB",
        counts={"recordings": len(sizes), "bytes": total, "largest_bytes": max(sizes.values(), default=0)},
    )


def check_triplet_recording(tree: DifixTree, run_name: str) -> CheckOutcome:
    """Whether `triplets.rrd` loads, is current, and holds every chosen sample at every finished checkpoint, nothing else."""
    path = tree.tuning_run(run_name).triplet_recording
    verified = verify_recording(path)
    if not verified.passed:
        return verified
    counts: dict[str, int | float] = {}
    try:
        offenders = _triplet_differences(tree, run_name, counts)
        verdict = triplet_recording_unit(tree, run_name).look()
        if not verdict.is_made:
            offenders.append(f"{path.name}: {verdict.in_words}")
    except InvalidFile as error:
        offenders = [f"{path.name}: {error.problem}"]
    return CheckOutcome.of(
        offenders,
        message=f"{path.name} held against the run: {len(offenders)} differences",
        counts={**counts, "bytes": path.stat().st_size},
    )


def recordings_of(tree: EvaluationTree) -> list[Path]:
    """The .rrd files of a tree, by name."""
    return sorted(tree.rerun_dir.glob("*.rrd"))


# --- a recording against the files -----------------------------------------------------------------------------------


def _differences(
    tree: EvaluationTree,
    path: Path,
    kind: str,
    epoch: int | None,
    tasks: Sequence[str] | None,
    counts: dict[str, int | float],
) -> Iterator[str]:
    content = read_recording(path)
    left_out = left_out_paths(recording_facts(path).absent)
    said = content.properties
    if "export.max_frames_per_camera" not in said:
        yield "not one of our exports: the property `export` is missing"
        return
    tasks = tasks or str(said.get("export.tasks") or "").split(",")
    expected = _Expected.of(tree, epoch, tasks, int(said["export.max_frames_per_camera"]))
    counts["recordings"] += 1
    counts["entities"] += len(content.entities)
    counts["files"] += expected.n_files
    counts["rows"] += sum(sum(entity.row_count.values()) for entity in content.entities.values())
    application = f"thesis_assets_{kind}" + (f"_{epoch_name(epoch)}" if epoch is not None else "")
    if content.application_id != application:
        yield f"application id {content.application_id}, wanted {application}"
    if epoch is not None and said.get("epoch.epoch") != epoch:
        yield f"the property `epoch` is {said.get('epoch.epoch')}, wanted {epoch}"
    yield from layout_offenders(content)
    yield from (f"{file}: no entity is known for this file" for file in expected.unknown if file not in left_out)
    for (entity, component), rows in expected.entities.items():
        yield from _missing(entity, component, rows, content.entities.get(entity, EntityContent()), left_out)
    yield from _unfounded(expected, content)


def _missing(entity: str, component: str, rows: _Rows, found: EntityContent, left_out: set[str]) -> Iterator[str]:
    """What the tree has and the recording has not; rows on another timeline."""

    def excused(files: list[str]) -> bool:
        """Whether every file of a row (or any one, as it needs all) is named as left out, itself or with its folder."""
        named = [any(file == path or file.startswith(f"{path}/") for path in left_out) for file in files]
        return any(named) if rows.of_both else all(named)

    if rows.static:
        usable = not rows.frames or not all(map(excused, rows.frames.values()))
        if usable and component not in found.static:
            yield f"{entity} {component}: not there as a static part"
        return
    there, timeline = found.rows.get(component, set()), rows.timelines[0]
    for frame, files in sorted(rows.frames.items()):
        if (timeline, frame) not in there and not excused(files):
            yield f"{entity} {component}: no row at {timeline} {frame}, from {files[0]}"
    timelines = {name for name, _ in there}
    if timelines and timelines != set(rows.timelines):
        yield f"{entity} {component}: on timelines {', '.join(sorted(timelines))}, wanted {', '.join(rows.timelines)}"


def _unfounded(expected: _Expected, content: RecordingContent) -> Iterator[str]:
    """What the recording has and the tree has not, and rows that stand twice."""
    for entity, found in content.entities.items():
        for component in sorted((found.static | set(found.rows)) & _ROW_COMPONENTS):
            rows = expected.entities.get((entity, component))
            if rows is None:
                yield f"{entity} {component}: nothing in the tree belongs to it"
                continue
            if component in found.static and not rows.static:
                yield f"{entity} {component}: static, though it changes over frames"
            positions = {place for name, place in found.rows.get(component, set()) if name == rows.timelines[0]}
            yield from (
                f"{entity} {component}: row {place} has no file" for place in sorted(positions - set(rows.frames))
            )
            if found.row_count.get(component, 0) > len(positions):
                yield f"{entity} {component}: {found.row_count[component]} rows at {len(positions)} places"


def _triplet_differences(tree: DifixTree, run_name: str, counts: dict[str, int | float]) -> list[str]:
    run = tree.tuning_run(run_name)
    content = read_recording(run.triplet_recording)
    left_out = left_out_paths(recording_facts(run.triplet_recording).absent)
    steps = {step for step in finished_steps(tree, run_name) if tree.relative(run.checkpoint(step)) not in left_out}
    samples = [sample for sample in chosen_samples(tree) if f"samples/{sample.sample_id}" not in left_out]
    counts |= {"samples": len(samples), "steps": len(steps)}
    offenders: list[str] = []
    known: set[str] = set()
    for entity in (sample_entity(sample.sample_id) for sample in samples):
        stills = [f"{entity}/{part}" for part in ("render", "target", "reference")]
        rows = {f"{entity}/psnr/{part}": _SCALAR for part in ("render", "refined", "gain")}
        rows[f"{entity}/refined"] = _IMAGE
        known |= {*stills, *rows}
        for part in stills:
            if _IMAGE not in content.entities.get(part, EntityContent()).static:
                offenders.append(f"{part}: no static picture")
        for part, component in rows.items():
            found = content.entities.get(part, EntityContent()).rows.get(component, set())
            offenders += [f"{part}: no row at step {step}" for step in sorted(steps - {at for _, at in found})]
            offenders += [
                f"{part}: a row at {timeline} {at} has no checkpoint"
                for timeline, at in sorted(found)
                if timeline != STEP or at not in steps
            ]
    offenders += layout_offenders(content)
    return offenders + [f"{entity}: no chosen sample" for entity in sorted(set(content.entities) - known)]


# --- what the files say ----------------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """One component of one entity.

    Attributes:
        frames: position on the first timeline to the files that its row comes from.
        static: it holds for all frames, and `frames` say from which files.
        track: entities of one track share their frames (the people of one folder of files); empty = the entity alone.
        of_both: a row needs all of its files, so that one that was left out excuses it; else any one gives it.
    """

    frames: dict[int, list[str]] = field(default_factory=dict)
    static: bool = False
    timelines: tuple[str, ...] = ("frame",)
    track: str = ""
    of_both: bool = False


@dataclass
class _Expected:
    """Everything a recording must hold, and files that no rule knows."""

    max_frames: int
    entities: dict[tuple[str, str], _Rows] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    n_files: int = 0

    @classmethod
    def of(cls, tree: EvaluationTree, epoch: int | None, tasks: Sequence[str], max_frames: int) -> _Expected:
        """What `input_data.rrd` or, of an epoch, a recording of some tasks must hold.

        Args:
            max_frames: only the first so many frames of each track were exported (0 = all).
        """
        expected = cls(max_frames)
        if epoch is None:
            expected._add_files(tree, tree.input_data_dir, "/input_data", "input_data")
        else:
            for task in (tree.task(epoch, name) for name in TASKS if name in tasks):
                if task.base.is_dir():
                    root = f"/evaluation/{epoch_name(epoch)}/{task.task}"
                    expected._add_files(tree, task.base, root, "nvs" if task.task == "nvs" else "pose")
                    expected._add_differences(root)
                    expected._add_numbers(task, f"{root}/metrics", epoch)
        if max_frames:
            expected._keep_first_frames()
        return expected

    def add(self, entity: str, component: str, frame: int, file: str, **more: Any) -> None:
        """Expect one row. `more`: fields of `_Rows`."""
        rows = self.entities.setdefault((entity, component), _Rows(**more))
        rows.frames.setdefault(frame, []).append(file)

    def _add_files(self, tree: EvaluationTree, base: Path, root: str, part: str) -> None:
        """What every file of a part of the tree gives; an empty one counts as missing in the scene contract."""
        is_input = part == "input_data"
        with_smplx = {folder.parent for folder in base.glob("*/smplx") if is_input and any(folder.glob("*.npz"))}
        cameras: dict[str, dict[int, Path]] = {}
        meshes: list[tuple[str, str | None, int, Path]] = []
        for path in files_below(base):
            if path.stat().st_size == 0:
                continue
            place, file = path.relative_to(base).as_posix(), tree.relative(path)
            self.n_files += 1
            rules = (
                (re.fullmatch(pattern, place, re.ASCII), template, kind) for pattern, template, kind in _RULES[part]
            )
            match, template, kind = next((rule for rule in rules if rule[0]), (None, "", ""))
            if match is None:
                self.unknown.append(file)
                continue
            if kind == _NOT_RECORDED:
                continue
            entity, frame = f"{root}/{template.format(**match.groupdict())}", int(match["frame"])
            if kind == _CAMERA_FILE:
                cameras.setdefault(entity, {})[frame] = path
            elif kind == _BODY_FILE:
                beside = match["model"] == "smpl" and path.parent.parent in with_smplx
                self._add_bodies(path, entity, "/smpl" if beside else "", frame, file, meshes=is_input)
            elif kind == _MESH_FILE:
                meshes.append((entity, match["person"], frame, path))
            else:
                self.add(entity, kind, frame, file)
        for entity, files in cameras.items():
            self._add_camera(entity, files, tree)
        with_people = {entity for entity, person, _, _ in meshes if person is not None}
        for entity, person, frame, path in meshes:
            if person is not None or entity not in with_people:  # else that of all repeats those of each
                name = "all" if person is None else int(person)
                with path.open("rb") as handle:
                    has_faces = any(line.startswith(b"f ") for line in handle)
                self.add(f"{entity}/person_{name}", _MESH if has_faces else _POINTS, frame, tree.relative(path))

    def _add_camera(self, entity: str, files: dict[int, Path], tree: EvaluationTree) -> None:
        """Pinhole and pose are static where every file says the same, else they have a row a frame."""
        files = dict(sorted(files.items())[: self.max_frames or None])
        archives = []
        for path in files.values():
            with contextlib.suppress(InvalidFile):  # the exporter must have named it among what was left out
                archives.append(read_npz(path))
        for name, component in (("intrinsics", _PINHOLE), ("extrinsics", _POSE)):
            values = [archive[name] for archive in archives if name in archive]
            static = all(np.array_equal(value, values[0]) for value in values)
            rows = {frame: [tree.relative(path)] for frame, path in files.items()}
            self.entities[entity, component] = _Rows(rows, static=static)

    def _add_bodies(self, path: Path, people: str, suffix: str, frame: int, file: str, *, meshes: bool) -> None:
        """A row a person and frame: a mesh where the file has vertices and faces (and `meshes`), else joints."""
        try:
            arrays = read_npz(path)
        except InvalidFile:  # the exporter must have named it among what was left out
            arrays = {}
        component = _MESH if meshes and "vertices" in arrays and "faces" in arrays else _POINTS
        for person in range(len(arrays["betas"]) if "betas" in arrays else 1):
            self.add(f"{people}/person_{person}{suffix}", component, frame, file, track=people + suffix)

    def _add_differences(self, root: str) -> None:
        """A difference picture at each frame that a camera's prediction and truth both have."""
        for (entity, component), predicted in list(self.entities.items()):
            camera = entity.removeprefix(f"{root}/pred/")
            truth = self.entities.get((f"{root}/gt_inputs/{camera}", _IMAGE))
            if component == _IMAGE and camera != entity and truth is not None:
                for frame in predicted.frames.keys() & truth.frames:
                    for file in (*predicted.frames[frame], *truth.frames[frame]):
                        self.add(f"{root}/metrics/difference/{camera}", _IMAGE, frame, file, of_both=True)

    def _add_numbers(self, task: TaskTree, root: str, epoch: int) -> None:
        """A row a finite number, of the tables' own rows and of the epoch as a whole; and the page.

        A table that cannot be read to its end gives none (its own check says so).
        """
        is_nvs = task.task == "nvs"
        table, results = (task.nvs_per_frame, task.nvs_results) if is_nvs else (task.pose_per_frame, task.pose_results)
        found: list[tuple[str, int]] = []
        try:
            with table.open(newline="", encoding="utf-8") as handle:
                for row in csv.DictReader(handle):
                    frame = int(row["frame_id"])
                    for metric in NVS_CURVES if is_nvs else POSE_METRICS:
                        text = (row.get(metric) or "").strip()
                        if text and math.isfinite(float(text)):
                            camera = f"/cam_{int(row['camera_id'])}" if is_nvs else ""
                            found.append((f"{root}/{metric}{camera}", frame))
        except (OSError, KeyError, TypeError, ValueError, csv.Error):
            found = []
        for entity, frame in found:
            self.add(entity, _SCALAR, frame, table.name, timelines=("frame", "epoch"))
        with contextlib.suppress(OSError, ValueError):
            for metric, value in parse_results(results.read_text(encoding="utf-8")).items():
                if metric in (*NVS_CURVES, *POSE_METRICS) and math.isfinite(value):
                    entity = f"{root}/overall/{metric}"
                    self.add(entity, _SCALAR, epoch, results.name, timelines=("epoch",))
        if task.metrics_dir.is_dir():
            self.entities[f"{root}/summary", _TEXT] = _Rows(static=True)

    def _keep_first_frames(self) -> None:
        """Keep the first `max_frames` frames that the files of each track have."""
        frames_of: dict[str, set[int]] = {}
        for (entity, _), rows in self.entities.items():
            frames_of.setdefault(rows.track or entity, set()).update(rows.frames)
        for (entity, _), rows in self.entities.items():
            kept = set(sorted(frames_of[rows.track or entity])[: self.max_frames])
            if rows.timelines != ("epoch",):
                rows.frames = {frame: files for frame, files in rows.frames.items() if frame in kept}
