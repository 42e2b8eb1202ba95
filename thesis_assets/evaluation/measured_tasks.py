"""The measured numbers of a task as they lie in a tree: its rows by frame, and what must be equal before two are compared.

A tree of older scripts has no `protocol.json`: its PSNR enters as `psnr_channel_sum`, and how it was measured is not known.
Does not belong here: any comparison (`leaderboard`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.metric_tables import first_columns, read_table
from thesis_assets.evaluation.protocols import read_protocol
from thesis_assets.evaluation.task_faults import Row, frame_columns, frame_table, row_name
from thesis_assets.layout import TaskTree
from thesis_assets.schemas.evaluation import NVS_RESULT_KEYS, POSE_METRICS

OF_THE_SCENE = ("cameras", "depth_camera", "identity_mapping")
"""Parts of a protocol that may differ between scenes which are averaged: the source camera is not the same everywhere."""
NOT_STATED = {"protocol": "not stated: there is no protocol.json"}
OLDER_NVS_COLUMNS = ("camera_id", "frame_id", "psnr", "ssim", "lpips")
OLDER_POSE_COLUMNS = ("frame_id", "rr_mpjpe_mm", "rr_mve_mm", "cd_mm", "pcdr")


@dataclass(frozen=True, eq=False)
class MeasuredTask:
    """One task of one scene at one epoch.

    Attributes:
        step: the checkpoint; None is unrefined, or not known.
        comparable: what must be equal between two that are paired.
        rows: metrics by `cam_4/000003` or `000003`; empty where the table cannot be read.
        stated: whether a protocol says how the numbers were made.
    """

    task: str
    epoch: int
    step: int | None
    comparable: dict[str, Any]
    rows: dict[str, Row]
    stated: bool

    @property
    def metrics(self) -> tuple[str, ...]:
        return NVS_RESULT_KEYS if self.task == "nvs" else POSE_METRICS

    @property
    def protocol_digest(self) -> str:
        """Equal where two may be paired."""
        return storage.sha256_value(self.comparable)

    @property
    def of_all_scenes(self) -> dict[str, Any]:
        """The parts of the protocol that every scene of a table shares."""
        if not self.stated:
            return NOT_STATED
        return {key: value for key, value in self.comparable.items() if key not in OF_THE_SCENE}

    @property
    def table_digest(self) -> str:
        """Equal where two may stand in one table and be averaged over scenes."""
        return storage.sha256_value(self.of_all_scenes)


def measured_task(tree: TaskTree, epoch: int) -> MeasuredTask | None:
    """What was measured; None where the task is not finished, or was written by another version."""
    protocol = read_protocol(tree)
    if protocol is None:
        return _older(tree, epoch)
    try:
        rows = read_table(frame_table(tree), frame_columns(tree))
    except InvalidFile:  # shown as rows without a value; the required-files check names the file
        rows = []
    by_name = {row_name(row): row for row in rows}
    # A tree of older scripts that was taken over has a protocol that says just that, under this key.
    stated = "protocol" not in protocol.comparable
    return MeasuredTask(tree.task, protocol.epoch, protocol.step, protocol.comparable, by_name, stated)


def _older(tree: TaskTree, epoch: int) -> MeasuredTask | None:
    """The rows of an older tree under the names that tell what they are; None where it is one of ours without its protocol."""
    columns = OLDER_NVS_COLUMNS if tree.task == "nvs" else OLDER_POSE_COLUMNS
    table = frame_table(tree)
    if tree.protocol.exists() or not table.is_file():
        return None
    try:
        if first_columns(table) != columns:
            return None
        rows = read_table(table, columns)
    except InvalidFile:
        rows = []
    renamed = {row_name(row): _renamed(tree.task, row) for row in rows}
    # Two older trees may have been measured in two ways; within one tree the script was the same.
    comparable = {**NOT_STATED, "tree": str(tree.base.parent.parent)}
    return MeasuredTask(tree.task, epoch, None, comparable, renamed, stated=False)


def _renamed(task: str, row: Row) -> Row:
    if task == "nvs":
        return {**row, "psnr": None, "psnr_channel_sum": row["psnr"]}
    empty: Row = dict.fromkeys(POSE_METRICS)
    return {**empty, **row, "pcdr": None, "pcdr_legacy": row["pcdr"]}
