"""Lineage of an evaluated scene: its numbers, the predictions they were computed from, the checkpoint that made those."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.metric_tables import task_faults
from thesis_assets.layout import DifixTree, EvaluationTree, epoch_name, parse_epoch
from thesis_assets.provenance import Contents, Place, Unit, Wanted, examine, read_record, recorded
from thesis_assets.schemas.evaluation import EvaluationManifest, PredictionRecord, Protocol
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.storage import read_json, sha256_file
from thesis_assets.tuning.lineage import checkpoint_lineage

if TYPE_CHECKING:
    from thesis_assets.scenes.listing import SceneRoots


def evaluation_lineage(
    tree: EvaluationTree,
    difix: DifixTree,
    run_name: str,
    roots: SceneRoots,
    *,
    epochs: Sequence[int] = (),
    tasks: Sequence[str] = (),
) -> LineageLink:
    """An evaluated scene of a run.

    Args:
        epochs: none means every epoch of the manifest.
        tasks: none means every task of the manifest.
    """
    try:
        manifest = read_json(tree.manifest, EvaluationManifest)
    except InvalidFile as error:
        return linked("evaluation", str(tree.base), path=tree.manifest, faults=[error.in_one_line])
    wanted_epochs = list(epochs) or [parse_epoch(name) for name in manifest.eval_epochs]
    wanted_tasks = list(tasks) or manifest.tasks
    faults = [
        f"manifest.json has no {what} {', '.join(lacking)}"
        for what, lacking in (
            ("epoch", [n for n in map(epoch_name, wanted_epochs) if n not in manifest.eval_epochs]),
            ("task", [task for task in wanted_tasks if task not in manifest.tasks]),
        )
        if lacking
    ]
    found, verified = _against_record(Place(tree.base, tree.manifest_made_from), Contents())
    return linked(
        "evaluation",
        f"{manifest.exp_name}/{run_name}/{manifest.scene_name}",
        path=tree.manifest,
        digest=sha256_file(tree.manifest),
        faults=[*faults, *found],
        verified=verified,
        made_from=_epochs(tree, difix, run_name, roots, wanted_epochs, wanted_tasks),
    )


def place_of(tree: EvaluationTree, path: Path) -> tuple[list[int], list[str]]:
    """The epoch and the task that a file of the tree belongs to; empty where it belongs to all of them."""
    relative = tree.relative(path)
    epoch = re.search(r"epoch_\d{4,9}", relative)
    task = re.search(r"(?:^|/)(nvs|pose_smplx|pose_smpl)(?:/|_epoch_)", relative)
    return [parse_epoch(epoch[0])] if epoch else [], [task[1]] if task else []


def _epochs(
    tree: EvaluationTree,
    difix: DifixTree,
    run_name: str,
    roots: SceneRoots,
    epochs: Sequence[int],
    tasks: Sequence[str],
) -> list[LineageLink]:
    """A link an epoch. The first refined one carries the chain below its checkpoint: that of the others is the same."""
    links, told, contents = [], False, Contents()
    for epoch in epochs:
        below = [_numbers(tree, epoch, task, contents) for task in tasks if tree.task(epoch, task).base.is_dir()]
        predictions = _predictions(tree, difix, run_name, None if told else roots, epoch, contents)
        told = told or bool(predictions.made_from)
        name, place = epoch_name(epoch), tree.epoch_dir(epoch)
        links.append(linked("epoch", name, path=place, verified=False, made_from=[*below, predictions]))
    return links


def _against_record(place: Place, contents: Contents, made: Mapping[str, str] | None = None) -> tuple[list[str], bool]:
    """What differs, byte for byte, between files and their record; and whether there is a record to compare with.

    Args:
        made: inputs by the data versions that they have now.
    """
    try:
        record = read_record(place)
    except InvalidFile as error:
        return [error.in_one_line], True
    if record is None:
        return [], False
    asked = {name: version for name, version in (made or {}).items() if name in record.inputs}
    as_recorded = Wanted(record.step, record.code_version, record.options, tools=record.tools, made=asked)
    return list(examine(Unit(record.step, place, as_recorded), contents).reasons), True


def _numbers(tree: EvaluationTree, epoch: int, task: str, contents: Contents) -> LineageLink:
    place = tree.task(epoch, task)
    predictions = tree.task(epoch, "nvs")
    of_predictions = recorded(Place(predictions.inputs_dir, predictions.predictions_made_from))
    made = {} if of_predictions is None else {"predictions": of_predictions.data_version}
    differing, verified = _against_record(Place(place.base, place.made_from), contents, made)
    try:
        protocol = read_json(place.protocol, Protocol)
    except InvalidFile as error:
        return linked("numbers", task, path=place.protocol, faults=[error.in_one_line])
    faults = [] if protocol.epoch == epoch else [f"protocol.json is of epoch {protocol.epoch}"]
    faults += [f"{file.name}: {problem}" for file, problem in task_faults(place)[:3]]
    try:
        record = read_json(tree.task(epoch, "nvs").prediction_record, PredictionRecord)
    except InvalidFile:  # the predictions' own link says so
        record = None
    if task == "nvs" and record is not None:
        for key, found, wanted in (
            ("step", protocol.step, record.step),
            ("checkpoint_sha256", protocol.details.get("checkpoint_sha256"), record.checkpoint_sha256),
        ):
            if found != wanted:
                faults.append(f"{key} {found}, the predictions' is {wanted}")
    return linked(
        "numbers",
        task,
        path=place.protocol,
        digest=sha256_file(place.protocol),
        faults=[*faults, *differing],
        verified=verified,
    )


def _predictions(
    tree: EvaluationTree,
    difix: DifixTree,
    run_name: str,
    roots: SceneRoots | None,
    epoch: int,
    contents: Contents,
) -> LineageLink:
    task = tree.task(epoch, "nvs")
    path, place = task.prediction_record, Place(task.inputs_dir, task.predictions_made_from)
    try:
        record = read_json(path, PredictionRecord)
    except InvalidFile as error:
        return linked("predictions", path.name, path=path, faults=[error.in_one_line])
    below = []
    if record.step is not None:
        below = [checkpoint_lineage(difix, run_name, record.step, roots, wanted=record.checkpoint_sha256)]
    faults, verified = _against_record(place, contents)
    return linked(
        "predictions",
        path.name,
        path=path,
        digest=None if (made := recorded(place)) is None else made.data_version,
        faults=faults if record.epoch == epoch else [f"made for epoch {record.epoch}", *faults],
        note=f"{record.n_images} images, " + ("unrefined" if record.step is None else f"step {record.step}"),
        verified=verified,
        made_from=below,
    )
