"""Evaluations killed without warning, at seeded random moments: the manifest never lists an epoch that is not complete."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.checks import differences
from thesis_assets.evaluation.metric_tables import frame_columns, frame_table, missing_sources, read_table, task_faults
from thesis_assets.evaluation.units import prediction_unit, task_unit
from thesis_assets.layout import parse_epoch
from thesis_assets.provenance import examine
from thesis_assets.schemas.evaluation import EvaluationManifest, Protocol
from thesis_assets_tests.evaluation.interrupted_evaluation import VARIANTS, variant
from thesis_assets_tests.evaluation.tiny_cell import evaluate

pytestmark = pytest.mark.long

LINES_A_ROUND = 16
"""About so many lines are printed while the scene is evaluated once."""


def listed_epochs(cell: EvaluationCell) -> list[int]:
    """What the manifest lists now; nothing where there is none."""
    try:
        manifest = storage.read_json(cell.tree.manifest, EvaluationManifest)
    except InvalidFile:
        assert not cell.tree.manifest.exists()
        return []
    return [parse_epoch(name) for name in manifest.eval_epochs]


def assert_listed_epochs_are_complete(cell: EvaluationCell) -> int:
    """Every listed epoch has each required file, each image and array, and numbers that come out of them. Returns how many."""
    epochs = listed_epochs(cell)
    for epoch in epochs:
        for task in (cell.tree.task(epoch, name) for name in cell.tasks):
            assert task_faults(task) == []
            assert list(missing_sources(task)) == []
            protocol = storage.read_json(task.protocol, Protocol)
            assert differences(task, protocol, read_table(frame_table(task), frame_columns(task))) == []
        for unit in (prediction_unit(cell, epoch), *(task_unit(cell, epoch, name) for name in cell.tasks)):
            found = examine(unit)  # May be stale: a render was edited since, or the other variant is measured.
            assert found.record is not None
            assert (found.missing, found.damaged) == ((), ())
    return len(epochs)


def kill_again_and_again(folder: Path, n_kills: int, seed: int) -> list[int]:
    """How many epochs were listed at each kill."""
    chance = random.Random(seed)
    cell = variant(folder, VARIANTS[0])
    found = []
    for _ in range(n_kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "thesis_assets_tests.evaluation.interrupted_evaluation", str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        for _ in range(1 + chance.randrange(LINES_A_ROUND)):
            assert process.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        process.stdout.close()
        found.append(assert_listed_epochs_are_complete(cell))
    evaluate(cell)
    assert listed_epochs(cell) == [0, 15, 30]
    assert_listed_epochs_are_complete(cell)
    return found


def test_a_killed_evaluation_lists_no_epoch_that_is_not_complete(own_folder: Path) -> None:
    assert min(kill_again_and_again(own_folder, 3, seed=1)) < 3  # It was killed amidst its work.


@pytest.mark.soak
def test_twenty_killed_evaluations_list_no_epoch_that_is_not_complete(own_folder: Path) -> None:
    assert min(kill_again_and_again(own_folder, 20, seed=2)) < 3
