"""Two worlds that must hold the same: every file of their trees, byte for byte, but for what is listed here with its reason.

Both must have been made at the same place, one after the other: paths stand in `data.json`, and digests of it in much else.
"""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rerun.chunk import RrdReader

from thesis_assets.layout import TEMPORARY_PREFIX

TREES = ("difix_tuning_data", "results")

NOT_COMPARED = {
    "*/meta/locks/*": "who held it last; an epoch's lock, a scene's",
    "*/tuning_runs/*/job.json": "process ids and times of a job",
    "*/tuning_runs/*/job_exit.json": "the same of its end",
    "*/tuning_runs/*/logs/*": "what was said, and when: a trainer that was killed says more",
    "*made_from.stats.json": "sizes and times: a cache",
    f"*/{TEMPORARY_PREFIX}*": "left by a killed process, and never read by anything",
}
LEFT_OUT = {
    "*/meta/frozen.json": {"frozen_at": "a time"},
    "*/scene_runs/*/run_stats.json": {
        "seconds": "a time",
        "bytes_written": "of this export alone, not of the one killed",
    },
    "*made_from.json": {
        "outputs": "each file is compared itself; a recording has random ids, statistics have their seconds",
        "noted": "for a reader: devices, times",
    },
}
"""Keys of JSON files."""


def assert_equal(home: Path, undisturbed: Path) -> int:
    """The same files with the same content. Returns how many were compared."""
    files, expected = _files(home), _files(undisturbed)
    assert sorted(files) == sorted(expected), sorted(files.keys() ^ expected.keys())
    different = [name for name in expected if _content(files[name], name) != _content(expected[name], name)]
    assert not different, different  # this module is not rewritten by pytest
    return len(expected)


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of every published file below a folder: both change where it is written anew.

    Without the caches beside the records: a look of anyone may write them again.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if (
            TEMPORARY_PREFIX not in str(path.relative_to(folder))
            and path.is_file()
            and path.suffixes[-2:] != [".stats", ".json"]
        ):
            status = path.stat()
            found[path] = (status.st_ino, status.st_mtime_ns)
    return found


def _files(home: Path) -> dict[str, Path]:
    found = {str(path.relative_to(home)): path for tree in TREES for path in (home / tree).rglob("*") if path.is_file()}
    assert found
    return {name: path for name, path in found.items() if not any(fnmatchcase(name, each) for each in NOT_COMPARED)}


def _content(path: Path, name: str) -> object:
    if path.suffix == ".rrd":
        return _recorded(path)
    left_out = next((keys for pattern, keys in LEFT_OUT.items() if fnmatchcase(name, pattern)), None)
    if left_out is None:
        return path.read_bytes()
    return {key: value for key, value in json.loads(path.read_bytes()).items() if key not in left_out}


def _recorded(path: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """What a recording tells, entity by entity; without the random ids of its rows, and whatever the order of its chunks."""
    found = []
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        kept = [name for name in batch.schema.names if name != "rerun.controls.RowId"]
        found.append((chunk.entity_path, batch.select(kept).to_pylist()))
    return sorted(found, key=lambda item: (item[0], repr(item[1])))
