"""Small worlds for tests of the whole graph: real demo scenes at a small size, a fresh data home, a Dagster instance."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import yaml

from thesis_assets.cli.run import RunReport, run_experiment
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.settings import Settings

SIZE = 48
N_FRAMES = 3
SCENES = ("studio_pair00_dance", "studio_pair01_fight", "studio_pair02_hug", "studio_pair03_dance")

TINY_RUN: dict[str, Any] = {
    "backend": "tiny",
    "learning_rate": 2e-3,
    "resolution": SIZE,
    "max_train_steps": 4,
    "checkpointing_steps": 2,
    "eval_freq": 2,
    "train_batch_size": 2,
    "dataloader_num_workers": 0,
    "mixed_precision": "no",
    "selection": {"rule": "best_psnr", "groups": ["pair02"]},
}

SMALL: dict[str, Any] = {
    "exp_name": "small",
    "generation": {"scenes": ["studio_*"]},
    "split": {"test_groups": {"studio": ["pair02", "pair03"]}, "reserved_scenes": ["studio_pair03_dance"]},
    "runs": {"r1": TINY_RUN},
    "evaluation": {"scenes": ["studio_pair03_*"], "epochs": [0, 1]},
}


@dataclass
class World:
    """A data home with experiment files, over scenes that several worlds share and none changes."""

    home: Path
    scene_home: Path
    lines: list[str] = field(default_factory=list)
    auto_start: Literal["nothing", "data", "everything"] = "nothing"

    @property
    def settings(self) -> Settings:
        return Settings(
            _env_file=None,
            data_home=self.home,
            experiments_dir=self.home / "experiments",
            dagster_home=self.home / "dagster_home",
            canonical_gt_root=self.scene_home / "canonical_gt",
            preprocessing_root=self.scene_home / "preprocessing",
            scene_registry_dir=self.scene_home / "scenes",
            device="cpu",
            workers=1,
            recording_previews="off",
            quiet_seconds=0,
            auto_start=self.auto_start,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The same settings for a child process."""
        settings = self.settings
        return {
            "THESIS_DATA_HOME": str(settings.data_home),
            "THESIS_EXPERIMENTS_DIR": str(settings.experiments_dir),
            "THESIS_CANONICAL_GT_ROOT_DIR": str(settings.canonical_gt_root),
            "THESIS_PREPROCESSING_ROOT_DIR": str(settings.preprocessing_root),
            "THESIS_SCENE_REGISTRY_DIR": str(settings.scene_registry_dir),
            "THESIS_DEVICE": "cpu",
            "THESIS_WORKERS": "1",
            "THESIS_RECORDING_PREVIEWS": "off",
            "THESIS_SCENE_QUIET_SECONDS": "0",
            "THESIS_AUTO_START": self.auto_start,
            "DAGSTER_HOME": str(settings.dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }

    @property
    def platform(self) -> Platform:
        return Platform(self.settings, self.lines.append)

    def write(self, experiment: dict[str, Any]) -> None:
        folder = self.settings.experiments_dir
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{experiment['exp_name']}.yaml"
        path.write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")

    @contextlib.contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        home = self.settings.dagster_home
        home.mkdir(parents=True, exist_ok=True)
        with dg.DagsterInstance.local_temp(str(home)) as instance:
            register(instance, plan_registration(self.platform, instance))
            yield instance

    def run(self, exp_name: str = "small", **options: Any) -> RunReport:
        with self.instance() as instance:
            return run_experiment(self.platform, instance, exp_name, **options)

    def cell(self, run_name: str = "r1", exp_name: str = "small") -> Cell:
        return Cell(exp_name, run_name=run_name)


def failed_checks(report: RunReport) -> list[str]:
    """`asset.check` of every failed blocking check of a run."""
    return [line.split(":", 1)[0] for outcome in report.outcomes for line in outcome.failed_checks]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def thesis_assets(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with the world's settings."""
    return subprocess.run(
        [sys.executable, "-m", "thesis_assets.cli.main", *arguments],
        env={**os.environ, **world.environment},
        cwd=world.home,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
