"""Whether an output is as wanted: made, missing, stale or damaged, each with what differs, in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from thesis_assets.errors import InvalidFile, first_names
from thesis_assets.provenance.contents import Contents, Stat, is_unchanged, stat_of
from thesis_assets.provenance.options import differences
from thesis_assets.provenance.record import MadeFrom, Place, read_record
from thesis_assets.provenance.stats import read_stats, write_stats

State = Literal["made", "missing", "stale", "damaged"]
NOT_VERIFIED = "not verified yet"
"""Of what a version without records made: it works, and is read in full once (`take_over`)."""
ASKED_ANEW = "it was asked for anew"
NAMED = 3
"""Of several files that differ in one way so many are named, and the others counted."""


class FilesToFind(Mapping[str, Path | str]):
    """Files by name that are found when somebody first asks for one: nobody does of an output that has no record."""

    def __init__(self, find: Callable[[], Mapping[str, Path | str]]) -> None:
        self._find = find

    def __getitem__(self, name: str) -> Path | str:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @cached_property
    def _found(self) -> Mapping[str, Path | str]:
        return self._find()


@dataclass(frozen=True)
class Wanted:
    """What one would make an output from now.

    Attributes:
        options: as they would stand in the experiment's file (`{"evaluation": {"nvs": {...}}}`), every default resolved.
        given: those that the file sets, in the same form; None: all of them are.
        before: by dotted key: what the step did before it had an option, for records that do not have it.
        tools: see `MadeFrom`; a tool that is not here is left out.
        files: inputs from outside, by name. One that is gone makes nothing stale.
        made: inputs that have a record, by name: their data versions.
        of_outputs: the data version covers the outputs: the step is not the same twice.
    """

    step: str
    code_version: str
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path | str] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    of_outputs: bool = False


@dataclass(frozen=True)
class Unit:
    """One output that is made, looked at and mended as a whole: where it lies, and what it would be made from now.

    Attributes:
        name: for a reader: `nvs of studio_pair03_dance, epoch_0001`.
        older: of an output that a version without records left: what it was made by and its files; None where there is none.
    """

    name: str
    place: Place
    wanted: Wanted
    older: Callable[[], "Older | None"] | None = None

    def look(self, contents: Contents | None = None) -> "Verdict":
        """See `look`."""
        return look(self, contents)


@dataclass(frozen=True)
class Older:
    """What is known of an output without a record.

    Attributes:
        options, tools: as they were then, where its files say so; None: as now.
        empty: those of the files that may be empty; another one without content was lost.
        named: sha256 that files beside it name; one with other bytes is taken over as damaged.
    """

    files: Sequence[Path]
    options: Mapping[str, Any] | None = None
    tools: Mapping[str, str] | None = None
    empty: Sequence[Path] = ()
    named: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a look found.

    Attributes:
        reasons: what differs, damage first; empty where the output is as wanted.
        notes: what a reader should know of an output that is as wanted: `by an older version`.
        missing: names of outputs that are not there.
        damaged: names of outputs whose bytes are not the recorded ones.
        record: None where there is none.
        only_lost_files: whether it is not made for files alone that are missing or damaged: it would be made from the same things.
    """

    state: State
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    record: MadeFrom | None = None
    only_lost_files: bool = False

    @property
    def is_made(self) -> bool:
        return self.state == "made"

    @property
    def is_stale(self) -> bool:
        """Whether it would be made from something else now, whatever became of its files."""
        return self.record is not None and len(self.reasons) > bool(self.damaged) + bool(self.missing)

    def by_these_tools(self, wanted: Wanted) -> bool:
        """Whether it was made by the code and the tools that are here: a part that is made again then fits the others."""
        record = self.record
        return record is not None and (record.code_version, record.tools) == (wanted.code_version, dict(wanted.tools))

    @property
    def data_version(self) -> str | None:
        """Of what lies there, whether or not it is as wanted; None where nothing does."""
        return None if self.record is None else self.record.data_version

    @property
    def in_words(self) -> str:
        """`stale: <what differs>`, `made (by an older version ...)`."""
        if self.reasons:
            return f"{self.state}: {'; '.join(self.reasons)}"
        return self.state + (f" ({'; '.join(self.notes)})" if self.notes else "")


def look(unit: Unit, contents: Contents | None = None) -> Verdict:
    """Compare by presence, size and time; bytes are read only where these differ.

    Args:
        contents: of this look, where several places are looked at whose files are partly the same.
    """
    return _compare(unit, contents or Contents(), full=False)


def examine(unit: Unit, contents: Contents | None = None) -> Verdict:
    """Compare every byte of every input and output."""
    return _compare(unit, contents or Contents(), full=True)


def known_inputs(unit: Unit, contents: Contents) -> dict[str, str]:
    """What a record says of its inputs, by name; `contents` then knows those that have not changed since: they are not read again."""
    record = read_record(unit.place)
    if record is None:
        return {}
    stats = read_stats(unit.place, len(record.inputs), len(record.outputs))
    for (name, sha256), noted in zip(record.inputs.items(), stats.inputs, strict=False):
        path = unit.wanted.files.get(name)
        now = stat_of(path) if path is not None else None
        if path is not None and now is not None and is_unchanged(now, noted, stats.noted_ns):
            contents.saw(path, sha256)
    return record.inputs


def _compare(unit: Unit, contents: Contents, *, full: bool) -> Verdict:
    place, wanted = unit.place, unit.wanted
    try:
        record = read_record(place)
    except InvalidFile as error:
        return Verdict("damaged", (f"{error.problem}: {place.record.name}",), damaged=(place.record.name,))
    if record is not None and full and record.identity != record.computed_identity:
        return Verdict(
            "damaged", (f"`{place.record.name}` (its parts do not give its identity)",), damaged=(place.record.name,)
        )
    if record is None:
        if unit.older is not None and unit.older() is not None:
            return Verdict("made", notes=(NOT_VERIFIED,))
        return Verdict("missing", ("it was not made yet",))
    asked = [ASKED_ANEW] if record.is_asked_anew else []
    stale = [
        *asked,
        *_other_inputs(record, wanted),
        *differences(record.options, wanted.options, wanted.given, wanted.before),
    ]
    stats = read_stats(place, len(record.inputs), len(record.outputs))
    inputs_at = {name: str(wanted.files[name]) for name in record.inputs if name in wanted.files}
    inputs = _Files(inputs_at, dict(zip(record.inputs, stats.inputs, strict=False)), stats.noted_ns, full=full)
    places = {name: f"{place.base}/{name}" for name in record.outputs}
    outputs = _Files(places, dict(zip(record.outputs, stats.outputs, strict=False)), stats.noted_ns, full=full)
    changed = inputs.differing(contents, record.inputs)
    damaged = outputs.differing(contents, {name: each[1] for name, each in record.outputs.items()})
    if inputs.was_read or outputs.was_read:
        noted = [None if name in changed else inputs.now.get(name) for name in record.inputs]
        write_stats(place, noted, [None if name in damaged else outputs.now[name] for name in record.outputs])
    stale += _named("changed", changed)
    bad = [f"`{name}` ({_found(outputs.now[name], record.outputs[name][0])})" for name in damaged]
    missing = [name for name, stat in outputs.now.items() if stat is None]
    notes = _notes(record, wanted)
    gone = [name for name in record.inputs if name in wanted.files and inputs.now[name] is None]
    notes += _named("gone, and needed only to make this anew", gone)
    state: State = "damaged" if damaged else "missing" if missing else "stale" if stale else "made"
    reasons = (*_listed(bad), *_named("missing", missing), *stale)
    only_lost_files = bool(damaged or missing) and not stale
    return Verdict(state, reasons, tuple(notes), tuple(missing), tuple(damaged), record, only_lost_files)


class _Files:
    """The files of a record, beside their noted sizes and times."""

    def __init__(
        self, paths: Mapping[str, str], noted: Mapping[str, Stat | None], noted_ns: int, *, full: bool
    ) -> None:
        self._paths, self._noted, self._noted_ns, self._full = paths, noted, noted_ns, full
        self.now = {name: stat_of(path) for name, path in paths.items()}
        self.was_read = False

    def differing(self, contents: Contents, recorded: Mapping[str, str]) -> list[str]:
        """Names of those that are there with other bytes than recorded."""
        doubted = [
            name
            for name, now in self.now.items()
            if now is not None and (self._full or not is_unchanged(now, self._noted.get(name), self._noted_ns))
        ]
        self.was_read = bool(doubted)
        found = contents.sha256_of([self._paths[name] for name in doubted])
        return [name for name, sha256 in zip(doubted, found, strict=True) if sha256 != recorded[name]]


def _other_inputs(record: MadeFrom, wanted: Wanted) -> list[str]:
    """What has another data version, and files that came since."""
    other = [name for name, version in wanted.made.items() if record.inputs.get(name) != version]
    new = [name for name, path in wanted.files.items() if name not in record.inputs and stat_of(path) is not None]
    return [*_named("made anew", other), *_named("new", new)]


def _notes(record: MadeFrom, wanted: Wanted) -> list[str]:
    notes = []
    if record.code_version != wanted.code_version:
        notes.append(f"by an older version: {record.step} {record.code_version}, now {wanted.code_version}")
    for tool, then in record.tools.items():
        now = wanted.tools.get(tool)
        if now is None:
            notes.append(f"with {tool} {_short(then)}, which is not here")
        elif now != then:
            notes.append(f"with {tool} {_short(then)}, here is {_short(now)}")
    notes += [f"without {tool}, which is here" for tool in wanted.tools if tool not in record.tools]
    return notes


def _short(version: str) -> str:
    """A digest by its first characters, a name whole."""
    return version[:12] if len(version) == 64 else version


def _named(what: str, names: Sequence[str]) -> list[str]:
    return [f"{files}: {what}" for files in _listed([f"`{name}`" for name in names])]


def _listed(names: Sequence[str]) -> list[str]:
    """In one line, where there are any."""
    return [first_names(names, NAMED)] if names else []


def _found(stat: Stat | None, recorded: int) -> str:
    size = 0 if stat is None else stat[0]
    return "other bytes, as many" if size == recorded else f"{size} bytes, was {recorded}"
