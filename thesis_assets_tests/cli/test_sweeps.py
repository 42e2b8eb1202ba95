"""Sweeps as a person gives them: what a name stands for, what a plan tells, what the leaderboard compares."""

import copy
import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.states import LEVEL_OF
from thesis_assets.operations import execution
from thesis_assets.operations.backfill_plan import BackfillPlan, PlannedCell
from thesis_assets.operations.execution import RunOutcome, Work
from thesis_assets.operations.registration import plan_registration
from thesis_assets.storage import write_json
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import experiment
from thesis_assets_tests.reports.compared_trees import write_run
from thesis_assets_tests.tuning.snapshots import make_config_file, train_run
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World

SCENE = "studio_pair03_dance"
SEEDS = (1, 2, 3)
SWEPT: dict[str, Any] = {
    "max_train_steps": 10,
    "learning_rate": 5.0e-3,
    "sweep": {"learning_rate": [1.0e-3, 2.0e-3], "seed": [1, 2]},
}
POINTS = ["base-lr1e-3-s1", "base-lr1e-3-s2", "base-lr2e-3-s1", "base-lr2e-3-s2"]


# --- what a sweep is to the graph ------------------------------------------------------------------------------------


@pytest.fixture
def planned(data_of_scenes: Callable[[int], World]) -> World:
    """The data of two scenes, and a sweep on it of which nothing is made."""
    world = data_of_scenes(2)
    world.write(experiment("v1", runs={"base": SWEPT, "alone": {"max_train_steps": 10}}))
    return world


def runs_to_train(world: World, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    rows = json_of(invoke(monkeypatch, world, "run", "--exp", "v1", *arguments, "--dry-run", "--json"))
    return [row["cell"].partition("|")[2] for row in rows if row["asset"] == "tuned_checkpoint"]


def test_each_point_is_a_partition_of_the_same_assets_and_the_sweep_is_none(planned: World) -> None:
    with planned.instance() as instance:
        found = plan_registration(planned.platform, instance)
        assert {*POINTS, "alone"} <= {*instance.get_dynamic_partitions("run_name")}
    assert found.cells["v1"]["runs"] == [*POINTS, "alone"]


def test_the_name_of_a_sweep_or_of_a_group_takes_its_points(planned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_to_train(planned, monkeypatch) == [*POINTS, "alone"]
    assert runs_to_train(planned, monkeypatch, "--run", "base") == POINTS
    assert runs_to_train(planned, monkeypatch, "--run", "base-lr2e-3", "--run", "base-lr2e-3-s1") == POINTS[2:]
    assert runs_to_train(planned, monkeypatch, "--run", POINTS[0]) == POINTS[:1]
    refused = invoke(monkeypatch, planned, "run", "--exp", "v1", "--run", "bass", "--dry-run")
    assert refused.exit_code == 2
    assert "bass" in refused.output


def test_pruning_takes_the_points_of_a_sweep_that_have_checkpoints(
    planned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = planned.platform.difix(Cell("v1"))
    for run_name in (*POINTS[:3], "alone"):
        train_run(tree, run_name, max_train_steps=10, checkpointing_steps=5, eval_freq=10)

    def pruned(name: str) -> set[str]:
        rows = json_of(invoke(monkeypatch, planned, "prune", "--exp", "v1", "--run", name, "--json"))
        return {row["run"] for row in rows["checkpoints"]}

    assert pruned("base") == {*POINTS[:3]}
    assert pruned("base-lr1e-3") == {*POINTS[:2]}
    assert pruned(POINTS[0]) == {POINTS[0]}


def test_checkpoints_of_a_sweep_are_verified_together_and_a_page_is_of_one_run(
    planned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = planned.platform.difix(Cell("v1"))
    for run_name in POINTS[:2]:
        train_run(tree, run_name, max_train_steps=10, checkpointing_steps=5, eval_freq=10)
    of_group = invoke(monkeypatch, planned, "checkpoint", "verify", "--exp", "v1", "--run", "base-lr1e-3", "--json")
    assert [(row["run"], row["step"], row["whole"]) for row in json_of(of_group)] == [
        (run_name, step, True) for run_name in POINTS[:2] for step in (5, 10)
    ]
    # A run of the sweep without a checkpoint is not whole.
    assert invoke(monkeypatch, planned, "checkpoint", "verify", "--exp", "v1", "--run", "base").exit_code == 3
    refused = invoke(monkeypatch, planned, "compare", "--exp", "v1", "--run", "base")
    assert f"one of its runs: {POINTS[0]}, " in str(refused.exception)
    refused = invoke(monkeypatch, planned, "prune", "--exp", "v1", "--run", "base-lr2e-4")
    assert refused.exit_code != 0


def test_a_plan_tells_of_the_sweep_and_of_what_is_not_known(planned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = invoke(monkeypatch, planned, "run", "--exp", "v1", "--run", "base-lr1e-3", "--dry-run").output
    words = " ".join(told.split())
    assert "sweep base: 4 points (learning_rate 1e-3, 2e-3 x seed 1, 2), 2 of them to train" in words
    assert "plan of base-lr1e-3-s1, base-lr1e-3-s2: samples: 10 steps of 1 see 10" in words
    assert "plan of 2 trainings: about " in words


def test_a_backfill_takes_the_points_of_a_sweep(planned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("backfill", "--exp", "v1", "--run", "base", "--missing", "--dry-run", "--json")
    cells = json_of(invoke(monkeypatch, planned, *arguments))["cells"]
    assert [each["cell"] for each in cells if each["asset"] == "tuned_checkpoint"] == [f"v1|{run}" for run in POINTS]


def test_a_run_that_was_begun_stays_one_when_a_sweep_takes_its_name(
    planned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "base" not in planned.platform.experiments.read("v1").runs
    write_json(planned.platform.difix(Cell("v1")).tuning_run("base").train_config, make_config_file({}))
    spec = planned.platform.experiments.read("v1")
    assert list(spec.runs) == ["base", *POINTS, "alone"]
    assert (spec.runs["base"].learning_rate, spec.runs["base"].seed) == (5.0e-3, 42)
    assert runs_to_train(planned, monkeypatch, "--run", "base") == ["base", *POINTS]


def test_a_control_with_seeds_is_of_each_run_that_of_its_seed(planned: World) -> None:
    evaluation = {"control": "base-lr1e-3", "scenes": ["hi4d_pair00_hug"]}
    planned.write(experiment("v1", runs={"base": SWEPT, "alone": {"seed": 2}}, evaluation=evaluation))
    assert planned.platform.controls() == {
        ("v1", "base-lr2e-3-s1"): ("v1", "base-lr1e-3-s1"),
        ("v1", "base-lr2e-3-s2"): ("v1", "base-lr1e-3-s2"),
        ("v1", "alone"): ("v1", "base-lr1e-3-s2"),
    }


def test_a_backfill_in_this_process_leaves_a_run_that_failed_and_goes_on_with_the_others(
    planned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []

    def execute(definitions: object, instance: object, work: Work) -> RunOutcome:
        (cell,) = work.cells
        made.append((work.level.job, cell.run_name))
        return RunOutcome(work, "", success=(work.level.job, cell.run_name) != ("tune", "b"))

    monkeypatch.setattr(execution, "execute", execute)
    cells = [
        PlannedCell(LEVEL_OF[asset], asset, Cell("v1", run_name=run), "missing", is_repair=False, cost=None)
        for asset in ("tuned_checkpoint", "nvs")
        for run in "abc"
    ]
    with planned.instance() as instance:
        plan = BackfillPlan("v1", "missing", tuple(cells))
        list(execution.run_here(None, instance, plan, lambda work: None))  # type: ignore[arg-type]
    assert made == [("tune", "a"), ("tune", "b"), ("tune", "c"), ("evaluate", "a"), ("evaluate", "c")]


# --- the leaderboard -------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(new_world: Callable[..., World]) -> World:
    """Two learning rates, three seeds each: the second is better by more than the seeds differ. And a run of its own."""
    runs = {
        "base": {**copy.deepcopy(TINY_RUN), "sweep": {"learning_rate": [1.0e-3, 2.0e-3], "seed": [*SEEDS]}},
        "alone": copy.deepcopy(TINY_RUN),
    }
    world = new_world(SMALL | {"exp_name": "demo", "runs": runs, "evaluation": {"scenes": [SCENE], "epochs": [0, 30]}})
    sigmas = {f"base-lr1e-3-s{seed}": 20.0 + 0.1 * seed for seed in SEEDS}
    sigmas |= {f"base-lr2e-3-s{seed}": 18.0 - 0.1 * seed for seed in SEEDS}
    for run_name, sigma in {**sigmas, "alone": 20.0}.items():
        write_run(world.settings.results_root, run_name, {SCENE: 22.0}, epoch=0, step=None)
        write_run(world.settings.results_root, run_name, {SCENE: sigma})
    return world


def psnr(board: Any, run_name: str) -> Any:
    of_run = [row for row in board["differences"] if (row["run_name"], row["metric"]) == (run_name, "psnr")]
    (found,) = (row for row in of_run if row["against"] != "unrefined" and row["epoch"] == 30)
    return found


def test_a_group_is_compared_with_another_seed_by_seed(evaluated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    board = json_of(invoke(monkeypatch, evaluated, "leaderboard", "--against", "base-lr1e-3", "--json"))
    found = psnr(board, "base-lr2e-3-s*")
    assert (found["against"], found["n_seeds"], found["above_seeds"]) == ("demo/base-lr1e-3-s*", 3, True)
    singles = {str(seed): psnr(board, f"base-lr2e-3-s{seed}") for seed in SEEDS}
    assert {row["against"] for row in singles.values()} == {f"demo/base-lr1e-3-s{seed}" for seed in SEEDS}
    assert found["by_seed"] == {seed: row["difference"] for seed, row in singles.items()}
    assert {row["against"] for row in board["differences"] if row["run_name"] == "alone"} == {"unrefined"}, "other seed"


def test_a_group_is_compared_with_a_single_run(evaluated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    board = json_of(invoke(monkeypatch, evaluated, "leaderboard", "--exp", "demo", "--against", "alone", "--json"))
    assert {psnr(board, f"base-lr2e-3-s{end}")["against"] for end in ("1", "*")} == {"demo/alone"}
    assert psnr(board, "base-lr2e-3-s*")["n_seeds"] == 3


def test_the_leaderboard_has_a_row_a_group_or_a_row_a_seed(evaluated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in ("table", "markdown", "latex", "scenes"):
        asked = ("leaderboard", "--exp", "demo", "--format", form)
        together = invoke(monkeypatch, evaluated, *asked, COLUMNS="300").stdout
        assert "base-lr1e-3-s* (3 of 3 seeds)" in together
        assert "base-lr1e-3-s1" not in together
        each = invoke(monkeypatch, evaluated, *asked, "--each-seed", COLUMNS="300").stdout
        assert "base-lr1e-3-s1" in each
        assert "-s*" not in each
    every = invoke(monkeypatch, evaluated, "leaderboard", "--exp", "demo", "--format", "csv").stdout
    names = {row["run_name"] for row in csv.DictReader(io.StringIO(every))}
    assert {"base-lr1e-3-s1", "base-lr1e-3-s*", "alone"} <= names


def test_the_runs_of_a_group_are_named_by_it_and_a_wrong_name_is_refused(
    evaluated: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs(*arguments: str) -> set[str]:
        board = json_of(invoke(monkeypatch, evaluated, "leaderboard", *arguments, "--json"))
        return {row["run_name"] for row in board["rows"]}

    group = {f"base-lr2e-3-s{end}" for end in (*SEEDS, "*")}
    assert runs("--run", "base-lr2e-3") == runs("--exp", "demo", "--run", "base-lr2e-3-s*") == group
    wrong = invoke(monkeypatch, evaluated, "leaderboard", "--run", "base", "--run", "bass")
    assert "bass" in str(wrong.exception)


def test_what_is_written_shows_the_seeds_together_and_says_what_is_missing(
    evaluated: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated.platform.tree(Cell("demo", run_name="base-lr1e-3-s2"), SCENE).manifest.unlink()
    assert invoke(monkeypatch, evaluated, "leaderboard").exit_code == 0
    reports = evaluated.settings.reports
    page = reports.leaderboard_markdown.read_text()
    assert "base-lr1e-3-s* (2 of 3 seeds)" in page
    assert "2 of 3 seeds; seed 2: not evaluated" in page
    assert "base-lr1e-3-s1 " not in page
    index = reports.index.read_text()
    assert "too few seeds for an interval (from 3 on)" in index
    assert "over 3 seeds, above the spread over seeds" in index
    assert "whisker of -s*: 95 % over seeds" in index


def test_a_cited_table_keeps_the_rows_over_seeds_and_says_what_moved_of_them(
    evaluated: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cited = invoke(monkeypatch, evaluated, "leaderboard", "--exp", "demo", "--cite", "chapter", COLUMNS="300").stdout
    assert "base-lr1e-3-s* (3 of 3 seeds)" in cited
    assert "nothing moved" in invoke(monkeypatch, evaluated, "leaderboard", "--diff", "chapter").stdout
    write_run(evaluated.settings.results_root, "base-lr1e-3-s2", {SCENE: 25.0})
    moved = invoke(monkeypatch, evaluated, "leaderboard", "--diff", "chapter").stdout
    assert f"demo/base-lr1e-3-s*, {SCENE}, epoch 30, nvs: psnr was" in moved
