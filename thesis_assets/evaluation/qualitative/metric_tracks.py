"""Reads metric files of a task into tracks, and writes curves, overall numbers and the summary page into a recording.

Does not belong here: how a metric is computed, where the files lie.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.recording import Recording
from thesis_assets.evaluation.qualitative.tracks import (
    Absences,
    EpochScalar,
    ExportOptions,
    ScalarTrack,
    TextTrack,
)
from thesis_assets.schemas.evaluation import Protocol, parse_results
from thesis_assets.storage import read_json

MAX_TEXT = 20_000


def read_frame_metrics(
    path: Path, metrics: tuple[str, ...], absences: Absences
) -> dict[tuple[int, str], dict[int, float]]:
    """(camera or 0, metric) to frame to value, from a per-frame CSV; empty and non-finite values have no row.

    `camera_id` is looked for but need not be there; a file that cannot be read is noted and gives nothing.
    """
    found: dict[tuple[int, str], dict[int, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                camera, frame = int(row.get("camera_id") or 0), int(row["frame_id"])
                for metric in metrics:
                    text = (row.get(metric) or "").strip()
                    if text and math.isfinite(value := float(text)):
                        found.setdefault((camera, metric), {})[frame] = value
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        absences.left_out(path, f"the table cannot be read: {type(error).__name__} {error}")
        return {}
    return {key: dict(sorted(values.items())) for key, values in found.items()}


def read_overall(path: Path, absences: Absences) -> dict[str, float]:
    """Finite numbers of an overall results file; a file that cannot be read is noted and gives nothing."""
    try:
        values = parse_results(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        absences.left_out(path, f"the results cannot be read: {error}")
        return {}
    return {metric: value for metric, value in values.items() if math.isfinite(value)}


def summary_markdown(title: str, results: Path, per_camera: Path | None, protocol: Path) -> str:
    """The page beside the pictures: overall numbers, a table a camera, and how they were made.

    What cannot be read stands as such on the page; text from files is escaped.
    """
    parts = [f"# {_escaped(title)}", "## Overall", _overall_table(results)]
    if per_camera is not None:
        parts += ["## Per camera", _csv_table(per_camera)]
    parts += ["## Protocol", _protocol_list(protocol)]
    return "\n\n".join(parts)[:MAX_TEXT] + "\n"


def write_scalars(recording: Recording, track: ScalarTrack, options: ExportOptions) -> None:
    """Send one curve on both timelines, `frame` and `epoch`."""
    import rerun as rr

    rows = dict(list(track.rows)[: options.max_frames_per_camera or None])
    if not rows:
        return
    recording.send_static(track.entity, rr.SeriesLines(names=track.name, colors=track.colour, widths=1.5))
    columns = rr.Scalars.columns(scalars=list(rows.values()))
    recording.send_frames(track.entity, list(rows), columns, epoch=track.epoch)


def write_epoch_scalar(recording: Recording, track: EpochScalar) -> None:
    """Send one overall number on the timeline `epoch`."""
    import rerun as rr

    recording.send_epoch(track.entity, track.epoch, rr.Scalars.columns(scalars=[track.value]))


def write_text(recording: Recording, track: TextTrack) -> None:
    """Log a Markdown page, once."""
    import rerun as rr

    recording.send_static(track.entity, rr.TextDocument(track.markdown, media_type="text/markdown"))


def _overall_table(results: Path) -> str:
    try:
        values = parse_results(results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"not there: {_escaped(str(error))}"
    rows = [f"| {_escaped(metric)} | {value:.4f} |" for metric, value in values.items()]
    return "\n".join(["| metric | value |", "| --- | ---: |", *rows])


def _csv_table(path: Path) -> str:
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.reader(handle))[:200]
    except (OSError, csv.Error, ValueError) as error:
        return f"not there: {_escaped(str(error))}"
    if not rows:
        return "not there: the file is empty"
    lines = ["| " + " | ".join(_escaped(_rounded(cell)) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _protocol_list(path: Path) -> str:
    try:
        protocol = read_json(path, Protocol)
    except InvalidFile as error:
        return f"not there: {_escaped(error.problem)}"
    lines = [f"- step: {protocol.step if protocol.step is not None else 'unrefined'}"]
    lines += [f"- {_escaped(key)}: {_escaped(_short(value))}" for key, value in protocol.comparable.items()]
    lines += [f"- {_escaped(metric)} may be empty: {_escaped(why)}" for metric, why in protocol.empty_metrics.items()]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ... ({len(text)} characters)"


def _rounded(cell: str) -> str:
    try:
        return f"{float(cell):.4f}" if "." in cell else cell
    except ValueError:
        return cell


def _escaped(text: str) -> str:
    """Text from a file as Markdown text: no table cell, markup, link or image of its own."""
    for character in "\\`*_[]<>|#!":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
