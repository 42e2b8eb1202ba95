"""Work on several scenes and epochs, shared out to workers: each (scene, epoch) is finished by whoever asked, as its last share ends.

A (scene, epoch) that fails leaves the others. Workers write below stagings that the caller made, and publish nothing themselves.
Does not belong here: what a share is, where workers run (`launch`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, Progress
from thesis_assets.launch.mapping import map_items

Item = TypeVar("Item")
Result = TypeVar("Result")
Share = TypeVar("Share")
Record = TypeVar("Record")


class MapItems(Protocol):
    """`launch.mapping.map_items`, or the same of a launcher."""

    def __call__(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        workers: int,
        on_done: Callable[[Item, Result | Exception], None] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> list[Result | Exception]: ...


@dataclass(frozen=True)
class Crew:
    """Who works: `workers` at once, where `map_items` puts them; each for at least so many views, as starting one costs seconds."""

    workers: int = 1
    map_items: MapItems = map_items
    views_a_worker: int = 24

    def for_views(self, n_views: int) -> Crew:
        """As many of them as `n_views` give something to do."""
        return replace(self, workers=max(1, min(self.workers, n_views // self.views_a_worker)))

    def work(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        on_progress: Progress,
        on_done: Callable[[Item, Result | Exception], None] | None = None,
    ) -> list[Result | Exception]:
        """Call `function` on every item: its results, or what it raised, in the order of `items`."""
        beside_others = self.workers > 1 and len(items) > 1
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        called = functools.partial(_with_threads, threads, function) if beside_others else function
        return self.map_items(called, items, workers=self.workers, on_done=on_done, on_line=on_progress)

    def shares_a_unit(self, n_units: int) -> int:
        """Into how many shares each of `n_units` is cut, so that nobody is idle while the last ones are worked on."""
        if self.workers <= 1 or n_units == 0:
            return 1
        return max(1, -(-2 * self.workers // n_units))


def _with_threads(threads: int, function: Callable[[Item], Result], item: Item) -> Result:
    """In a worker: torch, where the work imports it, takes its part of the cores and not all of them."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    return function(item)


@dataclass(frozen=True, eq=False)
class Unit(Generic[Share, Result, Record]):
    """One (scene, epoch).

    Attributes:
        name: for progress lines.
        shares: the parts that workers do, in any order.
        finish: called with their results, in the order of the shares; publishes, and returns the record.
        discard: called once afterwards, or where a share failed; removes what was not published.
    """

    scene_name: str
    epoch: int
    name: str
    shares: Sequence[Share]
    finish: Callable[[list[Result]], Record]
    discard: Callable[[], None]


@dataclass(frozen=True)
class Outcomes(Generic[Record]):
    """What came of the scenes.

    Attributes:
        records: by scene and epoch, also of those that were current already.
        failed: scene to the reasons why it is not whole.
        absent: scene to the reason why it cannot have the task.
    """

    records: dict[tuple[str, int], Record] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def fail(self, scene_name: str, error: object) -> None:
        """Remember a failure, each reason once."""
        reasons = self.failed.setdefault(scene_name, [])
        if str(error) not in reasons:
            reasons.append(str(error))

    def raise_failures(self) -> None:
        """Raise where any scene failed.

        Raises:
            ThesisAssetsError: with every failed scene and its reasons.
        """
        if self.failed:
            raise ThesisAssetsError(
                "scenes failed; the others are in place",
                found="\n".join(f"{name}: {'; '.join(reasons)}" for name, reasons in self.failed.items()),
            )


def work_off(
    function: Callable[[Share], Result],
    units: Sequence[Unit[Share, Result, Record]],
    outcomes: Outcomes[Record],
    crew: Crew,
    on_progress: Progress,
) -> None:
    """Do every share of every unit, and enter the records, and the failures, into `outcomes`.

    Args:
        function: importable by name; what it raises other than `ThesisAssetsError` (a full disk) is raised here at the end.
    """
    shares = {id(share): (unit, place) for unit in units for place, share in enumerate(unit.shares)}
    results: dict[int, dict[int, Result]] = {id(unit): {} for unit in units}
    broken: set[int] = set()
    unexpected: list[Exception] = []

    def on_done(share: Share, outcome: Result | Exception) -> None:
        unit, place = shares[id(share)]
        if isinstance(outcome, Exception):
            broken.add(id(unit))
            outcomes.fail(unit.scene_name, outcome)
            if not isinstance(outcome, ThesisAssetsError):
                unexpected.append(outcome)
            return
        results[id(unit)][place] = outcome
        if id(unit) not in broken and len(results[id(unit)]) == len(unit.shares):
            _finish(unit, results.pop(id(unit)), outcomes)

    try:
        crew.work(function, [share for unit in units for share in unit.shares], on_progress, on_done)
    finally:
        for unit in units:
            unit.discard()
    if unexpected:
        raise unexpected[0]


def _finish(unit: Unit[Share, Result, Record], results: Mapping[int, Result], outcomes: Outcomes[Record]) -> None:
    try:
        record = unit.finish([results[place] for place in range(len(unit.shares))])
        outcomes.records[unit.scene_name, unit.epoch] = record
    except ThesisAssetsError as error:
        outcomes.fail(unit.scene_name, error)
    finally:
        unit.discard()


def over_scenes(
    function: Callable[[Any], Mapping[int, Record]],
    works: Mapping[str, Any],
    outcomes: Outcomes[Record],
    crew: Crew,
    on_progress: Progress,
) -> None:
    """Do one thing a scene, which publishes by itself and gives a record an epoch.

    Args:
        works: scene name to what `function` is given.
    """
    names = list(works)
    unexpected: list[Exception] = []
    found = crew.work(function, list(works.values()), on_progress)
    for name, outcome in zip(names, found, strict=True):
        if isinstance(outcome, Exception):
            outcomes.fail(name, outcome)
            if not isinstance(outcome, ThesisAssetsError):
                unexpected.append(outcome)
        else:
            outcomes.records.update({(name, epoch): record for epoch, record in outcome.items()})
    if unexpected:
        raise unexpected[0]


def by_scene(cells: Sequence[EvaluationCell]) -> dict[str, EvaluationCell]:
    """Cells by their scene's name."""
    return {cell.scene.name: cell for cell in cells}
