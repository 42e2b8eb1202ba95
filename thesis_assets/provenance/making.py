"""Writing a record: inputs are digested before the work, outputs while or after they are written; the record comes last.

making = begin(place, wanted)          # what is read now is what the record will name
... write the outputs ...
making.finish(outputs)                 # flushes them together, then publishes the record
"""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.provenance.contents import Contents, stat_of
from thesis_assets.provenance.record import MadeFrom, Output, Place, identity_of
from thesis_assets.provenance.stats import write_stats
from thesis_assets.provenance.verdict import Wanted

CHANGED_MEANWHILE = "changed while it was read"
"""In place of the digest of an input that is another file at the end of the work than at its beginning: the output is stale."""


class Making:
    """A record in the making."""

    def __init__(self, place: Place, wanted: Wanted, contents: Contents) -> None:
        self._place, self._wanted, self._contents = place, wanted, contents
        found = {name: stat_of(path) for name, path in wanted.files.items()}
        self._before = {name: stat for name, stat in found.items() if stat is not None}

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
        digested = outputs if isinstance(outputs, Mapping) else self._digested(outputs)
        if flush:
            flush_files(self._place.base / name for name in digested)
        wanted, inputs = self._wanted, self._inputs()
        identity = identity_of(wanted.step, wanted.code_version, wanted.options, wanted.tools, inputs)
        named = {name: (each.bytes, each.sha256, each.pixels) for name, each in sorted(digested.items())}
        version = identity
        if wanted.of_outputs:
            version = storage.sha256_value([identity, {name: each[1] for name, each in named.items()}])
        record = MadeFrom(
            step=wanted.step,
            code_version=wanted.code_version,
            options=dict(wanted.options),
            tools=dict(wanted.tools),
            inputs=inputs,
            outputs=named,
            noted=dict(noted or {}),
            identity=identity,
            data_version=version,
        )
        storage.write_bytes(self._place.record, storage.to_json_bytes(record, indent=len(named) <= 100))
        write_stats(
            self._place,
            [self._before.get(name) for name in inputs],
            [stat_of(self._place.base / name) for name in named],
        )
        return record

    def _inputs(self) -> dict[str, str]:
        """Digests of the files as they were when the work began, and the data versions, by name."""
        files = {name: self._wanted.files[name] for name in self._before}
        found = self._contents.sha256_of(files.values())
        inputs = dict(self._wanted.made)
        for (name, path), sha256 in zip(files.items(), found, strict=True):
            same = sha256 is not None and stat_of(path) == self._before[name]
            inputs[name] = sha256 if same and sha256 is not None else CHANGED_MEANWHILE
        return dict(sorted(inputs.items()))

    def _digested(self, outputs: Iterable[Path]) -> dict[str, Output]:
        paths = sorted(outputs)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(self._contents.sha256, paths)
            return {
                self._place.name(path): Output(path.stat().st_size, sha256)
                for path, sha256 in zip(paths, found, strict=True)
            }


def begin(place: Place, wanted: Wanted, contents: Contents | None = None) -> Making:
    """Note what is there to make an output from, before the work."""
    return Making(place, wanted, contents or Contents())


def flush_files(paths: Iterable[Path]) -> None:
    """Have the disk hold these files and their folders' entries: all together, and before anything says that they are there."""
    files = [str(path) for path in paths]
    folders = sorted({os.path.dirname(path) for path in files})  # noqa: PTH120
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(_flush, [*files, *folders], chunksize=16):
            pass


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
