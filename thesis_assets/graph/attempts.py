"""The last attempt at a cell that has not come to its end: from what, by which run, and why it failed.

A small file a cell, beside the data, as the attempt may be on another machine and its run may be gone from the history. It is
removed where the cell is made.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from thesis_assets.errors import CellLocked, InvalidFile, InvalidKey, ProcessLost, ThesisAssetsError, printable
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES, look_at, wanted_digest
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.attempts import Attempt
from thesis_assets.storage import read_json, write_json

MOST_ATTEMPTS = 3
"""So often in a row a cell is begun by itself whose process or node was lost."""
WAS_LOST = "the process that made it was killed"
ENDED_BY_A_PERSON = "it was ended by a person"
MAX_REASON = 2000


class CellsFailed(ThesisAssetsError):
    """Some of several cells failed. `of_cells`: of each of them why."""

    of_cells: Mapping[Cell, Exception] = MappingProxyType({})


def read_attempt(tree: DifixTree, asset: str, cell: Cell) -> Attempt | None:
    """The last attempt at a cell that was not made since; None where there is none."""
    path = tree.attempt(_name(asset, cell))
    try:
        return read_json(path, Attempt) if path.is_file() else None
    except InvalidFile:
        return None  # a note, and a lost one: the cell is work again


def attempts_at(platform: Platform, exp_name: str) -> list[tuple[Attempt, Cell]]:
    """Every attempt of an experiment whose cell was not made since. A note that cannot be read is none."""
    found = []
    for path in sorted(platform.difix(Cell(exp_name)).attempts_dir.glob("*.json")):
        with contextlib.suppress(InvalidFile, InvalidKey):
            attempt = read_json(path, Attempt)
            if attempt.asset in NODES:
                found.append((attempt, Cell.parse(NODES[attempt.asset].kind, attempt.cell)))
    return found


@contextlib.contextmanager
def noting_failure(
    platform: Platform, asset: str, cells: Sequence[Cell], run_id: str, is_ended_by_person: Callable[[], bool]
) -> Iterator[None]:
    """Note of cells that failed why they did; of one that another process is at work on that one's note stays."""
    try:
        yield
    except Exception as error:
        of_cells = error.of_cells if isinstance(error, CellsFailed) else {}
        for cell in cells:
            why = of_cells.get(cell, error)
            if isinstance(why, CellLocked):
                _leave(platform, asset, cell, run_id)
            else:
                reason = str(why) if isinstance(why, ThesisAssetsError) else f"{type(why).__name__}: {why}"
                note_failure(platform, asset, [cell], reason, run_id, is_lost=isinstance(why, ProcessLost))
        raise
    except BaseException:
        if is_ended_by_person():  # else web server or daemon are restarted, and what they followed goes on
            note_failure(platform, asset, cells, ENDED_BY_A_PERSON, run_id)
        raise


def begin_attempts(platform: Platform, asset: str, cells: Sequence[Cell], run_id: str) -> None:
    """Note that cells are begun."""
    for cell in cells:
        if cell.exp_name:
            _begin(platform, asset, cell, run_id)


def end_attempts(platform: Platform, asset: str, cells: Sequence[Cell]) -> None:
    """Of cells that are made nothing is noted."""
    for cell in cells:
        if cell.exp_name:
            platform.difix(cell).attempt(_name(asset, cell)).unlink(missing_ok=True)


def _begin(platform: Platform, asset: str, cell: Cell, run_id: str) -> None:
    try:
        attempt = _attempt(platform, asset, cell, run_id)
    except ThesisAssetsError:
        return  # the body says what is wrong
    before = read_attempt(platform.difix(cell), asset, cell)
    if before is not None:
        number = before.number + 1 if before.wanted == attempt.wanted and before.is_lost else 1
        attempt = attempt.model_copy(update={"number": number, "before": before.model_copy(update={"before": None})})
    write_json(platform.difix(cell).attempt(_name(asset, cell)), attempt)


def _leave(platform: Platform, asset: str, cell: Cell, run_id: str) -> None:
    """Put back what was noted of a cell before a run began it."""
    tree = platform.difix(cell)
    attempt = read_attempt(tree, asset, cell) if cell.exp_name else None
    if attempt is None or attempt.run_id != run_id:
        return  # whoever is at work on it has come to its end, and said so
    if attempt.before is None:
        end_attempts(platform, asset, [cell])
    else:
        write_json(tree.attempt(_name(asset, cell)), attempt.before)


def _attempt(platform: Platform, asset: str, cell: Cell, run_id: str) -> Attempt:
    wanted, now = wanted_digest(platform, asset, cell), datetime.now(UTC).isoformat(timespec="seconds")
    noted = {"asset": asset, "cell": str(cell), "wanted": wanted, "run_id": run_id, "began_at": now}
    return Attempt(**noted, number=1, reason=WAS_LOST, is_lost=True)


def note_failure(
    platform: Platform, asset: str, cells: Sequence[Cell], reason: str, run_id: str, *, is_lost: bool = False
) -> None:
    """Note why those of the cells failed that are not made all the same: in a range the others are."""
    for cell in (cell for cell in cells if cell.exp_name):
        tree = platform.difix(cell)
        path = tree.attempt(_name(asset, cell))
        try:
            if look_at(platform, asset, cell).is_made:
                path.unlink(missing_ok=True)
                continue
            attempt = read_attempt(tree, asset, cell) or _attempt(platform, asset, cell, run_id)
        except ThesisAssetsError:
            continue  # the look says so again
        told = {"reason": printable(reason)[:MAX_REASON], "is_lost": is_lost, "run_id": run_id, "before": None}
        write_json(path, attempt.model_copy(update=told))


def _name(asset: str, cell: Cell) -> str:
    return "--".join(name for name in (asset, cell.run_name or cell.scene_name) if name)
