"""Tables that are cited: kept as they were printed, whatever becomes of the runs; and what moved since.

Does not belong here: how a table is printed (`leaderboard_pages`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.measured_tasks import RunKey
from thesis_assets.reports.leaderboard import Leaderboard
from thesis_assets.schemas.evaluation import CitedTable, LeaderboardRow

Place = tuple[str, str, str, int, str]
"""Experiment, run, scene, epoch, task."""


def keep_cited(path: Path, table: CitedTable) -> None:
    """Write a table under a name that there is not yet; where someone was faster, theirs stays."""
    whole = table.model_copy(update={"sha256": _digest(table.model_dump(mode="json"))})
    temporary = storage.temporary_sibling(path)
    try:
        storage.write_json(temporary, whole)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_cited(path: Path) -> CitedTable:
    """The table as it was kept.

    Raises:
        InvalidFile: there is none of the name, or it was changed since.
    """
    if not path.is_file():
        names = sorted(each.stem for each in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise InvalidFile(
            "no table is cited under this name",
            file=path,
            wanted=", ".join(names) or "none is cited yet",
            remedy=f"`thesis-assets leaderboard --exp <name> --cite {path.stem}` keeps one",
        )
    table = storage.read_json(path, CitedTable)
    found = _digest(storage.read_json_value(path))
    if table.sha256 != found:
        raise InvalidFile(
            "the cited table was changed since it was kept",
            file=path,
            found=f"content of sha256 {found}",
            wanted=table.sha256,
            remedy="restore it from a copy, or cite what is there now under another name",
        )
    return table


def _digest(value: Mapping[str, Any]) -> str:
    """Of the table as it stands in its file: one that another version kept has other keys."""
    return storage.sha256_value({key: each for key, each in value.items() if key != "sha256"})


def what_moved(cited: CitedTable, board: Leaderboard, why_gone: Callable[[RunKey], str]) -> Iterator[str]:
    """A line a thing that is not as it was cited, for each run, scene, epoch and task.

    Args:
        board: of today.
        why_gone: of a run of which today's board has nothing.
    """
    then, now = _by_place(cited.rows), _by_place(board.rows)
    runs_now = {place[:2] for place in now}
    for run in dict.fromkeys(place[:2] for place in then):
        if run not in runs_now:
            yield f"{'/'.join(run)}: {why_gone(run)}"
    for place, before in then.items():
        if place[:2] in runs_now:
            where = f"{place[0]}/{place[1]}, {place[2]}, epoch {place[3]}, {place[4]}"
            yield from (f"{where}: {text}" for text in _moved(cited, board, before, now.get(place, {})))
    new = dict.fromkeys("/".join(place[:2]) for place in now if place[:2] not in {each[:2] for each in then})
    yield from (f"{run}: not in the cited table" for run in new)


def _moved(
    cited: CitedTable, board: Leaderboard, before: Mapping[str, LeaderboardRow], after: Mapping[str, LeaderboardRow]
) -> Iterator[str]:
    if not after:
        yield "not evaluated any more"
        return
    was, now = next(iter(before.values())), next(iter(after.values()))
    if now.damaged:
        yield now.damaged
        return
    if was.protocol_digest != now.protocol_digest:
        yield f"another protocol: {_differing(cited.comparable[was.protocol_digest], board.comparable[now.protocol_digest])}"
    if was.checkpoint_sha256 != now.checkpoint_sha256:
        yield f"other weights: checkpoint {_short(was.checkpoint_sha256)}, now {_short(now.checkpoint_sha256)}"
    if was.data_version != now.data_version:
        yield f"made anew from other things: data version {_short(was.data_version)}, now {_short(now.data_version)}"
    if was.seen_people != now.seen_people:
        yield "its people were trained on by one and not by the other"
    if now.moved not in ("", was.moved):
        yield now.moved
    if now.leaked not in ("", was.leaked):
        yield now.leaked
    for metric, row in before.items():
        value = after[metric].value if metric in after else None
        if value != row.value:
            yield f"{metric} was {_number(row.value)}, is {_number(value)}"


def _by_place(rows: list[LeaderboardRow]) -> dict[Place, dict[str, LeaderboardRow]]:
    found: dict[Place, dict[str, LeaderboardRow]] = {}
    for row in rows:
        place = (row.exp_name, row.run_name, row.scene_name, row.epoch, row.task)
        found.setdefault(place, {})[row.metric] = row
    return found


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    return "; ".join(f"{key} was {then.get(key, 'absent')}, is {now.get(key, 'absent')}" for key in keys)


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]


def _number(value: float | None) -> str:
    return "empty" if value is None else f"{value:.6g}"
