"""Pure parts of a training: sample order, sizes, learning rates, flags, progress lines."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidExperiment, NotBuiltYet
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.schemas.tuning import ProgressLine
from thesis_assets.tuning.backends import TINY
from thesis_assets.tuning.patient_launch import forget_other_launches, threads_per_process
from thesis_assets.tuning.progress_file import ProgressReader, ProgressWriter, read_curves
from thesis_assets.tuning.run_config import SCHEDULES, TrainerFlags, check_schedule, parse_flags
from thesis_assets.tuning.trained_model import processing_size
from thesis_assets.tuning.trainer_start import ACCELERATE_CONFIG, launch_command, launch_environment
from thesis_assets.tuning.training_loop import learning_rate
from thesis_assets.tuning.triplets import SampleOrder


@given(st.integers(1, 40), st.integers(0, 2**31), st.integers(0, 3))
def test_every_sample_is_seen_once_an_epoch(n_samples: int, seed: int, epoch: int) -> None:
    order = SampleOrder(n_samples, seed)
    start = epoch * n_samples
    seen = [order.draw(count).index for count in range(start, start + n_samples)]
    assert sorted(seen) == list(range(n_samples))


@given(st.integers(1, 20), st.integers(0, 100), st.integers(1, 5), st.integers(0, 10), st.integers(0, 10))
def test_batches_from_the_middle_are_the_rest_of_the_whole(
    n_samples: int, seed: int, size: int, before: int, after: int
) -> None:
    order = SampleOrder(n_samples, seed)
    whole = list(order.batches(0, (before + after) * size, size))
    assert list(order.batches(before * size, (before + after) * size, size)) == whole[before:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    draws = [[SampleOrder(50, seed).draw(start + i) for i in range(50)] for seed, start in ((1, 0), (1, 50), (2, 0))]
    assert draws[0] != draws[1]
    assert draws[0] != draws[2]
    assert {draw.mirrored for draw in draws[0]} == {True, False}


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 1024))
def test_sizes_are_multiples_of_16_with_the_long_side_at_the_resolution(
    height: int, width: int, resolution: int
) -> None:
    size = processing_size(height, width, resolution)
    assert all(side >= 16 and side % 16 == 0 for side in size)
    assert abs(max(size) - resolution) <= 8
    short = min(height, width) * resolution / max(height, width)
    assert abs(min(size) - short) <= 8 or min(size) == 16


def test_the_sizes_of_known_images() -> None:
    assert processing_size(128, 128, 128) == (128, 128)
    assert processing_size(1280, 940, 512) == (512, 384)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_start_and_end_as_their_names_say(schedule: str) -> None:
    rates = [learning_rate(1.0, schedule, step=step, warmup_steps=5, max_steps=50) for step in range(1, 51)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[0] == (1.0 if schedule == "constant" else 0.2)
    assert rates[-1] == 1.0 if "constant" in schedule else rates[-1] < 0.05


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(NotBuiltYet, match="piecewise_constant"):
        check_schedule("piecewise_constant")


FLAGS: dict[str, Any] = {"dataset_path": "/d/data.json", "output_dir": "/r", "tracker_run_name": "r"}


@given(
    st.builds(
        TrainerFlags,
        **{name: st.just(value) for name, value in FLAGS.items()},
        learning_rate=st.floats(0, 1),
        max_train_steps=st.integers(1, 10**6),
        mv_unet=st.booleans(),
        prompt=st.none() | st.sampled_from(["remove degradation", "x"]),
        tracker_tags=st.none() | st.just("a,b"),
    )
)
def test_a_command_line_reads_back_to_its_flags(flags: TrainerFlags) -> None:
    assert parse_flags(flags.as_arguments()) == flags


def test_places_and_reporting_are_no_hyperparameters() -> None:
    one = TrainerFlags(**FLAGS)
    same = TrainerFlags("/elsewhere.json", "/other", "s", report_to="wandb", dataloader_num_workers=7)
    assert one.hyperparameter_digest() == same.hyperparameter_digest()
    assert one.hyperparameter_digest() != TrainerFlags(**FLAGS, seed=1).hyperparameter_digest()


def test_an_abbreviated_flag_is_unknown() -> None:
    with pytest.raises(InvalidExperiment, match="--learn"):
        parse_flags([*TrainerFlags(**FLAGS).as_arguments(), "--learn", "1"])


def test_flags_without_effect_are_told() -> None:
    notes = "\n".join(TINY.notes_on_unused(TrainerFlags(**FLAGS, lambda_gram=0.0, prompt="x")))
    assert "lambda_lpips = 1.0: no effect" in notes
    assert "prompt = x: no effect" in notes
    assert "lambda_gram" not in notes


def line(step: int, loss: float, event: str = "step", **fields: Any) -> ProgressLine:
    return ProgressLine(event=event, step=step, max_steps=9, seconds=1.0, loss=loss, learning_rate=1e-3, **fields)  # type: ignore[arg-type]


def test_progress_is_read_as_it_grows_and_a_cut_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "progress.jsonl"
    reader = ProgressReader(path)
    assert list(reader.new_lines()) == []
    writer = ProgressWriter(path)
    writer.write(line(1, 0.5))
    with path.open("ab") as handle:
        handle.write(b'{"event":"st')
    assert [one.step for one in reader.new_lines()] == [1]
    assert list(reader.new_lines()) == []
    # A new process after a kill in the middle of a line.
    ProgressWriter(path).write(line(2, 0.4))
    assert [one.step for one in reader.new_lines()] == [2]
    assert list(ProgressReader(path, from_end=True).new_lines()) == []


def test_curves_of_a_resumed_run_take_the_later_line_of_a_step(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path / "progress.jsonl")
    for one in (line(1, 0.5), line(2, 9.0), line(2, 0.4), line(2, 0.0, "eval", metrics={"psnr_refined": 30.0})):
        writer.write(one)
    curves = read_curves(tmp_path / "progress.jsonl")
    assert curves["step"] == [1.0, 2.0]
    assert curves["loss"] == [0.5, 0.4]
    assert (curves["eval_step"], curves["psnr_refined"]) == ([2.0], [30.0])


ACCELERATE = ["accelerate.commands.launch", "--quiet"]
CONFIG = ["--config_file", str(ACCELERATE_CONFIG)]


@pytest.mark.parametrize(
    ("device", "processes", "start"),
    [
        ("cpu", 1, [*ACCELERATE, "--cpu"]),
        ("cpu", 2, ["torch.distributed.run", "--standalone", "--nnodes", "1", "--nproc_per_node", "2"]),
        ("cuda", 1, [*ACCELERATE, *CONFIG, "--mixed_precision", "bf16"]),
        ("cuda:1", 1, [*ACCELERATE, *CONFIG, "--mixed_precision", "bf16"]),
        ("cuda", 4, [*ACCELERATE, *CONFIG, "--multi_gpu", "--main_process_port", "0"]),
    ],
)
def test_the_launch_names_device_processes_and_script(device: str, processes: int, start: list[str]) -> None:
    flags = TrainerFlags(**FLAGS, mixed_precision="bf16", num_processes=processes)
    command = launch_command(TINY, flags, device)
    launcher, script = command[: command.index(str(TINY.script))], command[command.index(str(TINY.script)) + 1 :]
    assert launcher[2 : 3 + len(start)] == [str(processes), *start]
    if "accelerate.commands.launch" in launcher:
        assert launcher[launcher.index("--num_processes") + 1] == str(processes)
    assert parse_flags(script) == flags
    assert TINY.script.is_file()


def test_the_users_own_settings_of_accelerate_do_not_reach_a_run() -> None:
    config = yaml.safe_load(ACCELERATE_CONFIG.read_text())
    assert (config["distributed_type"], config["num_processes"], config["use_cpu"]) == ("NO", 1, False)


@pytest.mark.parametrize(("processes", "threads"), [(1, 6), (2, 3), (9, 1)])
def test_processes_share_the_cores_of_where_they_run(
    processes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thesis_assets.tuning.patient_launch.available_cores", lambda: 6)
    assert threads_per_process(processes) == threads


TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
SRUN = {"PMI_SIZE": "2", "PMI_RANK": "0", "PMIX_RANK": "0"}
MPIRUN = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "MPI_LOCALNRANKS": "2", "MV2_COMM_WORLD_SIZE": "2"}


@pytest.mark.parametrize("other", [TORCHRUN, SRUN, MPIRUN], ids=["torchrun", "srun", "mpirun"])
def test_trainers_hear_nothing_of_another_launch_around_theirs(
    tmp_path: Path, other: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telling.py").write_text(f"import os; print(set({list(other)}) & os.environ.keys())")
    for name, value in {**other, "PYTHONPATH": str(tmp_path), "LOCAL_NAME": "kept"}.items():
        monkeypatch.setenv(name, value)
    command = launch_command(TINY, TrainerFlags(**FLAGS), "cpu")
    told = subprocess.run([*command[:3], "telling"], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "set()"
    forget_other_launches()
    assert not other.keys() & os.environ.keys()
    assert os.environ["LOCAL_NAME"] == "kept"


@pytest.mark.parametrize("said", [None, "7"])
def test_a_launch_counts_threads_where_it_runs_unless_the_user_says_how_many(
    tmp_path: Path, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telling.py").write_text("import os, sys; print(os.environ['OMP_NUM_THREADS'], sys.argv[1:])")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    core = min(os.sched_getaffinity(0))
    command = launch_command(TINY, TrainerFlags(**FLAGS), "cpu")
    command = [*command[:3], "telling", "a", "b"]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    ).stdout
    assert told.strip() == f"{said or 1} ['a', 'b']"


def test_threads_of_a_cpu_trainer_do_not_spin_unless_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert launch_environment("cpu") == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert launch_environment("cuda") == {}
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert launch_environment("cpu") == {}


def test_as_many_samples_a_step_as_all_processes_see_together() -> None:
    flags = TrainerFlags(**FLAGS, train_batch_size=3, gradient_accumulation_steps=4, num_processes=2)
    assert flags.samples_per_step() == 24
    assert flags.hyperparameter_digest() != replace(flags, num_processes=1).hyperparameter_digest()


def test_the_settings_for_v100_cards_fill_what_a_run_does_not_write() -> None:
    run = RunSpec.model_validate({"stable_v100": True, "resolution": 256})
    found = (run.num_processes, run.mixed_precision, run.max_grad_norm, run.resolution)
    assert found == (2, "no", 0.0, 256)
    assert RunSpec.model_validate({"stable_v100": True}).resolution == 320
    assert RunSpec.model_validate({"stable_v100": False}).num_processes == 1
