"""Loading the code location against loading Dagster itself, each in a fresh process."""

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Row, paired

ROUNDS = 9


def rows() -> Iterator[Row]:
    """One row: the UI, the daemon and every run load the definitions first."""
    import_seconds("thesis_assets.definitions")  # byte code and disk cache
    value, baseline, ratio = paired(
        lambda: import_seconds("thesis_assets.definitions"), lambda: import_seconds("dagster"), ROUNDS
    )
    yield Row(
        "definitions", "load thesis_assets.definitions, against import dagster", value, "s", baseline, ratio, "<= 1.5"
    )


def import_seconds(module: str) -> float:
    """Seconds of one import in a process of its own, without the interpreter's start."""
    program = f"import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
