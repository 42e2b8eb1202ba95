"""Writing a record: inputs are digested before the work, outputs while or after they are written; the record comes last.

making = begin(unit)                   # what is read now is what the record will name
... write the outputs ...
making.finish(outputs)                 # flushes them together, then publishes the record
"""

import os
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.provenance.contents import Contents, stat_of
from thesis_assets.provenance.record import ANEW, MadeFrom, Output, Place, identity_of, read_record, recorded
from thesis_assets.provenance.stats import forget_stats, read_stats, write_stats
from thesis_assets.provenance.verdict import Unit, Wanted

CHANGED_MEANWHILE = "changed while it was read"
"""In place of the digest of an input that is another file at the end of the work than at its beginning: the output is stale."""
LOST = "lost before it had a record"
"""In place of the digest of an output that was not there, or had no content, when it was taken over: it is missing, or damaged."""
MANY = 100
"""A record of more outputs is written without indentation: of a shard's thousands it would be a tenth of the file."""


class Making:
    """A record in the making."""

    def __init__(self, unit: Unit, contents: Contents) -> None:
        self._place, self._wanted, self._contents = unit.place, unit.wanted, contents
        found = {name: stat_of(path) for name, path in unit.wanted.files.items()}
        self._before = {name: stat for name, stat in found.items() if stat is not None}

    @cached_property
    def identity(self) -> str:
        """Of what will be made: reads the inputs that nobody has read yet."""
        wanted = self._wanted
        return identity_of(wanted.step, wanted.code_version, wanted.options, wanted.tools, self.inputs)

    def saw(self, path: Path, content: bytes) -> None:
        """The bytes of an input that was read for the work: it is not read again for its digest."""
        self._contents.saw(path, storage.sha256_bytes(content))

    def finish(
        self,
        outputs: Iterable[Path] | Mapping[str, Output],
        *,
        noted: Mapping[str, Any] | None = None,
        flush: bool = True,
    ) -> MadeFrom:
        """Publish the record of these outputs.

        Args:
            outputs: files below the place, or by name what is known of them already.
            noted: see `MadeFrom`.
            flush: False where the files are on the disk already.
        """
        digested = outputs if isinstance(outputs, Mapping) else self.digested(outputs)
        if flush:
            flush_files(self._place.base / name for name in digested)
        wanted, inputs, identity = self._wanted, self.inputs, self.identity
        named = {name: (each.bytes, each.sha256, each.pixels) for name, each in sorted(digested.items())}
        record = MadeFrom(
            step=wanted.step,
            code_version=wanted.code_version,
            options=dict(wanted.options),
            tools=dict(wanted.tools),
            inputs=inputs,
            outputs=named,
            noted=dict(noted or {}),
            identity=identity,
            data_version=_data_version(identity, named, wanted),
        )
        _publish(self._place, record)
        write_stats(
            self._place,
            [self._before.get(name) for name in inputs],
            [
                None if each.sha256 == LOST else stat_of(self._place.base / name)
                for name, each in sorted(digested.items())
            ],
        )
        return record

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digests of the files as they were when the work began, and the data versions, by name."""
        files = {name: self._wanted.files[name] for name in self._before}
        found = self._contents.sha256_of(files.values())
        inputs = dict(self._wanted.made)
        for (name, path), sha256 in zip(files.items(), found, strict=True):
            same = sha256 is not None and stat_of(path) == self._before[name]
            inputs[name] = sha256 if same and sha256 is not None else CHANGED_MEANWHILE
        return dict(sorted(inputs.items()))

    def digested(self, outputs: Iterable[Path]) -> dict[str, Output]:
        """Outputs by name, read from the disk."""
        paths = sorted(outputs)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(self._contents.sha256, paths)
            return {
                self._place.name(path): Output(path.stat().st_size, sha256)
                for path, sha256 in zip(paths, found, strict=True)
            }


def begin(unit: Unit, contents: Contents | None = None) -> Making:
    """Note what is there to make an output from, before the work."""
    return Making(unit, contents or Contents())


def take_over(unit: Unit, contents: Contents | None = None) -> MadeFrom | None:
    """Give a record to an output of a version that wrote none: it is read in full, and nothing is made again.

    What it was made from is what is there now: an older version told by size and time alone. None where there is nothing to take.
    """
    older = unit.older() if unit.older is not None else None
    if older is None or unit.place.record.exists():
        return None
    wanted = unit.wanted
    then = replace(
        wanted,
        options=wanted.options if older.options is None else older.options,
        tools=wanted.tools if older.tools is None else older.tools,
    )
    making = begin(replace(unit, wanted=then), contents)
    sizes = {path: stat[0] for path in older.files if (stat := stat_of(path)) is not None}
    there = [path for path, size in sizes.items() if size > 0 or path in older.empty]
    lost = {unit.place.name(path): Output(0, LOST) for path in set(older.files) - set(there)}
    found = making.digested(there)
    named = {unit.place.name(path): sha256 for path, sha256 in older.named.items()}
    other = {name: each._replace(sha256=named.get(name, each.sha256)) for name, each in found.items()}
    record = making.finish({**other, **lost}, noted={"taken_over": True}, flush=False)
    if other != found:
        forget_stats(unit.place)
    return record


def mend(unit: Unit, outputs: Mapping[str, Output]) -> MadeFrom:
    """Publish outputs that were made again from what the record names already: all else in it stays, also what is gone by now.

    Raises:
        InvalidFile: there is no record, or it cannot be read.
    """
    place, record = unit.place, read_record(unit.place)
    if record is None:
        raise InvalidFile("there is no record to mend", file=place.record)
    flush_files(place.base / name for name in outputs)
    named = {name: (each.bytes, each.sha256, each.pixels) for name, each in outputs.items()}
    named = dict(sorted({**record.outputs, **named}.items()))
    version = _data_version(record.identity, named, unit.wanted)
    noted = {name: each for name, each in record.noted.items() if name != ANEW}
    return _change(place, record, named, written=outputs.keys(), data_version=version, noted=noted)


def ask_anew(unit: Unit) -> None:
    """Have an output made once more, of which there is one: it lies there, and counts as stale, until the new one is whole.

    What a step made that is not the same twice is asked for also where it lost its record.
    """
    place, wanted = unit.place, unit.wanted
    try:
        record = read_record(place)
    except InvalidFile:
        record = None
        place.record.unlink()  # it says nothing; without it the output is missing
    if record is not None:
        _change(place, record, dict(record.outputs), noted={**record.noted, ANEW: True})
    elif wanted.of_outputs and place.record.parent.is_dir():
        asked = {"options": dict(wanted.options), "tools": dict(wanted.tools), "inputs": dict(wanted.made)}
        nothing = {"outputs": {}, "noted": {ANEW: True}, "identity": "", "data_version": ""}
        _publish(place, MadeFrom(step=wanted.step, code_version=wanted.code_version, **asked, **nothing))


def is_asked_anew(place: Place) -> bool:
    """Whether somebody wants the output once more (`ask_anew`)."""
    record = recorded(place)
    return record is not None and record.is_asked_anew


def _data_version(identity: str, outputs: Mapping[str, tuple[int, str, str | None]], wanted: Wanted) -> str:
    if not wanted.of_outputs:
        return identity
    return storage.sha256_value([identity, {name: each[1] for name, each in outputs.items()}])


def strike(place: Place, names: Iterable[str]) -> None:
    """Take outputs out of a record that somebody removed on purpose: they are not missing. The data version stays.

    Raises:
        InvalidFile: the record cannot be read.
    """
    record, gone = read_record(place), set(names)
    if record is not None and gone & record.outputs.keys():
        _change(place, record, {name: each for name, each in record.outputs.items() if name not in gone})


def rewrite(place: Place, outputs: Mapping[str, Output], *, noted: Mapping[str, Any] | None = None) -> None:
    """Let the record name outputs as they will be written anew for another root, to say the same there. The data version stays.

    Call it before they are: what a kill leaves in between is found at another root again.

    Raises:
        InvalidFile: the record cannot be read.
    """
    record = read_record(place)
    if record is not None:
        new = {name: (each.bytes, each.sha256, each.pixels) for name, each in outputs.items() if name in record.outputs}
        _change(place, record, {**record.outputs, **new}, noted={**record.noted, **(noted or {})})


def may_rewrite(place: Place, outputs: Mapping[str, Output]) -> bool:
    """Whether outputs are what was recorded, so that the record may name them as they will be (`rewrite`).

    Also where it does already, and a kill came before they were written. Not where one is damaged, or the record is: that is
    for whoever makes them to mend.
    """
    try:
        record = read_record(place)
    except InvalidFile:
        return False
    if record is None:
        return True
    found = zip(outputs.items(), Contents().sha256_of(place.base / name for name in outputs), strict=True)
    return all(
        (then := record.output(name)) is None or then.sha256 in (LOST, new.sha256, now) for (name, new), now in found
    )


def _change(
    place: Place,
    record: MadeFrom,
    outputs: dict[str, tuple[int, str, str | None]],
    written: Collection[str] = (),
    **changed: Any,
) -> MadeFrom:
    """Publish the record with other outputs; what is known of the sizes and times of its other files stays known.

    Args:
        written: those of them that are on the disk as the record has them now.
    """
    stats = read_stats(place, len(record.inputs), len(record.outputs))
    same = [name for name, each in outputs.items() if record.outputs.get(name) == each]
    before = dict(zip(record.outputs, map(stats.sure, stats.outputs), strict=False))
    known = {name: before.get(name) for name in same} | {name: stat_of(place.base / name) for name in written}
    now = record.model_copy(update={"outputs": outputs, **changed})
    _publish(place, now)
    inputs = [stats.sure(each) for each in stats.inputs] or [None] * len(record.inputs)
    write_stats(place, inputs, [known.get(name) for name in outputs])
    return now


def _publish(place: Place, record: MadeFrom) -> None:
    """On the disk with its name, when this returns."""
    storage.write_bytes(place.record, storage.to_json_bytes(record, indent=len(record.outputs) <= MANY))
    storage.flush(place.record.parent)


def flush_files(paths: Iterable[Path]) -> None:
    """Have the disk hold these files and their folders' entries: all together, and before anything says that they are there."""
    files = [str(path) for path in paths]
    folders = sorted({os.path.dirname(path) for path in files})  # noqa: PTH120
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(storage.flush, [*files, *folders], chunksize=16):
            pass
