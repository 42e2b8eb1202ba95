"""Going on from a checkpoint: after a stop, after a kill in the middle of a write, past files that cannot be trusted."""

import os
import pickle
import random
import shutil
import signal
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, TuningRunTree
from thesis_assets.provenance import making
from thesis_assets.schemas.tuning import CheckpointInfo
from thesis_assets.storage import read_json, sha256_file, write_json
from thesis_assets.tuning import checkpoints, triplets
from thesis_assets.tuning.checkpoints import latest_verified, list_checkpoints, verify_checkpoint
from thesis_assets.tuning.progress_file import ProgressReader, read_curves
from thesis_assets.tuning.run_record import checkpoint_unit, record_run
from thesis_assets_tests.tuning.snapshots import arguments, make_run, same_state, stopping_at, train, write_snapshot


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    return write_snapshot(tmp_path_factory.mktemp("snapshot"))


def test_twenty_steps_and_twenty_more_equal_forty_to_the_bit(tree: DifixTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accumulated batches a step, two decoding workers."""
    monkeypatch.setattr(triplets.Triplets, "decode_if_small", lambda self, threads: False)
    monkeypatch.setattr("thesis_assets.tuning.trainer_program.available_cores", lambda: 3)
    flags = {
        "max_train_steps": 40,
        "checkpointing_steps": 40,
        "eval_freq": 20,
        "gradient_accumulation_steps": 2,
        "dataloader_num_workers": 2,
    }
    assert train(arguments(tree, "whole", **flags)) == 0
    with monkeypatch.context() as patch:
        stopping_at(patch, 20)
        assert train(arguments(tree, "halves", **flags)) == 0
    whole, halves = tree.tuning_run("whole"), tree.tuning_run("halves")
    assert list_checkpoints(halves) == [20]
    torch.manual_seed(1)  # another process's state
    assert train(arguments(tree, "halves", **flags)) == 0
    assert same_state(whole, halves, 40)
    assert sha256_file(whole.checkpoint(40)) == sha256_file(halves.checkpoint(40))
    assert read_curves(whole.progress)["loss"] == read_curves(halves.progress)["loss"]
    for step in (20, 40):
        assert whole.eval_metrics(step).read_bytes() == halves.eval_metrics(step).read_bytes()


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_a_malicious_newest_checkpoint_is_passed_over_and_does_not_run(tree: DifixTree, tmp_path: Path) -> None:
    flags = {"max_train_steps": 10, "checkpointing_steps": 5, "eval_freq": 10}
    assert train(arguments(tree, "poisoned", **flags)) == 0
    run, mark = tree.tuning_run("poisoned"), tmp_path / "ran"
    good = run.checkpoint(10).read_bytes()
    run.checkpoint(10).write_bytes(pickle.dumps(Payload(mark), protocol=2))
    side = read_json(run.checkpoint_info(10), CheckpointInfo)
    digest, size = sha256_file(run.checkpoint(10)), run.checkpoint(10).stat().st_size
    write_json(run.checkpoint_info(10), side.model_copy(update={"sha256": digest, "bytes": size}))

    assert train(arguments(tree, "poisoned", **flags)) == 0
    assert not mark.exists()
    assert run.checkpoint(10).read_bytes() == good
    starts = [line.message for line in ProgressReader(run.progress).new_lines() if line.event == "start"]
    assert "more than tensors and numbers" in starts[-1]
    assert "model_10.pkl" in starts[-1]


# Kills in the middle of a write ------------------------------------------------------------------------------------------


def train_slowly(command_line: list[str]) -> None:
    """In a process of its own: a checkpoint of 4 MB takes as long to write as one of gigabytes, in little pieces."""
    write = checkpoints._NotingWriter.write

    def slow(self: checkpoints._NotingWriter, buffer: Any, /) -> int:
        time.sleep(0.001)
        return write(self, buffer)

    checkpoints._NotingWriter.write = slow  # type: ignore[method-assign]
    os._exit(train(command_line))


def partial_files(run: TuningRunTree) -> list[Path]:
    return list(run.checkpoints_dir.glob(f"{TEMPORARY_PREFIX}*"))


def kill_in_writes(tree: DifixTree, n_kills: int, steps: int) -> int:
    """Kill the trainer `n_kills` times at a random moment of writing a checkpoint. Returns how many left half a file."""
    chance, half_written = random.Random(n_kills), 0
    # Forked from a server that has imported torch, but never computed with it: a start takes no seconds.
    context = get_context("forkserver")
    context.set_forkserver_preload(["thesis_assets_tests.tuning.test_resuming", "thesis_assets.tuning.training_loop"])
    flags = {"max_train_steps": steps, "checkpointing_steps": 1, "eval_freq": 1000}
    run = tree.tuning_run("killed")
    command_line = arguments(tree, "killed", **flags)
    newest = 0
    for _ in range(n_kills):
        process = context.Process(target=train_slowly, args=(command_line,))
        process.start()
        before = len(list_checkpoints(run)) + chance.randint(0, 1)
        while process.is_alive() and not (len(list_checkpoints(run)) >= before and partial_files(run)):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.35))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        half_written += bool(partial_files(run))
        found, refused = latest_verified(run)
        assert refused == []
        steps_left = list_checkpoints(run)
        assert (found.step if found else 0) == max(steps_left, default=0) >= newest
        for step in steps_left:
            verify_checkpoint(run, step)
        newest = max(steps_left, default=0)
    assert train(command_line) == 0
    assert partial_files(run) == []
    assert train(arguments(tree, "undisturbed", **{**flags, "checkpointing_steps": steps})) == 0
    losses = [read_curves(tree.tuning_run(name).progress)["loss"] for name in ("killed", "undisturbed")]
    assert losses[0] == losses[1]
    return half_written


def test_a_kill_in_the_middle_of_a_checkpoint_write_leaves_the_newest_one_whole(tmp_path: Path) -> None:
    assert kill_in_writes(write_snapshot(tmp_path), n_kills=3, steps=12) >= 1


@pytest.mark.soak
def test_twenty_kills_in_checkpoint_writes_leave_the_newest_one_whole(tmp_path: Path) -> None:
    assert kill_in_writes(write_snapshot(tmp_path), n_kills=20, steps=60) >= 8


# Kills while the record is written ---------------------------------------------------------------------------------------

RUN = make_run(max_train_steps=4, checkpointing_steps=2, eval_freq=2)


def train_and_record_slowly(tree: DifixTree) -> None:
    """In a process of its own: the run, and its record, each file of which takes long to flush."""
    flush, publish = making.storage.flush, making.storage.write_bytes

    def slow_flush(path: Path | str) -> None:
        time.sleep(0.01)
        flush(path)

    def slow_publish(path: Path, content: bytes) -> None:
        time.sleep(0.05)
        publish(path, content)
        time.sleep(0.05)

    making.storage.flush, making.storage.write_bytes = slow_flush, slow_publish
    status = train(arguments(tree, "r", max_train_steps=4, checkpointing_steps=2, eval_freq=2))
    record_run(tree, "r", RUN)
    os._exit(status)


def kill_at_random(tree: DifixTree, n_kills: int) -> Counter[str]:
    """Kill a run `n_kills` times at random moments of training or recording it; what it looked like each time, counted."""
    chance, seen = random.Random(n_kills), Counter[str]()
    context = get_context("forkserver")
    context.set_forkserver_preload(["thesis_assets_tests.tuning.test_resuming", "thesis_assets.tuning.training_loop"])
    first = context.Process(target=int)  # the server loads torch, which is no part of a run
    first.start()
    first.join()
    started = time.monotonic()
    whole = context.Process(target=train_and_record_slowly, args=(DifixTree(tree.root, "warm"),))
    whole.start()
    whole.join()
    assert whole.exitcode == 0, "one that nobody kills comes to its end"
    seconds = time.monotonic() - started
    for _ in range(n_kills):
        process = context.Process(target=train_and_record_slowly, args=(tree,))
        process.start()
        process.join(chance.uniform(0, seconds))
        process.kill()
        process.join()
        seen[checkpoint_unit(tree, "r", RUN).look().in_words] += 1
    return seen


def end_as_undisturbed(root: Path, n_kills: int) -> Counter[str]:
    killed, undisturbed = write_snapshot(root), DifixTree(root / "undisturbed", "v1")
    for name in ("warm", "undisturbed/v1"):
        shutil.copytree(killed.base, root / name)
    seen = kill_at_random(killed, n_kills)
    for tree in (killed, undisturbed):
        assert train(arguments(tree, "r", max_train_steps=4, checkpointing_steps=2, eval_freq=2)) == 0
    records = [record_run(tree, "r", RUN) for tree in (killed, undisturbed)]
    assert records[0].identity == records[1].identity
    # The configuration keeps the paths of its launch.
    one, other = ({**record.outputs, "train_config.json": None} for record in records)
    assert one == other
    assert checkpoint_unit(killed, "r", RUN).look().in_words == "made"
    # What a kill left half written is nothing that anybody reads; `clean` removes it.
    assert all(path.name.startswith(TEMPORARY_PREFIX) for path in killed.base.rglob("*.partial"))
    return seen


def test_a_run_that_was_killed_while_it_was_recorded_is_never_damaged_and_ends_as_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    seen = end_as_undisturbed(tmp_path, n_kills=4)
    assert set(seen) <= {"missing: it was not made yet", "made (not verified yet)", "made"}


@pytest.mark.soak
def test_twenty_kills_of_a_run_and_its_record_end_as_an_undisturbed_one(tmp_path: Path) -> None:
    seen = end_as_undisturbed(tmp_path, n_kills=20)
    assert set(seen) <= {"missing: it was not made yet", "made (not verified yet)", "made"}
    assert {"made (not verified yet)", "made"} <= set(seen), "no kill fell before the record, or none after it"
