"""Rows of results and paired timing."""

import importlib.util
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Args:
        room: the room of the house that is measured.
        name: what is measured.
        value: the measured value, in `unit`; None where it could not be measured here.
        baseline: the same by the thing it is compared with; None where the target is absolute.
        ratio: how the two relate, in the direction that `target` is written in.
        skipped: why it was not measured.
        target: `>= 20` or `<= 1.5`, over the ratio (or over the value where there is no baseline); None: for information.
    """

    room: str
    name: str
    value: float | None
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    target: str | None = None
    skipped: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        measured = self.value if self.ratio is None else self.ratio
        if self.target is None or measured is None:
            return None
        sign, limit = self.target.split()
        return measured >= float(limit) if sign == ">=" else measured <= float(limit)


def skipped_without(package: str, room: str, name: str, target: str | None = None) -> Row | None:
    """A row that says that its baseline is not installed; None where it is."""
    if importlib.util.find_spec(package) is not None:
        return None
    return Row(room, name, None, "", target=target, skipped=f"{package} is not installed (extra `bench`)")


@contextmanager
def on_cores(n: int) -> Iterator[None]:
    """Hold this thread, and those it starts, to `n` cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def peak_megabytes() -> float:
    """What this process had in memory at most. Not `ru_maxrss`: that of a child begins with what its parent had."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1]) * 1024 / 1e6


def seconds_of(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def paired(measured: Callable[[], float], baseline: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Medians of both and the median ratio measured / baseline, measured in turns.

    In turns: another program that slows the machine for a while slows both.
    """
    values, baselines = [], []
    for _ in range(rounds):
        values.append(measured())
        baselines.append(baseline())
    ratios = [value / base for value, base in zip(values, baselines, strict=True)]
    return statistics.median(values), statistics.median(baselines), statistics.median(ratios)
