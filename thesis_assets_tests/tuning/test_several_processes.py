"""A training in two processes, and the launchers above the trainers: what a cluster's signals do to all of them."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from thesis_assets.errors import SnapshotChanged
from thesis_assets.launch.commands import members
from thesis_assets.launch.jobs import Following
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import JobExit, JobRecord, ProgressLine, TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning.backends import BACKENDS
from thesis_assets.tuning.checkpoints import list_checkpoints, load_checkpoint
from thesis_assets.tuning.progress_file import last_progress, read_curves
from thesis_assets.tuning.tuning_run import TrainerFailed, TrainerStopped, TuningResult, tune
from thesis_assets_tests.tuning.snapshots import SPLIT, arguments, make_run, train, write_snapshot

pytestmark = pytest.mark.long

STEPS = {"max_train_steps": 30, "checkpointing_steps": 30, "eval_freq": 30}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    return write_snapshot(tmp_path_factory.mktemp("snapshot"))


def start(
    tree: DifixTree, run_name: str, on_progress: Callable[[ProgressLine], None] | None = None, **changes: object
) -> TuningResult:
    return tune(
        tree,
        run_name,
        make_run(**{**STEPS, **changes}),
        split=SPLIT,
        device="cpu",
        launcher=LocalLauncher(),
        on_progress=on_progress,
        following=Following(),
    )


def signal_everybody(run: TuningRunTree, number: int) -> list[psutil.Process]:
    """As a cluster does: supervisor, launcher, trainers and their workers."""
    job_id = read_json(run.job, JobRecord).job_id
    assert job_id is not None
    found = members(job_id)
    for process in found:
        process.send_signal(number)
    return found


def prepare(patch: pytest.MonkeyPatch, script: Path, code: str) -> None:
    """Have every trainer process run `code` first."""
    program = "from thesis_assets.tuning.backends import TINY\nfrom thesis_assets.tuning.trainer_program import main\n"
    script.write_text(f"import sys\n{code}\n{program}sys.exit(main(sys.argv[1:], TINY))\n")
    patch.setitem(BACKENDS, "tiny", replace(BACKENDS["tiny"], script=script))


# Waits at its third step, so that a signal reaches it there however fast or slow the machine is.
WAITING = """
import time
from pathlib import Path
from thesis_assets.tuning.training_loop import TrainingStep

make = TrainingStep.make

def waiting(self, step, micro_batches):
    while step == 3 and not Path(self._flags.output_dir, "signalled").exists():
        time.sleep(0.01)
    return make(self, step, micro_batches)

TrainingStep.make = waiting
"""


@pytest.mark.parametrize(
    ("processes", "number"), [(2, signal.SIGUSR2), pytest.param(1, signal.SIGTERM, marks=pytest.mark.soak)]
)
def test_a_stopped_run_of_any_number_of_processes_ends_as_one_that_was_never_stopped(
    tree: DifixTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, number: signal.Signals
) -> None:
    """With two processes: the losses and weights of one process with double accumulation."""
    run_name, undisturbed = f"stopped-{processes}", f"whole-{processes}"
    run = tree.tuning_run(run_name)
    signalled: list[psutil.Process] = []

    def interrupt(line: ProgressLine) -> None:
        if line.event == "step" and line.step == 2:
            signalled.extend(signal_everybody(run, number))
            (run.base / "signalled").touch()

    prepare(monkeypatch, tmp_path / "waiting.py", WAITING)
    with pytest.raises(TrainerStopped, match=number.name):
        start(tree, run_name, interrupt, num_processes=processes)
    assert len(signalled) >= 2 + processes
    assert not [process for process in signalled if process.is_running()]
    assert read_json(run.job_exit, JobExit).returncode == 0
    line = last_progress(run.progress)
    assert line is not None
    assert (line.step, list_checkpoints(run)) == (3, [3])

    assert start(tree, run_name, num_processes=processes).steps == [30]
    assert train(arguments(tree, undisturbed, **STEPS, gradient_accumulation_steps=processes)) == 0
    curves, wanted = (read_curves(one.progress) for one in (run, tree.tuning_run(undisturbed)))
    assert curves["step"] == wanted["step"]
    assert curves["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
    weights, wanted_weights = (
        load_checkpoint(one.checkpoint(30))["state_dict_unet"] for one in (run, tree.tuning_run(undisturbed))
    )
    for name, tensor in weights.items():
        assert torch.allclose(tensor, wanted_weights[name], atol=1e-5), name
    assert read_json(run.train_config, TrainConfig).flags["num_processes"] == processes
    with pytest.raises(SnapshotChanged) as caught:
        start(tree, run_name, num_processes=3 - processes)
    assert caught.value.key == "num_processes"


# What goes wrong in the second process only; the first one waits for it.
UNREADABLE = """
from thesis_assets.errors import InvalidFile
from thesis_assets.tuning import triplets

def fail(sample_id, entry, resolution, recorded):
    raise InvalidFile(f"sample {sample_id}: unreadable", file=entry.image)

triplets.read_triplet = fail
"""
NOT_FINITE = """
from thesis_assets.tuning.tiny_model import TinyTraining

losses = TinyTraining.losses
TinyTraining.losses = lambda *given: {name: part * float("nan") for name, part in losses(*given).items()}
"""


@pytest.mark.parametrize(
    ("fault", "told"), [(UNREADABLE, "unreadable (at step 1)"), (NOT_FINITE, "the loss is not finite at step 1")]
)
def test_what_fails_in_one_of_two_processes_ends_both_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    tree = write_snapshot(tmp_path)
    prepare(monkeypatch, tmp_path / "unlucky.py", f"import os\nif os.environ['RANK'] == '1':\n    exec({fault!r})\n")
    with pytest.raises(TrainerFailed) as caught:
        start(tree, "r", num_processes=2)
    assert told in str(caught.value)
    assert "studio_pair0" in str(caught.value)
    run = tree.tuning_run("r")
    assert list_checkpoints(run) == []
    assert members(str(read_json(run.job, JobRecord).job_id)) == []


def test_another_number_of_processes_than_asked_for_is_refused(
    tree: DifixTree, capsys: pytest.CaptureFixture[str]
) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one, and says nothing."""
    assert train(arguments(tree, "lonely", num_processes=2)) == 1
    assert "torchrun" in capsys.readouterr().err
