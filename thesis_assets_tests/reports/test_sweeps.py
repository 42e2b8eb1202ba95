"""Numbers over the seeds of a sweep: what is their mean, how sure a difference is, and which seeds count."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.cli.results import _parts
from thesis_assets.experiments.sweeps import SweepPoint
from thesis_assets.layout import ReportsTree
from thesis_assets.reports.leaderboard import Leaderboard
from thesis_assets.reports.leaderboard_pages import (
    latex_text,
    markdown_text,
    read_differences,
    scene_tables_text,
    write_leaderboard,
)
from thesis_assets.reports.sweeps import Points, seed_interval, shown, spread, with_seeds
from thesis_assets.schemas.evaluation import DifferenceRow, LeaderboardRow
from thesis_assets_tests.evaluation.measured import difference, row, single_spaced


def sweep(name: str = "lr", rates: Sequence[str] = ("1e-3", "2e-3"), seeds: Sequence[int] = (1, 2, 3)) -> Points:
    return {
        ("demo", f"{name}-lr{rate}-s{seed}"): SweepPoint(name, f"{name}-lr{rate}", {}, seed, tuple(seeds))
        for rate in rates
        for seed in seeds
    }


POINTS = sweep()
A, B = "lr-lr1e-3", "lr-lr2e-3"


def over_seeds(
    rows: Sequence[LeaderboardRow] = (), differences: Sequence[DifferenceRow] = (), points: Points = POINTS
) -> tuple[list[LeaderboardRow], list[DifferenceRow]]:
    found, compared = with_seeds(rows, differences, points)
    return [each for each in found if each.by_seed is not None], [each for each in compared if each.by_seed is not None]


def of_seeds(values: Mapping[int, float], **more: object) -> list[LeaderboardRow]:
    return [row(f"{A}-s{seed}", value=value, **more) for seed, value in values.items()]


def test_the_interval_is_student_s() -> None:
    """By hand: mean 0.2, standard deviation 0.1, and 4.302653 of Student's t of two degrees of freedom by the tables."""
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert seed_interval([0.1, 0.2, 0.3]) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert seed_interval([0.1, 0.2]) is None
    assert seed_interval([0.1] * 5) == (pytest.approx(0.1), pytest.approx(0.1))


def test_the_spread_is_the_standard_deviation_of_a_sample() -> None:
    assert spread({"1": 0.1, "2": 0.2, "3": 0.3}) == pytest.approx(0.1)
    assert spread({"1": 0.1}) is spread({}) is spread(None) is None


def test_a_row_over_seeds_has_their_mean_a_scene() -> None:
    rows = [*of_seeds({1: 20.0, 2: 20.5, 3: 21.0}), *of_seeds({1: 10.0, 2: 11.0, 3: 12.0}, scene="s_2")]
    found, _ = over_seeds(rows)
    assert [(each.run_name, each.scene_name, each.value, each.of_seeds) for each in found] == [
        (f"{A}-s*", "s_1", 20.5, 3),
        (f"{A}-s*", "s_2", 11.0, 3),
    ]
    assert found[0].by_seed == {"1": 20.0, "2": 20.5, "3": 21.0}
    assert found[0].spread == pytest.approx(0.5)
    assert found[0].difference_to_unrefined == pytest.approx(0.1)
    assert found[0].seeds_left_out == ""


def test_rows_of_single_seeds_stay_and_either_kind_is_shown_without_the_other() -> None:
    alone = row("alone")
    every, _ = with_seeds([*of_seeds({1: 20.0, 2: 20.5, 3: 21.0}), alone], [], POINTS)
    assert [each.run_name for each in shown(every, each_seed=False)] == ["alone", f"{A}-s*"]
    assert [each.run_name for each in shown(every, each_seed=True)] == [
        *(f"{A}-s{seed}" for seed in (1, 2, 3)),
        "alone",
    ]
    assert [each.seed for each in shown(every, each_seed=True)] == [1, 2, 3, None]


def test_a_sweep_of_one_seed_or_of_none_stays_single_runs() -> None:
    rows, differences = [row(f"{A}-s1")], [difference(f"{A}-s1")]
    assert with_seeds(rows, differences, sweep(seeds=[1])) == (rows, differences)
    assert with_seeds(rows, differences, {}) == (rows, differences)


def test_seeds_that_are_missing_or_damaged_are_told_and_leave_the_others() -> None:
    (missing,), _ = over_seeds(of_seeds({1: 20.0, 3: 21.0}))
    assert (missing.value, missing.seeds_left_out) == (20.5, "seed 2: not evaluated")
    assert (missing.n_seeds, missing.of_seeds) == (2, 3)
    broken = [*of_seeds({1: 20.0, 3: 21.0}), row(f"{A}-s2", value=None, damaged="damaged: x")]
    (damaged,), _ = over_seeds(broken)
    assert (damaged.value, damaged.damaged) == (20.5, "")
    assert damaged.seeds_left_out == "seed 2: damaged: x"
    (nothing,), _ = over_seeds(broken[-1:])
    assert (nothing.value, nothing.by_seed, nothing.damaged) == (None, {}, "damaged: x")
    assert nothing.seeds_left_out == "seeds 1, 3: not evaluated; seed 2: damaged: x"


def test_a_seed_over_other_scenes_or_frames_enters_no_mean() -> None:
    rows = [*of_seeds({1: 20.0, 2: 20.5, 3: 21.0}), *of_seeds({1: 10.0, 2: 11.0}, scene="s_2")]
    found, _ = over_seeds(rows)
    assert [each.value for each in found] == [20.25, 10.5]
    assert "seed 3: measured over other scenes, cameras or frames" in found[0].seeds_left_out
    other = [*of_seeds({1: 20.0, 2: 20.5}), row(f"{A}-s3", value=99.0, protocol_digest="1" * 64)]
    (of_one_kind,), _ = over_seeds(other)
    assert of_one_kind.value == 20.25


def test_a_seed_whose_protocol_is_damaged_stands_where_the_others_do() -> None:
    lost = row(f"{A}-s1", value=None, damaged="damaged: protocol.json", table_digest="1" * 64, protocol_digest="1" * 64)
    (found,), _ = over_seeds([lost, *of_seeds({2: 20.0, 3: 21.0})])
    assert (found.value, found.table_digest, found.seeds_left_out) == (20.5, "0" * 64, "seed 1: damaged: protocol.json")
    rows = [difference(f"{A}-s{seed}", scenes=[0.1 * seed]) for seed in (2, 3)]
    none = difference(f"{A}-s1", difference=None, by_scene={}, n_scenes=0, reason="damaged", table_digest="1" * 64)
    _, (compared,) = over_seeds(differences=[none, *rows])
    assert (compared.difference, compared.seeds_left_out) == (pytest.approx(0.25), "seed 1: damaged")


def test_a_seed_of_another_protocol_has_a_row_of_its_own_and_each_row_says_where_the_others_are() -> None:
    rows = [*of_seeds({1: 20.0, 2: 20.5}), row(f"{A}-s3", value=9.0, table_digest="1" * 64, protocol_digest="1" * 64)]
    (most, other), _ = over_seeds(rows)
    assert (most.value, most.seeds_left_out) == (20.25, "seed 3: measured under another protocol")
    assert (other.value, other.seeds_left_out) == (9.0, "seeds 1, 2: measured under another protocol")


def test_seeds_that_ended_at_several_steps_have_no_step_in_common() -> None:
    rows = [row(f"{A}-s{seed}", step=10 * seed, n_frames=seed) for seed in (1, 2, 3)]
    (found,), _ = over_seeds(rows)
    assert (found.step, found.n_frames) == (None, 1)
    text = single_spaced(markdown_text(Leaderboard([found]), plot_name="p.png"))
    assert f"| demo | {A}-s* (3 of 3 seeds) | s_1 | 15 | several |" in text


def test_a_metric_that_a_seed_lacks_has_no_mean() -> None:
    rows = [*of_seeds({1: 20.0, 2: 20.5}), row(f"{A}-s3", value=None)]
    (found,), _ = over_seeds(rows)
    assert (found.value, found.by_seed, found.spread) == (None, {}, None)
    alone = [*of_seeds({1: 20.0, 2: 20.5, 3: 21.0}), row(f"{A}-s2", metric="lpips", value=0.1)]
    (psnr, lpips), _ = over_seeds(alone)
    assert (psnr.value, lpips.value, lpips.by_seed, lpips.n_frames) == (20.5, None, {}, 0)


def test_a_difference_is_the_mean_over_seeds_with_student_s_interval() -> None:
    rows = [difference(f"{A}-s{seed}", scenes=[gain, gain + 0.2]) for seed, gain in ((1, 0.0), (2, 0.1), (3, 0.2))]
    _, (found,) = over_seeds(differences=rows)
    assert (found.run_name, found.against, found.difference) == (f"{A}-s*", "unrefined", pytest.approx(0.2))
    assert found.by_seed == {"1": pytest.approx(0.1), "2": pytest.approx(0.2), "3": pytest.approx(0.3)}
    assert found.interval == pytest.approx(seed_interval([0.1, 0.2, 0.3]))
    assert (found.interval_over, found.of_seeds, found.n_scenes) == ("seeds", 3, 2)
    assert found.by_scene == {"s_0": pytest.approx(0.1), "s_1": pytest.approx(0.3)}
    assert (found.scenes_above, found.sign_flip_p) == (2, 0.5)


@pytest.mark.parametrize(
    ("gains", "above"),
    [
        ([0.10, 0.11, 0.12], True),
        ([-0.10, -0.11, -0.12], True),
        ([-0.1, 0.1, 0.15], False),
        ([0.0, 0.0, 0.0], False),
        ([0.1, 0.1, 0.1], None),  # no spread at all: the seeds are one run
    ],
)
def test_a_difference_stands_above_the_spread_where_its_interval_leaves_out_zero(
    gains: list[float], above: bool | None
) -> None:
    _, (found,) = over_seeds(
        differences=[difference(f"{A}-s{seed}", scenes=[gain]) for seed, gain in enumerate(gains, start=1)]
    )
    assert found.above_seeds is above


def test_two_seeds_have_no_interval_and_one_is_as_a_run_of_its_own() -> None:
    rows = [difference(f"{A}-s{seed}", scenes=[0.1 * seed]) for seed in (1, 2)]
    _, (two,) = over_seeds(differences=rows)
    assert (two.difference, two.interval, two.interval_over, two.above_seeds) == (pytest.approx(0.15), None, None, None)
    assert two.seeds_left_out == "seed 3: not evaluated"
    _, (one,) = over_seeds(differences=rows[:1])
    assert (one.interval, one.interval_over, one.above_seeds) == ((0.05, 0.35), "scenes", None)


def test_each_seed_is_paired_with_the_run_of_its_seed() -> None:
    rows = [difference(f"{B}-s{seed}", against=f"demo/{A}-s{seed}", scenes=[0.1 * seed]) for seed in (1, 2, 3)]
    _, (found,) = over_seeds(differences=rows)
    assert (found.run_name, found.against, found.of_seeds) == (f"{B}-s*", f"demo/{A}-s*", 3)
    to_one = [each.model_copy(update={"against": f"demo/{A}-s1"}) for each in rows]
    _, (found,) = over_seeds(differences=to_one)
    assert found.against == f"demo/{A}-s1"
    own = [difference(f"{A}-s{seed}", against=f"demo/{A}-s1", scenes=[0.1 * seed]) for seed in (2, 3)]
    _, (found,) = over_seeds(differences=own)
    assert (found.against, found.seeds_left_out) == (f"demo/{A}-s1", "seed 1: the others are compared with it")
    single = [each.model_copy(update={"against": "demo/alone"}) for each in rows]
    _, (found,) = over_seeds(differences=single)
    assert found.against == "demo/alone"


def test_a_seed_whose_pair_is_missing_is_left_out_with_the_reason() -> None:
    rows = [difference(f"{A}-s{seed}", scenes=[0.1 * seed]) for seed in (1, 3)]
    why = "demo/baseline was not measured"
    rows.append(difference(f"{A}-s2", difference=None, by_scene={}, n_scenes=0, reason=why))
    _, (found,) = over_seeds(differences=rows)
    assert (found.difference, found.reason) == (pytest.approx(0.2), None)
    assert found.seeds_left_out == f"seed 2: {why}"
    _, (nothing,) = over_seeds(differences=rows[2:])
    assert (nothing.difference, nothing.by_seed, nothing.reason) == (None, {}, why)


def test_seeds_over_other_scenes_share_no_difference() -> None:
    rows = [difference(f"{A}-s{seed}", scenes=[0.1, 0.1]) for seed in (1, 2)]
    _, (found,) = over_seeds(differences=[*rows, difference(f"{A}-s3", scenes=[9.0])])
    assert found.difference == pytest.approx(0.1)
    assert "seed 3: compared over other scenes" in found.seeds_left_out


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    """With noise alone, a change without effect stands above the spread one time in twenty; one of six times the noise, always."""
    rng = np.random.default_rng(0)
    n = 4000

    def above(effect: float, seeds: int) -> float:
        found = [seed_interval((effect + rng.normal(0, 0.05, seeds)).tolist()) for _ in range(n)]
        return statistics.fmean(each is not None and (each[0] > 0 or each[1] < 0) for each in found)

    assert above(0.0, 3) == pytest.approx(0.05, abs=0.015)
    assert above(0.0, 5) == pytest.approx(0.05, abs=0.015)
    assert above(0.3, 5) > 0.98


# --- how they are shown ----------------------------------------------------------------------------------------------


def board() -> Leaderboard:
    """Three seeds of A at two scenes and epochs, two of B, and a run of its own."""
    rows, differences = [], []
    for group, seeds, value in ((A, (1, 2, 3), 20.0), (B, (1, 2), 20.3)):
        for seed in seeds:
            for scene in ("s_1", "s_2"):
                rows.append(row(f"{group}-s{seed}", scene, 0, step=None, value=19.0, difference_to_unrefined=None))
                rows.append(row(f"{group}-s{seed}", scene, value=value + 0.05 * seed))
            differences.append(difference(f"{group}-s{seed}", scenes=[value - 19 + 0.05 * seed] * 2))
    differences.append(difference(f"{B}-s1", against=f"demo/{A}-s1", scenes=[0.0, 0.0]))
    return Leaderboard(*with_seeds([*rows, row("alone")], differences, POINTS))


def test_the_page_shows_means_with_their_spread_and_whether_a_difference_stands_above_it() -> None:
    text = single_spaced(markdown_text(board().shown(), plot_name="p.png"))
    assert f"| demo | {A}-s* (3 of 3 seeds) | avg | 15 | 10 | 20.100 ± 0.050 | +0.100 |" in text
    assert f"| demo | {A}-s* (3 of 3 seeds) | avg | 0 | unrefined | 19.000 | |" in text, "one render, no spread"
    assert "| +1.100 | +0.976 to +1.224 | 3 of 3 seeds | 2 | + + | 0.500 | yes |" in text
    assert "| +1.375 | | 2 of 3 seeds: none below 3 | 2 | + + | 0.500 | cannot be said |" in text
    assert "- 2 of 3 seeds; seed 3: not evaluated" in text
    assert f"{A}-s1" not in text.replace(f"demo/{A}-s1", "")
    assert "| demo | alone | s_1 | 15 | 10 | 20.000 |" in text
    assert "Student's interval over seeds" in text
    assert "over seeds" not in markdown_text(Leaderboard([row("alone")]), plot_name="p.png")


def test_each_seed_can_be_shown_in_place_of_the_means() -> None:
    text = single_spaced(markdown_text(board().shown(each_seed=True), plot_name="p.png"))
    assert f"| demo | {A}-s1 | s_1 | 15 | 10 | 20.050 |" in text
    assert "-s*" not in text
    assert "±" not in text


def test_a_swept_change_of_exactly_nothing_is_shown() -> None:
    text = single_spaced(markdown_text(board().shown(), plot_name="p.png"))
    assert f"| demo | {B}-s* | 15 | demo/{A}-s* | PSNR ↑ dB | +0.000 |" in text
    assert "| demo/alone" not in text


def test_unrefined_renders_of_several_seeds_are_not_compared_with_themselves() -> None:
    nothing = [difference(f"{B}-s{seed}", 0, against=f"demo/{A}-s{seed}", scenes=[0.0]) for seed in (1, 2)]
    rows = [row(f"{B}-s{seed}", epoch=0, step=None) for seed in (1, 2)]
    text = markdown_text(Leaderboard(*with_seeds(rows, nothing, POINTS)).shown(), plot_name="p.png")
    assert f"demo/{A}" not in text


def test_latex_has_mean_and_spread_and_says_what_the_interval_is_over() -> None:
    text = latex_text(board().shown())
    assert f"{A}-s* (3 of 3 seeds) & {{\\itshape 20.100\\,{{\\small$\\pm$0.050}}}}" in text
    assert "$+1.100$ [$+0.976$, $+1.224$]\\textsuperscript{t}" in text
    assert "Student's over seeds, paired by frame and seed" in text
    assert "-s1" not in text


def test_the_terminal_and_the_table_of_scenes_have_one_row_for_all_seeds() -> None:
    tables = [part for part in _parts(board().shown()) if not isinstance(part, str)]
    assert [line[1] for line in tables[0][2] if line[2] == "15"] == [
        "alone",
        f"{A}-s* (3 of 3 seeds)",
        f"{B}-s* (2 of 3 seeds)",
    ]
    assert f"{A}-s* (3 of 3 seeds), epoch 15" in single_spaced(scene_tables_text(board().shown()))
    assert "| s_1 | 20.100 ± 0.050 |" in single_spaced(scene_tables_text(board().shown()))


def test_the_files_have_every_run_and_the_rows_over_seeds_and_their_differences_read_back(tmp_path: Path) -> None:
    reports, written = ReportsTree(tmp_path), board()
    write_leaderboard(reports, written)
    lines = reports.leaderboard_csv.read_text().splitlines()
    assert len(lines) == 1 + len(written.rows)
    assert len({line.split(",")[1] for line in lines[1:]}) == 5 + 2 + 1
    to_unrefined = [each for each in written.differences if each.against == "unrefined"]
    assert read_differences(reports.leaderboard_differences) == to_unrefined
    assert f"{A}-s*" in reports.leaderboard_latex.read_text()
