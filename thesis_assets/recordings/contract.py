"""What recordings must hold: what the files of a tree or a run say, and nothing else.

What must be there is derived from the files alone, apart from the exporters on purpose: a table says of every place in a tree which
entity and component its files give, so that a folder an exporter forgets is found, and one function compares the rows.
Does not belong here: reading an .rrd (`verification`), whether it is current (`checks`).
"""

from __future__ import annotations

import contextlib
import csv
import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import TASKS, DifixTree, EvaluationTree, TaskTree, epoch_name
from thesis_assets.recordings.exports import task_recordings
from thesis_assets.recordings.recording import EPOCH, FRAME, STEP, RecordingIdentity, recording_facts
from thesis_assets.recordings.tracks import files_below, left_out_paths
from thesis_assets.recordings.tree_tracks import evaluated_epochs
from thesis_assets.recordings.triplets import chosen_samples, finished_steps, sample_entity, triplet_recording_unit
from thesis_assets.recordings.verification import RecordingContent, layout_offenders, read_recording, verify_recording
from thesis_assets.scenes.bounded_files import read_npz
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.evaluation import POSE_METRICS, parse_results

_NVS_CURVES = ("psnr", "ssim", "lpips")
_IMAGE, _MASK, _DEPTH = "EncodedImage:blob", "SegmentationImage:buffer", "EncodedDepthImage:blob"
_POINTS, _MESH, _SCALAR = "Points3D:positions", "Mesh3D:vertex_positions", "Scalars:scalars"
_PINHOLE, _POSE, _TEXT = "Pinhole:image_from_camera", "Transform3D:translation", "TextDocument:text"
_FROM_FILES = frozenset({_IMAGE, _MASK, _DEPTH, _POINTS, _MESH, _SCALAR, _PINHOLE, _POSE, _TEXT})
"""The other components (colours, names, axes, clears) dress them."""
_CAMERA, _BODY = "camera", "body"
"""Files that give more than a row of one component."""

_DEBUG = "train/misc/nv_generation/{debug}"
_TABLE = {
    "input_data": (
        ("{split}/images/{cam}/{frame}.{picture}", "{split}/cameras/cam_{cam}/image", _IMAGE),
        ("{split}/seg/img_seg_mask/{cam}/{layer}/{frame}.png", "{split}/cameras/cam_{cam}/mask", _MASK),
        ("{split}/depths/{cam}/{frame}.npy", "{split}/cameras/cam_{cam}/depth", _DEPTH),
        ("{split}/all_cameras/{cam}/{frame}.npz", "{split}/cameras/cam_{cam}", _CAMERA),
        ("{split}/{model}/{frame}.npz", "{split}/people/{model}", _BODY),
        (_DEBUG + "/{cam}/{frame}.{picture}", _DEBUG + "/cam_{cam}", _IMAGE),
        (_DEBUG + "/{cam}/{frame}.npy", _DEBUG + "/cam_{cam}", _DEPTH),
        (_DEBUG + "/{frame}.{picture}", _DEBUG, _IMAGE),
        (_DEBUG + "/{frame}.npy", _DEBUG, _DEPTH),
    ),
    "task": (
        ("inputs/cam_{cam}/render/{frame}.{picture}", "inputs/cam_{cam}/render", _IMAGE),
        ("inputs/cam_{cam}/mask/{frame}.png", "inputs/cam_{cam}/mask", _MASK),
        ("inputs/cam_{cam}/camera/{frame}.npz", "inputs/cam_{cam}", _CAMERA),
        ("{side}/cam_{cam}/{frame}.{picture}", "{side}/cam_{cam}", _IMAGE),
        ("{side}/{aligned}/posed_{model}_meshes_per_frame/{person}/{frame}.obj", "{side}/{aligned}/person_{person}", _MESH),
        ("{side}/{aligned}/posed_{model}_meshes_per_frame/{frame}.obj", "{side}/{aligned}/person_all", _MESH),
        ("inputs/{model}/{frame}.npz", "inputs/{model}", _BODY),
    ),
}  # fmt: skip
"""A file's place in a part of the tree, its entity below the part's, and the component (or kind of file)."""
_PLACES = {
    "split": "train|test", "cam": r"0|[1-9]\d*", "frame": r"\d{6,12}", "picture": "jpe?g|png", "layer": r"all|\d+",
    "model": "smplx|smpl", "debug": r"est_\w+_debug", "side": "pred|gt_inputs", "aligned": "world_aligned|root_aligned",
    "person": r"\d+",
}  # fmt: skip
_NOT_RECORDED = {
    "input_data": r"input_data\.json"
    r"|(train|test)/(skip_frames\.csv|meta\.npz|(meshes|gaussians|canon_3dgs_lhm|misc(?!/nv_generation/))/.*)",
    "task": r"(viz|metrics)/.*|inputs/predictions\.json|gt_inputs/(smplx|smpl)/.*|(pred|gt_inputs)/cam_\d+/metrics_input/.*",
}
"""Files without an entity. Metrics are expected by their content, true bodies as meshes; `viz/` and `metrics_input/` repeat pictures."""

_STATIC = ("static", 0)
_Rows = dict[tuple[str, str], dict[tuple[str, int], list[tuple[str, ...]]]]
"""Entity and component to timeline and position (or `_STATIC`) of each row, to the files of each way to it, which needs them all."""


def _rule_of(part: str, place: str) -> tuple[str, str, int] | None:
    """Entity below the part's, component or kind, and frame of a file; empty where it is not recorded, None where nobody knows it."""
    for pattern, entity, kind in _TABLE[part]:
        if match := _regex(pattern).fullmatch(place):
            said = {name: int(text) if text.isdecimal() else text for name, text in match.groupdict().items()}
            return entity.format(**said), kind, int(match["frame"])
    return ("", "", 0) if re.fullmatch(_NOT_RECORDED[part], place) else None


@functools.cache
def _regex(pattern: str) -> re.Pattern[str]:
    named = re.sub(r"\\\{(\w+)\\\}", lambda name: f"(?P<{name[1]}>{_PLACES[name[1]]})", re.escape(pattern))
    return re.compile(named, re.ASCII)


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
    asked: list[tuple[Path, RecordingIdentity, Sequence[str] | None]] = []
    if tree.input_data_dir.is_dir():
        asked.append((tree.input_data_recording, RecordingIdentity("input_data", "", "", ""), None))
    for epoch in evaluated_epochs(tree) if epochs is None else epochs:
        asked.append((tree.evaluation_recording(epoch), RecordingIdentity("evaluation", "", "", "", epoch), tasks))
        for task, path in task_recordings(tree, epoch).items():
            asked.append((path, RecordingIdentity(task, "", "", "", epoch), (task,)))
    offenders: list[str] = []
    counts: dict[str, int | float] = {"recordings": 0, "entities": 0, "rows": 0, "files": 0}
    for path, identity, of_tasks in asked:
        try:
            offenders += [f"{path.name}: {line}" for line in _tree_differences(tree, path, identity, of_tasks, counts)]
        except InvalidFile as error:
            offenders.append(f"{path.name}: {error.problem}")
    message = f"{len(asked)} recordings held against the tree: {len(offenders)} differences"
    return CheckOutcome.of(offenders, message=message, counts=counts)


def check_triplet_recording(tree: DifixTree, run_name: str) -> CheckOutcome:
    """Whether `triplets.rrd` loads, is current, and holds every chosen sample at every finished checkpoint, nothing else."""
    run = tree.tuning_run(run_name)
    path = run.triplet_recording
    verified = verify_recording(path)
    if not verified.passed:
        return verified
    counts: dict[str, int | float] = {"bytes": path.stat().st_size}
    try:
        left_out = left_out_paths(recording_facts(path).absent)
        steps = {step: tree.relative(run.checkpoint(step)) for step in finished_steps(tree, run_name)}
        steps = {step: file for step, file in steps.items() if file not in left_out}
        samples = [sample for sample in chosen_samples(tree) if f"samples/{sample.sample_id}" not in left_out]
        counts |= {"samples": len(samples), "steps": len(steps)}
        wanted: _Rows = {}
        for entity in (sample_entity(sample.sample_id) for sample in samples):
            stills = {f"{entity}/{part}": _IMAGE for part in ("render", "target", "reference")}
            moving = {f"{entity}/psnr/{part}": _SCALAR for part in ("render", "refined", "gain")}
            moving[f"{entity}/refined"] = _IMAGE
            wanted |= {key: {_STATIC: [()]} for key in stills.items()}
            wanted |= {key: {(STEP, step): [(file,)] for step, file in steps.items()} for key in moving.items()}
        offenders = list(_differences(wanted, read_recording(path), left_out))
        verdict = triplet_recording_unit(tree, run_name).look()
        if not verdict.is_made:
            offenders.append(f"{path.name}: {verdict.in_words}")
    except InvalidFile as error:
        offenders = [f"{path.name}: {error.problem}"]
    message = f"{path.name} held against the run: {len(offenders)} differences"
    return CheckOutcome.of(offenders, message=message, counts=counts)


def _tree_differences(
    tree: EvaluationTree,
    path: Path,
    identity: RecordingIdentity,
    tasks: Sequence[str] | None,
    counts: dict[str, int | float],
) -> Iterator[str]:
    content, left_out, epoch = read_recording(path), left_out_paths(recording_facts(path).absent), identity.epoch
    said = content.properties
    if "export.max_frames_per_camera" not in said:
        yield "not one of our exports: the property `export` is missing"
        return
    tasks = tasks or str(said.get("export.tasks") or "").split(",")
    wanted = _Wanted(tree, int(said["export.max_frames_per_camera"]) or None)
    if epoch is None:
        wanted.add_files(tree.input_data_dir, "/input_data", "input_data")
    else:
        for task in (tree.task(epoch, name) for name in TASKS if name in tasks):
            if task.base.is_dir():
                root = f"/evaluation/{epoch_name(epoch)}/{task.task}"
                wanted.add_files(task.base, root, "task")
                wanted.add_numbers(task, f"{root}/metrics", epoch)
    n_rows = sum(sum(entity.row_count.values()) for entity in content.entities.values())
    found = {"recordings": 1, "entities": len(content.entities), "rows": n_rows, "files": wanted.n_files}
    counts |= {name: counts[name] + number for name, number in found.items()}
    if content.application_id != identity.application_id:
        yield f"application id {content.application_id}, wanted {identity.application_id}"
    if epoch is not None and said.get("epoch.epoch") != epoch:
        yield f"the property `epoch` is {said.get('epoch.epoch')}, wanted {epoch}"
    yield from (f"{file}: no entity is known for this file" for file in wanted.unknown if file not in left_out)
    yield from _differences(wanted.rows, content, left_out)


def _differences(wanted: _Rows, content: RecordingContent, left_out: set[str]) -> Iterator[str]:
    """Rows that are missing, too many, twice or on another timeline, and what no view shows; a line each."""

    def is_left_out(file: str) -> bool:
        return any(file == path or file.startswith(f"{path}/") for path in left_out)

    yield from layout_offenders(content)
    there = {
        (entity, component): found.rows.get(component, set()) | ({_STATIC} if component in found.static else set())
        for entity, found in content.entities.items()
        for component in sorted({*found.static, *found.rows} & _FROM_FILES)
    }
    for key in dict.fromkeys([*wanted, *there]):
        label, rows, places = " ".join(key), wanted.get(key, {}), there.get(key, set())
        if not rows:
            yield f"{label}: nothing in the tree belongs to it"
            continue
        for at in sorted(rows.keys() - places):
            if not all(any(map(is_left_out, way)) for way in rows[at]):
                what = "not there as a static part" if at == _STATIC else f"no row at {at[0]} {at[1]}"
                yield f"{label}: {what}" + "".join(f", from {file}" for file in rows[at][0][:1])
        timelines, found_on = Counter(timeline for timeline, _ in rows), Counter(timeline for timeline, _ in places)
        for timeline in sorted(found_on.keys() - timelines.keys()):
            how = "static, though it changes" if timeline == _STATIC[0] else f"on timeline {timeline}"
            yield f"{label}: {how}, wanted on {', '.join(sorted(timelines))}"
        for timeline, place in sorted(places - rows.keys()):
            if timeline in timelines:
                yield f"{label}: row {place} has no file"
        n_rows = content.entities[key[0]].row_count.get(key[1], 0) if places else 0
        n_places = max(found_on.values(), default=0)
        if n_rows > n_places:
            yield f"{label}: {n_rows} rows at {n_places} places"


# --- what the files say ----------------------------------------------------------------------------------------------


@dataclass
class _Wanted:
    """What a recording must hold. `max_frames`: of each track that were exported (None = all); `unknown`: files at no known place."""

    tree: EvaluationTree
    max_frames: int | None
    rows: _Rows = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    unknown: list[str] = field(default_factory=list)
    n_files: int = 0

    def add_files(self, base: Path, root: str, part: str) -> None:
        """What every file of a part of the tree gives below the entity `root`; an empty one counts as missing in the scene contract."""
        tracks: dict[tuple[str, str], dict[int, list[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(list))
        for path in files_below(base):
            if path.stat().st_size == 0:
                continue
            self.n_files += 1
            file, rule = self.tree.relative(path), _rule_of(part, path.relative_to(base).as_posix())
            if rule is None:
                self.unknown.append(file)
            elif rule[1]:
                entity, kind, frame = rule
                tracks[f"{root}/{entity}", kind][frame].append((file,))
        for entity, kind in list(tracks):
            place, _, name = entity.rpartition("/")
            if kind == _MESH and name != "person_all":  # the file of all people repeats those of each
                tracks.pop((f"{place}/person_all", _MESH), None)
            if kind == _IMAGE and place == f"{root}/pred":
                predicted, true = tracks[entity, kind], tracks.get((f"{root}/gt_inputs/{name}", _IMAGE), {})
                for frame in sorted(predicted.keys() & true.keys()):
                    both = [(*one, *other) for one in predicted[frame] for other in true[frame]]
                    tracks[f"{root}/metrics/difference/{name}", _IMAGE][frame] = both
        for (entity, kind), frames in tracks.items():
            people, _, model = entity.rpartition("/")
            beside = "/smpl" if kind == _BODY and model == "smpl" and (f"{people}/smplx", _BODY) in tracks else ""
            self._add_track(entity, kind, dict(sorted(frames.items())[: self.max_frames]), beside)

    def _add_track(self, entity: str, kind: str, frames: dict[int, list[tuple[str, ...]]], beside: str) -> None:
        if kind == _CAMERA:
            return self._add_camera(entity, frames)
        for frame, way in ((frame, way) for frame, ways in frames.items() for way in ways):
            names, component = [entity], kind
            if kind == _MESH:
                with (self.tree.base / way[0]).open("rb") as handle:
                    component = _MESH if any(line.startswith(b"f ") for line in handle) else _POINTS
            elif kind == _BODY:
                arrays = self._arrays(way[0])
                is_mesh = entity.startswith("/input_data/") and {"vertices", "faces"} <= arrays.keys()
                people, component = entity.rpartition("/")[0], _MESH if is_mesh else _POINTS
                names = [f"{people}/person_{person}{beside}" for person in range(len(arrays.get("betas", "1")))]
            for name in names:
                self.rows[name, component][FRAME, frame].append(way)

    def _add_camera(self, entity: str, frames: dict[int, list[tuple[str, ...]]]) -> None:
        """Pinhole and pose are static where every file says the same, else they have a row a frame."""
        ways = [way for of_frame in frames.values() for way in of_frame]
        archives = [self._arrays(file) for (file,) in ways]
        for name, component in (("intrinsics", _PINHOLE), ("extrinsics", _POSE)):
            values = [arrays[name] for arrays in archives if name in arrays]
            still = all(np.array_equal(value, values[0]) for value in values)
            self.rows[entity, component] = {_STATIC: ways} if still else {(FRAME, n): frames[n] for n in frames}

    def _arrays(self, file: str) -> dict[str, Any]:
        try:
            return read_npz(self.tree.base / file)
        except InvalidFile:  # the exporter must have named it among what was left out
            return {}

    def add_numbers(self, task: TaskTree, root: str, epoch: int) -> None:
        """A row a finite number, of the tables' own rows and of the epoch as a whole; and the page.

        A table that cannot be read to its end gives none (its own check says so).
        """
        is_nvs, metrics = (True, _NVS_CURVES) if task.task == "nvs" else (False, POSE_METRICS)
        table, results = (task.nvs_per_frame, task.nvs_results) if is_nvs else (task.pose_per_frame, task.pose_results)
        curves: dict[str, set[int]] = defaultdict(set)
        try:
            with table.open(newline="", encoding="utf-8") as handle:
                for row in csv.DictReader(handle):
                    frame = int(row["frame_id"])
                    for metric in metrics:
                        if math.isfinite(float((row.get(metric) or "").strip() or "nan")):
                            camera = f"/cam_{int(row['camera_id'])}" if is_nvs else ""
                            curves[f"{root}/{metric}{camera}"].add(frame)
        except (OSError, KeyError, TypeError, ValueError, csv.Error):
            curves.clear()
        for entity, frames in curves.items():
            places = [*((FRAME, frame) for frame in sorted(frames)[: self.max_frames]), (EPOCH, epoch)]
            self.rows[entity, _SCALAR] = {place: [(table.name,)] for place in places}
        with contextlib.suppress(OSError, ValueError):
            for metric, value in parse_results(results.read_text(encoding="utf-8")).items():
                if metric in (*_NVS_CURVES, *POSE_METRICS) and math.isfinite(value):
                    self.rows[f"{root}/overall/{metric}", _SCALAR] = {(EPOCH, epoch): [(results.name,)]}
        if task.metrics_dir.is_dir():
            self.rows[f"{root}/summary", _TEXT] = {_STATIC: [()]}
