"""The leaderboard: a row a metric of every (experiment, run, scene, epoch, task), with its paired difference to the unrefined render.

Differences are paired by frame: the effect is about 0.1 dB, a tenth of what frames differ among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.leaderboard_pages import csv_text, markdown_text
from thesis_assets.evaluation.leaderboard_plot import difference_plot
from thesis_assets.evaluation.metric_tables import mean_of, read_table
from thesis_assets.evaluation.protocols import protocol_digest, read_protocol
from thesis_assets.evaluation.task_faults import Row, frame_columns, frame_table, row_name
from thesis_assets.layout import EvaluationTree, ReportsTree, TaskTree, parse_epoch
from thesis_assets.schemas.evaluation import (
    NVS_RESULT_KEYS,
    POSE_METRICS,
    EvaluationManifest,
    LeaderboardRow,
    Protocol,
)

UNREFINED_EPOCH = 0


def build_leaderboard(trees: Sequence[tuple[str, EvaluationTree]]) -> list[LeaderboardRow]:
    """Rows of every evaluated scene, from the trees alone, in the order of the trees, then epoch, task and metric.

    A tree without a manifest has not been evaluated and gives no row; a table that cannot be read gives rows without a value.

    Args:
        trees: (run_name, tree) of each evaluated scene.
    """
    return [row for run_name, tree in trees for row in _rows_of(run_name, tree)]


def write_leaderboard(reports: ReportsTree, rows: Sequence[LeaderboardRow]) -> None:
    """Write the tables as Markdown and CSV, and the plot of PSNR differences."""
    storage.write_text(reports.leaderboard_csv, csv_text(rows))
    storage.write_bytes(reports.leaderboard_plot, difference_plot(rows))
    storage.write_text(reports.leaderboard_markdown, markdown_text(rows, plot_name=reports.leaderboard_plot.name))


def _rows_of(run_name: str, tree: EvaluationTree) -> Iterator[LeaderboardRow]:
    try:
        manifest = storage.read_json(tree.manifest, EvaluationManifest)
    except InvalidFile:  # not evaluated yet; `manifest_matches_disk` is the check that says so
        return
    for name in manifest.tasks:
        unrefined = _measured(tree.task(UNREFINED_EPOCH, name))
        for epoch in map(parse_epoch, manifest.eval_epochs):
            measured = _measured(tree.task(epoch, name))
            if measured is None:
                continue
            paired = unrefined if unrefined and _may_be_paired(unrefined[0], measured[0]) else None
            for metric in NVS_RESULT_KEYS if name == "nvs" else POSE_METRICS:
                yield _row(manifest, run_name, measured, paired, metric)


def _measured(task: TaskTree) -> tuple[Protocol, dict[str, Row]] | None:
    """A task's protocol and its rows by name; no rows where the table cannot be read."""
    protocol = read_protocol(task)
    if protocol is None:
        return None
    try:
        rows = read_table(frame_table(task), frame_columns(task))
    except InvalidFile:  # shown as rows without a value; the required-files check names the file
        rows = []
    return protocol, {row_name(row): row for row in rows}


def _may_be_paired(unrefined: Protocol, measured: Protocol) -> bool:
    return measured.epoch != UNREFINED_EPOCH and unrefined.comparable == measured.comparable and unrefined.step is None


def _row(
    manifest: EvaluationManifest,
    run_name: str,
    measured: tuple[Protocol, dict[str, Row]],
    paired: tuple[Protocol, dict[str, Row]] | None,
    metric: str,
) -> LeaderboardRow:
    protocol, rows = measured
    return LeaderboardRow(
        exp_name=manifest.exp_name,
        run_name=run_name,
        scene_name=manifest.scene_name,
        epoch=protocol.epoch,
        step=protocol.step,
        task=protocol.task,
        metric=metric,
        value=mean_of(rows.values(), metric),
        difference_to_unrefined=paired_difference(rows, paired[1], metric) if paired else None,
        n_frames=sum(row[metric] is not None for row in rows.values()),
        protocol_digest=protocol_digest(protocol),
    )


def paired_difference(rows: dict[str, Row], unrefined: dict[str, Row], metric: str) -> float | None:
    """Mean over the frames that both have of (value - unrefined value); None where they share none."""
    differences: list[Row] = []
    for name in rows.keys() & unrefined.keys():
        value, before = rows[name][metric], unrefined[name][metric]
        if value is not None and before is not None:
            differences.append({metric: value - before})
    return mean_of(differences, metric)
