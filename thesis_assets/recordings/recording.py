"""The life of one Rerun recording: identity, temporary file, columns in, verified footer, rename; and what it is made from.

Belongs here: everything that must be the same for each .rrd (ids, timelines, constant start time, strict mode), and its unit of
`provenance`. An .rrd is not byte-deterministic, so it is never compared with one that would be made now: what it was made from is.
Does not belong here: what is logged, how it is laid out (`blueprints`), which files shape which recording (`exports`).
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.layout import EvaluationTree, epoch_name
from thesis_assets.provenance import (
    CODE_VERSIONS,
    Contents,
    MadeFrom,
    Making,
    Older,
    Place,
    Unit,
    Wanted,
    begin,
    read_record,
    recorded,
    versions_of,
)
from thesis_assets.recordings.tracks import ExportOptions, files_below
from thesis_assets.schemas.evaluation import EvaluationManifest, InputDataRecord
from thesis_assets.schemas.recordings import RecordingFacts

FRAME, EPOCH, STEP = "frame", "epoch", "step"
"""The timelines. `step` stands only in the recording of a tuning run."""

_FLUSH_BYTES = 12 * 1024 * 1024
"""The SDK queues what it is sent without bound; waiting for it this often bounds memory."""

_OPTIONS = "recording"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:thesis-assets:recordings")


@dataclass(frozen=True)
class RecordingIdentity:
    """What a recording is of. One recording id an identity; one application id a kind and epoch.

    The viewer keeps one blueprint an application id, so input data and each epoch have their own and keep their layouts when
    they are opened together.
    """

    kind: str
    exp_name: str
    run_name: str
    scene_name: str
    epoch: int | None = None

    @property
    def application_id(self) -> str:
        return f"thesis_assets_{self.kind}" + (f"_{epoch_name(self.epoch)}" if self.epoch is not None else "")

    @property
    def recording_id(self) -> str:
        parts = (self.exp_name, self.run_name, self.scene_name, self.kind, str(self.epoch))
        return str(uuid.uuid5(_NAMESPACE, "\n".join(parts)))

    @property
    def title(self) -> str:
        epoch = f", epoch {self.epoch}" if self.epoch is not None else ""
        of = ", ".join(name for name in (self.scene_name, self.exp_name, self.run_name) if name)
        return f"{self.kind.replace('_', ' ')}: {of}{epoch}"


def identity_of(
    tree: EvaluationTree,
    kind: str,
    *,
    epoch: int | None = None,
    run_name: str | None = None,
    scene_name: str | None = None,
) -> RecordingIdentity:
    """The identity of one recording of a tree.

    Without a given run or scene: `manifest.json`, then `input_data.json`, then the names of the folders above the tree
    (a tree of another pipeline may have neither file, and two runs of one scene must not share an id).
    """
    manifest, exp_name = _manifest(tree), tree.exp_name
    if manifest is not None:
        # A folder of the preset `thesis` has the run in its name, which only who knows the cell can tell from a name by hand.
        if exp_name == f"{manifest.exp_name}__{manifest.notes.get('run_name')}":
            exp_name = manifest.exp_name
        run_name = run_name or str(manifest.notes.get("run_name") or "") or None
        scene_name = scene_name or manifest.scene_name
    if scene_name is None and tree.input_data_record.is_file():
        scene_name = storage.read_json(tree.input_data_record, InputDataRecord).scene_name
    folder = tree.output_dir.resolve()
    return RecordingIdentity(
        kind=kind,
        exp_name=exp_name,
        run_name=run_name or folder.parent.name,
        scene_name=scene_name or folder.name,
        epoch=epoch,
    )


def _manifest(tree: EvaluationTree) -> EvaluationManifest | None:
    try:
        return storage.read_json(tree.manifest, EvaluationManifest)
    except InvalidFile:  # a tree under construction, or one of another pipeline; its own check says so
        return None


class Recording:
    """An open recording. Frames go in as columns, in batches; static parts once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._unflushed = 0

    def send_static(self, entity: str, archetype: Any) -> None:
        """Log what holds for all frames."""
        self._stream.log(entity, archetype, static=True)

    def send_frames(
        self, entity: str, frames: Sequence[int], columns: Any, *, epoch: int | None = None, n_bytes: int = 0
    ) -> None:
        """Send rows on the timeline `frame`, and also on `epoch` where one is given.

        Args:
            columns: component columns with one row a frame.
            n_bytes: about how much that is, for the flush.
        """
        import rerun as rr

        indexes = [rr.TimeColumn(FRAME, sequence=frames)]
        if epoch is not None:
            indexes.append(rr.TimeColumn(EPOCH, sequence=[epoch] * len(frames)))
        self._send(entity, indexes, columns, n_bytes)

    def send_at(self, entity: str, timeline: str, position: int, columns: Any) -> None:
        """Send one row on the timeline `epoch` or `step`."""
        import rerun as rr

        self._send(entity, [rr.TimeColumn(timeline, sequence=[position])], columns, 0)

    def clear_frames(self, entity: str, frames: Sequence[int]) -> None:
        """End what an entity showed: otherwise the viewer keeps the last frame's picture where one is missing."""
        import rerun as rr

        if frames:
            self.send_frames(entity, frames, rr.Clear.columns(is_recursive=[False] * len(frames)))

    def send_property(self, name: str, **values: str | int | bool) -> None:
        """Set a recording property: what a catalog can filter and group by."""
        import rerun as rr

        self._stream.send_property(name, rr.AnyValues(drop_untyped_nones=True, **values))

    def _send(self, entity: str, indexes: list[Any], columns: Any, n_bytes: int) -> None:
        self._stream.send_columns(entity, indexes, columns)
        self._unflushed += n_bytes
        if self._unflushed >= _FLUSH_BYTES:
            self._stream.flush()
            self._unflushed = 0


@contextlib.contextmanager
def open_recording(path: Path, identity: RecordingIdentity, blueprint: Any) -> Iterator[Recording]:
    """Yield a recording that is written to a temporary file; on success it is complete at `path`, on failure nothing is.

    Raises:
        ThesisAssetsError: recording is switched off in this environment.
        InvalidFile: the file has no footer at the end (a full disk).
    """
    import rerun as rr

    with storage.atomic_file(path) as temporary, _strict():
        stream = rr.RecordingStream(identity.application_id, recording_id=identity.recording_id, send_properties=False)
        if not rr.is_enabled(stream):
            raise ThesisAssetsError(
                "Rerun's recording is switched off", key="RERUN", found="off", remedy="unset the variable RERUN"
            )
        # Log time would make a third timeline, and no two exports of one tree the same.
        stream.set_log_time_enabled(False)
        stream.save(temporary)
        try:
            # `save(default_blueprint=...)` would lose against the layout of another scene that was opened before.
            stream.send_blueprint(blueprint, make_active=True, make_default=True)
            stream.send_recording_name(identity.title)
            stream.send_recording_start_time_nanos(0)
            recording = Recording(stream)
            of_cell = {"exp_name": identity.exp_name, "run_name": identity.run_name, "scene_name": identity.scene_name}
            recording.send_property("experiment", kind=identity.kind, **of_cell)
            if identity.epoch is not None:
                recording.send_property("epoch", epoch=identity.epoch)
            yield recording
        finally:
            stream.flush()
            stream.disconnect()
        _check_footer(temporary, path)


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Wrong columns raise instead of leaving a warning and a hole in the file."""
    import rerun as rr

    before = rr.strict_mode()
    rr.set_strict_mode(True)
    try:
        yield
    finally:
        rr.set_strict_mode(before)


def _check_footer(temporary: Path, path: Path) -> None:
    """A full disk leaves a file without the index at its end; the SDK itself only logs that."""
    problem = footer_problem(temporary)
    if problem is not None:
        raise InvalidFile(
            "the recording was not written to its end",
            file=path,
            found=problem,
            remedy="look for space on the disk, then export again",
        )


def footer_problem(path: Path) -> str | None:
    """Why the index at a recording's end cannot be used, or None where it can."""
    from rerun.chunk import RrdReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            RrdReader(path).store()
        except (RuntimeError, ValueError, OSError) as error:
            return str(error)[:300]
    return None


# --- what a recording is made from -----------------------------------------------------------------------------------


@dataclass
class Inputs:
    """What one recording is made from, collected for its unit.

    Attributes:
        base: folder that names of files are relative to.
        then: the record of the recording that is there: an input that it names by its files is compared by them.
    """

    base: Path
    then: MadeFrom | None
    files: dict[str, Path] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    def add_part(self, name: str, record: Path, folders: Sequence[Path]) -> None:
        """An upstream output: by the data version in its record, or file by file where a tree of elsewhere has no record.

        Args:
            name, record: of the part.
            folders: with its files, below `base`.
        """
        if record.is_file() and not self.was_made_from_files(folders):
            self.made |= versions_of({name: Place(record.parent, record)})
            return
        files = {self._name(path): path for folder in folders for path in files_below(folder)}
        self.files |= files
        # A part that is gone makes nothing stale; one with a file less does, as its recording shows that file.
        if files:
            self.made[f"list of the files of {name}"] = storage.sha256_value(sorted(files))

    def was_made_from_files(self, folders: Sequence[Path]) -> bool:
        """Whether the recording that is there names files in these folders."""
        below = tuple(f"{self._name(folder)}/" for folder in folders)
        return self.then is not None and any(name.startswith(below) for name in self.then.inputs)

    def add_files(self, paths: Iterable[Path]) -> None:
        """Single files below `base`."""
        self.files |= {self._name(path): path for path in paths}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()


def inputs_of(recording: Path, base: Path) -> Inputs:
    """No input yet of what a recording is made from."""
    return Inputs(base, recorded(place_of(recording)))


def recording_unit(
    recording: Path, identity: RecordingIdentity, options: ExportOptions | None, inputs: Inputs, **more: Any
) -> Unit:
    """The unit of one .rrd.

    Args:
        options: None: those that the recording was made by, or today's defaults where there is none.
        more: what else shapes it, by name: the tasks, the number of samples.
    """
    whose = f"{identity.exp_name}/{identity.run_name}, {identity.scene_name}"
    kept: Mapping[str, Any] = {} if inputs.then is None else inputs.then.options.get(_OPTIONS, {})
    chosen = {name: kept.get(name, value) for name, value in asdict(ExportOptions()).items()}
    wanted = Wanted(
        step=f"{identity.kind}_recording",
        code_version=CODE_VERSIONS["evaluation_recordings"],
        options={_OPTIONS: {**asdict(identity), **(asdict(options) if options else chosen), **more}},
        files=inputs.files,
        made=inputs.made,
    )
    return Unit(f"{recording.name} of {whose}", place_of(recording), wanted, lambda: _older(recording))


def options_of(unit: Unit) -> ExportOptions:
    """Those that a recording is made by."""
    return ExportOptions(**{each.name: unit.wanted.options[_OPTIONS][each.name] for each in fields(ExportOptions)})


def identity_in(unit: Unit) -> RecordingIdentity:
    """That of the recording that a unit stands for."""
    chosen = unit.wanted.options[_OPTIONS]
    return RecordingIdentity(**{each.name: chosen[each.name] for each in fields(RecordingIdentity)})


def tasks_of(unit: Unit) -> Sequence[str]:
    """The tasks that a recording of an epoch was asked for; none of another kind."""
    tasks: Sequence[str] = unit.wanted.options[_OPTIONS].get("tasks", ())
    return tasks


def begin_recording(unit: Unit, *, force: bool = False) -> Making | None:
    """Note what a recording is made from; None where there is nothing to do, unless forced."""
    contents = Contents()
    return begin(unit, contents) if force or not unit.look(contents).is_made else None


def finish_recording(making: Making, recording: Path, absent: list[str]) -> RecordingFacts:
    """Write the record of a finished recording: after it, so that one without is not finished."""
    _older_file(recording).unlink(missing_ok=True)
    making.finish([recording], noted={"rerun_sdk": sdk_version(), "absent": absent})
    return recording_facts(recording)


def remove_recording(recording: Path) -> None:
    """With all that lies beside it."""
    place = place_of(recording)
    for path in (recording, place.record, place.stats, _older_file(recording)):
        path.unlink(missing_ok=True)


def recording_facts(recording: Path) -> RecordingFacts:
    """What is known of a recording without opening it.

    Raises:
        InvalidFile: nothing is: it was not made to its end, or is not one of our exports.
    """
    older = _older_file(recording)
    if older.is_file():  # its own name for what it was made from is the one that a repo of the Hub knows
        return storage.read_json(older, RecordingFacts)
    record = read_record(place_of(recording))
    output = None if record is None else record.output(recording.name)
    if record is None or output is None:
        raise InvalidFile(
            "the record of the recording is missing", file=place_of(recording).record, remedy="export it again"
        )
    return RecordingFacts(
        data_version=record.data_version,
        rerun_sdk=str(record.noted.get("rerun_sdk", "")),
        bytes=output.bytes,
        sha256=output.sha256,
        absent=list(record.noted.get("absent", [])),
    )


def place_of(recording: Path) -> Place:
    """A recording and its record lie beside each other."""
    return Place(recording.parent, EvaluationTree.recording_made_from(recording))


def sdk_version() -> str:
    """Of the installed Rerun SDK, without importing it."""
    return version("rerun-sdk")


def _older_file(recording: Path) -> Path:
    """`<recording>.inputs.json` of the version before records; it goes when the recording is made anew."""
    return recording.with_suffix(".inputs.json")


def _older(recording: Path) -> Older | None:
    try:
        is_whole = storage.read_json(_older_file(recording), RecordingFacts).bytes == recording.stat().st_size
    except (InvalidFile, OSError):
        return None
    return Older([recording]) if is_whole else None
