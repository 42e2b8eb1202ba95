"""A trainer of the user's own, in an environment of its own: started with what it knows, followed, ended after its last save."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from thesis_assets.errors import InvalidFile, SnapshotChanged
from thesis_assets.experiments.spec import External, RunSpec
from thesis_assets.launch.commands import JOB_VARIABLE, members
from thesis_assets.launch.jobs import Following
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import JobRecord, ProgressLine, TrainConfig
from thesis_assets.storage import read_json, sha256_file, write_json
from thesis_assets.tuning import run_checks, tuning_run
from thesis_assets.tuning.checkpoints import latest_verified, list_checkpoints, verify_checkpoint
from thesis_assets.tuning.run_external import ProgressBar, ToldStep, known_flags, script_command
from thesis_assets.tuning.trainer_start import epochs_at_most, external_settings
from thesis_assets.tuning.tuning_run import TrainerFailed, TrainerStopped, TuningResult, tune
from thesis_assets_tests.tuning.environments import make_environment
from thesis_assets_tests.tuning.snapshots import SPLIT, make_run, write_snapshot
from thesis_assets_tests.tuning.test_inherited_environment import LEFT

pytestmark = pytest.mark.long

STAND_IN = Path(__file__).with_name("published_trainer.py")


def external_run(python: Path, script: Path = STAND_IN, **changes: Any) -> RunSpec:
    """Nine steps, of which the steps 1, 5 and 9 are saved."""
    values: dict[str, Any] = {
        "backend": "external",
        "external": {"script": str(script), "python": str(python), "setup": ["export STAND_IN=1"]},
        "model": "stabilityai/sd-turbo",
        "max_train_steps": 9,
        "checkpointing_steps": 4,
        "train_batch_size": 1,
        "extra_args": ["--seconds_a_step", "0.6"],
    }
    return make_run(**{**values, **changes})


def start(tree: DifixTree, run: RunSpec, run_name: str = "own", **options: Any) -> TuningResult:
    return tune(tree, run_name, run, split=SPLIT, device="cpu", launcher=LocalLauncher(), **options)


def processes_of(run: TuningRunTree) -> list[str]:
    """Command lines that name the run's directory: the script, its launcher, its helpers, and who follows them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(run.base) in words:
            found.append(words)
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with torch and accelerate, that lacks this package."""
    return make_environment(tmp_path_factory.mktemp("environment") / "own", torch=True)


@pytest.fixture(scope="module")
def lines() -> list[ProgressLine]:
    """What the finished run told."""
    return []


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, python: Path, lines: list[ProgressLine]) -> DifixTree:
    """A snapshot with the run `own`: stopped after its save at step 5, then started again, to its end."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    run = tree.tuning_run("own")
    until_saved = Following(should_stop=lambda: 5 in list_checkpoints(run))
    # The script saved nothing when it was asked to end: what it goes on from is its last save.
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LEFT.items():  # the script is alone, whatever shell all this is started from
            patch.setenv(name, value)
        with pytest.raises(TrainerStopped, match=r"(?s)after step.*goes on from its checkpoint of step 5$"):
            start(tree, external_run(python), following=until_saved)
        assert processes_of(run) == []
        assert list_checkpoints(run) == [1, 5]
        result = start(tree, external_run(python), on_progress=lines.append)
    assert result.steps == [1, 5, 9]
    return tree


def told(tree: DifixTree) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tree.tuning_run("own").base / "stand_in.json").read_text())
    return found


def flag(words: list[str], name: str) -> str:
    return words[words.index(f"--{name}") + 1]


def test_it_is_ended_after_the_right_step_with_the_right_files_and_no_process_left(tree: DifixTree) -> None:
    run = tree.tuning_run("own")
    names = sorted(path.name for path in run.checkpoints_dir.iterdir())
    assert names == [f"model_{step}.{suffix}" for step in (1, 5, 9) for suffix in ("json", "pkl")]
    assert not (run.base / "came_to_its_own_end").exists()
    assert processes_of(run) == []
    for step in (1, 5, 9):
        assert "state_dict_vae" in verify_checkpoint(run, step).keys


def test_it_ran_in_its_own_environment_after_the_set_up_lines(tree: DifixTree, python: Path) -> None:
    assert told(tree)["python"] == str(python.parent.parent)
    assert told(tree)["wandb_mode"] == "disabled"


def test_it_was_given_what_its_help_lists_and_nothing_else(tree: DifixTree) -> None:
    words = told(tree)["argv"]
    assert "--base_model_id" not in words
    assert flag(words, "pretrained_model_name_or_path") == "stabilityai/sd-turbo"
    assert "--mv_unet" in words
    assert flag(words, "seconds_a_step") == "0.6"
    # 8 samples, batches of 1: 9 steps are in the second epoch.
    assert flag(words, "num_training_epochs") == "2"
    config = read_json(tree.tuning_run("own").train_config, TrainConfig)
    assert config.script_command[-len(words) :] == words
    assert any("576x1024" in note for note in config.notes)


def test_the_second_start_went_on_from_the_newest_checkpoint(tree: DifixTree, lines: list[ProgressLine]) -> None:
    assert flag(told(tree)["argv"], "resume") == str(tree.tuning_run("own").checkpoint(5))
    assert "goes on from model_5.pkl" in lines[0].message
    assert min(line.step for line in lines if line.event == "step") > 5


def test_it_goes_on_with_other_samples_than_it_began_with(tree: DifixTree) -> None:
    """By the same seed each start reads the head of one and the same epoch, and never its tail."""
    first, *_, second = [
        line.split() for line in (tree.tuning_run("own").base / "read_samples.txt").read_text().splitlines() if line
    ]
    assert len(second) >= 3
    assert first[: len(second)] != second
    assert flag(told(tree)["argv"], "seed") == str(42 + 5)


def test_its_progress_bar_becomes_progress_lines(tree: DifixTree, lines: list[ProgressLine]) -> None:
    steps = [line for line in lines if line.event == "step"]
    assert [line.step for line in steps] == [6, 7, 8, 9]
    assert all(line.loss is not None and line.loss > 0.5 for line in steps)
    assert steps[-1].max_steps == 9
    assert any(line.samples_per_second for line in steps)
    assert [line.step for line in lines if line.event == "checkpoint"] == [9]
    assert lines[-1].event == "done"


def test_a_checkpoint_that_cannot_be_run_here_costs_no_training(lines: list[ProgressLine]) -> None:
    assert "step 9 is not evaluated" in lines[-1].message


def test_its_checks_pass_and_count(tree: DifixTree) -> None:
    for check in (
        run_checks.checkpoint_loads,
        run_checks.checkpoint_belongs_to_data,
        run_checks.loss_is_finite,
        run_checks.train_config_complete,
    ):
        outcome = check(tree, "own")
        assert outcome.passed, outcome
        assert outcome.counts


def test_a_finished_one_starts_nothing(tree: DifixTree, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_run, "run_job", lambda *_, **__: pytest.fail("a job was started"))
    assert start(tree, external_run(python)).steps == [1, 5, 9]
    # Another place of interpreter or script is no other training, nor need they be there any more; another flag is one.
    assert start(tree, external_run(Path("/opt/other/python"), Path("gone.py"))).steps == [1, 5, 9]
    with pytest.raises(SnapshotChanged, match="extra_args"):
        start(tree, external_run(python, extra_args=["--seconds_a_step", "0.5"]))


def test_weights_alone_are_nothing_our_trainers_go_on_from(tree: DifixTree) -> None:
    assert latest_verified(tree.tuning_run("own"))[0] is None


# --- scripts that do not do what is wanted ---------------------------------------------------------------------------


def test_bf16_is_refused_in_the_job_that_came_to_a_volta_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a cluster whose nodes do not say what cards they have: nobody could know before."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Tesla V100-PCIE-32GB, 7.0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(LocalLauncher, "require", lambda self, resources: None)
    run = external_run(Path(sys.executable), mixed_precision="bf16")
    tree = write_snapshot(tmp_path / "root")

    with pytest.raises(TrainerFailed, match=r"Tesla V100-PCIE-32GB .*7\.0") as caught:
        tune(tree, "own", run, split=SPLIT, device="cuda", launcher=LocalLauncher(lambda: ["0"]))

    assert "stable_v100: true" in str(caught.value)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with neither torch nor this package; its `accelerate` only runs the script."""
    return make_environment(tmp_path_factory.mktemp("environment") / "bare", torch=False)


Script = Callable[[str], Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A script that answers `--help`, and else runs `body` with the run directory as `run`."""

    def write(body: str) -> Path:
        path = tmp_path / "train.py"
        head = (
            "import sys, time, pathlib\nif '--help' in sys.argv:\n    sys.exit(print('--output_dir --dataset_path'))\n"
        )
        path.write_text(head + "run = pathlib.Path(sys.argv[sys.argv.index('--output_dir') + 1])\n" + body + "\n")
        return path

    return write


def test_a_script_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path, bare: Path, script: Script) -> None:
    tree = write_snapshot(tmp_path)
    with pytest.raises(TrainerFailed, match="ended with status 3 after step 0, before its save at step 1") as caught:
        start(tree, external_run(bare, script("print('CUDA out of memory', file=sys.stderr); sys.exit(3)")))
    assert "CUDA out of memory" in str(caught.value)


def test_a_script_that_ends_too_early_is_not_believed(tmp_path: Path, bare: Path, script: Script) -> None:
    tree = write_snapshot(tmp_path)
    half = "(run / 'checkpoints').mkdir(); (run / 'checkpoints' / 'model_1.pkl').write_bytes(b'PK half of a file')"
    with pytest.raises(TrainerFailed, match=r"(?s)with status 0.*removed: model_1\.pkl"):
        start(tree, external_run(bare, script(half)))
    assert list(tree.tuning_run("own").checkpoints_dir.glob("*.pkl")) == []


def test_a_loss_that_is_not_finite_ends_it_and_names_the_step(tmp_path: Path, bare: Path, script: Script) -> None:
    tree = write_snapshot(tmp_path)
    body = "print('Steps:  33%|###   | 3/9 [00:01<00:02,  3.0it/s, loss/l2=nan]', file=sys.stderr, flush=True)\ntime.sleep(300)"
    with pytest.raises(TrainerFailed, match="not finite at step 3"):
        start(tree, external_run(bare, script(body)))
    assert processes_of(tree.tuning_run("own")) == []


def test_a_script_that_a_killed_attempt_left_is_ended_before_the_next(
    tmp_path: Path, bare: Path, script: Script
) -> None:
    tree = write_snapshot(tmp_path)
    run, name = tree.tuning_run("own"), uuid.uuid4().hex
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(300)"], env={**os.environ, JOB_VARIABLE: name}
    )
    record = JobRecord(
        launcher="local",
        host=socket.gethostname(),
        process_group=left.pid,
        job_id=name,
        started_at="now",
        command=["script"],
        stdout="o",
        stderr="e",
    )
    write_json(run.script_job, record)
    try:
        with pytest.raises(TrainerFailed, match="status 3"):
            start(tree, external_run(bare, script("sys.exit(3)")))
        assert left.wait(timeout=10) != 0
    finally:
        left.kill()


def test_a_clusters_warning_to_every_process_is_a_stop(tmp_path: Path, bare: Path, script: Script) -> None:
    tree = write_snapshot(tmp_path)
    run, sent = tree.tuning_run("own"), list[int]()

    def warn() -> None:
        if not sent and (run.base / "at_work").is_file():
            for record in (run.script_job, run.job):
                for process in members(str(read_json(record, JobRecord).job_id)):
                    sent.append(process.pid)
                    process.send_signal(signal.SIGUSR2)
                # The script hears of it first, and must not die of it before its follower knows why.
                time.sleep(0.5)

    body = script("(run / 'at_work').touch(); time.sleep(300)")
    with pytest.raises(TrainerStopped, match=r"(?s)after step 0.*no checkpoint yet") as caught:
        start(tree, external_run(bare, body), following=Following(poll=warn))
    assert caught.value.found == "asked by SIGUSR2"
    assert len(sent) > 3
    assert processes_of(run) == []


def test_a_stop_while_the_script_says_its_flags_is_a_stop(tmp_path: Path, bare: Path) -> None:
    tree = write_snapshot(tmp_path)
    asked = tmp_path / "asked"
    slow = tmp_path / "slow.py"
    slow.write_text(f"import time, pathlib\npathlib.Path({str(asked)!r}).touch()\ntime.sleep(300)")
    with pytest.raises(TrainerStopped, match="after step 0"):
        start(tree, external_run(bare, slow), following=Following(should_stop=asked.is_file))
    assert processes_of(tree.tuning_run("own")) == []


def test_set_up_lines_that_fail_end_it(tmp_path: Path, bare: Path, script: Script) -> None:
    tree = write_snapshot(tmp_path)
    external = {"script": str(script("")), "python": str(bare), "setup": ["echo no such module >&2; false"]}
    with pytest.raises(TrainerFailed, match=r"(?s)which flags it takes.*no such module"):
        start(tree, external_run(bare, external=external))


def test_a_script_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    with pytest.raises(InvalidFile, match=r"(?s)script is not there.*src/train_difix\.py"):
        start(tree, external_run(Path("python"), Path("src/train_difix.py")))
    assert not tree.frozen.exists()


def test_a_run_with_references_on_some_samples_only_is_refused(tmp_path: Path, bare: Path, script: Script) -> None:
    from thesis_assets.tuning.run_external import _check_references

    tree = write_snapshot(tmp_path)
    data = json.loads(tree.data_json.read_text())
    del next(iter(data["train"].values()))["ref_image"]
    tree.data_json.write_text(json.dumps(data))
    with pytest.raises(InvalidFile, match=r"(?s)no reference.*1 of 8 without one"):
        _check_references(tree.data_json, {"mv_unet": False})
    for half in data.values():
        for entry in half.values():
            entry.pop("ref_image", None)
    tree.data_json.write_text(json.dumps(data))
    _check_references(tree.data_json, {"mv_unet": False})
    with pytest.raises(InvalidFile, match="no reference"):
        _check_references(tree.data_json, {"mv_unet": True})


# --- the parts -------------------------------------------------------------------------------------------------------


def test_a_copy_with_other_flags_gets_those(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    run = external_run(Path(sys.executable), resolution=320)
    settings, notes = external_settings(tree, "own", run, "cpu", 8)
    assert run.external is not None
    known = {"dataset_path", "base_model_id", "pretrained_model_name_or_path", "resolution"}
    words, left_out = script_command(run.external, settings, known, device="cpu", resume=None)
    assert words[-8:] == [
        *("--dataset_path", str(tree.data_json), "--resolution", "320", "--base_model_id", "stabilityai/sd-turbo"),
        *("--seconds_a_step", "0.6"),
    ]
    assert any(note.startswith("lambda_gram = 1.0: the script has no such flag") for note in left_out)
    assert not any("pretrained_model" in note for note in left_out)
    assert any("320" in note for note in notes)
    assert external_settings(tree, "own", external_run(Path("p"), resolution=512), "cpu", 8)[0]["resolution"] == 512


@pytest.mark.parametrize(
    ("changes", "n_train", "epochs"),
    [
        ({}, 8, 2),
        ({"gradient_accumulation_steps": 2}, 8, 3),
        ({"train_batch_size": 3}, 8, 3),
        ({"num_processes": 2}, 8, 3),
        ({"max_train_steps": 10_000, "checkpointing_steps": 1000}, 2500, 4),
        ({}, 1000, 1),
    ],
)
def test_epochs_are_bounded_by_what_reaches_the_steps(changes: dict[str, Any], n_train: int, epochs: int) -> None:
    assert epochs_at_most(external_run(Path("p"), **changes), n_train) == epochs


def test_flags_are_asked_of_the_script_in_its_environment(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os\nprint(f'usage: [--mv_unet] [--{os.environ[\"FLAG\"]} N]  no--flag')")
    external = External(script=str(script), python=sys.executable, setup=("export FLAG=max_train_steps",))
    assert known_flags(external, {}) == {"mv_unet", "max_train_steps"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THESIS_CONDA_ENV", "difix")
        patch.setenv("CONDA_EXE", str(tmp_path / "bin" / "conda"))
        conda = tmp_path / "etc" / "profile.d" / "conda.sh"
        conda.parent.mkdir(parents=True)
        conda.write_text(f'conda() {{ export PATH="{Path(sys.executable).parent}:$PATH" FLAG="$1_$2"; }}')
        assert known_flags(External(script=str(script)), {}) == {"mv_unet", "activate_difix"}
    script.write_text("raise SystemExit('import error')")
    with pytest.raises(InvalidFile, match=r"(?s)which flags.*import error"):
        known_flags(external, {})


def test_the_bar_is_read_whatever_else_stands_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    log.write_text("Steps:  50%|##  | 5/10 [00:01<00:01, 5.0it/s, loss=9.0]\n")
    bar = ProgressBar(log, 10)
    with log.open("a") as handle:
        handle.write("Downloading: 100%|####| 10/99 [00:01<00:00, 9.0it/s]\nepoch 1/10 [of many]\n")
        handle.write("\rSteps:   0%|    | 0/10 [00:00<?, ?it/s]")
        handle.write("\rSteps:  10%|#   | 1/10 [00:02<00:18,  2.00s/it, loss/l2=0.25, loss/lpips=1e-1, lr=2e-05]")
        handle.write("\rSteps:  20%|#   | 2/10 [00:02<00:18, 4.0it/s, lo")
    assert list(bar.new_steps()) == [ToldStep(0, None, None, None)]
    with log.open("a") as handle:
        handle.write("ss=0.5]\rSteps: 11it [00:03, 4.0it/s, loss=nan]\nValidation: 11it [00:03, 4.0it/s]\n")
    assert list(bar.new_steps()) == [ToldStep(1, 0.35, 2e-5, 0.5), ToldStep(2, 0.5, None, 4.0)]
    (beyond,) = bar.new_steps(ended=True)
    assert (beyond.step, beyond.loss != beyond.loss) == (11, True)
    assert list(bar.new_steps(ended=True)) == []


def test_a_step_has_the_values_of_its_last_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is drawn as it moves on, with the values of the step before, and once more when they are known."""
    log = tmp_path / "stderr.log"
    bar = ProgressBar(log, 10)
    log.write_text("Steps: 1/10 [00:01, 1it/s]\rSteps: 1/10 [00:01, 1it/s, loss=1.0]\r")
    assert list(bar.new_steps()) == []
    with log.open("a") as handle:
        handle.write("Steps: 2/10 [00:02, 1it/s, loss=1.0]\rSteps: 2/10 [00:02, 1it/s, loss=0.5]\r")
    assert [(one.step, one.loss) for one in bar.new_steps()] == [(1, 1.0)]
    # A script that hangs, or evaluates, has drawn its step for the last time.
    monkeypatch.setattr("thesis_assets.tuning.run_external.LOOK_SECONDS", 0.0)
    assert [(one.step, one.loss) for one in bar.new_steps()] == [(2, 0.5)]


def test_a_schedule_by_which_the_published_trainer_never_saves_is_refused() -> None:
    with pytest.raises(ValidationError, match="never, with 1"):
        external_run(Path("p"), checkpointing_steps=1)
    assert external_run(Path("p"), max_train_steps=10, checkpointing_steps=3).saved_steps() == [1, 4, 7, 10]


def test_a_settings_file_that_lacks_one_fails_its_check(tree: DifixTree) -> None:
    path = tree.tuning_run("own").train_config
    content = path.read_text()
    try:
        path.write_text(content.replace('"lambda_gram": 1.0', '"lambda_other": 1.0'))
        outcome = run_checks.train_config_complete(tree, "own")
    finally:
        path.write_text(content)
    assert outcome.offenders == ["flags.lambda_gram is missing", "flags.lambda_other is no flag of the trainer"]
    assert sha256_file(path)
