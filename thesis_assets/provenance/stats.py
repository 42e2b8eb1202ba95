"""The cache beside a record: sizes and times of its files when their digests were known to hold. Anyone may lose it."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from thesis_assets.provenance.contents import Stat, is_unchanged, stat_of
from thesis_assets.provenance.record import Place
from thesis_assets.storage import temporary_sibling


@dataclass(frozen=True)
class Stats:
    """Sizes and times in the order of the record's inputs and outputs; None for what is no file, was not there, or is not known."""

    noted_ns: int = 0
    inputs: Sequence[Stat | None] = field(default_factory=list)
    outputs: Sequence[Stat | None] = field(default_factory=list)

    def sure(self, noted: Stat | None) -> Stat | None:
        """A size and time of this note that a later one may repeat: not those of a file that may have changed just after it."""
        return noted if noted is not None and is_unchanged(noted, noted, self.noted_ns) else None


NOTHING = Stats()


def read_stats(place: Place, n_inputs: int, n_outputs: int) -> Stats:
    """The cache, if it is of the record that lies there now; else an empty one, and everything is read once."""
    try:
        value = orjson.loads(place.stats.read_bytes())
        inputs, outputs = ([tuple(each) if each else None for each in value[key]] for key in ("inputs", "outputs"))
        if tuple(value["record"]) != stat_of(place.record):
            return NOTHING
        found = Stats(int(value["noted_ns"]), inputs, outputs)
    except (OSError, ValueError, KeyError, TypeError):
        return NOTHING
    return found if (len(inputs), len(outputs)) == (n_inputs, n_outputs) else NOTHING


def forget_stats(place: Place) -> None:
    """Have the next look read every file of the record: one that has the noted size and time holds other bytes."""
    with contextlib.suppress(OSError):
        place.stats.unlink()


def write_stats(place: Place, inputs: Sequence[Stat | None], outputs: Sequence[Stat | None]) -> None:
    """Note that the record's digests hold for files of these sizes and times. Where one may not write, nothing is noted."""
    value = {"noted_ns": time.time_ns(), "record": stat_of(place.record), "inputs": inputs, "outputs": outputs}
    temporary = temporary_sibling(place.stats)
    # A cache on a read-only mount, of another user, or on a full disk: the next look reads the files again, which is all.
    with contextlib.suppress(OSError):
        temporary.write_bytes(orjson.dumps(value))
        temporary.replace(place.stats)
