"""One experiment looked at where 5,000 scenes and 200 runs are registered: the commands, warm, and every tick of a sensor.

Ten experiments have 500 scenes and 20 runs each; all shards are made, no table is. Each measurement is a process of its own.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from benchmarks.many_cells import make_home, report_shards
from benchmarks.measure import Row
from benchmarks.sensor_ticks import OBSERVE_JOB, ROOT, SENSORS, environment, tick_in_a_process

N_SCENES, N_EXPERIMENTS, N_RUNS = 5_000, 10, 20
N_FRAMES = 5
SECONDS = 10
ON_DISK = "/var/tmp"
COMMANDS = (
    ("status", "--exp", "v3"),
    ("run", "--exp", "v3", "--dry-run"),
    ("backfill", "--exp", "v3", "--missing", "--dry-run"),
)


def rows() -> Iterator[Row]:
    """Three commands the second time they are given, four sensors, and a look at all scenes, the first and the second."""
    size = f"{N_SCENES} scenes and {N_EXPERIMENTS * N_RUNS} runs registered"
    with tempfile.TemporaryDirectory(dir=ON_DISK) as base:
        home = Path(base)
        fill(home)
        for words in COMMANDS:
            seconds_of_command(home, *words)
            name = f"`{' '.join(words)}`, warm, {size}"
            yield Row("defs", name, seconds_of_command(home, *words), "s", target=f"<= {SECONDS}")
        for sensor in SENSORS:
            seconds = tick_in_a_process(home, sensor)["seconds"]
            yield Row("defs", f"tick of {sensor}, {size}", seconds, "s", target=f"<= {SECONDS}")
        for what in ("first", "second"):
            name = f"observing all scenes, {what} time, {size}"
            yield Row("defs", name, tick_in_a_process(home, OBSERVE_JOB)["seconds"], "s")


def fill(home: Path) -> None:
    """The home, and a history in which all shards are made."""
    each = N_SCENES // N_EXPERIMENTS
    platform = make_home(home, N_SCENES, N_EXPERIMENTS, scenes_each=each, n_runs=N_RUNS, n_frames=N_FRAMES)
    platform.settings.dagster_home.mkdir()
    shutil.copyfile(ROOT / "dagster.yaml", platform.settings.dagster_home / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(platform.settings.dagster_home)) as instance:
        report_shards(platform, instance)


def seconds_of_command(home: Path, *words: str) -> float:
    """Of a command of the command line, the start of its process included."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "thesis_assets.cli.main", *words],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr[-2000:])
    return time.perf_counter() - began
