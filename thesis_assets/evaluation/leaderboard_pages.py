"""The leaderboard as text: a Markdown page of tables a task, and one CSV of everything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from thesis_assets.evaluation.metric_tables import mean_of
from thesis_assets.schemas.evaluation import LeaderboardRow

# Metric, heading, decimals.
NVS_SHOWN = (
    ("psnr", "PSNR ↑ dB", 3),
    ("ssim", "SSIM ↑", 4),
    ("lpips", "LPIPS ↓", 4),
    ("psnr_channel_sum", "PSNR* ↑ dB", 3),
)
POSE_SHOWN = (
    ("rr_mpjpe_mm", "RR-MPJPE ↓ mm", 2),
    ("rr_mve_mm", "RR-MVE ↓ mm", 2),
    ("cd_mm", "CD ↓ mm", 2),
    ("pcdr", "PCDR ↑", 3),
    ("mpjpe_mm", "MPJPE ↓ mm", 2),
    ("mve_mm", "MVE ↓ mm", 2),
    ("pa_mpjpe_mm", "PA-MPJPE ↓ mm", 2),
)
AVERAGE = "avg"
Cell = tuple[str, str, str, int]
"""Experiment, run, scene, epoch: one line of a table."""


def csv_text(rows: Sequence[LeaderboardRow]) -> str:
    """Every row, every field; an empty field for what is absent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(LeaderboardRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.model_dump().items()} for row in rows)
    return text.getvalue()


def markdown_text(rows: Sequence[LeaderboardRow], *, plot_name: str) -> str:
    """The page: the plot, a table of novel views, a table a body model, and how to read them."""
    if not rows:
        return "# Leaderboard\n\nNothing is evaluated yet.\n"
    parts = ["# Leaderboard", f"![PSNR difference to the unrefined render]({plot_name})"]
    for task, title, shown in (
        ("nvs", "Novel views", NVS_SHOWN),
        ("pose_smplx", "Bodies, SMPL-X", POSE_SHOWN),
        ("pose_smpl", "Bodies, SMPL", POSE_SHOWN),
    ):
        of_task = [row for row in rows if row.task == task]
        if of_task:
            parts += [f"## {title}", _table(of_task, shown)]
    parts.append(
        "Δ: the mean over frames of (this epoch minus the unrefined render of the same frame), measured under the same "
        "protocol; empty where there is no such pair. A line's protocol is the beginning of its digest: lines with different "
        "ones do not compare. PSNR\\*: squared errors summed over the channels but divided by the pixels, 4.771 dB lower. "
        f"`{AVERAGE}`: the mean over the scenes of a run, where there are several."
    )
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[LeaderboardRow], shown: Sequence[tuple[str, str, int]]) -> str:
    by_cell: dict[Cell, dict[str, LeaderboardRow]] = {}
    for row in rows:
        by_cell.setdefault((row.exp_name, row.run_name, row.scene_name, row.epoch), {})[row.metric] = row
    paired = {metric for metric, _, _ in shown if any(_differs(cell.get(metric)) for cell in by_cell.values())}
    heading = ["experiment", "run", "scene", "epoch", "step"]
    for metric, title, _ in shown:
        heading += [title, "Δ"] if metric in paired else [title]
    lines = [[*heading, "frames", "protocol"]]
    groups: dict[tuple[str, str], list[Cell]] = {}
    for key in sorted(by_cell):
        groups.setdefault(key[:2], []).append(key)
    for cells in groups.values():
        lines += [_line(key[2], by_cell[key], shown, paired) for key in cells]
        lines += _averages([by_cell[key] for key in cells], shown, paired)
    return "\n".join(_markdown_rows(lines))


def _differs(row: LeaderboardRow | None) -> bool:
    """Whether there is a difference worth a column: bodies do not move when renders are refined."""
    return row is not None and row.difference_to_unrefined not in (None, 0.0)


def _line(
    scene: str, metrics: dict[str, LeaderboardRow], shown: Sequence[tuple[str, str, int]], paired: set[str]
) -> list[str]:
    first = next(iter(metrics.values()))
    step = "unrefined" if first.step is None else str(first.step)
    line = [first.exp_name, first.run_name, scene, str(first.epoch), step]
    for metric, _, decimals in shown:
        row = metrics.get(metric)
        line.append(_number(row.value if row else None, decimals))
        if metric in paired:
            line.append(_number(row.difference_to_unrefined if row else None, decimals, sign=True))
    return [*line, str(max(row.n_frames for row in metrics.values())), first.protocol_digest[:8]]


def _averages(
    cells: Sequence[dict[str, LeaderboardRow]], shown: Sequence[tuple[str, str, int]], paired: set[str]
) -> list[list[str]]:
    """One line an epoch over the scenes of a run; none for a single scene, or where the protocols differ."""
    by_epoch: dict[int, list[dict[str, LeaderboardRow]]] = {}
    for cell in cells:
        by_epoch.setdefault(next(iter(cell.values())).epoch, []).append(cell)
    lines = []
    for of_epoch in by_epoch.values():
        digests = {row.protocol_digest for cell in of_epoch for row in cell.values()}
        if len(of_epoch) < 2 or len(digests) > 1:
            continue
        means = {}
        for metric in {metric for cell in of_epoch for metric in cell}:
            rows = [cell[metric] for cell in of_epoch]
            values = [{"value": row.value, "difference": row.difference_to_unrefined} for row in rows]
            update = {
                "value": mean_of(values, "value"),
                "difference_to_unrefined": mean_of(values, "difference"),
                "n_frames": sum(row.n_frames for row in rows),
            }
            means[metric] = rows[0].model_copy(update=update)
        lines.append(_line(AVERAGE, means, shown, paired))
    return lines


def _number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    return "" if value is None else format(value, f"{'+' if sign else ''}.{decimals}f")


def _markdown_rows(lines: Sequence[Sequence[str]]) -> Iterable[str]:
    for number, line in enumerate(lines):
        yield "| " + " | ".join(line) + " |"
        if number == 0:
            yield "| " + " | ".join(["---"] * 5 + ["---:"] * (len(line) - 6) + ["---"]) + " |"
