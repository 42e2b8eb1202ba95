"""Mapping a function over items in fresh worker processes; an item that fails leaves the others."""

import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import TypeVar

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.telling import ToldLines, tell_to_file, told_to

TELL_SECONDS = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerDied(ThesisAssetsError):
    """A worker process ended without an answer: killed for memory, or crashed in native code."""


def map_items(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    on_done: Callable[[Item, Result | Exception], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> list[Result | Exception]:
    """Call `function` on every item; return its results, or the exception an item raised, in the order of `items`.

    Workers are spawned, never forked: a fork of a process that has used torch or CUDA hangs. With one worker (or one item)
    everything runs in this process. A worker that dies takes down the calls beside it; those are made again, one worker an
    item, so `function` must bear being called twice for one item.

    Args:
        function: importable by name, and picklable like the items and results.
        on_done: called in this process as each item ends, in the order they end.
        on_line: called in this process with what the items `tell` meanwhile.
    """
    outcomes: dict[int, Result | Exception] = {}

    def finish(place: int, outcome: Result | Exception) -> None:
        outcomes[place] = outcome
        if on_done:
            on_done(items[place], outcome)

    if workers <= 1 or len(items) <= 1:
        for place, item in enumerate(items):
            with told_to(on_line):
                outcome = _call(function, item)
            finish(place, outcome)
        return [outcomes[place] for place in range(len(items))]
    with tempfile.TemporaryDirectory(prefix="thesis-assets-") as folder:
        told = ToldLines(Path(folder))

        def relay() -> None:
            for line in told.new():
                if on_line:
                    on_line(line)

        _map_in_pool(function, items, range(len(items)), min(workers, len(items)), finish, Path(folder), relay)
        for place in [place for place in range(len(items)) if place not in outcomes]:
            if not _map_in_pool(function, items, [place], 1, finish, Path(folder), relay):
                died = WorkerDied(
                    "the worker process ended without an answer",
                    found=ascii(items[place])[:300],
                    remedy="most often it was killed for memory (`dmesg`): use fewer workers, or smaller batches; then start again",
                )
                finish(place, died)
    return [outcomes[place] for place in range(len(items))]


def _call(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except Exception as error:  # noqa: BLE001 - the caller decides what a failed item means
        return error


def _map_in_pool(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    places: Sequence[int],
    workers: int,
    finish: Callable[[int, Result | Exception], None],
    folder: Path,
    relay: Callable[[], None],
) -> bool:
    """Finish what can be finished of `places`. False: a worker died; what it and those beside it did is lost."""
    executor = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_follow_parent, initargs=(folder,)
    )
    futures: dict[Future[Result], int] = {}
    died = False
    try:
        for place in places:
            futures[executor.submit(picklable_answer, function, items[place])] = place
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, TELL_SECONDS, return_when=FIRST_COMPLETED)
            relay()
            for future in sorted(done, key=lambda one: futures[one]):
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    died = True
                    continue
                if error is not None and not isinstance(error, Exception):
                    raise error
                finish(futures[future], future.result() if error is None else error)
    except BrokenProcessPool:
        died = True
    except BaseException:
        for process in list((executor._processes or {}).values()):
            process.kill()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return not died


def picklable_answer(function: Callable[[Item], Result], item: Item) -> Result:
    """In a worker: an exception that cannot travel back goes as its text, or it would look like a worker's death."""
    try:
        return function(item)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of this very process
        except Exception:  # noqa: BLE001 - whatever its class does in pickling, it cannot be sent
            raise ThesisAssetsError(f"{type(error).__name__}: {error}") from error
        raise


def _follow_parent(folder: Path) -> None:
    """In a worker: leave Ctrl-C to the parent, tell it by files, and end when it does, however it ends."""
    tell_to_file(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)
