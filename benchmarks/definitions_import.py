"""Loading the code location against loading Dagster itself, each in a fresh process."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Row, paired

ROUNDS = 9


def rows() -> Iterator[Row]:
    """One row: the UI, the daemon and every run load the definitions first."""
    with tempfile.TemporaryDirectory() as bytecode:
        ours, dagster = (
            partial(import_seconds, module, bytecode) for module in ("thesis_assets.definitions", "dagster")
        )
        ours()  # compiles the modules of both, as they are on any machine from the second start on
        value, baseline, ratio = paired(ours, dagster, ROUNDS)
    yield Row(
        "definitions", "load thesis_assets.definitions, against import dagster", value, "s", baseline, ratio, "<= 1.5"
    )


def import_seconds(module: str, bytecode: str) -> float:
    """Seconds of one import in a process of its own, without the interpreter's start.

    Args:
        bytecode: the folder of compiled modules; an environment that forbids writing them would have ours compiled every time.
    """
    program = f"import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1])
