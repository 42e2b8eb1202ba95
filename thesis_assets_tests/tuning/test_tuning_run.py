"""A run as a whole: launched by accelerate, followed, verified; refused, stopped and failed runs say why."""

import shutil
import sys
import time
from pathlib import Path

import pytest

from thesis_assets.errors import CellLocked, InvalidFile, Leak, SnapshotChanged
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.launch.jobs import Following
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import ask_anew
from thesis_assets.schemas.samples import FrozenSnapshot
from thesis_assets.schemas.tuning import JobRecord, ProgressLine, TrainConfig
from thesis_assets.splits.data_json import content_of_file
from thesis_assets.storage import cell_lock, read_json, write_json
from thesis_assets.tuning import run_checks, trainer_start, tuning_run
from thesis_assets.tuning.progress_file import last_progress
from thesis_assets.tuning.run_record import checkpoint_unit, lost_side_files
from thesis_assets.tuning.tuning_run import TrainerFailed, TrainerStopped, TuningResult, tune
from thesis_assets_tests.tuning.snapshots import SPLIT, make_run, write_snapshot


def start(
    tree: DifixTree,
    run_name: str = "r1",
    split: SplitSpec = SPLIT,
    following: Following = Following(),
    **changes: object,
) -> TuningResult:
    lines: list[ProgressLine] = changes.pop("lines", [])  # type: ignore[assignment]
    return tune(
        tree,
        run_name,
        make_run(**changes),
        split=split,
        device="cpu",
        launcher=LocalLauncher(),
        on_progress=lines.append,
        following=following,
    )


@pytest.fixture(scope="module")
def lines() -> list[ProgressLine]:
    """What the finished run told while it ran."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, lines: list[ProgressLine]) -> DifixTree:
    """A snapshot with one run, trained by a real `accelerate launch`."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    result = start(tree, lines=lines)
    assert result.steps == [3, 6]
    assert result.job is not None
    assert result.job.returncode == 0
    assert result.contact_sheet == tree.tuning_run("r1").eval_contact_sheet(6)
    assert len(result.curves["loss"]) == 6
    return tree


def no_launch(*_: object, **__: object) -> int:
    raise AssertionError("a trainer was launched")


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A trainer that runs `code` with the run directory as `run`, instead of torch."""
    head = "import sys, pathlib; run = pathlib.Path(sys.argv[1]); log = (run / 'logs' / 'progress.jsonl').open('a')\n"
    monkeypatch.setattr(
        trainer_start,
        "launch_command",
        lambda backend, flags, device: [sys.executable, "-c", head + code, flags.output_dir],
    )


def test_why_one_process_failed_is_told_though_another_speaks_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = '{{"event": "{}", "step": 1, "max_steps": 6, "seconds": 1.0, "message": "{}"}}'
    told = "\n".join([line.format("failed", "sample 7 is unreadable"), line.format("start", "12 samples on cpu")])
    stand_in(monkeypatch, f"print({told!r}, file=log, flush=True); sys.exit(1)")
    with pytest.raises(TrainerFailed, match="sample 7 is unreadable"):
        start(write_snapshot(tmp_path), "r1")


def test_progress_comes_line_by_line_while_it_trains(finished: DifixTree, lines: list[ProgressLine]) -> None:
    assert [line.step for line in lines if line.event == "step"] == [1, 2, 3, 4, 5, 6]
    assert lines[-1].event == "done"


def test_the_configuration_names_everything_the_weights_depend_on(finished: DifixTree) -> None:
    config = read_json(finished.tuning_run("r1").train_config, TrainConfig)
    assert config.flags["learning_rate"] == 1e-3
    assert config.data_json_sha256 == content_of_file(finished.data_json).sha256
    assert (config.n_train_samples, config.n_test_samples) == (8, 8)
    assert "accelerate.commands.launch" in config.launch_command
    assert {"torch", "accelerate", "python"} <= set(config.versions)
    assert any("lambda_lpips" in note for note in config.notes)


def test_the_first_run_freezes_the_snapshot(finished: DifixTree) -> None:
    assert read_json(finished.frozen, FrozenSnapshot).reason == "tuning run r1"


def test_a_finished_run_is_returned_without_a_launch(finished: DifixTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_run, "run_job", no_launch)
    assert start(finished).steps == [3, 6]


@pytest.fixture
def copied(finished: DifixTree, tmp_path: Path) -> DifixTree:
    """The finished run in a place of its own, to be spoilt."""
    shutil.copytree(finished.root, tmp_path / "copy")
    return DifixTree(tmp_path / "copy", finished.exp_name)


@pytest.mark.parametrize("record", [None, b"\xff\xfe", b"{}"])
def test_a_training_without_a_record_that_lost_its_last_checkpoint_is_not_trained_again_unless_asked_for(
    copied: DifixTree, monkeypatch: pytest.MonkeyPatch, record: bytes | None
) -> None:
    run, unit = copied.tuning_run("r1"), checkpoint_unit(copied, "r1", make_run())
    unit.place.record.unlink()
    if record is not None:
        unit.place.record.write_bytes(record)
    run.checkpoint(6).unlink()
    kept = run.checkpoint(3).read_bytes()
    monkeypatch.setattr(tuning_run, "run_job", no_launch)
    with pytest.raises(
        InvalidFile, match=r"not those that were recorded(.|\n)*model_6.pkl(.|\n)*--force tuned_checkpoint"
    ):
        start(copied)
    ask_anew(unit)
    with pytest.raises(AssertionError, match="a trainer was launched"):
        start(copied)
    assert (copied.run_set_aside("r1", 1) / "checkpoints" / "model_3.pkl").read_bytes() == kept
    assert not run.checkpoints_dir.exists(), "it begins from the start"


def test_a_training_without_a_record_that_is_whole_is_given_one_and_not_trained(
    copied: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = checkpoint_unit(copied, "r1", make_run())
    unit.place.record.write_bytes(b"{}")
    monkeypatch.setattr(tuning_run, "run_job", no_launch)
    assert start(copied).steps == [3, 6]
    assert unit.look().is_made


def test_a_configuration_that_is_no_text_is_refused_with_what_mends_it(
    copied: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copied.tuning_run("r1").train_config
    config.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setattr(tuning_run, "run_job", no_launch)
    with pytest.raises(InvalidFile, match=r"not JSON(.|\n)*train_config.json(.|\n)*or remove it"):
        start(copied)
    config.unlink()
    assert start(copied).steps == [3, 6]
    assert checkpoint_unit(copied, "r1", make_run()).look().is_made


def test_a_lost_job_record_or_progress_is_told_and_trains_nothing(
    copied: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied.tuning_run("r1")
    assert lost_side_files(run) == []
    run.job.unlink()
    run.progress.unlink()
    monkeypatch.setattr(tuning_run, "run_job", no_launch)
    assert start(copied).steps == [3, 6]
    assert [line.split("`")[1] for line in lost_side_files(run)] == ["job.json", "logs/progress.jsonl"]


def test_other_hyperparameters_under_the_same_name_are_refused_with_the_difference(
    finished: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_run, "run_job", no_launch)
    before = finished.tuning_run("r1").train_config.read_bytes()
    with pytest.raises(SnapshotChanged) as caught:
        start(finished, learning_rate=5e-4)
    assert caught.value.key == "learning_rate"
    assert caught.value.found == "learning_rate: 0.001", "what the file that is named has"
    assert caught.value.wanted == "learning_rate: 0.0005 (the experiment's file)"
    assert finished.tuning_run("r1").train_config.read_bytes() == before


def test_the_checks_of_a_sound_run_pass_and_count(finished: DifixTree) -> None:
    for check in (
        run_checks.checkpoint_loads,
        run_checks.checkpoint_belongs_to_data,
        run_checks.loss_is_finite,
        run_checks.train_config_complete,
    ):
        outcome = check(finished, "r1")
        assert outcome.passed, outcome
        assert outcome.counts


def test_a_snapshot_that_leaks_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_run, "run_job", no_launch)
    tree = write_snapshot(tmp_path)
    with pytest.raises(Leak):
        start(tree, split=SplitSpec(test_groups={"studio": ("pair02",)}, reserved_scenes=("studio_pair00_x",)))
    assert not tree.frozen.exists()


def test_a_trainer_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "print('out of memory', file=sys.stderr); sys.exit(3)")
    with pytest.raises(TrainerFailed, match="status 3 before its first step") as caught:
        start(write_snapshot(tmp_path))
    assert "out of memory" in str(caught.value)


def test_a_trainers_own_message_is_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch,
        'print(\'{"event":"failed","step":4,"max_steps":6,"seconds":1,"message":"loss at step 5"}\','
        " file=log, flush=True); sys.exit(1)",
    )
    with pytest.raises(TrainerFailed, match="loss at step 5"):
        start(write_snapshot(tmp_path))


def test_a_stopped_run_says_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 'print(\'{"event":"stopped","step":4,"max_steps":6,"seconds":1}\', file=log, flush=True)')
    with pytest.raises(TrainerStopped, match="after step 4 of 6"):
        start(write_snapshot(tmp_path))


def test_a_trainer_that_only_claims_to_be_done_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 'print(\'{"event":"done","step":6,"max_steps":6,"seconds":1}\', file=log, flush=True)')
    with pytest.raises(InvalidFile, match="lacks checkpoints"):
        start(write_snapshot(tmp_path))


def test_a_trainer_that_was_done_is_done_though_its_job_was_taken_away_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 'print(\'{"event":"done","step":6,"max_steps":6,"seconds":1}\', file=log, flush=True); '
    stand_in(monkeypatch, done + "import os, time; os.kill(os.getppid(), 9); time.sleep(0.5); os.kill(os.getpid(), 9)")
    # Not `TrainerFailed`: what it saved is looked at.
    with pytest.raises(InvalidFile, match="lacks checkpoints"):
        start(write_snapshot(tmp_path))


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    with cell_lock(tree.lock("run-r1"), "the other one"), pytest.raises(CellLocked, match="tuning run r1"):
        start(tree)


# Trains nothing until it is told to, and says then that it is done.
PATIENT = """
import time
with open(run / "starts", "a") as file:
    file.write("x")
while not (run / "go").exists():
    time.sleep(0.02)
print('{"event":"stopped","step":4,"max_steps":6,"seconds":1}', file=log, flush=True)
"""


def leave_at_work(tree: DifixTree) -> None:
    """Start the run, and interrupt its follower in a way that leaves the trainer."""
    started = tree.tuning_run("r1").base / "starts"

    def interrupt() -> None:
        if started.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(tree, following=Following(poll=interrupt, leave_running=lambda: True))


def test_a_trainer_that_lost_its_starter_is_followed_and_not_joined_by_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_snapshot(tmp_path)
    stand_in(monkeypatch, PATIENT)
    leave_at_work(tree)
    run = tree.tuning_run("r1").base

    with pytest.raises(TrainerStopped, match="after step 4 of 6"):
        start(tree, following=Following(poll=(run / "go").touch))

    assert (run / "starts").read_text() == "x"


def test_what_a_trainer_said_last_counts_though_nobody_followed_it_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_snapshot(tmp_path)
    stand_in(monkeypatch, PATIENT + "while not (run / 'end').exists(): time.sleep(0.02)")
    leave_at_work(tree)
    run = tree.tuning_run("r1")
    (run.base / "go").touch()
    while last_progress(run.progress) is None:
        time.sleep(0.02)

    with pytest.raises(TrainerStopped, match="after step 4 of 6"):
        start(tree, following=Following(poll=(run.base / "end").touch))


def test_a_run_of_another_launcher_is_not_trained_a_second_time(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    record = JobRecord(
        launcher="slurm",
        host="login",
        process_group=None,
        job_id="j",
        started_at="now",
        command=["x"],
        stdout="o",
        stderr="e",
    )
    write_json(tree.tuning_run("r1").job, record)
    with pytest.raises(CellLocked, match="THESIS_LAUNCHER=slurm"):
        start(tree)


def test_precision_of_a_gpu_is_not_asked_of_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "sys.exit(1)")
    tree = write_snapshot(tmp_path)
    with pytest.raises(TrainerFailed):
        start(tree, mixed_precision="bf16", preset="tune_1gpu", extra_args=["--lr_scheduler", "linear"])
    config = read_json(tree.tuning_run("r1").train_config, TrainConfig)
    assert (config.flags["mixed_precision"], config.flags["lr_scheduler"]) == ("no", "linear")
    assert any("bf16" in note for note in config.notes)
    assert any("tune_1gpu" in note for note in config.notes)
