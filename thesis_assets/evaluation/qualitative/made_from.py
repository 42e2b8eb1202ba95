"""What a recording is made from: one unit of `provenance` a file, and what its record says of it.

An .rrd is not byte-deterministic, so it is never compared with one that would be made now: what it was made from is.
Does not belong here: which files shape which recording (the exporters).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative import tree_files
from thesis_assets.evaluation.qualitative.recording import RecordingIdentity
from thesis_assets.evaluation.qualitative.tracks import ExportOptions
from thesis_assets.layout import EvaluationTree
from thesis_assets.provenance import Contents, MadeFrom, Making, Older, Place, Unit, Wanted, begin, read_record
from thesis_assets.schemas.recordings import RecordingFacts

EXPORT_VERSION = "4"
"""Raised whenever the same tree would give another recording."""
_OPTIONS = "recording"


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
            name: of the part.
            record: of the part.
            folders: with its files, below `base`.
        """
        if record.is_file() and not self.was_made_from_files(folders):
            made = _record_at(record)
            self.made |= {} if made is None else {name: made.data_version}
            return
        files = {self._name(path): path for folder in folders for path in tree_files.files_below(folder)}
        self.files |= files
        if (
            files
        ):  # a part that is gone makes nothing stale; one with a file less does, as its recording shows that file
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
    return Inputs(base, _record_at(place_of(recording).record))


def recording_unit(
    recording: Path, identity: RecordingIdentity, options: ExportOptions | None, inputs: Inputs, **more: Any
) -> Unit:
    """The unit of one .rrd.

    Args:
        options: None: those that the recording was made by, or today's defaults where there is none.
        more: what else shapes it, by name: the tasks, the number of samples.
    """
    kept: Mapping[str, Any] = {} if inputs.then is None else inputs.then.options.get(_OPTIONS, {})
    chosen = {name: kept.get(name, value) for name, value in asdict(ExportOptions()).items()}
    wanted = Wanted(
        step=f"{identity.kind}_recording",
        code_version=EXPORT_VERSION,
        options={_OPTIONS: {**asdict(identity), **(asdict(options) if options else chosen), **more}},
        files=inputs.files,
        made=inputs.made,
    )
    return Unit(f"{recording.name} of {identity.title}", place_of(recording), wanted, lambda: _older(recording))


def options_of(unit: Unit) -> ExportOptions:
    """Those that a recording is made by."""
    chosen = unit.wanted.options[_OPTIONS]
    return ExportOptions(**{each.name: chosen[each.name] for each in fields(ExportOptions)})


def begin_recording(unit: Unit, *, force: bool) -> Making | None:
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


def _record_at(path: Path) -> MadeFrom | None:
    """None where there is none that can be read: the look at its own unit says so."""
    try:
        return read_record(Place(path.parent, path))
    except InvalidFile:
        return None


def _older_file(recording: Path) -> Path:
    """`<recording>.inputs.json` of the version before records; it goes when the recording is made anew."""
    return recording.with_suffix(".inputs.json")


def _older(recording: Path) -> Older | None:
    try:
        is_whole = storage.read_json(_older_file(recording), RecordingFacts).bytes == recording.stat().st_size
    except (InvalidFile, OSError):
        return None
    return Older([recording]) if is_whole else None
