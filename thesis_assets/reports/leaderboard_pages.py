"""The leaderboard's files: a Markdown page, a table a run with a row a scene, CSV, and LaTeX."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, printable
from thesis_assets.evaluation.metric_names import TASK_TITLES, ShownMetric, shown_metrics
from thesis_assets.layout import TASKS, ReportsTree, dataset_of
from thesis_assets.reports.gain_plots import difference_plot
from thesis_assets.reports.leaderboard import RECONSTRUCTION, UNREFINED, UNREFINED_EPOCH, Leaderboard
from thesis_assets.reports.leaderboard_tables import (
    AVERAGE,
    DAMAGED_MARK,
    DATASET,
    LEAKED_MARK,
    MOVED_MARK,
    RunScores,
    ScoreTable,
    against_words,
    as_printed,
    datasets,
    empty_columns,
    marks,
    of_table,
    protocol_text,
    psnr_differences,
    published,
    reasons_for_nothing,
    remarks,
    same_tables,
    score_tables,
    shown_differences,
)
from thesis_assets.reports.sweeps import MIN_SEEDS, seeds_told
from thesis_assets.schemas.evaluation import DifferenceRow, LeaderboardRow
from thesis_assets.schemas.tuning import RecipeScore

ABOVE = "above spread"
NOTHING = "# Leaderboard\n\nNothing is evaluated yet.\n"


def write_leaderboard(reports: ReportsTree, board: Leaderboard) -> None:
    """Write the tables as Markdown, CSV and LaTeX, and the plot of PSNR differences."""
    storage.write_text(reports.leaderboard_csv, csv_text(board.rows, LeaderboardRow))
    storage.write_text(reports.leaderboard_differences, csv_text(board.differences, DifferenceRow))
    board = board.shown()
    storage.write_text(reports.leaderboard_latex, latex_text(board))
    storage.write_bytes(reports.leaderboard_plot, difference_plot(board))
    storage.write_text(reports.leaderboard_markdown, markdown_text(board, plot_name=reports.leaderboard_plot.name))


def csv_text(rows: Sequence[BaseModel], model: type[BaseModel]) -> str:
    """Every row, every field; an empty field for what is absent, JSON for what has parts."""
    import pandas as pd

    fields = ([_field(value) for value in row.model_dump().values()] for row in rows)
    table = pd.DataFrame(fields, columns=list(model.model_fields), dtype=object)
    return table.to_csv(index=False, lineterminator="\n")


def _field(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value)
    # A lone carriage return would end the row for some readers.
    return printable(value) if isinstance(value, str) else value


def read_differences(path: Path) -> list[DifferenceRow]:
    """The PSNR differences to the unrefined render of a table that `csv_text` wrote, one a run and epoch.

    Raises:
        InvalidFile: it cannot be read, or was written by another version.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).fillna("")
        of_psnr = table["metric"].isin(["psnr", "psnr_channel_sum"]) & (table["against"] == UNREFINED)
        rows = [
            DifferenceRow.model_validate(
                {
                    name: json.loads(text) if name in ("by_scene", "by_seed") else text or None
                    for name, text in row.items()
                    if text or DifferenceRow.model_fields[str(name)].is_required()
                }
            )
            for row in table[of_psnr].to_dict("records")
        ]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidFile(
            "the table of differences cannot be read",
            file=path,
            found=str(error).splitlines()[0],
            remedy="`thesis-assets leaderboard` writes it anew",
        ) from error
    return psnr_differences(Leaderboard([], rows))


def markdown_text(board: Leaderboard, *, plot_name: str) -> str:
    """The page: the plot; for each way of measuring the differences over scenes and the scores; published figures; how to read it."""
    if not board.rows:
        return NOTHING
    parts = ["# Leaderboard", f"![PSNR differences of runs, a dot a scene]({plot_name})"]
    for table, same in same_tables(board):
        parts += [*_heading(table), *_table_parts(board, table)]
        for other in same:
            parts += [*_heading(other), f"The same numbers as under *{table.title}*."]
    parts += _published_parts(board)
    if board.by_recipe:
        parts += ["## Test samples by recipe", _OF_RECIPES, _markdown(recipe_lines(board.by_recipe), n_names=4)]
    of_seeds = any(row.by_seed is not None for row in board.rows)
    return "\n\n".join([*parts, _HOW_TO_READ, *([_OF_SEEDS] if of_seeds else [])]) + "\n"


_HOW_TO_READ = (
    "Δ: the mean over scenes of each scene's mean over frames of (this run minus the other, same scene, camera and frame), "
    "measured under the same protocol; empty where there is no such pair. The 95 % interval is a bootstrap over scenes from "
    "six scenes on. Below that it is one *over frames*, which says how sure the number is for these scenes alone and is too narrow "
    "for any others; look at the signs and at p, the exact sign-flip test over scenes (two-sided; n scenes cannot go below 2/2ⁿ). "
    "PSNR\\*: squared errors summed over the channels but divided by the pixels, 4.771 dB lower. PCDR\\*: depth order without moving "
    f"the ground truth first. `{AVERAGE}`: the mean over the scenes of a run, where there are several; empty where one has no value. "
    "People that a run was trained on stand in tables of their own, and in no mean with others. "
    f"{DAMAGED_MARK}: the files of the numbers are damaged, so that there are none, here and in the means. {MOVED_MARK}: stale or "
    f"not verified, with what moved since. {LEAKED_MARK}: the run was trained on data with people on both sides, as its footnote says: its "
    "numbers tell nothing of people that were not trained on. Of a run that reconstructs the scene anew the difference to epoch 0 is that of reconstruction and DiFix "
    "together; DiFix's own is the one to its control (`evaluation.control`)."
)


_OF_RECIPES = (
    "Means over the test samples that the trainer scored, by the recipe of their render: the selected checkpoint, else the newest that was "
    "scored. PSNR in dB; render: unrefined."
)


_OF_SEEDS = (
    "`-s*`: the runs of a sweep that differ in their seed alone, as mean ± standard deviation over seeds. Their Δ is the mean of each "
    "seed's own (to the run of the same seed, where the other one is of several too), with Student's interval over seeds from "
    f"{MIN_SEEDS} seeds on; where it leaves out zero, Δ stands above the spread over seeds. It makes no claim about other scenes: for that "
    "look at the signs and at p. `thesis-assets leaderboard --each-seed` shows the single runs, and so does the CSV."
)


def _heading(table: ScoreTable) -> list[str]:
    return [f"## {table.title}", f"Protocol `{table.digest[:8]}`. {_as_text(protocol_text(table.protocol))}."]


def _table_parts(board: Leaderboard, table: ScoreTable) -> Iterator[str]:
    differences = difference_lines(board, table)
    if len(differences) > 1:
        yield _markdown(differences, n_names=5)
    reasons = reasons_for_nothing(board, table)
    if reasons:
        yield "Without a difference:\n\n" + "\n".join(f"- {_as_text(reason)}" for reason in reasons)
    yield _score_table(table)
    if said := empty_columns(table):
        yield f"{_as_text(said[:1].upper() + said[1:])}."
    if lines := remarks(table):
        yield "\n".join(f"- {_as_text(line)}" for line in lines)


def difference_lines(board: Leaderboard, table: ScoreTable) -> list[list[str]]:
    """A header, then a line a (run, epoch, other, metric) that has a difference."""
    names = [metric.name for metric in table.shown]
    header = ["experiment", "run", "epoch", "against", "metric", "Δ", "95 % interval", "over", "scenes", "signs", "p"]
    every = shown_differences(board, table)
    several = any(row.by_seed is not None for row in every)
    rows = sorted(
        every,
        key=lambda row: (row.exp_name, row.run_name, row.epoch, row.against, names.index(row.metric)),
    )
    return [
        [*header, *([ABOVE] if several else [])],
        *(
            [
                *(row.exp_name, row.run_name, str(row.epoch), against_words(row), *_difference_cells(table, row)),
                *([above_words(row)] if several else []),
            ]
            for row in rows
        ),
    ]


def mean_lines(table: ScoreTable) -> list[list[str]]:
    """A header, then a line a (run, epoch): means over its scenes."""
    lines = [["experiment", "run", "epoch", "scenes", *(metric.heading for metric in table.shown), "frames"]]
    for scores in itertools.chain(*table.runs.values()):
        run_name = f"{run_title(scores)} {marks(scores)}".strip()
        place = [scores.exp_name, run_name, str(scores.epoch), str(len(scores.cells))]
        lines.append([*place, *_means(scores, table.shown), str(scores.n_frames)])
    return lines


def recipe_lines(scores: Sequence[RecipeScore]) -> list[list[str]]:
    """A header, then a line a (run, recipe); LPIPS only where it was measured."""
    with_lpips = any(score.lpips_refined is not None for score in scores)
    lines = [
        ["experiment", "run", "step", "recipe", "samples", "PSNR of renders", "PSNR", "Δ"]
        + ["LPIPS of renders", "LPIPS"] * with_lpips
    ]
    for score in scores:
        gain = None if None in (score.psnr_render, score.psnr_refined) else score.psnr_refined - score.psnr_render  # type: ignore[operator]
        numbers = [_decimals(score.psnr_render, 2), _decimals(score.psnr_refined, 2), _decimals(gain, 2, sign="+")]
        numbers += [_decimals(score.lpips_render, 4), _decimals(score.lpips_refined, 4)] * with_lpips
        lines.append([score.exp_name, score.run_name, str(score.step), score.recipe, str(score.n_samples), *numbers])
    return lines


def _decimals(value: float | None, n: int, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.{n}f}"


def _means(scores: RunScores, metrics: Sequence[ShownMetric]) -> list[str]:
    return [with_spread(metric, scores.means.get(metric.name), scores.spreads.get(metric.name)) for metric in metrics]


def _difference_cells(table: ScoreTable, row: DifferenceRow) -> list[str]:
    metric = next(metric for metric in table.shown if metric.name == row.metric)
    return [
        metric.heading,
        metric.number(row.difference, sign=True),
        " to ".join(metric.number(end, sign=True) for end in row.interval or ()),
        over_words(row),
        str(row.n_scenes),
        signs(row),
        "" if row.sign_flip_p is None else f"{row.sign_flip_p:.3f}",
    ]


def run_title(scores: RunScores) -> str:
    """The run; of several seeds, how many."""
    return f"{scores.run_name} ({scores.seeds})" if scores.seeds else scores.run_name


def with_spread(metric: ShownMetric, value: float | None, by_seed: float | None) -> str:
    """`20.123 ± 0.045`: the spread over seeds where there are several."""
    return metric.number(value) + (f" ± {metric.number(by_seed)}" if value is not None and by_seed is not None else "")


def over_words(row: DifferenceRow) -> str:
    """What an interval is over; of a row over seeds how many, and that there are too few for one."""
    if row.by_seed is None:
        return row.interval_over or ""
    other = f": {row.interval_over}" if row.interval_over in ("scenes", "frames") else ""
    return seeds_told(row) + (other or ("" if row.interval_over else f": none below {MIN_SEEDS}"))


def above_words(row: DifferenceRow) -> str:
    """Whether a difference stands above the spread over seeds; empty where it is not over seeds."""
    return {True: "yes", False: "no", None: "cannot be said" if row.by_seed is not None else ""}[row.above_seeds]


def signs(row: DifferenceRow) -> str:
    """A sign a scene, in the order of their names; counts where there are many."""
    if len(row.by_scene) > 12:
        return f"{row.scenes_above} +, {row.scenes_below} −"
    return " ".join("+" if value > 0 else "−" if value < 0 else "0" for _, value in sorted(row.by_scene.items()))


def _score_table(table: ScoreTable) -> str:
    paired = {
        row.metric
        for scores in itertools.chain(*table.runs.values())
        for cell in scores.cells.values()
        for row in cell.values()
        if row.difference_to_unrefined not in (None, 0.0)
    }
    header = ["experiment", "run", "scene", "epoch", "step"]
    for metric in table.shown:
        header += [metric.heading, "Δ"] if metric.name in paired else [metric.heading]
    lines = [[*header, "frames", "protocol"]]
    for (exp, _), epochs in table.runs.items():
        cells = [(scene, each.epoch, cell, each) for each in epochs for scene, cell in each.cells.items()]
        for scene, epoch, cell, scores in sorted(cells, key=lambda each: each[:2]):
            first = next(iter(cell.values()))
            values = {name: row.value for name, row in cell.items()}
            changes = {name: row.difference_to_unrefined for name, row in cell.items()}
            lines.append(
                [
                    *(exp, run_title(scores), f"{scene} {marks(scores, scene)}".strip(), str(epoch)),
                    _step(first),
                    *_scores(table, values, changes, {name: row.spread for name, row in cell.items()}, paired),
                    str(max(row.n_frames for row in cell.values())),
                    first.protocol_digest[:8],
                ]
            )
        lines += [_average_line(table, each, paired) for each in epochs if len(each.cells) > 1]
    return _markdown(lines, n_names=5)


def _step(row: LeaderboardRow) -> str:
    """Epoch 0 is unrefined; seeds that ended early have several; a tree that others made may not say which step its other epochs are."""
    if row.step is not None:
        return str(row.step)
    return "unrefined" if row.epoch == UNREFINED_EPOCH else "several" if row.by_seed else "not stated"


def _scores(
    table: ScoreTable,
    values: dict[str, float | None],
    changes: dict[str, float | None],
    spreads: dict[str, float | None],
    paired: set[str],
) -> Iterator[str]:
    for metric in table.shown:
        yield with_spread(metric, values.get(metric.name), spreads.get(metric.name))
        if metric.name in paired:
            yield metric.number(changes.get(metric.name), sign=True)


def _average_line(table: ScoreTable, scores: RunScores, paired: set[str]) -> list[str]:
    cells = scores.cells.values()
    steps = {_step(next(iter(cell.values()))) for cell in cells}
    step = steps.pop() if len(steps) == 1 else "several"
    return [
        *(scores.exp_name, run_title(scores), f"{AVERAGE} {marks(scores)}".strip(), str(scores.epoch), step),
        *_scores(table, scores.means, scores.changes, scores.spreads, paired),
        str(scores.n_frames),
        table.digest[:8],
    ]


def _published_parts(board: Leaderboard) -> Iterator[str]:
    """Published figures, with the averages of runs on the same dataset beside them; nothing where it is not evaluated."""
    if DATASET not in datasets(board):
        return
    yield "## Published on Hi4D"
    yield (
        "As their authors report them; nothing here was computed by this platform, the scenes, cameras and regions may be others, "
        "and no difference is taken to these rows."
    )
    for task in TASKS:
        rows = published(task)
        if not rows:
            continue
        names = list(dict.fromkeys(name for row in rows for name in row.values))
        metrics = [metric for metric in shown_metrics(task) if metric.name in names]
        header = ["method", *(metric.heading for metric in metrics), "protocol"]
        lines = [
            [row.source, *(as_printed(row.values.get(metric.name)) for metric in metrics), row.flag] for row in rows
        ]
        for table in score_tables(board):
            if table.task == task and table.stated:
                lines += _ours_on_the_dataset(table, metrics)
        yield f"### {TASK_TITLES[task]}\n\n" + _markdown([header, *lines], n_names=1)


def _ours_on_the_dataset(table: ScoreTable, metrics: Sequence[ShownMetric]) -> Iterator[list[str]]:
    for *_, last in table.runs.values():
        if {dataset_of(scene) for scene in last.cells} == {DATASET}:
            protocol = f"`{table.digest[:8]}`, {len(last.cells)} scenes"
            yield [f"{last.exp_name}/{last.run_name}, epoch {last.epoch}", *_means(last, metrics), protocol]


def scene_tables_text(board: Leaderboard) -> str:
    """A table a run at its last epoch: a row a scene, `avg` last, a column a metric; for pasting into notes."""
    parts = []
    for table, same in same_tables(board):
        for *_, last in table.runs.values():
            lines = [["scene", *(metric.heading for metric in table.shown)]]
            for scene, cell in last.cells.items():
                name = f"{scene} {marks(last, scene)}".strip()
                values = ((metric, cell[metric.name]) for metric in table.shown)
                lines.append([name, *(with_spread(metric, row.value, row.spread) for metric, row in values)])
            lines.append([f"{AVERAGE} {marks(last)}".strip(), *_means(last, table.shown)])
            title = f"{last.exp_name} / {run_title(last)}, epoch {last.epoch}, {_lower(table.title)}"
            parts.append(f"**{title}** (protocol `{table.digest[:8]}`)\n\n{_markdown(lines, n_names=1)}")
        if lines_below := remarks(table):
            parts.append("\n".join(f"- {_as_text(line)}" for line in lines_below))
        parts += [f"**{each.title}** (protocol `{each.digest[:8]}`): the same numbers" for each in same]
    return "\n\n".join(parts) + "\n" if parts else NOTHING


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:] if title.startswith("Novel") else title


def _as_text(text: str) -> str:
    """Text from files on disk: what it holds of markup shows as it is."""
    text = " ".join(text.replace("\\", "\\\\").split())
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("[", "\\["), ("]", "\\]"), ("|", "\\|")):
        text = text.replace(character, escaped)
    return text


def _markdown(lines: list[list[str]], *, n_names: int) -> str:
    """A header and lines as a Markdown table: the first columns are names, the others numbers."""
    import pandas as pd

    header, *rows = lines
    align = ["left"] * n_names + ["right"] * (len(header) - n_names)
    return pd.DataFrame(rows, columns=header).to_markdown(index=False, disable_numparse=True, colalign=align)


# --- LaTeX -------------------------------------------------------------------------------------------------------------

_LATEX_SPECIAL = {
    **{char: "\\" + char for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "Δ": r"$\Delta$",
    "−": "--",
    "’": "'",
}
_LATEX_HEAD = r"""% Needs in the preamble: \usepackage{booktabs,siunitx} \sisetup{detect-all}
"""


def latex_escape(text: str) -> str:
    """Text of one line in which LaTeX sees no command, no paragraph and no character that it refuses."""
    return "".join(_LATEX_SPECIAL.get(char, char) for char in printable(" ".join(text.split())))


def latex_text(board: Leaderboard) -> str:
    r"""A `booktabs` table a way of measuring: a row a run at its last epoch, means over its scenes in `siunitx` columns, best bold.

    Runs with other scenes stand in another table. Needs `\usepackage{booktabs,siunitx}` and `\sisetup{detect-all}`, as it says itself.
    """
    parts = []
    for table, same in same_tables(board):
        groups: dict[tuple[str, ...], list[_LatexLine]] = {}
        for line in _latex_lines(board, table):
            groups.setdefault(tuple(line.scores.cells), []).append(line)
        parts += [_latex_table(table, lines, same) for lines in groups.values() if table.shown]
    return _LATEX_HEAD + "\n".join(parts)


_LATEX_MARKS = {DAMAGED_MARK: "d", MOVED_MARK: "s", LEAKED_MARK: "b"}


@dataclass(frozen=True)
class _LatexLine:
    """One row: a method, its scores, and its difference to another."""

    name: str
    scores: RunScores
    difference: DifferenceRow | None = None


def _latex_lines(board: Leaderboard, table: ScoreTable) -> Iterator[_LatexLine]:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    several = len({exp for exp, _ in table.runs}) > 1
    for (exp_name, run_name), epochs in table.runs.items():
        for scores in (epochs[0], *epochs[1:][-1:]):
            scenes = tuple(scores.cells)
            first = next(iter(scores.cells[scenes[0]].values()))
            unrefined = scores.epoch == UNREFINED_EPOCH and first.step is None
            if (unrefined and (exp_name, scenes) in seen) or (not unrefined and scores is not epochs[-1]):
                continue  # Every run of an experiment starts from the same renders.
            seen |= {(exp_name, scenes)} if unrefined else set()
            label = "unrefined" if unrefined else run_title(scores)
            difference = None if unrefined else _difference(board, table, (exp_name, run_name, scores.epoch))
            yield _LatexLine(f"{exp_name} / {label}" if several else label, scores, difference)


def _difference(board: Leaderboard, table: ScoreTable, cell: tuple[str, str, int]) -> DifferenceRow | None:
    """Of the first metric: to the baseline where one was asked for, else to the unrefined render."""
    found = [
        row
        for row in of_table(board, table)
        if (row.exp_name, row.run_name, row.epoch, row.metric) == (*cell, table.shown[0].name)
        and row.seen_people == table.seen
        and row.difference is not None
        and (any(row.by_scene.values()) or row.by_seed is not None)
    ]
    return max(found, key=lambda row: row.against != UNREFINED) if found else None


def _latex_table(table: ScoreTable, lines: Sequence[_LatexLine], same: Sequence[ScoreTable]) -> str:
    import pandas as pd

    shown, scenes = table.shown, list(lines[0].scores.cells)
    tables = [table, *same]
    on_the_dataset = {dataset_of(scene) for scene in scenes} == {DATASET}
    theirs = [row for each in tables for row in published(each.task)] if on_the_dataset else []
    title = "; ".join(each.title for each in tables) + (" (the same numbers)" if same else "")
    names = [f"{latex_escape(row.source)}\\textsuperscript{{{mark}}}" for mark, row in enumerate(theirs, start=1)]
    names[:1] = [f"\\midrule\n{name}" for name in names[:1]]
    columns = {"Method": [*map(_latex_name, lines), *names]}
    for metric in shown:
        published_cells = (f"{{{as_printed(row.values.get(metric.name)) or '--'}}}" for row in theirs)
        columns[_latex_heading(metric)] = [*_ranked(metric, lines), *published_cells]
    if against := _difference_heading(shown, lines):
        columns[against] = [*(_difference_cell(shown[0], line.difference) for line in lines), *("" for _ in theirs)]
    form = "l" + "".join(_column(metric, lines) for metric in shown) + ("l" if against else "")
    out = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{latex_escape(title)}: means over {len(scenes)} "
        f"{'scene' if len(scenes) == 1 else 'scenes'}. Best bold, second italic.}}",
        pd.DataFrame(columns).to_latex(index=False, escape=False, column_format=form).rstrip(),
        *(f"\\par\\smallskip{{\\footnotesize {note}}}" for note in _footnotes(tables, lines)),
    ]
    if theirs:
        flags = "; ".join(
            f"\\textsuperscript{{{mark}}}{latex_escape(row.flag)}" for mark, row in enumerate(theirs, start=1)
        )
        out.append(f"\\par{{\\footnotesize As published, not ranked: {flags}.}}")
    return "\n".join([*out, r"\end{table}", ""])


def _latex_name(line: _LatexLine) -> str:
    letters = ",".join(_LATEX_MARKS[mark] for mark in marks(line.scores))
    return latex_escape(line.name) + (f"\\textsuperscript{{{letters}}}" if letters else "")


def _column(metric: ShownMetric, lines: Sequence[_LatexLine]) -> str:
    values = [abs(value) for line in lines if (value := line.scores.means[metric.name]) is not None]
    digits = max((len(str(math.floor(value))) for value in values), default=1)
    return f"S[table-format={digits}.{metric.decimals}]"


def _latex_heading(metric: ShownMetric) -> str:
    arrow = r"$\uparrow$" if metric.higher_is_better else r"$\downarrow$"
    title = latex_escape(metric.title) + (f" [{latex_escape(metric.unit)}]" if metric.unit else "")
    return f"{{{title} {arrow}}}"


def _difference_heading(shown: Sequence[ShownMetric], lines: Sequence[_LatexLine]) -> str:
    """Empty where no line has a difference."""
    against = {line.difference.against for line in lines if line.difference}
    if not against:
        return ""
    other = against.pop() if len(against) == 1 else "baseline"
    of_both = any(line.difference and line.difference.whose == RECONSTRUCTION for line in lines)
    whose = f", {RECONSTRUCTION}" if of_both else ""
    return f"$\\Delta${latex_escape(shown[0].title)} to {latex_escape(other)}{whose} [95\\,\\%]"


def _ranked(metric: ShownMetric, lines: Sequence[_LatexLine]) -> list[str]:
    """The means, the best bold, the second italic, as they are printed: equal print, equal rank. Where all are one none has a rank."""
    numbers = [metric.number(line.scores.means[metric.name]) for line in lines]
    ordered = sorted({float(number) for number in numbers if number}, reverse=metric.higher_is_better)
    styles = dict(zip(ordered[:2], ("\\bfseries ", "\\itshape "), strict=True)) if len(ordered) > 1 else {}
    spreads = (line.scores.spreads.get(metric.name) for line in lines)
    styled = (styles.get(float(number), "") + number if number else "" for number in numbers)
    return [_with_latex_spread(metric, cell, spread) for cell, spread in zip(styled, spreads, strict=True)]


def _with_latex_spread(metric: ShownMetric, cell: str, by_seed: float | None) -> str:
    if not cell:
        return "{--}"
    return cell if by_seed is None else f"{{{cell}\\,{{\\small$\\pm${metric.number(by_seed)}}}}}"


def _difference_cell(metric: ShownMetric, row: DifferenceRow | None) -> str:
    if row is None:
        return "--"
    text = f"${metric.number(row.difference, sign=True)}$"
    if row.interval is not None:
        letter = {"frames": "f", "seeds": "t" if row.above_seeds else "t,o"}.get(row.interval_over or "", "")
        mark = f"\\textsuperscript{{{letter}}}" if letter else ""
        text += " [" + ", ".join(f"${metric.number(end, sign=True)}$" for end in row.interval) + f"]{mark}"
    return text


def _notes_of(scores: RunScores, scene: str) -> Iterator[tuple[str, str]]:
    first = next(iter(scores.cells[scene].values()))
    if first.damaged:
        yield DAMAGED_MARK, f"{scores.run_name}, {scene}, left empty: {first.damaged}"
    if first.moved:
        yield MOVED_MARK, f"{scores.run_name}, {scene}: {first.moved}"
    if first.leaked:
        yield LEAKED_MARK, f"{scores.run_name}: {first.leaked}"


def _footnotes(tables: Sequence[ScoreTable], lines: Sequence[_LatexLine]) -> Iterator[str]:
    table = tables[0]
    frames = {line.scores.n_frames for line in lines}
    count = str(frames.pop()) if len(frames) == 1 else f"{min(frames)} to {max(frames)}"
    for each in tables:
        yield f"Protocol \\texttt{{{each.digest[:8]}}}: {latex_escape(protocol_text(each.protocol))}; {count} frames."
    shown_cells = [(line.scores, scene) for line in lines for scene in line.scores.cells]
    for mark, text in dict.fromkeys(each for scores, scene in shown_cells for each in _notes_of(scores, scene)):
        yield f"\\textsuperscript{{{_LATEX_MARKS[mark]}}}{latex_escape(text)}."
    notes = []
    if any("PSNR*" in metric.title for metric in table.shown):
        notes.append("PSNR*: squared errors summed over the channels, 4.771 dB lower.")
    if any("PCDR*" in metric.title for metric in table.shown):
        notes.append("PCDR*: depth order without moving the ground truth first.")
    if any(line.difference and line.difference.interval_over == "scenes" for line in lines):
        notes.append("Intervals: bootstrap over scenes, paired by frame.")
    if any(line.difference and line.difference.interval_over == "frames" for line in lines):
        notes.append(
            r"\textsuperscript{f}Over frames of these scenes alone: there are too few scenes for an interval over scenes."
        )
    if any(line.scores.seeds for line in lines):
        notes.append("Runs of several seeds: mean and standard deviation over seeds.")
    if any(line.difference and line.difference.interval_over == "seeds" for line in lines):
        notes.append(
            r"\textsuperscript{t}Student's over seeds, paired by frame and seed; \textsuperscript{o}within the spread over seeds."
        )
    if notes:
        yield " ".join(notes)
