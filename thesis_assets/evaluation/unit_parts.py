"""What the units of an evaluated scene have in common: its files by name, options as in the experiment's file, data versions.

Does not belong here: which of them make one output (`prediction_units`, `task_units`, and the room's writers).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.provenance import (
    Contents,
    MadeFrom,
    Output,
    Place,
    Unit,
    Verdict,
    kept_part,
    options_of,
    read_record,
    take_over,
)
from thesis_assets.schemas.tuning import CheckpointInfo

Options = dict[str, Any]
CHOICE = (
    "evaluation.cameras",
    "evaluation.frames",
    "generation.source_camera",
    "generation.target_cameras",
    "generation.frames.apply_skip_frames",
)
"""The options that choose cameras and frames."""


def verified(unit: Unit, contents: Contents | None = None) -> Verdict:
    """A look at an output that is about to be made; what an older version left is given its record first."""
    take_over(unit, contents)
    return unit.look(contents)


def described(
    place: Place, files: Sequence[Path], written: Mapping[Path, Output], contents: Contents
) -> dict[str, Output]:
    """The outputs of a record, by name; a file that was digested as it was written is not read again."""
    others = [path for path in files if path not in written]
    found = dict(zip(others, contents.sha256_of(others), strict=True))
    return {
        place.name(path): written.get(path) or Output(path.stat().st_size, found[path] or storage.sha256_file(path))
        for path in files
    }


def recorded(place: Place) -> MadeFrom | None:
    """The record there; None also where it cannot be read, which a look says."""
    try:
        return read_record(place)
    except InvalidFile:
        return None


def kept(cell: EvaluationCell, record: MadeFrom | None) -> EvaluationCell:
    """The cell by the options that its output was made with, where the experiment's file does not set them."""
    if record is None:
        return cell
    spec, then = cell.experiment, record.options
    evaluation, generation = spec.evaluation, spec.generation
    as_then = {
        "evaluation": evaluation.model_copy(
            update={
                "nvs": kept_part("evaluation.nvs", evaluation.nvs, then),
                "pose": kept_part("evaluation.pose", evaluation.pose, then),
                "frames": kept_part("evaluation.frames", evaluation.frames, then),
            }
        ),
        "generation": generation.model_copy(
            update={
                "filtering": kept_part("generation.filtering", generation.filtering, then),
                "frames": kept_part("generation.frames", generation.frames, then),
            }
        ),
    }
    return replace(cell, experiment=spec.model_copy(update=as_then))


def picked(cell: EvaluationCell, as_kept: EvaluationCell, keys: Sequence[str]) -> tuple[Options, Options]:
    """Some options of an experiment: resolved, as kept; and those of them that its file sets.

    Args:
        keys: dotted, as in the file.
    """
    if cell.experiment.evaluation.cameras:  # then the samples' cameras choose nothing
        keys = [key for key in keys if key != "generation.target_cameras"]
    resolved, _ = options_of(_parts(as_kept))
    _, given = options_of(_parts(cell))
    return _only(resolved, keys), _only(given, keys)


def _parts(cell: EvaluationCell) -> dict[str, Any]:
    return {"evaluation": cell.experiment.evaluation, "generation": cell.experiment.generation}


def _only(options: Mapping[str, Any], keys: Sequence[str]) -> Options:
    found: Options = {}
    for key in keys:
        *folders, last = key.split(".")
        source: Any = options
        for word in folders:
            source = source.get(word, {})
        if last in source:
            target = found
            for word in folders:
                target = target.setdefault(word, {})
            target[last] = source[last]
    return found


def with_step(cell: EvaluationCell, epoch: int, options: Mapping[str, Any]) -> Options:
    """The options, and which checkpoint the epoch stands for, where the experiment says it."""
    if cell.experiment.evaluation.predictions.source != "refine":
        return dict(options)
    return at_step(options, epoch, cell.epoch_steps()[epoch])


def at_step(options: Mapping[str, Any], epoch: int, step: int | None) -> Options:
    """The options, with an epoch that stands for a checkpoint, or for the unrefined render."""
    epochs = {str(epoch): "unrefined" if step is None else {"step": step}}
    return {**options, "evaluation": {**options.get("evaluation", {}), "epochs": epochs}}


def without_step(options: Mapping[str, Any]) -> Options:
    """The options of all epochs."""
    return {**options, "evaluation": {key: value for key, value in options["evaluation"].items() if key != "epochs"}}


def checkpoint_version(cell: EvaluationCell, epoch: int) -> dict[str, str]:
    """The checkpoint of an epoch that is refined, by its digest; empty where there is none, or none any more."""
    step = cell.epoch_steps()[epoch]
    if step is None:
        return {}
    try:
        info = storage.read_json(cell.tuning_run.checkpoint_info(step), CheckpointInfo)
    except InvalidFile:  # gone: only making the predictions anew needs it, and says so
        return {}
    return {checkpoint_name(step): info.sha256}


def checkpoint_name(step: int) -> str:
    """How records name a checkpoint among their inputs."""
    return f"tuned_checkpoint/model_{step}"


def known_versions(record: MadeFrom | None, places: Mapping[str, Place]) -> dict[str, str]:
    """Data versions of inputs that have a record, by name.

    An output that was made before an input had a record does not name it, and is not stale for the record that came since.
    """
    asked = {name: place for name, place in places.items() if record is None or name in record.inputs}
    found = {name: recorded(place) for name, place in asked.items()}
    return {name: each.data_version for name, each in found.items() if each is not None}


def shard_version(cell: EvaluationCell, record: MadeFrom | None) -> dict[str, str]:
    """The scene's samples in the snapshot: renders are taken from there where they are."""
    place = Place(cell.difix.base, cell.difix.scene_run(cell.scene.name).made_from)
    return known_versions(record, {f"scene_runs/{cell.scene.name}": place})


def by_name(cell: EvaluationCell, paths: Iterable[Path | None]) -> dict[str, Path]:
    """Files of the scene by a name that does not move with its roots: `canonical_gt/<scene>/images/4/000012.jpg`."""
    roots = cell.scene.roots
    words = [
        (f"{root}{os.sep}", word)
        for word, root in (
            ("canonical_gt", roots.canonical_gt),
            ("preprocessing", roots.preprocessing),
            ("registry", roots.registry),
            ("renders", roots.renders),
        )
    ]
    named: dict[str, Path] = {}
    for path in paths:
        if path is not None:
            text = str(path)
            label = next((f"{word}/{text[len(root) :]}" for root, word in words if text.startswith(root)), text)
            named[label] = path
    return named


def choosing_files(cell: EvaluationCell) -> list[Path]:
    """The files that say which camera is the source and which frames are skipped."""
    tree, generation = cell.scene.tree, cell.experiment.generation
    paths = [tree.registry_entry] if generation.source_camera == "registry" else []
    return [*paths, *(each.skip_frames for each in (tree.ground_truth, tree.estimated) if cell.applies_skip_frames)]


def below(word: str, base: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Files by `<word>/<path below base>`."""
    return {f"{word}/{path.relative_to(base).as_posix()}": path for path in paths}


def holds(path: Path, key: str) -> bool:
    """Whether a side file is of a version that wrote no records: it has the digest that it went by.

    What a killed process of ours left is no such file: it is made again.
    """
    try:
        value = storage.read_json_value(path)
    except InvalidFile:
        return False
    return isinstance(value, dict) and key in value
