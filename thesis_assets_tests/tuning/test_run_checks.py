"""Each check of a tuning run fails for what it is for, and for nothing else; all of them count, passed or not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from thesis_assets.defs.checks import checks_of
from thesis_assets.graph.checks import CHECKS
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.storage import read_json, sha256_file
from thesis_assets.tuning import run_checks
from thesis_assets.tuning.selection import check_selection_disjoint, select_checkpoint
from thesis_assets_tests.tuning.snapshots import make_run, train_run, write_snapshot

EVALUATED = {"studio/pair03"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """A snapshot with the trained run `r1`, chosen on people who are not evaluated."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    train_run(tree, "r1", eval_freq=20)
    run = make_run(max_train_steps=20, checkpointing_steps=10, selection={"rule": "best_psnr"})
    select_checkpoint(tree, "r1", run, evaluation_groups=EVALUATED, device="cpu")
    return tree


@pytest.fixture
def tree(sound: DifixTree, tmp_path: Path) -> DifixTree:
    """A copy to spoil. Its data.json names the first one's images, which no check here looks at."""
    shutil.copytree(sound.root, tmp_path / "copy")
    return DifixTree(tmp_path / "copy", sound.exp_name)


def outcomes(tree: DifixTree) -> dict[str, CheckOutcome]:
    selected = read_json(tree.tuning_run("r1").selected_checkpoint, SelectedCheckpoint)
    return {
        "checkpoint_loads": run_checks.checkpoint_loads(tree, "r1"),
        "checkpoint_belongs_to_data": run_checks.checkpoint_belongs_to_data(tree, "r1"),
        "loss_is_finite": run_checks.loss_is_finite(tree, "r1"),
        "train_config_complete": run_checks.train_config_complete(tree, "r1"),
        "selection_disjoint_from_evaluation": check_selection_disjoint(
            selected, EVALUATED, read_json(tree.split_summary, SplitSummary)
        ),
        "improves_over_input": run_checks.improves_over_input(tree, selected),
    }


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def weight_not_finite(tree: DifixTree) -> None:
    run = tree.tuning_run("r1")
    state = torch.load(run.checkpoint(10), weights_only=True)
    state["state_dict_unet"]["stem.bias"][0] = float("inf")
    torch.save(state, run.checkpoint(10))
    side = json.loads(run.checkpoint_info(10).read_text())
    side |= {"sha256": sha256_file(run.checkpoint(10)), "bytes": run.checkpoint(10).stat().st_size}
    run.checkpoint_info(10).write_text(json.dumps(side))


def progress_line(tree: DifixTree, line: str) -> None:
    with tree.tuning_run("r1").progress.open("a") as handle:
        handle.write(line + "\n")


def score(tree: DifixTree, **changes: float) -> None:
    path = tree.tuning_run("r1").selected_checkpoint
    value = json.loads(path.read_text())
    value["scores"] = [one | changes for one in value["scores"]]
    path.write_text(json.dumps(value))


LINE = '{"event": "step", "step": 21, "max_steps": 20, "seconds": 1, "loss": 1e999}'
SPOILED: dict[str, tuple[str, Callable[[DifixTree], object], str]] = {
    "a file is gone": (
        "checkpoint_loads",
        lambda tree: tree.tuning_run("r1").checkpoint(10).unlink(),
        "model_10.pkl: the checkpoint is missing",
    ),
    "a byte is another": (
        "checkpoint_loads",
        lambda tree: tree.tuning_run("r1").checkpoint(20).open("r+b").write(b"QK"),
        "not the one that was written",
    ),
    "a weight is infinite": ("checkpoint_loads", weight_not_finite, "stem.bias"),
    "another data.json": (
        "checkpoint_belongs_to_data",
        lambda tree: replace(tree.data_json, "\n}", "\n }"),
        "data.json: ",
    ),
    "a checkpoint of other data": (
        "checkpoint_belongs_to_data",
        lambda tree: replace(
            tree.tuning_run("r1").checkpoint_info(10), '"data_json_sha256": "', '"data_json_sha256": "0'
        ),
        "model_10: data_json_sha256 0",
    ),
    "a loss is infinite": ("loss_is_finite", lambda tree: progress_line(tree, LINE), "step 21: loss inf"),
    "a score is not a number": (
        "loss_is_finite",
        lambda tree: progress_line(tree, LINE.replace('"loss": 1e999', '"metrics": {"psnr_refined": -1e999}')),
        "psnr_refined -inf",
    ),
    "the last attempt failed": (
        "loss_is_finite",
        lambda tree: progress_line(tree, '{"event":"failed","step":9,"max_steps":20,"seconds":1,"message":"no room"}'),
        "no room",
    ),
    "no loss was told": (
        "loss_is_finite",
        lambda tree: tree.tuning_run("r1").progress.write_text(
            '{"event":"done","step":0,"max_steps":20,"seconds":1}\n'
        ),
        "no loss in",
    ),
    "a flag is gone": (
        "train_config_complete",
        lambda tree: replace(tree.tuning_run("r1").train_config, '"lambda_gram": 1.0,', ""),
        "flags.lambda_gram is missing",
    ),
    "a flag was changed by hand": (
        "train_config_complete",
        lambda tree: replace(tree.tuning_run("r1").train_config, '"adam_beta1": 0.9', '"adam_beta1": 0.8'),
        "changed by hand",
    ),
    "chosen on people who are evaluated": (
        "selection_disjoint_from_evaluation",
        lambda tree: replace(tree.tuning_run("r1").selected_checkpoint, "studio/pair02", "studio/pair03"),
        "studio/pair03",
    ),
    "no better than its input": (
        "improves_over_input",
        lambda tree: score(tree, psnr=20.0, psnr_render=20.0),
        "+0.000 dB",
    ),
}


def test_a_sound_run_passes_every_check_and_each_of_them_counts(sound: DifixTree) -> None:
    for name, outcome in outcomes(sound).items():
        assert outcome.passed, (name, outcome)
        assert outcome.message
        assert len(outcome.counts) > 1, name


@pytest.mark.parametrize(("check", "spoil", "told"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_run_fails_the_check_that_is_for_it_and_no_other(
    tree: DifixTree, check: str, spoil: Callable[[DifixTree], object], told: str
) -> None:
    spoil(tree)
    found = outcomes(tree)
    assert [name for name, outcome in found.items() if not outcome.passed] == [check]
    assert any(told in offender for offender in found[check].offenders), found[check]
    assert found[check].counts["offenders"] >= 1
    assert len(found[check].counts) > 1


def chosen_unscored(tree: DifixTree) -> SelectedCheckpoint:
    """Step 20 by the rule `last`, which scores nothing."""
    selected = read_json(tree.tuning_run("r1").selected_checkpoint, SelectedCheckpoint)
    return selected.model_copy(update={"rule": "last", "step": 20, "scores": []})


def test_a_choice_without_scores_is_judged_by_the_runs_own_evaluation(tree: DifixTree) -> None:
    selected = chosen_unscored(tree)
    outcome = run_checks.improves_over_input(tree, selected)
    assert outcome.passed
    assert "the run's own evaluation of step 20" in outcome.message
    side = tree.tuning_run("r1").checkpoint_info(20)
    value = json.loads(side.read_text())
    value["metrics"] |= {"psnr_refined": 4.0, "psnr_render": 20.0}
    side.write_text(json.dumps(value))
    assert run_checks.improves_over_input(tree, selected).offenders == [
        "PSNR 4.000 dB, unrefined 20.000 dB, -16.000 dB in the run's own evaluation of step 20"
    ]


def test_a_gain_that_nobody_measured_is_none(tree: DifixTree) -> None:
    for step in (10, 20):
        side = tree.tuning_run("r1").checkpoint_info(step)
        value = json.loads(side.read_text())
        value["metrics"] = {"loss": 0.1}
        side.write_text(json.dumps(value))
    outcome = run_checks.improves_over_input(tree, chosen_unscored(tree))
    assert not outcome.passed
    assert "no step was evaluated" in outcome.message


@pytest.mark.parametrize("backend", ["external", "pretrained"])
def test_without_a_loss_the_weights_are_looked_at(tree: DifixTree, backend: str) -> None:
    replace(tree.tuning_run("r1").train_config, '"backend": "tiny"', f'"backend": "{backend}"')
    tree.tuning_run("r1").progress.write_text('{"event":"done","step":20,"max_steps":20,"seconds":1}\n')
    outcome = run_checks.loss_is_finite(tree, "r1")
    assert outcome.passed
    assert "the weights of step 20 looked at" in outcome.message
    tree.tuning_run("r1").checkpoint(20).open("r+b").write(b"QK")
    assert not run_checks.loss_is_finite(tree, "r1").passed


def test_every_check_is_in_the_graph_and_blocks_what_follows_but_the_one_on_the_gain() -> None:
    specs = [spec for asset in ("tuned_checkpoint", "selected_checkpoint") for spec in checks_of(asset).check_specs]
    assert {spec.name for spec in specs} == {check for check, _, _ in SPOILED.values()}
    assert (
        {spec.name for spec in specs if not spec.blocking}
        == {"improves_over_input"}
        == {spec.name for spec in specs if not CHECKS[spec.asset_key.to_user_string()][spec.name].blocks}
    )
