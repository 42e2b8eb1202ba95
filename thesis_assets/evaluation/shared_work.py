"""Work on several scenes and epochs, shared out to workers: each (scene, epoch) is finished by whoever asked, as its last share ends.

A (scene, epoch) that fails leaves the others. Workers write below stagings that the caller made, and publish nothing themselves.
Does not belong here: what a share is, where workers run (`launch`).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Generic, TypeVar

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, Progress
from thesis_assets.evaluation.units import absent_tasks
from thesis_assets.evaluation.views import View
from thesis_assets.launch.mapping import map_items
from thesis_assets.launch.telling import every, tell

Item = TypeVar("Item")
Result = TypeVar("Result")
Share = TypeVar("Share")
Record = TypeVar("Record")

SECONDS_A_LINE = 5.0


@dataclass(frozen=True)
class Crew:
    """Who works: `workers` at once, each for at least so many views, as starting one costs seconds."""

    workers: int = 1
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
        return map_items(called, items, workers=self.workers, on_done=on_done, on_line=on_progress)

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
    """One (scene, epoch), or all epochs of a scene.

    Attributes:
        shares: the parts that workers do, in any order.
        finish: called with their results, in the order of the shares; publishes, and returns a record an epoch.
        discard: called once afterwards, or where a share failed; removes what was not published.
    """

    scene_name: str
    shares: Sequence[Share]
    finish: Callable[[list[Result]], Mapping[int, Record]]
    discard: Callable[[], None] = lambda: None


@dataclass(frozen=True, eq=False)
class Plan(Generic[Share, Result, Record]):
    """One (scene, epoch) that is to be made: its views, and the unit over parts of them, a share each."""

    views: Sequence[View]
    unit: Callable[[list[tuple[View, ...]]], Unit[Share, Result, Record]]


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
                found="\n".join(f"{name}: {'; '.join(reasons)}" for name, reasons in sorted(self.failed.items())),
            )


def cells_with_task(cells: Sequence[EvaluationCell], task: str, outcomes: Outcomes[Any]) -> list[EvaluationCell]:
    """The cells whose scene can have a task; the others are entered with the reason."""
    found: list[EvaluationCell] = []
    for cell in cells:
        try:
            absent = absent_tasks(cell)
        except ThesisAssetsError as error:
            outcomes.fail(cell.scene.name, error)
            continue
        if task in absent:
            outcomes.absent[cell.scene.name] = absent[task]
        else:
            found.append(cell)
    return found


def make_epochs(
    function: Callable[[Share], Result],
    plan: Callable[[EvaluationCell, int], Plan[Share, Result, Record] | Record],
    epochs: Iterable[tuple[EvaluationCell, int]],
    outcomes: Outcomes[Record],
    crew: Crew,
    on_progress: Progress,
    split: Callable[[Sequence[View], int], list[tuple[View, ...]]],
) -> None:
    """Do every (scene, epoch) by shares of some views each.

    Args:
        plan: what is to be done of one, or the record of what is there as wanted.
        split: `split_by_camera` or `split_by_frame`.
    """
    plans: list[Plan[Share, Result, Record]] = []
    for cell, epoch in epochs:
        try:
            found = plan(cell, epoch)
        except ThesisAssetsError as error:
            outcomes.fail(cell.scene.name, error)
            continue
        if isinstance(found, Plan):
            plans.append(found)
        else:
            outcomes.records[cell.scene.name, epoch] = found
    crew = crew.for_views(sum(len(each.views) for each in plans))
    n_shares = crew.shares_a_unit(len(plans))
    units = [each.unit(split(each.views, n_shares)) for each in plans]
    work_off(function, units, outcomes, crew, on_progress)


def split_by_camera(views: Sequence[View], n_shares: int) -> list[tuple[View, ...]]:
    """At most `n_shares` parts of about one number of cameras; a camera's views stay together."""
    return _split(views, n_shares, lambda view: view.cam_id)


def split_by_frame(views: Sequence[View], n_shares: int) -> list[tuple[View, ...]]:
    """At most `n_shares` parts of about one number of frames; a frame's views stay together, and so do those of one batch."""
    return _split(views, n_shares, lambda view: int(view.fname))


def _split(views: Sequence[View], n_shares: int, key: Callable[[View], int]) -> list[tuple[View, ...]]:
    keys = sorted({key(view) for view in views})
    count = max(1, min(n_shares, len(keys)))
    part = {each: place * count // len(keys) for place, each in enumerate(keys)}
    return [tuple(view for view in views if part[key(view)] == number) for number in range(count)]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch sum on one core: its last bits, and so a pixel's rounding, depend on the number of cores that share a sum.

    Workers share the cores, not the sums: the same bytes come of any number of them.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def over_scenes(
    function: Callable[[EvaluationCell], Mapping[int, Record]],
    cells: Sequence[EvaluationCell],
    outcomes: Outcomes[Record],
    crew: Crew,
    on_progress: Progress,
) -> None:
    """Do one thing a scene, which publishes by itself and gives a record an epoch."""
    units = [Unit(cell.scene.name, [cell], itemgetter(0)) for cell in cells]
    work_off(function, units, outcomes, crew, on_progress)


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
    unexpected: list[Exception] = []

    def on_done(share: Share, outcome: Result | Exception) -> None:
        unit, place = shares[id(share)]
        if isinstance(outcome, Exception):
            outcomes.fail(unit.scene_name, outcome)
            if not isinstance(outcome, ThesisAssetsError):
                unexpected.append(outcome)
            return
        results[id(unit)][place] = outcome
        if len(results[id(unit)]) == len(unit.shares):
            found = results.pop(id(unit))
            _finish(unit, [found[place] for place in range(len(unit.shares))], outcomes)

    try:
        crew.work(function, [share for unit in units for share in unit.shares], on_progress, on_done)
    finally:
        for unit in units:
            unit.discard()
    if unexpected:
        raise unexpected[0]


def _finish(unit: Unit[Share, Result, Record], found: list[Result], outcomes: Outcomes[Record]) -> None:
    try:
        records = unit.finish(found)
        outcomes.records.update({(unit.scene_name, epoch): record for epoch, record in records.items()})
    except ThesisAssetsError as error:
        outcomes.fail(unit.scene_name, error)
    finally:
        unit.discard()


def pace(scene_name: str, what: str, total: int) -> Callable[[int], None]:
    """A function that is given how many more are done, and tells now and then: how many, how fast, how long still."""
    done = 0

    def line(seconds: float) -> str:
        rate = done / seconds
        return f"{scene_name}: {done}/{total} {what}, {rate:.1f}/s, {(total - done) / rate:.0f} s left"

    report = every(SECONDS_A_LINE, tell, line)

    def add(count: int) -> None:
        nonlocal done
        done += count
        report()

    return add
