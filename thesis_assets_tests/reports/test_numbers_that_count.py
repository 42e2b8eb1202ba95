"""Which numbers enter a mean: not the source camera's, not damaged ones, not those of seen people beside unseen ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets import storage
from thesis_assets.evaluation.means import counted_rows, mean_of, mean_over_scenes
from thesis_assets.evaluation.measured_tasks import SceneFacts, TaskState
from thesis_assets.evaluation.metric_tables import read_results
from thesis_assets.layout import EvaluationTree
from thesis_assets.operations.index_content import _certainty
from thesis_assets.operations.shown_results import largest_gain
from thesis_assets.reports.compare_page import headline
from thesis_assets.reports.compared_runs import compare_runs
from thesis_assets.reports.gain_plots import pair_name, plotted_bars
from thesis_assets.reports.leaderboard import RECONSTRUCTION, Baselines, Leaderboard, build_leaderboard
from thesis_assets.reports.leaderboard_pages import (
    csv_text,
    difference_lines,
    latex_escape,
    latex_text,
    markdown_text,
    mean_lines,
    scene_tables_text,
)
from thesis_assets.reports.leaderboard_tables import LEAKED_PEOPLE, SEEN_PEOPLE, RunScores, score_tables
from thesis_assets.schemas.evaluation import NVS_RESULT_KEYS, LeaderboardRow, Protocol
from thesis_assets_tests.evaluation.measured import single_spaced
from thesis_assets_tests.reports.compared_trees import record_again, write_run

SOURCE = 16
ROWS = st.lists(
    st.fixed_dictionaries({"camera_id": st.sampled_from([4, SOURCE, 28]), "psnr": st.none() | st.floats(0, 60)})
)


@given(ROWS)
def test_a_mean_is_the_same_with_and_without_rows_of_the_source_camera(rows: list[dict[str, float | None]]) -> None:
    others = [row for row in rows if row["camera_id"] != SOURCE]
    assert mean_of(counted_rows(rows, SOURCE), "psnr") == mean_of(others, "psnr")
    assert counted_rows(rows, None) == rows


@given(st.lists(st.none() | st.floats(-60, 60), max_size=6))
def test_a_scene_without_a_value_leaves_the_mean_over_scenes_empty(values: list[float | None]) -> None:
    found = mean_over_scenes(values)
    if not values or None in values:
        assert found is None
    else:
        assert found == pytest.approx(sum(value or 0.0 for value in values) / len(values))


def board_of(
    runs: dict[str, dict[str, EvaluationTree]],
    facts: dict[Path, SceneFacts] | None = None,
    baselines: Baselines | None = None,
) -> Leaderboard:
    trees = [(name, tree) for name, scenes in runs.items() for tree in scenes.values()]
    return build_leaderboard(trees, baselines, facts)


def value(board: Leaderboard, run: str, scene: str, epoch: int = 30, metric: str = "psnr") -> LeaderboardRow:
    return next(
        row
        for row in board.rows
        if (row.run_name, row.scene_name, row.epoch, row.metric, row.task) == (run, scene, epoch, metric, "nvs")
    )


def line_of(board: Leaderboard, seen: bool = False) -> RunScores:
    return next(scores for table in score_tables(board) if table.seen == seen for scores in table.scores)


def test_every_mean_of_a_tree_with_rows_of_the_source_camera_leaves_them_out(tmp_path: Path) -> None:
    """The board said 20.511 of a tree whose own text file said 18.52."""
    sigmas = {"lab_hug": 30.0, "lab_talk": 30.0}
    hurt = [(scene, SOURCE, "000000") for scene in sigmas]  # so that its rows would move a mean
    whole = {
        name: write_run(tmp_path, name, dict.fromkeys(sigmas, sigma), cameras=(4, SOURCE, 28), hurt=hurt)
        for name, sigma in (("tuned", 20.0), ("baseline", 30.0))
    }
    apart = {name: write_run(tmp_path / "apart", name, dict.fromkeys(sigmas, sigma)) for name, sigma in
             (("tuned", 20.0), ("baseline", 30.0))}  # fmt: skip
    baselines = Baselines({("demo", "tuned"): ("demo", "baseline")})
    board, wanted = board_of(whole, baselines=baselines), board_of(apart, baselines=baselines)
    for scene, tree in whole["tuned"].items():
        said = read_results(tree.task(30, "nvs").nvs_results, NVS_RESULT_KEYS)["psnr"]
        assert value(board, "tuned", scene).value == pytest.approx(said, abs=1e-4)
        assert value(board, "tuned", scene).value == value(wanted, "tuned", scene).value
        assert value(board, "tuned", scene).n_frames == 6
    of_board, of_wanted = (
        {(row.run_name, row.metric, row.against): row.by_scene for row in each.differences} for each in (board, wanted)
    )
    assert of_board == of_wanted
    assert line_of(board).means == line_of(wanted).means
    pairs = [(("demo", name), whole[name]) for name in ("tuned", "baseline")]
    found = compare_runs(pairs[0], pairs[1])
    assert {frame.cam_id for frame in found.frames} == {4, 28}
    table = latex_text(board).split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert table == latex_text(wanted).split(r"\midrule")[1].split(r"\bottomrule")[0]


# --- damaged and stale -------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, dict[str, EvaluationTree]]:
    """A run with its unrefined renders over two scenes."""
    for epoch, sigma in ((0, 20.0), (30, 18.0)):
        scenes = write_run(tmp_path, "tuned", {"lab_hug": sigma, "lab_talk": sigma}, epoch=epoch, step=epoch or None)
    return {"tuned": scenes}


def test_one_damaged_scene_empties_its_cell_and_every_mean_that_it_would_enter(
    runs: dict[str, dict[str, EvaluationTree]],
) -> None:
    task = runs["tuned"]["lab_hug"].task(30, "nvs")
    text = task.nvs_per_frame.read_text().splitlines()
    fields = text[1].split(",")
    fields[2] = str(float(fields[2]) + 20)
    task.nvs_per_frame.write_text("\n".join([text[0], ",".join(fields), *text[2:]]) + "\n")
    board = board_of(runs)
    assert value(board, "tuned", "lab_hug").value is None
    assert (
        "metrics_all_cams_per_frame.csv` (other bytes than were recorded)" in value(board, "tuned", "lab_hug").damaged
    )
    assert value(board, "tuned", "lab_talk").value is not None
    last = [scores for table in score_tables(board) for scores in table.scores if scores.epoch == 30]
    assert [scores.means["psnr"] for scores in last] == [None]
    difference = next(row for row in board.differences if row.metric == "psnr")
    assert (difference.difference, difference.by_scene) == (None, {})
    assert "lab_hug: damaged" in (difference.reason or "")
    for page in (markdown_text(board, plot_name="p.png"), scene_tables_text(board), latex_text(board)):
        assert "damaged" in page
    assert "lab\\_hug, left empty: damaged" in latex_text(board)
    assert "| tuned | lab_hug ‡ |" in markdown_text(board, plot_name="p.png")


@pytest.mark.parametrize("kept", ["text", "per_camera"])
def test_tables_that_do_not_agree_are_damaged_also_where_their_record_fits(
    runs: dict[str, dict[str, EvaluationTree]], kept: str
) -> None:
    task = runs["tuned"]["lab_hug"].task(30, "nvs")
    path = task.nvs_results if kept == "text" else task.nvs_per_camera
    content = path.read_text()
    digits = next(part for part in content.replace(",", " ").split() if "." in part)
    path.write_text(content.replace(digits, "99.0000"))
    record_again(task)
    board = board_of(runs)
    assert value(board, "tuned", "lab_hug").value is None
    assert path.name in value(board, "tuned", "lab_hug").damaged


def facts_of(
    scenes: dict[str, EvaluationTree], *, seen: Sequence[str] = (), leaked: str = "", state: TaskState | None = None
) -> dict[Path, SceneFacts]:
    looked: Callable[[int, str], TaskState] | None = None if state is None else lambda epoch, task: state
    return {tree.base: SceneFacts(name, name in seen, leaked, looked) for name, tree in scenes.items()}


def test_stale_numbers_are_shown_with_a_mark_and_what_moved(runs: dict[str, dict[str, EvaluationTree]]) -> None:
    moved = "stale: `evaluation.nvs.background` was black, is white"
    board = board_of(runs, facts_of(runs["tuned"], state=TaskState(moved=moved)))
    assert value(board, "tuned", "lab_hug").value is not None
    page = single_spaced(markdown_text(board, plot_name="p.png"))
    assert "| tuned | lab_hug † |" in page
    assert f"† {moved}" in page
    latex = latex_text(board)
    assert r"\textsuperscript{s}" in latex
    assert "was black, is white" in latex
    table = score_tables(board)[0]
    assert "unrefined render †" in {line[3] for line in difference_lines(board, table)[1:]}
    found = compare_runs(
        (("demo", "tuned"), runs["tuned"]), None, facts=facts_of(runs["tuned"], state=TaskState(moved=moved))
    )
    assert headline(found).endswith("(not current)")


def test_numbers_whose_images_are_lost_count_nowhere(runs: dict[str, dict[str, EvaluationTree]]) -> None:
    state = TaskState(damaged="missing: `pred/cam_4/000000.png`: missing")
    board = board_of(runs, facts_of(runs["tuned"], state=state))
    assert {row.value for row in board.rows} == {None}
    assert {row.damaged for row in board.rows} == {state.damaged}


# --- seen people -------------------------------------------------------------------------------------------------------


def test_people_that_a_run_was_trained_on_stand_in_tables_means_plots_and_headlines_of_their_own(
    runs: dict[str, dict[str, EvaluationTree]],
) -> None:
    facts = facts_of(runs["tuned"], seen=["lab_hug"])
    board = board_of(runs, facts)
    tables = score_tables(board)
    assert [(table.seen, {scene for scores in table.scores for scene in scores.cells}) for table in tables] == [
        (False, {"lab_talk"}),
        (True, {"lab_hug"}),
    ]
    assert line_of(board, seen=False).means["psnr"] == value(board, "tuned", "lab_talk", epoch=0).value
    of_psnr = [row for row in board.differences if row.metric == "psnr"]
    assert [(row.seen_people, list(row.by_scene)) for row in of_psnr] == [(False, ["lab_talk"]), (True, ["lab_hug"])]
    page = single_spaced(markdown_text(board, plot_name="p.png"))
    assert f"## Novel views, {SEEN_PEOPLE}" in page
    assert SEEN_PEOPLE in latex_text(board)
    assert {pair_name(bar) for bar in plotted_bars(board)} == {"demo / tuned", f"demo / tuned, {SEEN_PEOPLE}"}
    found = compare_runs((("demo", "tuned"), runs["tuned"]), None, facts=facts)
    assert (found.counted, found.seen, found.counts_seen) == (["lab_talk"], {"lab_hug"}, False)
    alone = compare_runs((("demo", "tuned"), {"lab_talk": runs["tuned"]["lab_talk"]}), None)
    assert headline(found) == headline(alone), "the headline is of unseen people alone"
    all_seen = compare_runs(
        (("demo", "tuned"), runs["tuned"]), None, facts=facts_of(runs["tuned"], seen=["lab_hug", "lab_talk"])
    )
    assert headline(all_seen).endswith(f"({SEEN_PEOPLE})")


def test_a_run_whose_data_has_people_on_both_sides_is_marked_with_a_footnote_in_every_form(
    runs: dict[str, dict[str, EvaluationTree]],
) -> None:
    leaked = "trained on data with people on both sides: a.jpg of lab_x (train) is b.jpg of lab_hug (test)"
    facts = facts_of(runs["tuned"], leaked=leaked)
    board = board_of(runs, facts)
    assert {row.leaked for row in board.rows} == {leaked}
    assert {row.leaked for row in board.differences if row.difference is not None} == {leaked}
    assert line_of(board).means == line_of(board_of(runs)).means, "the numbers are shown"
    page = single_spaced(markdown_text(board, plot_name="p.png"))
    assert "| tuned | lab_hug § |" in page
    assert page.count(f"- § {leaked} (demo/tuned)\n") == 1, "one footnote a run"
    assert f"§ {leaked}" in scene_tables_text(board)
    latex = latex_text(board)
    assert r"tuned\textsuperscript{b}" in latex
    assert rf"\textsuperscript{{b}}tuned: {latex_escape(leaked)}." in latex
    (table,) = score_tables(board)
    assert {line[1] for line in mean_lines(table)[1:]} == {"tuned §"}
    assert {line[3] for line in difference_lines(board, table)[1:]} == {"unrefined render §"}
    assert csv_text(board.rows, LeaderboardRow).count(leaked) == len(board.rows)
    assert {_certainty(row) for row in board.differences if row.difference is not None} == {LEAKED_PEOPLE}
    assert largest_gain(board) == {} != largest_gain(board_of(runs))
    found = compare_runs((("demo", "tuned"), runs["tuned"]), None, facts=facts)
    assert headline(found).endswith(f"({LEAKED_PEOPLE})")
    assert "§" not in markdown_text(board_of(runs), plot_name="p.png").split("Δ: the mean over scenes")[0]


# --- whose gain --------------------------------------------------------------------------------------------------------


def from_source(scenes: dict[str, EvaluationTree], source: str) -> None:
    """Let the trees say where their predictions come from."""
    for tree in scenes.values():
        for epoch in (0, 30):
            task = tree.task(epoch, "nvs")
            protocol = storage.read_json(task.protocol, Protocol)
            comparable = {**protocol.comparable, "prediction_source": source}
            storage.write_json(task.protocol, protocol.model_copy(update={"comparable": comparable, "step": None}))
            record_again(task)


@pytest.mark.parametrize("source", ["command", "existing"])
def test_a_new_reconstructions_gain_is_headed_so_and_the_control_tells_difixs_own(tmp_path: Path, source: str) -> None:
    runs = {}
    for name, sigma in (("tuned", 15.0), ("base", 18.0)):
        write_run(tmp_path, name, {"lab_hug": 20.0}, epoch=0, step=None)
        runs[name] = write_run(tmp_path, name, {"lab_hug": sigma}, epoch=30, step=None)
        from_source(runs[name], source)
    board = board_of(runs, baselines=Baselines(controls={("demo", "tuned"): ("demo", "base")}))
    (table,) = score_tables(board)
    of_last = [line for line in difference_lines(board, table)[1:] if line[2] == "30"]
    lines = {(line[1], line[3]) for line in of_last if line[4].startswith("PSNR")}
    assert lines == {
        ("tuned", f"epoch 0: {RECONSTRUCTION}"),
        ("base", f"epoch 0: {RECONSTRUCTION}"),
        ("tuned", "control demo/base: DiFix alone"),
    }
    assert RECONSTRUCTION in headline(compare_runs((("demo", "tuned"), runs["tuned"]), None))
    wanted = ("demo/base", "psnr", 30)
    of_control = [row for row in board.differences if (row.against, row.metric, row.epoch) == wanted]
    assert [(row.whose, (row.difference or 0) > 0) for row in of_control] == [("DiFix", True)]


def test_the_gain_of_refined_renders_is_difixs(runs: dict[str, dict[str, EvaluationTree]]) -> None:
    from_source(runs["tuned"], "refine")
    assert {row.whose for row in board_of(runs).differences} == {"DiFix"}
