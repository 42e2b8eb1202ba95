"""Results come in the order of the items; a failed item leaves the others; nothing survives an interrupt."""

import functools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from thesis_assets.errors import reason_of
from thesis_assets.launch import mapping
from thesis_assets.launch.mapping import Course, Shared, WorkerDied, _Pool, map_items, singly
from thesis_assets.launch.telling import ToldLines, tell


def square_but(number: int) -> int:
    """Fails on 3; on 13 the worker is killed."""
    if number == 3:
        raise ValueError("three")
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


class Untransportable(Exception):
    def __init__(self, one: int, *, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_untransportable(number: int) -> int:
    raise Untransportable(number, two=2)


def tell_twice(number: int) -> int:
    tell(f"{number} begins")
    tell(f"{number} ends")
    return number


def map_within(number: int) -> int:
    """A map in a map, whose lines are told on."""
    map_items(tell_twice, [number], workers=1, on_line=lambda line: tell(f"inside: {line}"))
    return number


def sleep_long(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_item_leaves_the_others(workers: int) -> None:
    done: list[int] = []
    results = map_items(square_but, [1, 3, 2, 5], workers=workers, on_done=lambda item, _: done.append(item))
    assert [results[0], *results[2:]] == [1, 4, 25]
    assert isinstance(results[1], ValueError)
    assert sorted(done) == [1, 2, 3, 5]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_items_tell_arrives_here_in_their_order(workers: int) -> None:
    lines: list[str] = []
    map_items(tell_twice, [1, 2, 3], workers=workers, on_line=lines.append)
    assert sorted(lines) == sorted(f"{number} {word}" for number in (1, 2, 3) for word in ("begins", "ends"))
    for number in (1, 2, 3):
        assert lines.index(f"{number} begins") < lines.index(f"{number} ends")
    tell("nobody listens")
    assert len(lines) == 6


def test_a_map_within_a_map_tells_on_what_it_hears() -> None:
    lines: list[str] = []
    map_items(map_within, [1], workers=1, on_line=lines.append)
    assert lines == ["inside: 1 begins", "inside: 1 ends"]


def test_a_killed_worker_fails_its_item_alone() -> None:
    done: list[int] = []
    results = map_items(square_but, [1, 13, 2, 4], workers=2, on_done=lambda item, _: done.append(item))
    assert [results[0], *results[2:]] == [1, 4, 16]
    assert isinstance(results[1], WorkerDied)
    assert sorted(done) == [1, 2, 4, 13]


def test_an_exception_that_cannot_be_pickled_keeps_its_text() -> None:
    results = map_items(raise_untransportable, [1, 7], workers=2)
    assert [str(result) for result in results] == ["Untransportable: 1 and 2", "Untransportable: 7 and 2"]


def test_an_interrupt_ends_the_workers(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]

    def interrupt(*_: object) -> None:
        deadline = time.monotonic() + 30
        while not (paths[0].exists() and paths[0].read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    import threading

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        map_items(sleep_long, paths, workers=2)
    pids = [int(path.read_text()) for path in paths if path.exists()]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_of_the_program_is_told_with_its_place_wherever_it_happened(workers: int) -> None:
    """Of an error from another process there was no place, and telling it ended in another error."""
    results = map_items(square_but, [3, 1], workers=workers)
    assert isinstance(results[0], ValueError)
    line = square_but.__code__.co_firstlineno + 3
    assert reason_of(results[0]) == f"a fault of the program, ValueError: three ({__file__}:{line})"


def test_no_items_give_no_results() -> None:
    assert map_items(square_but, [], workers=2) == []


def sum_of(numbers: list[int]) -> int:
    """Fails on 3."""
    if 3 in numbers:
        raise ValueError("three")
    tell(f"sum of {len(numbers)}")
    return sum(numbers)


def halves(whole: Sequence[int], n_parts: int) -> list[list[int]]:
    half = len(whole) if n_parts == 1 else -(-len(whole) // 2)
    return [list(whole[start : start + half]) for start in range(0, len(whole), half)]


def add_up(numbers: list[int], folder: Path) -> Course[int]:
    """Twice, by workers; a file of each item is there until it is at its end."""
    place = folder / str(numbers[0])
    place.write_text("begun")
    try:
        sums = yield Shared(sum_of, numbers, halves)
        (twice,) = yield Shared(sum_of, [*sums, *sums], lambda whole, _: [list(whole)])
        return twice
    finally:
        place.unlink()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_workers_share_goes_on_with_their_results(tmp_path: Path, workers: int) -> None:
    lines: list[str] = []
    done: list[list[int]] = []
    items = [[2, 2, 5, 0], [5, 3, 6, 7], [8, 9]]
    function = functools.partial(add_up, folder=tmp_path)
    results = map_items(
        function, items, workers=workers, on_done=lambda item, _: done.append(item), on_line=lines.append
    )
    assert [results[0], results[2]] == [18, 34]
    assert isinstance(results[1], ValueError)
    assert sorted(done) == sorted(items)
    assert "sum of 2" in lines
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("workers", "n_items", "pieces", "worth", "n_parts", "n_workers"),
    [
        (1, 3, 100, 1, 3, 1),
        (8, 3, 100, 1, 18, 8),
        (2, 100, 50, 24, 105, 2),  # the last items are cut finer
        (8, 1, 23, 24, 1, 1),
        (8, 1, 100, 24, 8, 4),
    ],
)
def test_nobody_is_idle_and_no_more_workers_start_than_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, workers: int, n_items: int, pieces: int, worth: int, n_parts: int, n_workers: int
) -> None:
    started: list[int] = []
    done: list[Sequence[int]] = []

    @contextmanager
    def pool(n_workers: int, on_line: object) -> Iterator[_Pool]:
        started.append(n_workers)
        with ThreadPoolExecutor(1) as executor:
            yield _Pool(executor, ToldLines(Path()), None)  # type: ignore[arg-type]

    monkeypatch.setattr(mapping, "_pool", pool)

    def waits(_: int) -> Course[None]:
        yield Shared(done.append, range(pieces), lambda whole, n: [whole[place::n] for place in range(n)], worth)

    map_items(waits, range(n_items), workers=workers)
    assert (len(done), started) == (n_parts, [n_workers] if n_workers > 1 else [])


def begin_one(place: int, begun: set[int], most: list[int]) -> Course[int]:
    begun.add(place)
    most.append(len(begun))
    yield Shared(sum_of, [1, 2], halves)
    begun.remove(place)
    return place


@pytest.mark.parametrize(("workers", "at_once"), [(1, 1), (2, 4)])
def test_an_item_begins_only_when_there_is_room_for_its_parts(workers: int, at_once: int) -> None:
    """What it has begun it holds until its end: of hundreds of scenes, hundreds of lists of views."""
    begun: set[int] = set()
    most: list[int] = []
    results = map_items(functools.partial(begin_one, begun=begun, most=most), range(12), workers=workers)
    assert results == list(range(12))
    assert max(most) <= at_once


@pytest.mark.parametrize("workers", [1, 2])
def test_work_of_no_pieces_is_done_at_once(workers: int) -> None:
    def nothing(place: int) -> Course[int]:
        found = yield Shared(sum_of, [], singly)
        return place + len(found)

    assert map_items(nothing, [1, 2, 3], workers=workers) == [1, 2, 3]


def pid_of(_: list[int]) -> int:
    time.sleep(0.3)
    return os.getpid()


def grow(place: int) -> Course[set[int]]:
    yield Shared(pid_of, [place], singly)
    found = yield Shared(pid_of, [place] * 8, singly)
    return set(found)


def test_work_that_grows_on_its_way_gets_the_workers_that_it_is_worth() -> None:
    assert len(set().union(*map_items(grow, [1, 2], workers=4))) == 4  # type: ignore[arg-type]


def cut_wrong(place: int) -> Course[int]:
    (found,) = yield Shared(sum_of, [place], lambda whole, _: [list(whole)] if place else 1 / 0)  # type: ignore[return-value]
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_cannot_be_cut_leaves_the_others(workers: int) -> None:
    results = map_items(cut_wrong, [1, 0, 2], workers=workers)
    assert (results[0], results[2]) == (1, 2)
    assert isinstance(results[1], ZeroDivisionError)


def interrupted(place: int) -> Course[int]:
    try:
        if place == 1:
            raise KeyboardInterrupt
        yield Shared(sum_of, [1], halves)
    finally:
        if place == 0:
            raise ValueError("tidying up failed")
    return place


def test_an_interrupt_stays_one_where_tidying_up_fails() -> None:
    with pytest.raises(KeyboardInterrupt):
        map_items(interrupted, [0, 1], workers=2)
