"""Checks of a tree's recordings: entity paths, timelines and rows against the files, in both directions; currency; size.

Does not belong here: which file goes where (`expected_content`), reading an .rrd (`verification`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.evaluation import epoch_recording_units, evaluated_epochs, task_recordings
from thesis_assets.evaluation.qualitative.expected_content import Expectation, ExpectedContent
from thesis_assets.evaluation.qualitative.expected_evaluation import expected_evaluation
from thesis_assets.evaluation.qualitative.expected_input_data import expected_input_data
from thesis_assets.evaluation.qualitative.expected_layout import layout_offenders
from thesis_assets.evaluation.qualitative.input_data import input_data_recording_unit
from thesis_assets.evaluation.qualitative.made_from import recording_facts
from thesis_assets.evaluation.qualitative.tracks import ExportOptions, left_out_paths
from thesis_assets.evaluation.qualitative.verification import (
    EntityContent,
    RecordingContent,
    read_recording,
    verify_recording,
)
from thesis_assets.layout import TASKS, EvaluationTree, epoch_name
from thesis_assets.provenance import Contents
from thesis_assets.schemas.checks import CheckOutcome

BYTES_PER_MB = 1_000_000
_ROW_COMPONENTS = frozenset(
    {
        "EncodedImage:blob",
        "SegmentationImage:buffer",
        "EncodedDepthImage:blob",
        "Points3D:positions",
        "Mesh3D:vertex_positions",
        "Scalars:scalars",
        "TextDocument:text",
        "Pinhole:image_from_camera",
        "Transform3D:translation",
    }
)
"""Components that come from files; the others (colours, names, axes, clears) dress them."""


def check_recording_contract(
    tree: EvaluationTree, *, epochs: Sequence[int] | None = None, tasks: Sequence[str] | None = None
) -> CheckOutcome:
    """Whether the recordings hold what the tree holds, and nothing else: entity, timeline and row.

    Every file must have its row, unless the recording's record names it as left out; every row must have its file.

    Args:
        epochs: None = all that are on disk.
        tasks: None = those that each recording says it was asked for.
    """
    offenders: list[str] = []
    counts: dict[str, int | float] = {"recordings": 0, "entities": 0, "rows": 0, "files": 0}
    wanted: list[_Wanted] = [_Wanted(tree.input_data_recording)] if tree.input_data_dir.is_dir() else []
    for epoch in evaluated_epochs(tree) if epochs is None else epochs:
        wanted.append(_Wanted(tree.evaluation_recording(epoch), "evaluation", epoch, tasks))
        wanted += [_Wanted(path, task, epoch, (task,)) for task, path in task_recordings(tree, epoch).items()]
    for each in wanted:
        path = each.path
        try:
            offenders += _check_one(tree, each, counts)
        except InvalidFile as error:
            offenders.append(f"{path.name}: {error.problem}")
    return CheckOutcome.of(
        offenders,
        message=f"{len(wanted)} recordings held against the tree: {len(offenders)} differences",
        counts=counts,
    )


def check_recordings_verify(tree: EvaluationTree) -> CheckOutcome:
    """Whether every recording of a tree loads without error."""
    outcomes = [verify_recording(path) for path in recordings_of(tree)]
    offenders = [line for outcome in outcomes for line in outcome.offenders]
    return CheckOutcome.of(
        offenders,
        message=f"{len(outcomes)} recordings verified, {len(offenders)} cannot be loaded",
        counts={"recordings": len(outcomes)},
    )


def check_recordings_current(
    tree: EvaluationTree,
    *,
    run_name: str | None = None,
    scene_name: str | None = None,
    tasks: Sequence[str] = TASKS,
    options: ExportOptions | None = None,
) -> CheckOutcome:
    """Whether every recording is whole and was made from what is on disk now.

    Args:
        options: None: those that each was made by.
    """
    units = {}
    if tree.input_data_dir.is_dir():
        units[tree.input_data_recording] = input_data_recording_unit(
            tree, run_name=run_name, scene_name=scene_name, options=options
        )
    for epoch in evaluated_epochs(tree):
        units |= epoch_recording_units(
            tree, epoch, tasks=tasks, run_name=run_name, scene_name=scene_name, options=options
        )
    contents = Contents()
    verdicts = {path: unit.look(contents) for path, unit in units.items()}
    offenders = [f"{path.name}: {verdict.in_words}" for path, verdict in verdicts.items() if not verdict.is_made]
    return CheckOutcome.of(
        offenders,
        message=f"{len(units)} recordings, {len(offenders)} of them not current",
        counts={"recordings": len(units)},
    )


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


@dataclass(frozen=True)
class _Wanted:
    """A recording that is to be held against the tree. `tasks`: None = those that it says it was asked for."""

    path: Path
    kind: str = "input_data"
    epoch: int | None = None
    tasks: Sequence[str] | None = None


def _check_one(tree: EvaluationTree, wanted: _Wanted, counts: dict[str, int | float]) -> list[str]:
    path, epoch = wanted.path, wanted.epoch
    content = read_recording(path)
    absent = recording_facts(path).absent
    if "export.max_frames_per_camera" not in content.properties:
        return [f"{path.name}: not one of our exports: the property `export` is missing"]
    tasks = tuple(wanted.tasks or str(content.properties.get("export.tasks") or "").split(","))
    limit = int(content.properties["export.max_frames_per_camera"])
    expected = expected_input_data(tree, limit) if epoch is None else expected_evaluation(tree, epoch, tasks, limit)
    counts["recordings"] += 1
    counts["entities"] += len(content.entities)
    counts["files"] += expected.n_files
    counts["rows"] += sum(sum(entity.row_count.values()) for entity in content.entities.values())
    left_out = left_out_paths(absent)
    offenders = _identity_offenders(content, wanted)
    offenders += [
        f"{source}: no entity is known for this file" for source in expected.unknown if source not in left_out
    ]
    offenders += _missing(expected, content, left_out) + _unfounded(expected, content)
    return [f"{path.name}: {line}" for line in offenders]


def _identity_offenders(content: RecordingContent, wanted: _Wanted) -> list[str]:
    epoch = wanted.epoch
    application = f"thesis_assets_{wanted.kind}" + (f"_{epoch_name(epoch)}" if epoch is not None else "")
    offenders = []
    if content.application_id != application:
        offenders.append(f"application id {content.application_id}, wanted {application}")
    if epoch is not None and content.properties.get("epoch.epoch") != epoch:
        offenders.append(f"the property `epoch` is {content.properties.get('epoch.epoch')}, wanted {epoch}")
    return offenders + layout_offenders(content)


def _missing(expected: ExpectedContent, content: RecordingContent, left_out: set[str]) -> list[str]:
    """What the tree has and the recording has not."""
    offenders = []
    for (entity, component), expectation in expected.entities.items():
        found = content.entities.get(entity, EntityContent())
        if expectation.static:
            usable = not expectation.frames or any(
                not _excused(sources, left_out) for sources in expectation.frames.values()
            )
            if usable and component not in found.static:
                offenders.append(f"{entity} {component}: not there as a static part")
            continue
        timeline = expectation.timelines[0]
        rows = {position for name, position in found.rows.get(component, set()) if name == timeline}
        offenders += [
            f"{entity} {component}: no row at {timeline} {frame}, from {sources[0]}"
            for frame, sources in sorted(expectation.frames.items())
            if frame not in rows and not _excused(sources, left_out, every=not expectation.of_both)
        ]
        offenders += _wrong_timelines(entity, expectation, found, component)
    return offenders


def _excused(sources: list[str], left_out: set[str], *, every: bool = True) -> bool:
    """Whether every file (or any one) that a row comes from is named as left out, itself or with its folder."""
    named = [any(source == path or source.startswith(f"{path}/") for path in left_out) for source in sources]
    return all(named) if every else any(named)


def _wrong_timelines(entity: str, expectation: Expectation, found: EntityContent, component: str) -> list[str]:
    timelines = {name for name, _ in found.rows.get(component, set())}
    if timelines and timelines != set(expectation.timelines):
        wanted = ", ".join(expectation.timelines)
        return [f"{entity} {component}: on timelines {', '.join(sorted(timelines))}, wanted {wanted}"]
    return []


def _unfounded(expected: ExpectedContent, content: RecordingContent) -> list[str]:
    """What the recording has and the tree has not, and rows that stand twice."""
    offenders = []
    for entity, found in content.entities.items():
        for component in sorted((found.static | set(found.rows)) & _ROW_COMPONENTS):
            expectation = expected.entities.get((entity, component))
            if expectation is None:
                offenders.append(f"{entity} {component}: nothing in the tree belongs to it")
                continue
            if component in found.static and not expectation.static:
                offenders.append(f"{entity} {component}: static, though it changes over frames")
            positions = {place for name, place in found.rows.get(component, set()) if name == expectation.timelines[0]}
            extra = sorted(positions - set(expectation.frames))
            offenders += [f"{entity} {component}: row {place} has no file" for place in extra]
            if found.row_count.get(component, 0) > len(positions):
                offenders.append(f"{entity} {component}: {found.row_count[component]} rows at {len(positions)} places")
    return offenders
