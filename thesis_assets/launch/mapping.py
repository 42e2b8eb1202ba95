"""The map: doing many things side by side in fresh worker processes; one that fails leaves the others.

A plain function is called in a worker, once an item. An item that several workers share, and that has something to publish when they
are done, is a generator function: it runs where the map was called, and yields what it waits for:

    def measure(scene):
        stage = begin(scene)
        try:
            found = yield Shared(compare_views, scene.views, split_by_camera)
            return publish(stage, found)
        finally:
            discard(stage)

    map_items(measure, scenes, workers=8)
"""

import os
import pickle
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import isgeneratorfunction
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any, Generic, TypeVar

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.telling import ToldLines, tell, tell_to_file, told_to

TELL_SECONDS = 0.5

Item = TypeVar("Item")
Piece = TypeVar("Piece")
Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Shared(Generic[Piece, Part, Result]):
    """Work for several workers. Who yields it is given the results of its parts, in their order, or the exception of one of them.

    Attributes:
        do: called in a worker on a part; importable by name and picklable, like parts and results.
        whole: all pieces of the work.
        cut: the pieces in at most so many parts, and at least one.
        worth: so many pieces are worth the start of a worker, which costs seconds.
    """

    do: Callable[[Part], Result]
    whole: Sequence[Piece]
    cut: Callable[[Sequence[Piece], int], Sequence[Part]]
    worth: int = 1


Course = Generator[Shared[Any, Any, Any], list[Any], Result]
"""What a generator function that is mapped returns; its own return value is the item's result."""


class WorkerDied(ThesisAssetsError):
    """A worker process ended without an answer: killed for memory, or crashed in native code."""


def map_items(
    function: Callable[[Item], Result] | Callable[[Item], Course[Result]],
    items: Sequence[Item],
    *,
    workers: int,
    on_done: Callable[[Item, Result | Exception], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> list[Result | Exception]:
    """Call `function` on every item; return its results, or the exception an item raised, in the order of `items`.

    Workers are spawned, never forked: a fork of a process that has used torch or CUDA hangs. With one worker, or one part,
    everything runs in this process. A worker that dies takes down the calls beside it; those are made again, one worker a
    part, so what workers call must bear being called twice.

    Args:
        function: importable by name; where it is no generator function, picklable like the items and results.
        on_done: called in this process as each item ends, in the order they end.
        on_line: called in this process with what is told meanwhile.
    """
    outcomes: dict[int, Result | Exception] = {}
    start = function if is_course(function) else partial(_alone, function)
    courses = [_Course(place, start(item)) for place, item in enumerate(items)]
    unbegun, waiting, alone = deque(courses), deque[_Course](), deque[_Part]()

    def go_on(course: _Course, found: Any = None) -> None:
        """Let a course run until it waits for its parts, or ends."""
        outcome: Any
        try:
            with told_to(on_line):
                run = course.generator.throw if isinstance(found, Exception) else course.generator.send
                course.shared = run(found)
        except StopIteration as end:
            outcome = end.value
        except Exception as error:  # noqa: BLE001 - the caller decides what a failed item means
            outcome = error
        else:
            waiting.append(course)
            return
        outcomes[course.place] = outcome
        if on_done:
            on_done(items[course.place], outcome)

    def ended(part: _Part, outcome: Any) -> None:
        part.course.results[part.place] = outcome
        if part.course.is_worked_off:
            go_on(part.course, part.course.take())

    def more(n_workers: int, n_running: int) -> Iterator[_Part]:
        """Parts, such that nobody is idle. A course begins when there is room for its parts: it holds all that it has begun."""
        n_parts = -(-_room(n_workers) // max(1, len(waiting) + len(unbegun)))
        while n_running < _room(n_workers) and (waiting or unbegun):
            if not waiting:
                go_on(unbegun.popleft())
                continue
            course = waiting.popleft()
            try:
                parts = course.cut(n_parts)
            except Exception as error:  # noqa: BLE001 - of this item alone
                go_on(course, error)
                continue
            n_running += len(parts)
            yield from parts
            if not parts:
                go_on(course, [])

    try:
        while alone or waiting or unbegun:
            if alone:
                parts, n_workers, only = [alone.popleft()], 1, True
            else:
                while unbegun and len(waiting) < _room(workers):
                    go_on(unbegun.popleft())
                n_workers, only = min(workers, _worth(waiting, len(unbegun))), False
                parts = list(more(n_workers, 0))
                if n_workers == 1 or len(parts) == 1:
                    for part in parts:
                        try:
                            with told_to(on_line):
                                outcome = _answer(part.do, part.part)
                        except Exception as error:  # noqa: BLE001 - the caller decides what a failed item means
                            outcome = error
                        ended(part, outcome)
                    continue
            n_pool = min(n_workers, len(parts))
            with _pool(n_pool, on_line) as pool:
                while parts or pool.running:
                    for part in parts:
                        try:
                            pool.running[part] = pool.executor.submit(_answer, part.do, part.part)
                        except BrokenProcessPool as broken:  # by a part that ran already
                            pool.running[part] = Future()
                            pool.running[part].set_exception(broken)
                    parts = []
                    for part, outcome in pool.ended():
                        if not isinstance(outcome, BrokenProcessPool):
                            ended(part, outcome)
                        elif only:
                            ended(part, _death(part))
                        else:
                            alone.append(part)
                    # What is worth more workers than there are waits for a pool of so many.
                    if not only and not alone and min(workers, _worth(waiting, len(unbegun))) <= n_pool:
                        parts = list(more(n_pool, len(pool.running)))
    finally:
        for course in courses:
            try:
                course.generator.close()
            except Exception as error:  # noqa: BLE001 - what ended the map is what counts
                tell(f"ending an item failed too: {error}")
    return [outcomes[place] for place in range(len(items))]


def is_course(function: Callable[..., Any]) -> bool:
    """Whether it is a generator function, also where some of its arguments are given already."""
    return isgeneratorfunction(function.func if isinstance(function, partial) else function)


def singly(whole: Sequence[Part], n_parts: int) -> Sequence[Part]:
    """Every piece is a part."""
    del n_parts
    return whole


def _alone(function: Callable[[Item], Result], item: Item) -> Course[Result]:
    (result,) = yield Shared(function, [item], singly)
    return result  # type: ignore[no-any-return]


@dataclass(eq=False)
class _Course:
    """An item on its way: what it waits for, and what came of the parts of that."""

    place: int
    generator: Any
    shared: Shared[Any, Any, Any] | None = None
    n_parts: int = 0
    results: dict[int, Any] = field(default_factory=dict)

    def cut(self, n_parts: int) -> "list[_Part]":
        """What it waits for, in about so many parts."""
        shared = self.shared
        assert shared is not None
        cut = shared.cut(shared.whole, n_parts)
        self.n_parts, self.results = len(cut), {}
        return [_Part(self, place, shared.do, part) for place, part in enumerate(cut)]

    @property
    def is_worked_off(self) -> bool:
        """Only then it goes on: what it discards when one part failed, others may be at work on."""
        return len(self.results) == self.n_parts

    def take(self) -> Any:
        """What came of its parts; kept no longer than its generator keeps it."""
        results = [self.results.pop(place) for place in range(self.n_parts)]
        return next((each for each in results if isinstance(each, Exception)), results)


@dataclass(frozen=True, eq=False)
class _Part:
    course: _Course
    place: int
    do: Callable[[Any], Any]
    part: Any


def _room(n_workers: int) -> int:
    """For so many parts at a time: whoever has done one finds the next, and the last of them are done by all."""
    return 1 if n_workers == 1 else 2 * n_workers


def _worth(waiting: Collection[_Course], n_unbegun: int) -> int:
    """How many workers are worth their start, if those that have not begun are like those that wait."""
    begun = sum(len(course.shared.whole) / course.shared.worth for course in waiting if course.shared is not None)
    return max(1, int(begun * (1 + n_unbegun / max(1, len(waiting)))))


def _death(part: _Part) -> WorkerDied:
    return WorkerDied(
        "the worker process ended without an answer",
        found=ascii(part.part)[:300],
        remedy="most often it was killed for memory (`dmesg`): use fewer workers, or smaller batches; then start again",
    )


@dataclass(frozen=True)
class _Pool:
    """Worker processes, and what they tell."""

    executor: ProcessPoolExecutor
    told: ToldLines
    on_line: Callable[[str], None] | None
    running: dict[_Part, Future[Any]] = field(default_factory=dict)

    def ended(self) -> Iterator[tuple[_Part, Any]]:
        """Those that run no more, with the result or the exception of each; waits a moment where there are none."""
        done, _ = wait(self.running.values(), TELL_SECONDS, return_when=FIRST_COMPLETED)
        for line in self.told.new():
            if self.on_line:
                self.on_line(line)
        for part in [part for part, future in self.running.items() if future in done]:
            future = self.running.pop(part)
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield part, error or future.result()


@contextmanager
def _pool(workers: int, on_line: Callable[[str], None] | None) -> Iterator[_Pool]:
    """Workers that end with the block, at once where an exception passes through."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    with tempfile.TemporaryDirectory(prefix="thesis-assets-") as folder:
        executor = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_follow_parent, initargs=(Path(folder), threads)
        )
        try:
            yield _Pool(executor, ToldLines(Path(folder)), on_line)
        except BaseException:
            for process in list((executor._processes or {}).values()):
                process.kill()
            raise
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _answer(do: Callable[[Part], Any], part: Part) -> Any:
    """In a worker: raises what can be sent, with its place, as which a pool's exceptions come."""
    try:
        return do(part)
    except Exception as error:
        sent = picklable(error)
        if sent is error:
            raise
        raise sent from error


def picklable(answer: Any) -> Any:
    """The same; an exception that cannot be sent to another process is its text, or it would look like a worker's death."""
    if isinstance(answer, Exception):
        try:
            pickle.loads(pickle.dumps(answer))  # noqa: S301 - bytes of this very process
        except Exception:  # noqa: BLE001 - whatever its class does in pickling
            return ThesisAssetsError(f"{type(answer).__name__}: {answer}")
    return answer


def _follow_parent(folder: Path, threads: int) -> None:
    """In a worker: leave Ctrl-C to the parent, tell it by files, and end when it does, however it ends.

    Torch, where the work imports it, takes its part of the cores and not all of them.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    tell_to_file(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)
