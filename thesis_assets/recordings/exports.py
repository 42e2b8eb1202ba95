"""Exporting the recordings of an evaluation tree: what each is made from, making it; as the graph, its calls and the scripts ask.

Does not belong here: which tracks a tree has (`tree_tracks`), how one is written, the layout of views.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TASKS, DifixTree, EvaluationTree, epoch_name
from thesis_assets.provenance import Unit
from thesis_assets.recordings import image_tracks, world_tracks
from thesis_assets.recordings.recording import (
    EPOCH,
    Recording,
    RecordingIdentity,
    begin_recording,
    finish_recording,
    identity_in,
    identity_of,
    inputs_of,
    open_recording,
    options_of,
    place_of,
    recording_facts,
    recording_unit,
    remove_recording,
    tasks_of,
)
from thesis_assets.recordings.tracks import (
    Absences,
    BodyTrack,
    CameraTrack,
    ComparedTrack,
    DepthTrack,
    EpochScalar,
    ExportOptions,
    GaussianTrack,
    ImageTrack,
    MaskLegend,
    MaskTrack,
    MeshTrack,
    ScalarTrack,
    TextTrack,
    Track,
    WorldUp,
)
from thesis_assets.recordings.tree_tracks import (
    evaluated_epochs,
    evaluation_tracks,
    first_camera_files,
    input_data_tracks,
)
from thesis_assets.recordings.triplets import export_triplets, triplet_recording_unit
from thesis_assets.schemas.recordings import RecordingFacts

PARTS = ("input_data", "evaluation")
BYTES_PER_MB = 1_000_000
_PROGRESS_SECONDS = 2.0
DONE, FAILED = 0, 1

Say = Callable[[str], None] | None


@dataclass(frozen=True)
class TreeExports:
    """The recordings of one evaluation tree.

    Attributes:
        run_name, scene_name: for their identity; without them the tree's own manifest says.
        options: None: those that each recording was made by, or the defaults.
    """

    tree: EvaluationTree
    run_name: str | None = None
    scene_name: str | None = None
    options: ExportOptions | None = None

    def input_data_unit(self) -> Unit:
        """`input_data.rrd`, made from the tree's `input_data/`."""
        tree = self.tree
        inputs = inputs_of(tree.input_data_recording, tree.base)
        inputs.add_part(tree.input_data_dir.name, tree.input_data_made_from, [tree.input_data_dir])
        return recording_unit(tree.input_data_recording, self._identity("input_data"), self.options, inputs)

    def epoch_units(self, epoch: int, tasks: Sequence[str] = TASKS) -> dict[Path, Unit]:
        """By its file: the recording of an epoch, and those of single tasks where it was split into them."""
        whole = {self.tree.evaluation_recording(epoch): self._epoch_unit(epoch, tasks, "evaluation")}
        parts = task_recordings(self.tree, epoch)
        return whole | {path: self._epoch_unit(epoch, (task,), task) for task, path in parts.items()}

    def _epoch_unit(self, epoch: int, tasks: Sequence[str], kind: str) -> Unit:
        """A recording of an epoch, made from every task folder but `viz/`, and the cameras that say where up is.

        Args:
            kind: `evaluation`, or the task whose own recording it is.
        """
        tree = self.tree
        path = tree.evaluation_recording(epoch) if kind == "evaluation" else tree.task_recording(epoch, kind)
        inputs = inputs_of(path, tree.base)
        inputs.add_files(first_camera_files(tree))
        for task in (tree.task(epoch, name) for name in tasks):
            folders = [task.inputs_dir, task.pred_dir, task.gt_inputs_dir, task.metrics_dir]
            if task.task == "nvs":
                inputs.add_part(tree.relative(task.inputs_dir), task.predictions_made_from, [folders.pop(0)])
            inputs.add_part(tree.relative(task.base), task.made_from, folders)
        return recording_unit(path, self._identity(kind, epoch), self.options, inputs, tasks=list(tasks))

    def _identity(self, kind: str, epoch: int | None = None) -> RecordingIdentity:
        return identity_of(self.tree, kind, epoch=epoch, run_name=self.run_name, scene_name=self.scene_name)

    def export_input_data(self, *, force: bool = False, on_progress: Say = None) -> RecordingFacts:
        """Write `rerun/input_data.rrd` unless it is current. What the tree lacks is named in the result's `absent`.

        Args:
            force: write it also where its inputs did not change.

        Raises:
            InvalidFile: the tree has no input data at all, or the file could not be written.
        """
        from thesis_assets.recordings.blueprints import input_data_blueprint

        tree = self.tree
        nothing = InvalidFile(
            "the tree has no input data to record",
            file=tree.input_data_dir,
            wanted="images, all_cameras, seg, depths, smplx or smpl under train/ or test/",
            remedy="`thesis-assets run --exp <name> --run <run> --until input_data` links it",
        )
        path, unit = tree.input_data_recording, self.input_data_unit()
        return _export(path, unit, tree, input_data_tracks, input_data_blueprint, nothing, force, on_progress)

    def export_epoch(
        self,
        epoch: int,
        *,
        tasks: Sequence[str] = TASKS,
        split_bytes: int = 0,
        force: bool = False,
        on_progress: Say = None,
    ) -> RecordingFacts:
        """Write `rerun/evaluation_epoch_XXXX.rrd` unless it is current. What the tree lacks is named in the result's `absent`.

        Args:
            tasks: those to record; one that the tree does not have is noted.
            split_bytes: above this size each task also gets a file of its own, `<task>_epoch_XXXX.rrd`; 0 = never.
            force: write it also where its inputs did not change.

        Raises:
            InvalidFile: no task of this epoch is on disk, or the file could not be written.
        """
        tree = self.tree
        facts = self._export_tasks(tree.evaluation_recording(epoch), epoch, tasks, "evaluation", force, on_progress)
        apart = bool(split_bytes) and facts.bytes > split_bytes
        for name in TASKS:
            path = tree.task_recording(epoch, name)
            if apart and name in tasks and tree.task(epoch, name).base.is_dir():
                self._export_tasks(path, epoch, (name,), name, force, on_progress)
            else:  # of a time when the epoch was larger, or the limit lower
                remove_recording(path)
        return facts

    def _export_tasks(
        self, path: Path, epoch: int, tasks: Sequence[str], kind: str, force: bool, on_progress: Say
    ) -> RecordingFacts:
        from thesis_assets.recordings.blueprints import evaluation_blueprint

        tree = self.tree
        nothing = InvalidFile(
            "the tree has nothing to record at this epoch",
            file=tree.epoch_dir(epoch),
            found=", ".join(epoch_name(number) for number in evaluated_epochs(tree)) or "no epoch at all",
            wanted=f"one of {', '.join(tasks)}",
            remedy="evaluate this epoch first, or name another",
        )

        def find(tree: EvaluationTree, absences: Absences) -> list[Track]:
            return evaluation_tracks(tree, epoch, tasks, absences)

        def lay_out(tracks: Sequence[Track]) -> Any:
            return evaluation_blueprint(epoch, tracks, first_camera_files(tree))

        return _export(path, self._epoch_unit(epoch, tasks, kind), tree, find, lay_out, nothing, force, on_progress)


def task_recordings(tree: EvaluationTree, epoch: int) -> dict[str, Path]:
    """The recordings of single tasks that an epoch was split into; none where it was not."""
    paths = {task: tree.task_recording(epoch, task) for task in TASKS}
    return {task: path for task, path in paths.items() if path.is_file() or place_of(path).record.is_file()}


# --- writing one recording -----------------------------------------------------------------------------------------


def _export(
    path: Path,
    unit: Unit,
    tree: EvaluationTree,
    find: Callable[[EvaluationTree, Absences], list[Track]],
    lay_out: Callable[[Sequence[Track]], Any],
    nothing: InvalidFile,
    force: bool,
    on_progress: Say,
) -> RecordingFacts:
    """Write one .rrd unless it is current. What cannot be read is left out and noted.

    Raises:
        InvalidFile: `nothing`, where there is no track; or the file could not be written to its end.
    """
    making = begin_recording(unit, force=force)
    if making is None:
        return recording_facts(path)
    absences = Absences(tree.base)
    tracks = find(tree, absences)
    if not tracks:
        raise nothing
    options, tasks = options_of(unit), tasks_of(unit)
    with open_recording(path, identity_in(unit), lay_out(tracks)) as recording:
        recording.send_property(
            "export",
            max_frames_per_camera=options.max_frames_per_camera,
            lossless=options.lossless,
            # An empty text is kept or left away by whether this process has sent another before.
            **({"tasks": ",".join(tasks)} if tasks else {}),
        )
        write_tracks(recording, path, tracks, options, absences, on_progress)
    return finish_recording(making, path, absences.lines)


def write_tracks(
    recording: Recording,
    path: Path,
    tracks: Sequence[Track],
    options: ExportOptions,
    absences: Absences,
    on_progress: Say,
) -> None:
    """Write all tracks of one tree. `path`: of the recording, for the progress line."""
    expected = _expected_frames(tracks, options)
    # Predictions and truths are written with their difference, so that each image is decoded only once.
    pairs = [(track.prediction, track.truth) for track in tracks if isinstance(track, ComparedTrack)]
    with_their_pair = {side.entity for pair in pairs for side in pair}
    begin = said = time.monotonic()
    for number, track in enumerate(tracks, start=1):
        if track.entity in with_their_pair:
            continue
        _write_track(recording, track, options, absences, expected.get(_group(track), []))
        if on_progress is not None and (time.monotonic() - said > _PROGRESS_SECONDS or number == len(tracks)):
            said = time.monotonic()
            on_progress(_progress_line(path, number, len(tracks), said - begin))


def _write_track(
    recording: Recording, track: Track, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Write one track.

    Args:
        expected: frames at which others of its kind have something; where this one has not, what it showed is cleared.
    """
    import rerun as rr

    match track:
        case ImageTrack():
            image_tracks.write_images(recording, track, options, absences, expected)
        case ComparedTrack():
            image_tracks.write_compared(recording, track, options, absences, expected)
        case MaskTrack():
            image_tracks.write_masks(recording, track, options, absences, expected)
        case DepthTrack():
            image_tracks.write_depth(recording, track, options, absences, expected)
        case CameraTrack():
            world_tracks.write_cameras(recording, track, options, absences)
        case BodyTrack():
            world_tracks.write_bodies(recording, track, options, absences, expected)
        case MeshTrack():
            world_tracks.write_meshes(recording, track, options, absences, expected)
        case GaussianTrack():
            world_tracks.write_gaussians(recording, track, options, absences)
        case ScalarTrack():
            if rows := dict(list(track.rows)[: options.max_frames_per_camera or None]):
                style = rr.SeriesLines(names=track.name, colors=track.colour, widths=1.5)
                recording.send_static(track.entity, style)
                columns = rr.Scalars.columns(scalars=list(rows.values()))
                recording.send_frames(track.entity, list(rows), columns, epoch=track.epoch)
        case EpochScalar():
            recording.send_at(track.entity, EPOCH, track.epoch, rr.Scalars.columns(scalars=[track.value]))
        case TextTrack():
            recording.send_static(track.entity, rr.TextDocument(track.markdown, media_type="text/markdown"))
        case MaskLegend():
            image_tracks.write_mask_legend(recording, track.entity)
        case WorldUp():
            recording.send_static(track.entity, getattr(rr.ViewCoordinates, f"RIGHT_HAND_{track.axis}"))


def _progress_line(path: Path, done: int, total: int, seconds: float) -> str:
    left = seconds / done * (total - done)
    return f"{path.name}: {done} of {total} entities, {done / max(seconds, 1e-3):.1f}/s, {left:.0f} s left"


def _expected_frames(tracks: Sequence[Track], options: ExportOptions) -> dict[tuple[str, str], list[int]]:
    """Frames that any track of a kind and part has: those at which the others must not show an older picture."""
    found: dict[tuple[str, str], set[int]] = {}
    for track in tracks:
        if isinstance(track, ImageTrack | DepthTrack | BodyTrack | MeshTrack):
            found.setdefault(_group(track), set()).update(options.first(track.files))
        elif isinstance(track, MaskTrack):
            found.setdefault(_group(track), set()).update(track.frames[: options.max_frames_per_camera or None])
    return {group: sorted(frames) for group, frames in found.items()}


def _group(track: Track) -> tuple[str, str]:
    """Tracks of one kind, split and task share their frames: `/input_data/train`, `/evaluation/epoch_0030/nvs`."""
    kind = ImageTrack if isinstance(track, ComparedTrack) else type(track)
    depth = 4 if track.entity.startswith("/evaluation/") else 3
    return kind.__name__, "/".join(track.entity.split("/")[:depth])


# --- as the graph asks: units, and calls that may run elsewhere ------------------------------------------------------


def recording_units(
    asset: str, trees: Mapping[str, EvaluationTree], difix: DifixTree, run_name: str, epochs: Sequence[int]
) -> list[Unit]:
    """The recordings that an asset of one run consists of.

    Args:
        asset: `triplet_recording`, `input_data_recording` or `evaluation_recordings`.
        trees: evaluated scene to its tree.
        epochs: those that the run is evaluated at.
    """
    if asset == "triplet_recording":
        return [triplet_recording_unit(difix, run_name)]
    exports = [TreeExports(tree, run_name, scene) for scene, tree in trees.items()]
    if asset == "input_data_recording":
        return [export.input_data_unit() for export in exports]
    return [unit for export in exports for epoch in epochs for unit in export.epoch_units(epoch).values()]


Row = tuple[Path, int, str]
"""A recording, its bytes, what is absent in it."""


@dataclass(frozen=True)
class RunWork:
    """One tuning run. `device`: for refining with its checkpoints."""

    tree: DifixTree
    run_name: str
    device: str


@dataclass(frozen=True)
class SceneWork:
    """One evaluated scene of one run, and the epochs to record. `split_bytes`: as of `TreeExports.export_epoch`."""

    tree: EvaluationTree
    run_name: str
    scene_name: str
    epochs: Sequence[int] = ()
    split_bytes: int = 0

    @property
    def exports(self) -> TreeExports:
        return TreeExports(self.tree, self.run_name, self.scene_name)


def record_triplets(work: RunWork) -> list[Row]:
    """The course of a tuning run."""
    facts = export_triplets(work.tree, work.run_name, device=work.device, on_progress=tell)
    return [_row(work.tree.tuning_run(work.run_name).triplet_recording, facts)]


def record_input_data(work: SceneWork) -> list[Row]:
    """A scene's input data."""
    return [_row(work.tree.input_data_recording, work.exports.export_input_data(on_progress=tell))]


def record_epochs(work: SceneWork) -> list[Row]:
    """Every epoch of a scene's evaluation."""
    return [
        _row(
            work.tree.evaluation_recording(epoch),
            work.exports.export_epoch(epoch, split_bytes=work.split_bytes, on_progress=tell),
        )
        for epoch in work.epochs
    ]


def _row(path: Path, facts: RecordingFacts) -> Row:
    return path, facts.bytes, ", ".join(facts.absent) or "nothing"


# --- as the scripts and the command line ask -------------------------------------------------------------------------


def main(parts: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Export the `parts` of one tree; returns the exit code (0 done, 1 failed; argparse itself exits with 2)."""
    parsed = _parser(parts).parse_args(arguments)
    try:
        export_recordings(
            EvaluationTree(parsed.exp_dir.resolve().parent, parsed.exp_dir.resolve().name),
            parts,
            epochs=parsed.epochs,
            tasks=parsed.tasks,
            options=ExportOptions(parsed.max_frames_per_camera, parsed.lossless),
            split_bytes=parsed.split_mb * BYTES_PER_MB,
            force=parsed.force,
            on_progress=lambda line: _say(sys.stderr, line),
            on_done=lambda path, facts: _say(sys.stdout, _described(path, facts)),
        )
    except ThesisAssetsError as error:
        _say(sys.stderr, str(error))
        return FAILED
    return DONE


def export_recordings(
    tree: EvaluationTree,
    parts: Sequence[str] = PARTS,
    *,
    epochs: str = "all",
    tasks: Sequence[str] = TASKS,
    run_name: str | None = None,
    scene_name: str | None = None,
    options: ExportOptions | None = None,
    split_bytes: int = 0,
    force: bool = False,
    on_progress: Say = None,
    on_done: Callable[[Path, RecordingFacts], None] | None = None,
) -> dict[Path, RecordingFacts]:
    """Export input data and epochs of one tree; recordings that are current are left alone.

    Args:
        parts: `input_data`, `evaluation`, or both.
        epochs: `all`, `latest`, or numbers with commas between (`0,30`).
        options: None: those that each recording was made by, or the defaults.
        split_bytes: above this size an epoch's tasks also get files of their own; 0 = never.

    Raises:
        InvalidFile: a part or an epoch that was asked for is not in the tree.
    """
    exports = TreeExports(tree, run_name, scene_name, options)
    written: dict[Path, RecordingFacts] = {}

    def done(path: Path, facts: RecordingFacts) -> None:
        written[path] = facts
        if on_done is not None:
            on_done(path, facts)

    if "input_data" in parts:
        done(tree.input_data_recording, exports.export_input_data(force=force, on_progress=on_progress))
    for epoch in chosen_epochs(tree, epochs) if "evaluation" in parts else ():
        facts = exports.export_epoch(epoch, tasks=tasks, split_bytes=split_bytes, force=force, on_progress=on_progress)
        done(tree.evaluation_recording(epoch), facts)
        for path in task_recordings(tree, epoch).values():
            done(path, recording_facts(path))
    return written


def chosen_epochs(tree: EvaluationTree, epochs: str) -> list[int]:
    """`all`, `latest` or `0,30` as epoch numbers that the tree has.

    Raises:
        InvalidFile: the tree has no epoch, or not the one that was named.
    """
    present = evaluated_epochs(tree)
    known = {"all": present, "latest": present[-1:]}
    wanted = known[epochs] if epochs in known else [int(word) for word in epochs.split(",")]
    missing = sorted(set(wanted) - set(present))
    if missing or not wanted:
        raise InvalidFile(
            "the tree was not evaluated at this epoch" if missing else "the tree has no evaluated epoch",
            file=tree.evaluation_dir,
            key="--epochs",
            found=", ".join(map(str, missing)) or "nothing",
            wanted=", ".join(map(str, present)) or "at least one epoch_XXXX folder",
            remedy="`thesis-assets status` says what is evaluated, and which command evaluates the rest",
        )
    return wanted


def _parser(parts: Sequence[str]) -> argparse.ArgumentParser:
    what = " and ".join(part.replace("_", " ") for part in parts)
    parser = argparse.ArgumentParser(description=f"Export {what} of one evaluation tree as Rerun recordings.")
    parser.add_argument("--exp-dir", type=Path, required=True, help="<output_dir>/<exp_name>: the tree's own folder")
    parser.add_argument("--epochs", type=_epochs, default="all", help="all, latest, or numbers such as 30 or 0,30")
    parser.add_argument("--tasks", type=_tasks, default=TASKS, help=f"some of {','.join(TASKS)} (default: all)")
    parser.add_argument(
        "--max-frames-per-camera", type=_count, default=0, help="the first so many frames; 0 = all (default)"
    )
    parser.add_argument(
        "--split-mb", type=_count, default=1500, help="above this size a file a task too; 0 = never (default: 1500)"
    )
    parser.add_argument("--lossless", action="store_true", help="keep PNG pictures as they are, not as JPEG")
    parser.add_argument("--force", action="store_true", help="write recordings that are current again")
    return parser


def is_epochs(text: str) -> bool:
    """Whether a text is `all`, `latest`, or numbers with commas between."""
    return text in ("all", "latest") or all(word.isascii() and word.isdecimal() for word in text.split(","))


def _epochs(text: str) -> str:
    if not is_epochs(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not all, latest, or numbers with commas between")
    return text


def _tasks(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(TASKS)}")
    return names


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def _described(path: Path, facts: RecordingFacts) -> str:
    absent = "".join(f"\n  {line}" for line in facts.absent)
    return f"{path} ({facts.bytes / 1e6:.1f} MB){absent}"


def _say(stream: object, line: str) -> None:
    print(line, file=stream, flush=True)  # type: ignore[call-overload]
