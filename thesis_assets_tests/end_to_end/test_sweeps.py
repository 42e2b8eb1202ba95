"""Sweeps through the whole graph: several seeds end in one row, a change without effect within their spread and an effect above it;
one point that fails leaves the others."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.tuning import tuning_run
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.evaluation.measured import single_spaced
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World

pytestmark = pytest.mark.long

SHORT: dict[str, Any] = {**TINY_RUN, "max_train_steps": 40, "checkpointing_steps": 40, "eval_freq": 40}
SHORT["selection"] = {"rule": "last"}


def swept(**runs: dict[str, Any]) -> dict[str, Any]:
    evaluation = {"scenes": ["studio_pair02_*"], "epochs": [0, 1], "tasks": ["nvs"]}
    # Through text: what stands twice would be written as an alias, which no experiment has.
    whole: dict[str, Any] = json.loads(json.dumps({**SMALL, "runs": runs, "evaluation": evaluation}))
    return whole


def test_an_effect_stands_above_the_spread_over_seeds_and_a_change_without_one_does_not(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three learning rates 0 changes nothing, whatever the seed; the others train, and differ by next to nothing."""
    world = new_world(swept(base={**SHORT, "sweep": {"seed": [1, 2, 3], "learning_rate": [0, 2.0e-3, 2.0001e-3]}}))
    planned = invoke(monkeypatch, world, "run", "--exp", "small", "--dry-run")
    told = "sweep base: 9 points (learning_rate 0, 2e-3, 0.0020001 x seed 1, 2, 3), 9 of them to train"
    assert told in " ".join(planned.output.split())

    report = world.run(until="evaluation_manifest")
    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]

    board = json_of(invoke(monkeypatch, world, "leaderboard", "--exp", "small", "--against", "base-lr0", "--json"))
    over_seeds = [row for row in board["differences"] if row["by_seed"] is not None and row["metric"] == "psnr"]
    by_pair = {(row["run_name"], row["against"]): row for row in over_seeds}
    without = by_pair["base-lr0-s*", "unrefined"]
    assert without["by_seed"] == {"1": 0.0, "2": 0.0, "3": 0.0}
    assert (without["low"], without["high"], without["above_seeds"]) == (0.0, 0.0, False)
    effect = by_pair["base-lr2e-3-s*", "small/base-lr0-s*"]
    assert len(set(effect["by_seed"].values())) == 3, "the seeds train differently"
    assert effect["above_seeds"] is True
    almost = json_of(invoke(monkeypatch, world, "leaderboard", "--exp", "small", "--against", "base-lr2e-3", "--json"))
    (noise,) = (
        row
        for row in almost["differences"]
        if (row["run_name"], row["against"]) == ("base-lr0.0020001-s*", "small/base-lr2e-3-s*")
        and (row["metric"], row["epoch"]) == ("psnr", 1)
    )
    assert len(set(noise["by_seed"].values())) == 3, "noise, and not nothing"
    assert noise["low"] < 0 < noise["high"]
    assert noise["above_seeds"] is False
    (untrained,) = (
        row for row in board["rows"] if (row["run_name"], row["epoch"], row["metric"]) == ("base-lr0-s*", 1, "psnr")
    )
    assert len(untrained["by_seed"]) == 3
    assert len(set(untrained["by_seed"].values())) == 1, "the spread over seeds is 0"

    asked = ("leaderboard", "--exp", "small", "--against", "base-lr0")
    table = invoke(monkeypatch, world, *asked, COLUMNS="400").output
    assert "base-lr2e-3-s* (3 of 3 seeds)" in table
    page = single_spaced(invoke(monkeypatch, world, *asked, "--format", "markdown").output)
    (line,) = (line for line in page.splitlines() if "base-lr2e-3-s* | 1 | small/base-lr0-s* | PSNR ↑ dB |" in line)
    assert line.endswith("| yes |")
    (line,) = (line for line in page.splitlines() if "base-lr0-s* | 1 | unrefined render | PSNR ↑ dB |" in line)
    assert line.endswith("| no |")
    assert "base-lr2e-3-s1" not in table
    each = invoke(monkeypatch, world, *asked, "--each-seed", COLUMNS="400").output
    assert "base-lr2e-3-s1" in each
    assert "-s*" not in each
    assert invoke(monkeypatch, world, "leaderboard").exit_code == 0
    lines = list(csv.DictReader(io.StringIO(world.settings.reports.leaderboard_csv.read_text())))
    assert {line["run_name"] for line in lines if line["n_seeds"]} == {
        "base-lr0-s*",
        "base-lr2e-3-s*",
        "base-lr0.0020001-s*",
    }
    index = world.settings.reports.index.read_text()
    assert "base-lr2e-3-s*" in index
    assert "the spread over seeds" in index
    again = invoke(monkeypatch, world, "run", "--exp", "small", "--run", "base-lr0", "--dry-run")
    assert "plan of " not in again.output, "nothing of it is to train"


def diverging_at(name: str) -> Callable[..., Any]:
    tune = tuning_run.tune

    def tune_others(tree: Any, run_name: str, *arguments: Any, **options: Any) -> Any:
        if run_name == name:
            raise ThesisAssetsError("the loss is not finite")
        return tune(tree, run_name, *arguments, **options)

    return tune_others


def test_one_point_that_fails_leaves_the_others_and_the_table_says_how_many_there_are(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(swept(base={**SHORT, "sweep": {"seed": [1, 2, 3]}}))
    with monkeypatch.context() as patched:
        patched.setattr(tuning_run, "tune", diverging_at("base-s2"))
        report = world.run(until="evaluation_manifest")

    assert report.exit_code == 1
    evaluated = [
        work.cells[0].run_name for outcome in report.outcomes if (work := outcome.work).level.job == "evaluate"
    ]
    assert evaluated == ["base-s1", "base-s3"]
    board = json_of(invoke(monkeypatch, world, "leaderboard", "--exp", "small", "--json"))
    (row,) = (row for row in board["differences"] if row["run_name"] == "base-s*" and row["metric"] == "psnr")
    assert (row["n_seeds"], row["of_seeds"], row["seeds_left_out"]) == (2, 3, "seed 2: not evaluated")
    assert (row["low"], row["above_seeds"]) == (None, None)
    assert "seed 2: not evaluated" in invoke(monkeypatch, world, "leaderboard", "--exp", "small", COLUMNS="400").output

    again = ("run", "--exp", "small", "--run", "base", "--until", "evaluation_manifest", "--json")
    assert json_of(invoke(monkeypatch, world, *again))["exit_code"] == 0
    board = json_of(invoke(monkeypatch, world, "leaderboard", "--exp", "small", "--json"))
    (row,) = (row for row in board["differences"] if row["run_name"] == "base-s*" and row["metric"] == "psnr")
    assert (row["n_seeds"], row["interval_over"], row["seeds_left_out"]) == (3, "seeds", "")
