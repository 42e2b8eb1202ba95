"""The made-from record of a published output: step and code version, options, tools, inputs and outputs by their content."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.schemas.base import FileModel

ANEW = "anew"
"""Noted of what somebody wants made once more, see `ask_anew`."""


class Output(NamedTuple):
    """A file that a step wrote. `pixels`: digest of the decoded pixels of an image that we encoded."""

    bytes: int
    sha256: str
    pixels: str | None = None


class MadeFrom(FileModel):
    """One record.

    Attributes:
        step: what was done: `scene_samples`, `nvs`.
        code_version: of the step, raised where a change of code changes its results.
        options: those that shape the output, every default resolved, as they stand in the experiment's file.
        tools: what changes pixels or numbers, by name: a renderer's revision, the digest of a model's weights.
        inputs: by name: the sha256 of a file from outside (`canonical_gt/<scene>/images/4/000012.jpg`: its root, and the path
            below it), or another record's data version.
        outputs: by path relative to the place of the output.
        noted: for a reader, and no part of the identity: hosts, seconds, devices, versions of libraries.
        identity: sha256 of all that stands above the outputs.
        data_version: what a later record names as its input. The identity; of steps that are not the same twice (a training, a
            user's command) also of the outputs.
    """

    step: str
    code_version: str
    options: dict[str, Any]
    tools: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, tuple[int, str, str | None]]
    noted: dict[str, Any]
    identity: str
    data_version: str

    @property
    def is_asked_anew(self) -> bool:
        """Whether somebody wants it made once more (`ask_anew`): by today's options then."""
        return bool(self.noted.get(ANEW))

    @property
    def computed_identity(self) -> str:
        """The identity that its parts give: another one than it names where someone changed it."""
        return identity_of(self.step, self.code_version, self.options, self.tools, self.inputs)

    def output(self, name: str) -> Output | None:
        """The named output; None where the record has none of that name."""
        found = self.outputs.get(name)
        return None if found is None else Output(*found)


@dataclass(frozen=True)
class Place:
    """Where an output and its record lie.

    Attributes:
        base: the folder that names of outputs are relative to.
        record: the record's file.
    """

    base: Path
    record: Path

    @property
    def stats(self) -> Path:
        """Beside the record: sizes and times of its files. Anyone may lose it: the files are then read once."""
        return self.record.with_suffix(".stats.json")

    def name(self, path: Path) -> str:
        """An output's name in the record."""
        return path.relative_to(self.base).as_posix()


def identity_of(
    step: str,
    code_version: str,
    options: Mapping[str, Any],
    tools: Mapping[str, str],
    inputs: Mapping[str, str],
) -> str:
    """The identity of what is made from these."""
    return storage.sha256_value([step, code_version, options, tools, inputs])


def read_record(place: Place) -> MadeFrom | None:
    """The record of what lies there; None where there is none.

    Raises:
        InvalidFile: it is there and cannot be read.
    """
    try:
        with place.record.open("rb") as stream:
            content, stamp = stream.read(), _stamp(os.fstat(stream.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        record = MadeFrom.model_validate_json(content)
    except ValidationError as error:
        raise InvalidFile(
            "the file is not a made-from record",
            file=place.record,
            found=str(error).splitlines()[0][:200],
            remedy="remove it; what lies beside it is then looked at, and made again where it has to be",
        ) from error
    _VERSIONS[place.record] = stamp, record.data_version
    return record


def recorded(place: Place) -> MadeFrom | None:
    """The record there; None also where it cannot be read, which a look says."""
    try:
        return read_record(place)
    except InvalidFile:
        return None


def versions_of(places: Mapping[str, Place]) -> dict[str, str]:
    """The data versions of records, by the names that a later record gives them; without those that are not there.

    One that cannot be read is left out too: what it is of is told as damaged, and nothing after it is stale for that.
    """
    found = {name: data_version_at(place) for name, place in places.items()}
    # One that is asked for and not made has an empty one.
    return {name: version for name, version in found.items() if version}


def data_version_at(place: Place) -> str | None:
    """The data version of the record there; None where there is none, or it cannot be read. A record is read for it once."""
    try:
        known = _VERSIONS.get(place.record)
        if known is None or known[0] != _stamp(place.record.stat()):
            record = recorded(place)
            return None if record is None else record.data_version
    except OSError:
        return None
    return known[1]


_VERSIONS: dict[Path, tuple[tuple[int, int, int], str]] = {}
"""Of records that this process has read: which file it was, and its data version."""


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    """Another one for a record that was published anew: that is another file."""
    return status.st_ino, status.st_size, status.st_mtime_ns
