"""Checks of the files of recordings: they load, are current, and small enough to look at in a browser.

Does not belong here: what they must hold (`contract`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from thesis_assets.errors import InvalidKey
from thesis_assets.layout import TASKS, EvaluationTree
from thesis_assets.provenance import Contents
from thesis_assets.recordings.exports import BYTES_PER_MB, TreeExports, task_recordings
from thesis_assets.recordings.tracks import ExportOptions
from thesis_assets.recordings.tree_tracks import evaluated_epochs
from thesis_assets.recordings.verification import verify_recording
from thesis_assets.schemas.checks import CheckOutcome


def check_recordings_verify(tree: EvaluationTree) -> CheckOutcome:
    """Whether every recording of a tree loads without error."""
    outcomes = [verify_recording(path) for path in recordings_of(tree)]
    offenders = [line for outcome in outcomes for line in outcome.offenders]
    message = f"{len(outcomes)} recordings verified, {len(offenders)} cannot be loaded"
    return CheckOutcome.of(offenders, message=message, counts={"recordings": len(outcomes)})


def check_recordings_current(
    tree: EvaluationTree,
    *,
    run_name: str | None = None,
    scene_name: str | None = None,
    tasks: Sequence[str] = TASKS,
    options: ExportOptions | None = None,
) -> CheckOutcome:
    """Whether every recording is whole and was made from what is on disk now. `options`: None: those that each was made by."""
    exports = TreeExports(tree, run_name, scene_name, options)
    units = {tree.input_data_recording: exports.input_data_unit()} if tree.input_data_dir.is_dir() else {}
    for epoch in evaluated_epochs(tree):
        units |= exports.epoch_units(epoch, tasks)
    contents = Contents()
    verdicts = {path: unit.look(contents) for path, unit in units.items()}
    offenders = [f"{path.name}: {verdict.in_words}" for path, verdict in verdicts.items() if not verdict.is_made]
    offenders += [f"{path.name}: of no epoch that is evaluated here; remove it" for path in _of_other_epochs(tree)]
    message = f"{len(units)} recordings, {len(offenders)} of them not current"
    return CheckOutcome.of(offenders, message=message, counts={"recordings": len(units)})


def _of_other_epochs(tree: EvaluationTree) -> Iterator[Path]:
    """Recordings by a name of ours of epochs that the tree does not have: left from an earlier evaluation, or somebody's."""
    epochs = {None, *evaluated_epochs(tree)}
    for path in recordings_of(tree):
        with contextlib.suppress(InvalidKey):  # what has no name of ours is not ours
            if tree.recording_of(path)[1] not in epochs:
                yield path


def check_recording_sizes(tree: EvaluationTree, max_megabytes: int) -> CheckOutcome:
    """Whether every recording stays within the size budget; the web viewer ends near 2300 MB of memory.

    An epoch that is there by task as well may be larger as a whole.
    """
    whole = {tree.evaluation_recording(epoch) for epoch in evaluated_epochs(tree) if task_recordings(tree, epoch)}
    sizes = {path: path.stat().st_size for path in recordings_of(tree) if path not in whole}
    offenders = [
        f"{path.name}: {size / BYTES_PER_MB:.1f} MB, above {max_megabytes} MB"
        for path, size in sizes.items()
        if size > max_megabytes * BYTES_PER_MB
    ]
    total = sum(sizes.values())
    return CheckOutcome.of(
        offenders,
        message=f"{len(sizes)} recordings, {total / BYTES_PER_MB:.1f} MB",
        counts={"recordings": len(sizes), "bytes": total, "largest_bytes": max(sizes.values(), default=0)},
    )


def recordings_of(tree: EvaluationTree) -> list[Path]:
    """The .rrd files of a tree, by name."""
    return sorted(tree.rerun_dir.glob("*.rrd"))


# --- a recording against what is wanted ------------------------------------------------------------------------------
