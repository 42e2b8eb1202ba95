"""What the leaderboard looks like: Markdown, LaTeX, the table a row a scene, the plot."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from thesis_assets.cli.results import _parts
from thesis_assets.errors import InvalidFile
from thesis_assets.layout import ReportsTree
from thesis_assets.reports.gain_plots import difference_plot, pair_name, plotted_bars
from thesis_assets.reports.leaderboard import Leaderboard
from thesis_assets.reports.leaderboard_pages import (
    csv_text,
    latex_escape,
    latex_text,
    markdown_text,
    read_differences,
    scene_tables_text,
    write_leaderboard,
)
from thesis_assets.schemas.evaluation import DifferenceRow, LeaderboardRow
from thesis_assets.schemas.tuning import RecipeScore
from thesis_assets_tests.evaluation.measured import difference, row, single_spaced


def page(*rows: object, differences: object = ()) -> str:
    board = Leaderboard(list(rows), list(differences))  # type: ignore[arg-type, call-overload]
    return single_spaced(markdown_text(board, plot_name="p.png"))


def test_without_any_row_the_pages_say_so(tmp_path: object) -> None:
    reports = ReportsTree(tmp_path)  # type: ignore[arg-type]
    write_leaderboard(reports, Leaderboard([]))
    assert "Nothing is evaluated yet" in reports.leaderboard_markdown.read_text()
    assert reports.leaderboard_plot.stat().st_size > 500


def test_scenes_of_a_run_are_averaged_only_in_one_table() -> None:
    two = [row(value=20.0), row(scene="s_2", value=21.0, difference_to_unrefined=0.3)]
    assert "| demo | a | avg | 15 | 10 | 20.500 | +0.200 |" in page(*two)
    other = [two[0], two[1].model_copy(update={"table_digest": "1" * 64})]
    assert "avg | 15" not in page(*other)


def test_the_average_of_differences_is_empty_where_a_scene_has_none() -> None:
    two = [row(), row(scene="s_2", difference_to_unrefined=None, unrefined_reason="the frames differ")]
    assert "| demo | a | avg | 15 | 10 | 20.000 | |" in page(*two)


def test_columns_and_tables_that_say_the_same_fold() -> None:
    bodies = [
        row(task=task, metric=metric, value=value, table_digest=str(place) * 64)
        for place, task in enumerate(("pose_smplx", "pose_smpl"))
        for metric, value in (("pcdr", 0.5), ("pcdr_legacy", 0.5), ("mpjpe_mm", 80.0))
    ]
    text = page(*bodies)
    assert "| PCDR, PCDR* ↑ |" in text
    assert text.count("| demo | a | s_1 |") == 1
    assert "## Bodies, SMPL\n\nProtocol `11111111`. .\n\nThe same numbers as under *Bodies, SMPL-X*." in text
    latex = latex_text(Leaderboard(bodies))
    assert latex.count(r"\begin{table}") == 1
    assert r"\caption{Bodies, SMPL-X; Bodies, SMPL (the same numbers): means over 1 scene" in latex
    assert latex.count(r"Protocol \texttt{") == 2
    check_structure(latex)
    of_scenes = single_spaced(scene_tables_text(Leaderboard(bodies)))
    assert of_scenes.count("| s_1 |") == 1
    assert "**Bodies, SMPL** (protocol `11111111`): the same numbers" in of_scenes
    printed = [part if isinstance(part, str) else part[0] for part in _parts(Leaderboard(bodies))]
    assert printed == ["Bodies, SMPL-X (protocol 00000000)", "Bodies, SMPL (protocol 11111111): the same numbers\n"]
    other = page(*bodies[:-1], bodies[-1].model_copy(update={"value": 81.0}))
    assert other.count("| demo | a | s_1 |") == 2
    apart = page(bodies[0], bodies[1].model_copy(update={"value": 0.6}))
    assert "PCDR ↑ |" in apart
    assert "PCDR* ↑ |" in apart


def test_a_column_that_is_empty_in_every_row_is_named_with_the_reason_and_not_shown() -> None:
    rows = [
        row(run, metric=metric, value=20.0 if metric == "psnr" else None)
        for run in "ab"
        for metric in ("psnr", "lpips", "lpips_alex", "ssim")
    ]
    why = {("0" * 64, "lpips"): "there are no weights", ("0" * 64, "lpips_alex"): "there are no weights"}
    board = Leaderboard(rows, why_empty=why)
    said = "ithout a value in every row, and not shown: SSIM; LPIPS, LPIPS (Alex) (there are no weights)"
    text = markdown_text(board, plot_name="p.png")
    assert f"\n\nW{said}.\n\n" in text
    assert "LPIPS ↓" not in text
    assert f"w{said}\n" in [part for part in _parts(board) if isinstance(part, str)]
    assert csv_text(rows, LeaderboardRow).count("lpips") == 4
    assert "not shown" not in page(row())
    assert "not shown" not in page(row(value=None, damaged="damaged: x")), "damage left no column to show"


def test_a_difference_stands_with_its_interval_signs_and_p() -> None:
    text = page(row(), differences=[difference(scenes=[0.1, 0.3, -0.1], interval_over="frames", sign_flip_p=0.25)])
    assert (
        "| demo | a | 15 | unrefined render | PSNR ↑ dB | +0.100 | +0.050 to +0.350 | frames | 3 | + + − | 0.250 |"
        in text
    )


def test_why_there_is_no_difference_stands_on_the_page() -> None:
    text = page(row(), differences=[difference(difference=None, by_scene={}, reason="the scenes differ: x")])
    assert "- demo/a, epoch 15, against unrefined: the scenes differ: x" in text


def test_published_figures_stand_apart_each_with_its_protocol_flag() -> None:
    assert "Published" not in page(row()), "the dataset that they are of is not evaluated"
    other = [row(), row(run="b", scene="hi4d_pair15_fight")]
    published = page(*other).split("## Published on Hi4D")[1]
    assert "| MultiPly | 20.7 | 0.915 | 0.0798 | | PSNR: convention not stated |" in published
    assert "| the thesis | | 0.926 | 0.0809 | 20.1 | PSNR* is psnr_channel_sum: 4.771 dB below psnr |" in published
    assert "demo/a" not in published
    ours = page(row(scene="hi4d_pair15_fight")).split("## Published on Hi4D")[1]
    assert "| demo/a, epoch 15 | 20.000 |" in ours


def test_the_table_of_scenes_has_a_row_a_scene_and_the_average_last() -> None:
    rows = [row(value=20.0), row(scene="s_2", value=21.0), row(epoch=0, value=3.0)]
    lines = single_spaced(scene_tables_text(Leaderboard(rows))).splitlines()
    assert [line for line in lines if line.startswith("| s_") or line.startswith("| avg")] == [
        "| s_1 | 20.000 |",
        "| s_2 | 21.000 |",
        "| avg | 20.500 |",
    ]


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_differences_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        difference(scenes=[0.1, -1 / 3], reason='of "a", b\nand c', low=None),
        difference("b&2", difference=None, by_scene={}, sign_flip_p=None),
        difference("b&2", metric="ssim"),
        difference("b&2", against="demo/a"),
    ]
    (tmp_path / "d.csv").write_text(csv_text(rows, DifferenceRow), encoding="utf-8")
    assert read_differences(tmp_path / "d.csv") == rows[:1]


@pytest.mark.parametrize(
    "content",
    ["", "\x00", "metric,against\npsnr,unrefined\n", "a,b\n1,2\n", "HEADa,b,c,d,psnr,unrefined\n", '"'],
)
def test_a_damaged_table_of_differences_is_named(tmp_path: Path, content: str) -> None:
    header = csv_text([], DifferenceRow)
    (tmp_path / "d.csv").write_text(content.replace("HEAD", header))
    with pytest.raises(InvalidFile, match="cannot be read") as caught:
        read_differences(tmp_path / "d.csv")
    assert caught.value.file == str(tmp_path / "d.csv")


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def board(**more: object) -> Leaderboard:
    rows = [
        row("a_1", epoch=0, step=None, value=19.9, **more),
        row("a_1", value=20.11, **more),
        row("b&2", value=20.25, **more),
        row("c", value=20.01, **more),
        *(row(run, metric="lpips", value=value, **more) for run, value in (("a_1", 0.2), ("b&2", 0.3), ("c", 0.25))),
    ]
    return Leaderboard(rows, [difference("a_1", scenes=[0.21])], {"0" * 64: {"region": "full_frame", "x_%": "#1"}})


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every row, split at the `&` that are no characters."""
    for line in text.splitlines():
        if line.endswith(r"\\"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def check_structure(text: str) -> None:
    """What a compiler would stumble over: unbalanced braces and environments, rows of another width than the columns."""
    bare = re.sub(r"\\[{}]", "", re.sub(r"(?m)^%.*$", "", text))
    depth = 0
    for char in bare:
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth >= 0
    assert depth == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    for table in text.split(r"\begin{tabular}")[1:]:
        columns = re.match(r"\{((?:l|S\[table-format=\d+\.\d+\])+)\}\n", table)
        assert columns, table[:80]
        width = len(re.sub(r"\[.*?\]", "", columns[1]))
        assert {len(cells) for cells in table_rows(table.split(r"\end{tabular}")[0])} == {width}
    outside_commands = re.sub(r"\\[a-zA-Z]+|\\.|\$[^$]*\$|%.*", "", bare)
    assert not re.search(r"[_#^~]", outside_commands)


def test_the_latex_tables_have_the_structure_that_a_compiler_wants() -> None:
    text = latex_text(board())
    check_structure(text)
    for rule in ("toprule", "midrule", "bottomrule"):
        assert f"\\{rule}" in text
    assert r"PSNR [dB] $\uparrow$" in text
    assert r"LPIPS $\downarrow$" in text
    assert r"region: full\_frame; x \%: \#1" in text


def test_the_structure_check_sees_what_it_is_for() -> None:
    good = latex_text(board())
    for spoiled in (
        good.replace("{\\footnotesize", "\\footnotesize", 1),
        good.replace(r"\end{tabular}", ""),
        good.replace(" & ", " ", 1),
        good.replace(r"a\_1", "a_1"),
    ):
        with pytest.raises((AssertionError, IndexError)):
            check_structure(spoiled)


def test_the_best_is_bold_and_the_second_italic_whichever_way_is_better() -> None:
    rows = {cells[0]: cells[1:] for cells in table_rows(latex_text(board()))}
    assert rows[r"b\&2"][:2] == [r"\bfseries 20.250", "0.3000"]
    assert rows[r"a\_1"][:2] == [r"\itshape 20.110", r"\bfseries 0.2000"]
    assert rows["c"][:2] == ["20.010", r"\itshape 0.2500"]
    assert rows["unrefined"][:2] == ["19.900", "{--}"]
    assert rows[r"a\_1"][2] == "$+0.210$ [$+0.050$, $+0.350$]"


def test_numbers_that_print_alike_rank_alike() -> None:
    rows = [row("a", value=20.0001), row("b", value=20.0002), row("c", value=19.0), row("d", value=18.0)]
    cells = {line[0]: line[1] for line in table_rows(latex_text(Leaderboard(rows)))}
    assert [cells[name] for name in "abcd"] == [
        r"\bfseries 20.000",
        r"\bfseries 20.000",
        r"\itshape 19.000",
        "18.000",
    ]


def test_published_rows_stand_in_a_table_of_their_dataset_with_a_mark_and_no_rank() -> None:
    text = latex_text(board(scene="hi4d_pair15_fight"))
    check_structure(text)
    rows = {cells[0]: cells[1:] for cells in table_rows(text)}
    assert rows[r"MultiPly\textsuperscript{2}"][:2] == ["{20.7}", "{0.0798}"]
    assert r"\textsuperscript{2}PSNR: convention not stated" in text
    assert "MultiPly" not in latex_text(board())


def test_runs_over_other_scenes_stand_in_another_latex_table() -> None:
    text = latex_text(Leaderboard([row("a"), row("b", scene="s_2")]))
    assert text.count(r"\begin{tabular}") == 2


def test_no_character_of_a_name_is_a_command() -> None:
    assert latex_escape(r"a_b%c&d#e{f}\g~h^$") == (
        r"a\_b\%c\&d\#e\{f\}\textbackslash{}g\textasciitilde{}h\textasciicircum{}\$"
    )


def test_a_name_of_several_lines_is_one_line_of_latex_and_holds_nothing_that_latex_refuses() -> None:
    assert latex_escape("a\n\nb\r c\x00") == r"a b c\textbackslash{}x00"


def test_a_row_of_the_csv_is_a_line_whatever_a_reason_holds() -> None:
    written = csv_text([row("a").model_copy(update={"damaged": "no view\rb,c"})], LeaderboardRow)
    assert written.count("\n") == 2
    assert "\r" not in written
    assert r'"no view\rb,c"' in written


# --- the plot --------------------------------------------------------------------------------------------------------


def test_the_plot_has_a_bar_a_run_and_epoch_with_a_dot_a_scene_and_its_interval() -> None:
    found = plotted_bars(
        Leaderboard(
            [],
            [
                difference(),
                difference(epoch=30, scenes=[0.1]),
                difference("b", scenes=[0.2]),
                difference(metric="ssim"),
                difference("b", against="demo/a", scenes=[0.05]),
            ],
        )
    )
    assert [(pair_name(bar), bar.epoch, tuple(bar.by_scene.values())) for bar in found] == [
        ("demo / a", 15, (0.1, 0.3)),
        ("demo / a", 30, (0.1,)),
        ("demo / b", 15, (0.2,)),
        ("demo / b − demo/a", 15, (0.05,)),
    ]
    assert found[0].interval == (0.05, 0.35)


def test_the_same_numbers_give_the_same_picture_and_other_ones_another() -> None:
    once, again, moved = (difference_plot(Leaderboard([], [difference(scenes=[0.1, by])])) for by in (0.3, 0.3, 0.2))
    assert once == again != moved


# --- recipes -----------------------------------------------------------------------------------------------------------


def of_recipe(recipe: str, psnr: float | None, lpips: float | None = None) -> RecipeScore:
    return RecipeScore(
        **{"exp_name": "demo", "run_name": "a", "step": 10, "recipe": recipe, "n_samples": 0 if psnr is None else 3},
        **{"psnr_render": psnr, "psnr_refined": None if psnr is None else psnr + 1.5},
        **{"ssim_render": None, "ssim_refined": None, "lpips_render": lpips, "lpips_refined": lpips},
    )


def test_scores_by_recipe_stand_in_a_part_of_their_own() -> None:
    def shown(*scores: RecipeScore) -> str:
        return single_spaced(markdown_text(Leaderboard([row()], by_recipe=scores), plot_name="p.png"))

    text = shown(of_recipe("cross", 20.0), of_recipe("sparse", None))
    assert "## Test samples by recipe" in text
    assert "| demo | a | 10 | cross | 3 | 20.00 | 21.50 | +1.50 |" in text
    assert "| demo | a | 10 | sparse | 0 | | | |" in text
    assert "LPIPS of renders" not in text
    assert "| 0.2500 | 0.2500 |" in shown(of_recipe("cross", 20.0, 0.25))


def test_without_recipes_the_page_says_nothing_of_them() -> None:
    assert "by recipe" not in page(row())
