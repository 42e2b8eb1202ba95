"""The leaderboard as text: a Markdown page, a table a run with a row a scene, and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.leaderboard import UNREFINED, UNREFINED_EPOCH, Leaderboard
from thesis_assets.evaluation.leaderboard_tables import (
    ScoreTable,
    against_words,
    protocol_text,
    psnr_differences,
    reasons_for_nothing,
    score_tables,
    shown_differences,
)
from thesis_assets.evaluation.metric_names import TASK_TITLES, shown_metrics
from thesis_assets.evaluation.published_baselines import DATASET, as_printed, published
from thesis_assets.layout import TASKS, dataset_of
from thesis_assets.schemas.evaluation import DifferenceRow

AVERAGE = "avg"
NOTHING = "# Leaderboard\n\nNothing is evaluated yet.\n"


def csv_text(rows: Sequence[BaseModel], model: type[BaseModel]) -> str:
    """Every row, every field; an empty field for what is absent, JSON for what has parts."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(model.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _field(value) for name, value in row.model_dump().items()} for row in rows)
    return text.getvalue()


def read_differences(path: Path) -> list[DifferenceRow]:
    """The PSNR differences to the unrefined render of a table that `csv_text` wrote, one a run and epoch.

    Raises:
        InvalidFile: it cannot be read, or was written by another version.
    """
    metrics = ("psnr", "psnr_channel_sum")
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = [
                DifferenceRow.model_validate(
                    {name: json.loads(text) if name == "by_scene" else text or None for name, text in row.items()}
                )
                for row in csv.DictReader(lines)
                if row["metric"] in metrics and row["against"] == UNREFINED
            ]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InvalidFile(
            "the table of differences cannot be read",
            file=path,
            found=str(error).splitlines()[0],
            remedy="`thesis-assets leaderboard` writes it anew",
        ) from error
    return psnr_differences(Leaderboard([], rows))


def _field(value: object) -> object:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict) else value


def markdown_text(board: Leaderboard, *, plot_name: str) -> str:
    """The page: the plot; for each way of measuring the differences over scenes and the scores; published figures; how to read it."""
    if not board.rows:
        return NOTHING
    parts = ["# Leaderboard", f"![PSNR differences of runs, a dot a scene]({plot_name})"]
    for table in score_tables(board):
        parts += _table_parts(board, table)
    parts += _published_parts(board)
    return "\n\n".join([*parts, _HOW_TO_READ]) + "\n"


_HOW_TO_READ = (
    "Δ: the mean over scenes of each scene's mean over frames of (this run minus the other, same scene, camera and frame), "
    "measured under the same protocol; empty where there is no such pair. The 95 % interval is a bootstrap over scenes from "
    "six scenes on. Below that it is one *over frames*, which says how sure the number is for these scenes alone and is too narrow "
    "for any others; look at the signs and at p, the exact sign-flip test over scenes (two-sided; n scenes cannot go below 2/2ⁿ). "
    "PSNR\\*: squared errors summed over the channels but divided by the pixels, 4.771 dB lower. PCDR\\*: depth order without moving "
    f"the ground truth first. `{AVERAGE}`: the mean over the scenes of a run, where there are several."
)


def _table_parts(board: Leaderboard, table: ScoreTable) -> Iterator[str]:
    older = "" if table.stated else ", measured by older scripts"
    yield f"## {TASK_TITLES[table.task]}{older}"
    yield f"Protocol `{table.digest[:8]}`. {_as_text(protocol_text(table.protocol))}."
    differences = difference_lines(board, table)
    if len(differences) > 1:
        yield _markdown(differences, n_names=5)
    reasons = reasons_for_nothing(board, table)
    if reasons:
        yield "Without a difference:\n\n" + "\n".join(f"- {_as_text(reason)}" for reason in reasons)
    yield _score_table(table)


def difference_lines(board: Leaderboard, table: ScoreTable) -> list[list[str]]:
    """A header, then a line a (run, epoch, other, metric) that has a difference."""
    names = [metric.name for metric in table.shown]
    header = ["experiment", "run", "epoch", "against", "metric", "Δ", "95 % interval", "over", "scenes", "signs", "p"]
    rows = sorted(
        shown_differences(board, table),
        key=lambda row: (row.exp_name, row.run_name, row.epoch, row.against, names.index(row.metric)),
    )
    return [
        header,
        *(
            [row.exp_name, row.run_name, str(row.epoch), against_words(row), *_difference_cells(table, row)]
            for row in rows
        ),
    ]


def mean_lines(table: ScoreTable) -> list[list[str]]:
    """A header, then a line a (run, epoch): means over its scenes."""
    lines = [["experiment", "run", "epoch", "scenes", *(metric.heading for metric in table.shown), "frames"]]
    for exp_name, run_name in table.runs:
        for epoch in table.epochs_of(exp_name, run_name):
            means = table.means(exp_name, run_name, epoch)
            count = len(table.scenes_of(exp_name, run_name, epoch))
            scores = (metric.number(means[metric.name]) for metric in table.shown)
            frames = str(table.frames(exp_name, run_name, epoch))
            lines.append([exp_name, run_name, str(epoch), str(count), *scores, frames])
    return lines


def _difference_cells(table: ScoreTable, row: DifferenceRow) -> list[str]:
    metric = next(metric for metric in table.shown if metric.name == row.metric)
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f"{metric.number(row.low, sign=True)} to {metric.number(row.high, sign=True)}"
    return [
        metric.heading,
        metric.number(row.difference, sign=True),
        interval,
        row.interval_over or "",
        str(row.n_scenes),
        signs(row),
        "" if row.sign_flip_p is None else f"{row.sign_flip_p:.3f}",
    ]


def signs(row: DifferenceRow) -> str:
    """A sign a scene, in the order of their names; counts where there are many."""
    if len(row.by_scene) > 12:
        return f"{row.scenes_above} +, {row.scenes_below} −"
    return " ".join("+" if value > 0 else "−" if value < 0 else "0" for _, value in sorted(row.by_scene.items()))


def _score_table(table: ScoreTable) -> str:
    paired = {
        row.metric
        for cell in table.cells.values()
        for row in cell.values()
        if row.difference_to_unrefined not in (None, 0.0)
    }
    header = ["experiment", "run", "scene", "epoch", "step"]
    for metric in table.shown:
        header += [metric.heading, "Δ"] if metric.name in paired else [metric.heading]
    lines = [[*header, "frames", "protocol"]]
    for exp_name, run_name in table.runs:
        for (exp, run, scene, epoch), cell in table.cells.items():
            if (exp, run) == (exp_name, run_name):
                first = next(iter(cell.values()))
                values = {name: row.value for name, row in cell.items()}
                changes = {name: row.difference_to_unrefined for name, row in cell.items()}
                lines.append(
                    [
                        *(exp, run, scene, str(epoch), _step(epoch, first.step)),
                        *_scores(table, values, changes, paired),
                        str(max(row.n_frames for row in cell.values())),
                        first.protocol_digest[:8],
                    ]
                )
        lines += _average_lines(table, exp_name, run_name, paired)
    return _markdown(lines, n_names=5)


def _step(epoch: int, step: int | None) -> str:
    """Epoch 0 is unrefined; a tree that others made may not say which step its other epochs are."""
    return str(step) if step is not None else "unrefined" if epoch == UNREFINED_EPOCH else "not stated"


def _scores(
    table: ScoreTable, values: dict[str, float | None], changes: dict[str, float | None], paired: set[str]
) -> Iterator[str]:
    for metric in table.shown:
        yield metric.number(values.get(metric.name))
        if metric.name in paired:
            yield metric.number(changes.get(metric.name), sign=True)


def _average_lines(table: ScoreTable, exp_name: str, run_name: str, paired: set[str]) -> Iterator[list[str]]:
    for epoch in table.epochs_of(exp_name, run_name):
        scenes = table.scenes_of(exp_name, run_name, epoch)
        if len(scenes) < 2:
            continue
        cells = [table.cells[exp_name, run_name, scene, epoch] for scene in scenes]
        changes = {
            metric.name: _mean([cell[metric.name].difference_to_unrefined for cell in cells]) for metric in table.shown
        }
        steps = {next(iter(cell.values())).step for cell in cells}
        step = _step(epoch, steps.pop()) if len(steps) == 1 else "several"
        yield [
            *(exp_name, run_name, AVERAGE, str(epoch), step),
            *_scores(table, table.means(exp_name, run_name, epoch), changes, paired),
            str(table.frames(exp_name, run_name, epoch)),
            table.digest[:8],
        ]


def _mean(values: Sequence[float | None]) -> float | None:
    """None where a scene has none: a mean over other scenes than the line beside it would not compare."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _published_parts(board: Leaderboard) -> Iterator[str]:
    """Published figures, with the averages of runs on the same dataset beside them."""
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
                lines += _ours_on_the_dataset(table, [metric.name for metric in metrics])
        yield f"### {TASK_TITLES[task]}\n\n" + _markdown([header, *lines], n_names=1)


def _ours_on_the_dataset(table: ScoreTable, names: Sequence[str]) -> Iterator[list[str]]:
    for exp_name, run_name in table.runs:
        epoch = table.epochs_of(exp_name, run_name)[-1]
        scenes = table.scenes_of(exp_name, run_name, epoch)
        if {dataset_of(scene) for scene in scenes} == {DATASET}:
            means = table.means(exp_name, run_name, epoch)
            shown = [
                metric.number(means.get(metric.name)) for metric in shown_metrics(table.task) if metric.name in names
            ]
            yield [f"{exp_name}/{run_name}, epoch {epoch}", *shown, f"`{table.digest[:8]}`, {len(scenes)} scenes"]


def scene_tables_text(board: Leaderboard) -> str:
    """A table a run at its last epoch: a row a scene, `avg` last, a column a metric; for pasting into notes."""
    parts = []
    for table in score_tables(board):
        for exp_name, run_name in table.runs:
            epoch = table.epochs_of(exp_name, run_name)[-1]
            scenes = table.scenes_of(exp_name, run_name, epoch)
            lines = [["scene", *(metric.heading for metric in table.shown)]]
            for scene in scenes:
                cell = table.cells[exp_name, run_name, scene, epoch]
                lines.append([scene, *(metric.number(cell[metric.name].value) for metric in table.shown)])
            means = table.means(exp_name, run_name, epoch)
            lines.append([AVERAGE, *(metric.number(means[metric.name]) for metric in table.shown)])
            title = f"**{exp_name} / {run_name}, epoch {epoch}, {TASK_TITLES[table.task].lower()}** (protocol `{table.digest[:8]}`)"
            parts.append(f"{title}\n\n{_markdown(lines, n_names=1)}")
    return "\n\n".join(parts) + "\n" if parts else NOTHING


def _as_text(text: str) -> str:
    """Text from files on disk: what it holds of markup shows as it is."""
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("[", "\\["), ("]", "\\]"), ("|", "\\|")):
        text = text.replace(character, escaped)
    return " ".join(text.split())


def _markdown(lines: Sequence[Sequence[str]], *, n_names: int) -> str:
    """Lines as a Markdown table: the first columns are names, the others numbers."""
    text = []
    for number, line in enumerate(lines):
        text.append("| " + " | ".join(line) + " |")
        if number == 0:
            text.append("| " + " | ".join(["---"] * n_names + ["---:"] * (len(line) - n_names)) + " |")
    return "\n".join(text)
