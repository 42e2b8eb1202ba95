"""`--resume` of every kind of file: gone on from, or refused in words before anything heavy is imported."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree
from thesis_assets.tuning.checkpoints import (
    PUBLISHED_KEYS,
    RESUME_KEYS,
    list_checkpoints,
    load_checkpoint,
    resume_source,
)
from thesis_assets.tuning.progress_file import ProgressReader
from thesis_assets_tests.tuning.snapshots import arguments, same_state, stopping_at, train, write_snapshot

FLAGS = {"max_train_steps": 8, "checkpointing_steps": 4, "eval_freq": 8}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """With the run `whole`: eight steps, saved at the fourth and the last."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    assert train(arguments(tree, "whole", **FLAGS)) == 0
    return tree


def told(tree: DifixTree, run_name: str) -> str:
    return next(iter(ProgressReader(tree.tuning_run(run_name).progress).new_lines())).message


def test_a_run_begins_from_the_checkpoint_of_another_and_ends_as_that_one_did(tree: DifixTree) -> None:
    there = tree.tuning_run("whole").checkpoint(4)
    assert train(arguments(tree, "begun_from_file", **FLAGS, resume=there)) == 0
    run = tree.tuning_run("begun_from_file")
    assert list_checkpoints(run) == [8]
    assert f"goes on from {there}, step 4" in told(tree, "begun_from_file")
    assert same_state(tree.tuning_run("whole"), run, 8)


def test_a_directory_gives_its_newest_and_a_run_that_has_begun_goes_on_from_its_own(
    tree: DifixTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (2, 4):  # the numbers decide, not the order of the names
        (tmp_path / "checkpoints" / f"model_{step}.pkl").write_bytes(
            tree.tuning_run("whole").checkpoint(4).read_bytes()
        )
    flags = arguments(tree, "from_directory", **FLAGS, resume=tmp_path / "checkpoints")
    with monkeypatch.context() as patch:
        stopping_at(patch, 6)
        assert train(flags) == 0
    assert list_checkpoints(tree.tuning_run("from_directory")) == [6]
    assert train(flags) == 0
    steps = [
        line.step
        for line in ProgressReader(tree.tuning_run("from_directory").progress).new_lines()
        if line.event == "step"
    ]
    assert steps == [5, 6, 7, 8]
    assert same_state(tree.tuning_run("whole"), tree.tuning_run("from_directory"), 8)


def test_its_own_newest_is_taken_by_name_and_an_older_one_is_refused(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tree.tuning_run("own")
    with monkeypatch.context() as patch:
        stopping_at(patch, 6)
        assert train(arguments(tree, "own", **FLAGS)) == 0
    assert train(arguments(tree, "own", **FLAGS, resume=run.checkpoint(4))) == 1
    assert "the run has 4, 6" in capsys.readouterr().err
    assert train(arguments(tree, "own", **FLAGS, resume=run.checkpoint(6))) == 0
    assert same_state(tree.tuning_run("whole"), run, 8)


def test_its_own_newest_that_is_damaged_is_refused_where_it_was_named(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tree.tuning_run("damaged")
    with monkeypatch.context() as patch:
        stopping_at(patch, 6)
        assert train(arguments(tree, "damaged", **FLAGS)) == 0
    run.checkpoint_info(6).write_text(run.checkpoint_info(6).read_text().replace('"sha256": "', '"sha256": "0'))
    assert train(arguments(tree, "damaged", **FLAGS, resume=run.checkpoint(6))) == 1
    assert "cannot be used" in capsys.readouterr().err
    assert train(arguments(tree, "damaged", **FLAGS)) == 0  # without the flag the one before is taken


def weights_alone(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in RESUME_KEYS or name == "step"}


KINDS: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "without the optimizer's state": ("model_4.pkl", weights_alone, "without the optimizer's state"),
    "averaged weights": ("model_4.pkl", lambda state: {**weights_alone(state), "ema_decay": 0.9}, "averaged weights"),
    "weights of others": (
        "model_4.pkl",
        lambda state: {"weights": state["state_dict_unet"]},
        "no checkpoint of backend",
    ),
    "of the difix backend": (
        "model_4.pkl",
        lambda _: dict.fromkeys(PUBLISHED_KEYS, 1),
        "no checkpoint of backend tiny",
    ),
    "without a step in its name": ("newest.pkl", lambda state: state, "does not say its step"),
}


@pytest.mark.parametrize(("name", "content", "why"), KINDS.values(), ids=KINDS)
def test_a_file_that_no_training_goes_on_from_is_refused(
    tree: DifixTree, tmp_path: Path, name: str, content: Callable[[dict[str, Any]], object], why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    torch.save(content(load_checkpoint(tree.tuning_run("whole").checkpoint(4))), tmp_path / name)
    assert train(arguments(tree, "refused", **FLAGS, resume=tmp_path / name)) == 1
    assert why in capsys.readouterr().err
    assert list_checkpoints(tree.tuning_run("refused")) == []


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 half of one"])
def test_what_is_no_archive_or_not_there_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model_4.pkl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidFile, match="nothing to go on from" if content is None else "no archive of torch"):
        resume_source(str(path), "tiny")


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="nothing to go on from"):
        resume_source(str(tmp_path), "tiny")


def test_it_is_refused_before_torch_is_imported(tree: DifixTree, tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "model_4.pkl")
    flags = arguments(tree, "at_once", **FLAGS, resume=tmp_path / "model_4.pkl")
    program = (
        "import sys\nfrom thesis_assets.tuning.backends import TINY\nfrom thesis_assets.tuning.trainer_program import main\n"
        f"status = main({flags!r}, TINY)\nprint(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["1", "False"]


def test_a_file_with_nothing_left_to_train_is_refused(tree: DifixTree, capsys: pytest.CaptureFixture[str]) -> None:
    there = tree.tuning_run("whole").checkpoint(8)
    assert train(arguments(tree, "nothing_left", **FLAGS, resume=there)) == 1
    assert "nothing is left to train" in capsys.readouterr().err


def test_a_run_whose_own_checkpoints_are_damaged_begins_again_from_what_it_was_told(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, flags = (
        tree.tuning_run("again"),
        arguments(tree, "again", **FLAGS, resume=tree.tuning_run("whole").checkpoint(4)),
    )
    with monkeypatch.context() as patch:
        stopping_at(patch, 6)
        assert train(flags) == 0
    run.checkpoint_info(6).write_text(run.checkpoint_info(6).read_text().replace('"sha256": "', '"sha256": "0'))
    assert train(flags) == 0
    assert ", step 4" in told(tree, "again"), "not from nothing"
    assert same_state(tree.tuning_run("whole"), run, 8)


def test_a_file_that_is_not_the_one_its_side_file_tells_of_is_refused(
    tree: DifixTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tree.tuning_run("whole")
    state = load_checkpoint(whole.checkpoint(4))
    state["state_dict_unet"] = {name: value + 1 for name, value in state["state_dict_unet"].items()}
    torch.save(state, tmp_path / "model_4.pkl")
    (tmp_path / "model_4.json").write_bytes(whole.checkpoint_info(4).read_bytes())
    assert train(arguments(tree, "changed", **FLAGS, resume=tmp_path / "model_4.pkl")) == 1
    assert "not the one that was written" in capsys.readouterr().err


def test_an_average_that_is_not_the_one_its_side_file_tells_of_is_refused(
    tree: DifixTree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(arguments(tree, "averaged", **FLAGS, ema_decay=0.9)) == 0
    there = tree.tuning_run("averaged")
    (there.averaged.checkpoint(4)).write_bytes(there.averaged.checkpoint(8).read_bytes())
    flags = arguments(tree, "from_averaged", **FLAGS, ema_decay=0.9, resume=there.checkpoint(4))
    assert train(flags) == 1
    assert "not the one that was written" in (told := capsys.readouterr().err)
    assert str(there.averaged.checkpoint(4)) in told


def moments(state: dict[str, Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = state["optimizer"]["state"]
    return found


OPTIMIZERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "of another shape": (
        lambda state: moments(state)[0].update(exp_avg=torch.zeros(3)),
        "exp_avg of weight 0 is of shape (3,)",
    ),
    "without a moment": (lambda state: moments(state)[1].pop("exp_avg_sq"), "exp_avg_sq"),
    "not finite": (
        lambda state: moments(state)[2]["exp_avg_sq"].fill_(torch.nan),
        "exp_avg_sq of weight 2 is not finite",
    ),
    "without any": (lambda state: moments(state).clear(), "no moments"),
    "without its step": (lambda state: moments(state)[0].pop("step"), "KeyError"),
    "of another step": (lambda state: moments(state)[0].update(step=torch.zeros(3)), "only one element"),
    "of other groups": (lambda state: state["optimizer"]["param_groups"].pop(), "ValueError"),
    "of fewer weights": (lambda state: state["optimizer"]["param_groups"][0]["params"].pop(), "ValueError"),
    "of one more": (lambda state: moments(state).update({999: moments(state)[0]}), "IndexError"),
    "empty": (lambda state: state.update(optimizer={"exp_avg": 0}), "KeyError"),
}


@pytest.mark.parametrize(("spoil", "found"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_that_cannot_be_gone_on_from_is_refused_by_its_file_and_key(
    tree: DifixTree, tmp_path: Path, spoil: Callable[[dict[str, Any]], object], found: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    state = load_checkpoint(tree.tuning_run("whole").checkpoint(4), mapped=False)
    spoil(state)
    torch.save(state, tmp_path / "model_4.pkl")
    assert train(arguments(tree, "spoilt", **FLAGS, resume=tmp_path / "model_4.pkl")) == 1
    told = capsys.readouterr().err
    assert found in told
    assert "the optimizer's state cannot be gone on from" in told or "without the optimizer's state" in told
    assert "model_4.pkl" in told
