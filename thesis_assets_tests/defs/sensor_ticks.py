"""Sensors evaluated tick by tick as the daemon does it, over scenes of a few small images; runs are made in this process."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from thesis_assets.definitions import build_defs
from thesis_assets.graph.history import PARTITION, RANGE_END, RANGE_START
from thesis_assets.storage import read_jsonl
from thesis_assets_tests.samples.tiny_scenes import write_scene
from thesis_assets_tests.worlds import World

AUTOMATION = ("experiment_files", "new_scenes", "stale_data", "cheap_assets")


def tiny_world(base: Path, auto_start: Any = "data") -> World:
    """A world without scenes."""
    return World(base / "home", base / "scenes", auto_start=auto_start)


def experiment(exp_name: str, **parts: Any) -> dict[str, Any]:
    generation = {"scenes": ["hi4d_*"], "renders": {"source": "precomputed"}, **parts.pop("generation", {})}
    return {"exp_name": exp_name, "generation": generation, "split": {"test_groups": {"hi4d": ["pair00"]}}, **parts}


def add_scene(world: World, name: str, cameras: Sequence[int] = (4, 16), frames: Sequence[int] = (0, 1)) -> None:
    write_scene(world.platform.roots, name, cameras=cameras, frames=frames)
    say(world, name, "success")


def say(world: World, name: str, status: str) -> None:
    """What the steps before the platform say of a scene."""
    info = world.platform.roots.tree(name).estimated.preprocess_info
    info.parent.mkdir(parents=True, exist_ok=True)
    info.write_text(f"status: {status}\n")


def remove_scene(world: World, name: str) -> None:
    tree = world.platform.roots.tree(name)
    for folder in (tree.ground_truth.base, tree.estimated.base, tree.renders_dir):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Ticks:
    """Cursors and run keys as Dagster keeps them; every run that was asked for and not made before is made at once."""

    world: World
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    asked: list[dg.RunRequest] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    only_looks: bool = False
    """Runs that are asked for are not made."""

    def __post_init__(self) -> None:
        self.definitions = build_defs(settings=self.world.settings)

    def tick(self, *sensors: str) -> list[dg.RunRequest]:
        """Evaluate each sensor once, and make the runs that it asks for. Returns those that make data: not the check page,
        which follows every check."""
        new: list[dg.RunRequest] = []
        for name in sensors or AUTOMATION:
            new += self._tick(name)
        return [request for request in new if request.asset_selection != [dg.AssetKey("check_report")]]

    def _tick(self, name: str) -> list[dg.RunRequest]:
        repository = self.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(name),
            repository_def=repository,
            sensor_name=name,
            resources={"platform": self.world.platform},
        )
        result = repository.get_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = result.cursor
        self.said[name] = result.skip_message or ""
        requests = list(result.run_requests or [])
        self.asked += [request for request in requests if request.asset_selection != [dg.AssetKey("check_report")]]
        for request in () if self.only_looks else requests:
            self._run(request)
        return requests

    def _run(self, request: dg.RunRequest) -> None:
        if request.run_key is not None:
            assert request.run_key not in self.keys, f"asked for twice: {request.run_key}"
            self.keys.add(request.run_key)
        ranged = RANGE_START in request.tags
        result = self.definitions.resolve_job_def(request.job_name or "__ASSET_JOB").execute_in_process(
            instance=self.instance,
            partition_key=None if ranged else request.tags.get(PARTITION),
            tags=dict(request.tags) if ranged else {},
            asset_selection=request.asset_selection,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        self.failures += not result.success

    def runs_of(self, job: str) -> list[dg.RunRequest]:
        return [request for request in self.asked if request.job_name == job]


def state_of(world: World, exp_name: str) -> dict[str, Any]:
    """What a snapshot's files say, without times: manifests byte for byte, and the samples on disk."""
    tree = world.platform.difix(world.cell(exp_name=exp_name))
    files = (tree.all_samples, tree.dropped_samples, tree.split_train, tree.split_test, tree.data_json)
    texts = {path.name: path.read_text().replace(str(world.home), "") for path in files}
    samples = sorted(row["sample_id"] for row in read_jsonl(tree.all_samples))
    assert sorted(path.name for path in tree.samples_dir.iterdir()) == samples
    return {**texts, "samples": samples}


def cell_of(request: dg.RunRequest) -> str:
    """`v1|a`, or `v1|a..v1|c` for a run over a range of neighbours."""
    if RANGE_START in request.tags:
        return f"{request.tags[RANGE_START]}..{request.tags[RANGE_END]}"
    return request.tags.get(PARTITION, "all")
