"""Sensors and the UI over 200 scenes x 20 experiments: seconds and memory of a tick, seconds of the asset's page.

Each tick is evaluated in a process of its own, as the code server does it, before and after all 4,000 shards were made.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.many_cells import make_home, report_shards, settings_of
from benchmarks.measure import Row, peak_megabytes

N_SCENES, N_EXPERIMENTS = 200, 20
TICK_SECONDS, TICK_MEGABYTES = 5, 300
SENSORS = ("experiment_files", "new_scenes", "stale_data", "cheap_assets")
ROOT = Path(__file__).parents[1]
OBSERVE_JOB = "observe_scene_files"
PAGE = """
query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      id description owners { __typename } kinds
      partitionKeysByDimension { name partitionKeys }
      partitionStats { numMaterialized numPartitions numFailed numMaterializing }
      assetPartitionStatuses {
        ... on MultiPartitionStatuses {
          primaryDimensionName
          ranges { primaryDimStartKey primaryDimEndKey secondaryDim { ... on DefaultPartitionStatuses {
            materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } } }
        }
      }
      assetMaterializations(limit: 100) { runId partition timestamp metadataEntries { label } }
    }
  }
}
"""


def rows() -> Iterator[Row]:
    """Four sensors cold and warm, the largest memory, and the asset's page."""
    size = f"{N_SCENES} scenes x {N_EXPERIMENTS} experiments"
    with tempfile.TemporaryDirectory() as base:
        home = Path(base)
        platform = make_home(home, N_SCENES, N_EXPERIMENTS)
        platform.settings.dagster_home.mkdir()
        shutil.copyfile(ROOT / "dagster.yaml", platform.settings.dagster_home / "dagster.yaml")
        megabytes = []
        for state in ("nothing made", "all made"):
            if state == "all made":
                with dg.DagsterInstance.from_config(str(platform.settings.dagster_home)) as instance:
                    report_shards(platform, instance)
            for sensor in SENSORS:
                tick = tick_in_a_process(home, sensor)
                megabytes.append(tick["megabytes"])
                name = f"tick of {sensor}, {size}, {state}"
                yield Row("defs", name, tick["seconds"], "s", target=f"<= {TICK_SECONDS}")
        yield Row(
            "defs", f"largest memory of a tick's process, {size}", max(megabytes), "MB", target=f"<= {TICK_MEGABYTES}"
        )
        yield Row("defs", f"UI: the page of scene_samples, {size}", _page_seconds(home), "s")


def environment(home: Path) -> dict[str, str]:
    settings = settings_of(home)
    return {
        **os.environ,
        "THESIS_DATA_HOME": str(home),
        "THESIS_EXPERIMENTS_DIR": str(settings.experiments_dir),
        "THESIS_SCENE_QUIET_SECONDS": "0",
        "THESIS_DEVICE": "cpu",
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def tick_in_a_process(home: Path, sensor: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sensor_ticks", str(home), sensor]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment(home), timeout=1200
    )
    value: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return value


def _one_tick(home: Path, sensor: str) -> dict[str, float]:
    """Of a sensor, or of the job that observes the scenes. `cpu`: of the whole process."""
    from thesis_assets.definitions import build_defs
    from thesis_assets.graph.platform import Platform

    settings = settings_of(home)
    definitions = build_defs(settings=settings)
    repository = definitions.get_repository_def()
    with dg.DagsterInstance.get() as instance:
        if sensor == OBSERVE_JOB:
            began = time.perf_counter()
            definitions.resolve_job_def(OBSERVE_JOB).execute_in_process(instance=instance)
            return {"seconds": time.perf_counter() - began, "cpu": time.process_time()}
        context = dg.build_sensor_context(
            instance=instance, repository_def=repository, sensor_name=sensor, resources={"platform": Platform(settings)}
        )
        began = time.perf_counter()
        repository.get_sensor_def(sensor).evaluate_tick(context)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "cpu": time.process_time(), "megabytes": peak_megabytes()}


def _page_seconds(home: Path) -> float:
    """The median of five answers to what the UI asks for the asset's page, by a real web server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "thesis_assets.cli.main", "serve", "--port", str(port), "--read-only"],
        env=environment(home),
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        seconds = sorted(_ask(port) for _ in range(5))
        return seconds[2]
    finally:
        server.terminate()
        server.wait(timeout=60)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5).read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def _ask(port: int) -> float:
    body = json.dumps({"query": PAGE, "variables": {"key": {"path": ["scene_samples"]}}}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", data=body, headers={"Content-Type": "application/json"}
    )
    began = time.perf_counter()
    answer: dict[str, Any] = json.load(urllib.request.urlopen(request, timeout=300))
    seconds = time.perf_counter() - began
    node = answer["data"]["assetNodeOrError"]
    made = node["partitionStats"]["numMaterialized"]
    if made == 0:
        raise RuntimeError(f"the page shows nothing: {answer}")
    return seconds


if __name__ == "__main__":
    print(json.dumps(_one_tick(Path(sys.argv[1]), sys.argv[2])))
