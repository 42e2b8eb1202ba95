r"""The leaderboard as LaTeX: one `booktabs` table a way of measuring, numbers in `siunitx` columns, best bold, second italic.

Needs `\usepackage{booktabs,siunitx}` and `\sisetup{detect-all}`, as the first lines of the text say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thesis_assets.evaluation.leaderboard import UNREFINED, UNREFINED_EPOCH, Leaderboard
from thesis_assets.evaluation.leaderboard_tables import ScoreTable, protocol_text, score_tables
from thesis_assets.evaluation.metric_names import TASK_TITLES, ShownMetric
from thesis_assets.evaluation.published_baselines import DATASET, as_printed, published
from thesis_assets.layout import dataset_of
from thesis_assets.schemas.evaluation import DifferenceRow

_SPECIAL = {
    **{char: "\\" + char for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "Δ": r"$\Delta$",
    "−": "--",
    "’": "'",
}
_HEAD = r"""% Needs in the preamble: \usepackage{booktabs,siunitx} \sisetup{detect-all}
"""


def latex_escape(text: str) -> str:
    """Text in which LaTeX sees no command."""
    return "".join(_SPECIAL.get(char, char) for char in text)


def latex_text(board: Leaderboard) -> str:
    """Every table: a row a run at its last epoch, means over its scenes; runs with other scenes stand in another table."""
    parts = []
    for table in score_tables(board):
        groups: dict[tuple[str, ...], list[_Line]] = {}
        for line in _lines(board, table):
            groups.setdefault(line.scenes, []).append(line)
        parts += [_table(table, lines) for lines in groups.values() if table.shown]
    return _HEAD + "\n".join(parts)


@dataclass(frozen=True)
class _Line:
    """One row: a method, its means, and its difference to another."""

    name: str
    scenes: tuple[str, ...]
    values: dict[str, float | None]
    n_frames: int
    difference: DifferenceRow | None = None
    is_unrefined: bool = False


def _lines(board: Leaderboard, table: ScoreTable) -> Iterator[_Line]:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    several = len({exp for exp, _ in table.runs}) > 1
    for exp_name, run_name in table.runs:
        epochs = table.epochs_of(exp_name, run_name)
        for epoch in {min(epochs): None, max(epochs): None}:
            scenes = tuple(table.scenes_of(exp_name, run_name, epoch))
            first = next(iter(table.cells[exp_name, run_name, scenes[0], epoch].values()))
            unrefined = epoch == UNREFINED_EPOCH and first.step is None
            if (unrefined and (exp_name, scenes) in seen) or (not unrefined and epoch != max(epochs)):
                continue  # Every run of an experiment starts from the same renders.
            seen |= {(exp_name, scenes)} if unrefined else set()
            label = "unrefined" if unrefined else run_name
            yield _Line(
                name=f"{exp_name} / {label}" if several else label,
                scenes=scenes,
                values=table.means(exp_name, run_name, epoch),
                n_frames=table.frames(exp_name, run_name, epoch),
                difference=None if unrefined else _difference(board, table, (exp_name, run_name, epoch)),
                is_unrefined=unrefined,
            )


def _difference(board: Leaderboard, table: ScoreTable, cell: tuple[str, str, int]) -> DifferenceRow | None:
    """Of the first metric: to the baseline where one was asked for, else to the unrefined render."""
    found = [
        row
        for row in board.differences
        if (row.exp_name, row.run_name, row.epoch) == cell
        and (row.task, row.table_digest, row.metric) == (table.task, table.digest, table.shown[0].name)
        and row.difference is not None
        and any(row.by_scene.values())
    ]
    return max(found, key=lambda row: row.against != UNREFINED) if found else None


def _table(table: ScoreTable, lines: Sequence[_Line]) -> str:
    shown, scenes = table.shown, lines[0].scenes
    with_difference = any(line.difference for line in lines)
    theirs = published(table.task) if {dataset_of(scene) for scene in scenes} == {DATASET} else []
    columns = "l" + "".join(_column(metric, lines) for metric in shown) + ("l" if with_difference else "")
    ranked = {metric.name: _ranks(metric, [line.values[metric.name] for line in lines]) for metric in shown}
    out = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{latex_escape(TASK_TITLES[table.task])}: means over {len(scenes)} "
        f"{'scene' if len(scenes) == 1 else 'scenes'}. Best bold, second italic.}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        "    "
        + " & ".join(["Method", *(_heading(metric) for metric in shown), *_difference_heading(shown, lines)])
        + r" \\",
        r"    \midrule",
    ]
    for number, line in enumerate(lines):
        cells = [_styled(metric.number(line.values[metric.name]), ranked[metric.name].get(number)) for metric in shown]
        tail = [_difference_cell(shown[0], line.difference)] if with_difference else []
        out.append("    " + " & ".join([latex_escape(line.name), *cells, *tail]) + r" \\")
    if theirs:
        out.append(r"    \midrule")
    for mark, row in enumerate(theirs, start=1):
        cells = [f"{{{as_printed(row.values.get(metric.name)) or '--'}}}" for metric in shown]
        tail = [""] if with_difference else []
        out.append(
            "    " + " & ".join([f"{latex_escape(row.source)}\\textsuperscript{{{mark}}}", *cells, *tail]) + r" \\"
        )
    out += [r"    \bottomrule", r"  \end{tabular}"]
    out += [f"  \\par\\smallskip{{\\footnotesize {note}}}" for note in _footnotes(table, lines)]
    if theirs:
        flags = "; ".join(
            f"\\textsuperscript{{{mark}}}{latex_escape(row.flag)}" for mark, row in enumerate(theirs, start=1)
        )
        out.append(f"  \\par{{\\footnotesize As published, not ranked: {flags}.}}")
    return "\n".join([*out, r"\end{table}", ""])


def _column(metric: ShownMetric, lines: Sequence[_Line]) -> str:
    values = [abs(value) for line in lines if (value := line.values[metric.name]) is not None]
    digits = max((len(str(math.floor(value))) for value in values), default=1)
    return f"S[table-format={digits}.{metric.decimals}]"


def _heading(metric: ShownMetric) -> str:
    arrow = r"$\uparrow$" if metric.higher_is_better else r"$\downarrow$"
    title = latex_escape(metric.title) + (f" [{latex_escape(metric.unit)}]" if metric.unit else "")
    return f"{{{title} {arrow}}}"


def _difference_heading(shown: Sequence[ShownMetric], lines: Sequence[_Line]) -> list[str]:
    against = {line.difference.against for line in lines if line.difference}
    if not against:
        return []
    other = against.pop() if len(against) == 1 else "baseline"
    return [f"$\\Delta${latex_escape(shown[0].title)} to {latex_escape(other)} [95\\,\\%]"]


def _ranks(metric: ShownMetric, values: Sequence[float | None]) -> dict[int, int]:
    """Place in `values` -> 1 or 2, by the number as it is printed: equal print, equal rank. Values that are all one have no rank."""
    printed = {place: float(metric.number(value)) for place, value in enumerate(values) if value is not None}
    if len(set(printed.values())) < 2:
        return {}
    ordered = sorted(set(printed.values()), reverse=metric.higher_is_better)
    return {place: rank for place, value in printed.items() if (rank := ordered.index(value) + 1) <= 2}


def _styled(number: str, rank: int | None) -> str:
    if not number:
        return "{--}"
    return {1: f"\\bfseries {number}", 2: f"\\itshape {number}"}.get(rank or 0, number)


def _difference_cell(metric: ShownMetric, row: DifferenceRow | None) -> str:
    if row is None:
        return "--"
    text = f"${metric.number(row.difference, sign=True)}$"
    if row.low is not None and row.high is not None:
        mark = r"\textsuperscript{f}" if row.interval_over == "frames" else ""
        text += f" [${metric.number(row.low, sign=True)}$, ${metric.number(row.high, sign=True)}$]{mark}"
    return text


def _footnotes(table: ScoreTable, lines: Sequence[_Line]) -> Iterator[str]:
    frames = {line.n_frames for line in lines}
    count = str(frames.pop()) if len(frames) == 1 else f"{min(frames)} to {max(frames)}"
    yield f"Protocol \\texttt{{{table.digest[:8]}}}: {latex_escape(protocol_text(table.protocol))}; {count} frames."
    notes = []
    if any(metric.name == "psnr_channel_sum" for metric in table.shown):
        notes.append("PSNR*: squared errors summed over the channels, 4.771 dB lower.")
    if any(metric.name == "pcdr_legacy" for metric in table.shown):
        notes.append("PCDR*: depth order without moving the ground truth first.")
    if any(line.difference and line.difference.interval_over == "scenes" for line in lines):
        notes.append("Intervals: bootstrap over scenes, paired by frame.")
    if any(line.difference and line.difference.interval_over == "frames" for line in lines):
        notes.append(
            r"\textsuperscript{f}Over frames of these scenes alone: there are too few scenes for an interval over scenes."
        )
    if notes:
        yield " ".join(notes)
