"""A shell in which another launch left its ranks and addresses: nothing waits for processes that never come, nothing differs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree
from thesis_assets.tuning.backends import TINY
from thesis_assets.tuning.checkpoints import list_checkpoints
from thesis_assets.tuning.tuning_run import tune
from thesis_assets_tests.tuning.snapshots import SPLIT, arguments, make_run, same_state, write_snapshot

LEFT = {
    **{"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "0"},
    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"},
    **{"PMI_SIZE": "2", "PMI_RANK": "1", "PMIX_RANK": "1"},
    **{"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    **{"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "1", "MPI_LOCALNRANKS": "2"},
    **{"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
}
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--cpu", "--num_processes", "1"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """With the run `clean`, trained in a shell where nothing was left."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    start(tree, "clean")
    return tree


def start(tree: DifixTree, run_name: str, **changes: Any) -> None:
    tune(tree, run_name, make_run(**changes), split=SPLIT, device="cpu", launcher=LocalLauncher())


def test_a_run_and_what_takes_its_weights_end_as_in_a_clean_shell(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LEFT.items():
        monkeypatch.setenv(name, value)
    start(tree, "left")
    assert same_state(tree.tuning_run("clean"), tree.tuning_run("left"), 6)
    start(tree, "taken", backend="pretrained", model=str(tree.tuning_run("left").checkpoint(6)))
    assert list_checkpoints(tree.tuning_run("taken")) == [0]


@pytest.mark.parametrize("launch", [[sys.executable], LAUNCH], ids=["python", "accelerate"])
def test_a_trainer_that_is_started_by_hand_is_alone(tree: DifixTree, launch: list[str]) -> None:
    run_name = f"by_hand_{len(launch)}"
    command = [*launch, str(TINY.script), *arguments(tree, run_name)]
    subprocess.run(command, env={**os.environ, **LEFT, "ACCELERATE_USE_CPU": "true"}, check=True, timeout=120)
    assert same_state(tree.tuning_run("clean"), tree.tuning_run(run_name), 6)


def test_refining_is_the_same(tree: DifixTree, tmp_path: Path) -> None:
    sample = next(tree.samples_dir.iterdir())
    pictures = []
    for name, left in (("clean", {}), ("left", LEFT)):
        out = tmp_path / f"{name}.png"
        words = ["refine", "--checkpoint", tree.tuning_run("clean").checkpoint(6), "--image", sample / "image.png"]
        words += ["--ref", sample / "ref_image.jpg", "--out", out]
        command = [sys.executable, "-m", "thesis_assets.cli.main", *map(str, words)]
        environment = {**os.environ, **left, "THESIS_DEVICE": "cpu"}
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=120, capture_output=True)
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]
