"""`manifest.json` of an evaluated scene: written last, from what is on disk, so that it never names an epoch that is not whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.metric_tables import read_protocol
from thesis_assets.evaluation.outputs import known_versions, verified
from thesis_assets.evaluation.units import absent_tasks, enabled_tasks, prediction_unit, task_unit
from thesis_assets.layout import POSE_TASKS, epoch_name
from thesis_assets.provenance import CODE_VERSIONS, Contents, Older, Place, Unit, Wanted, begin, recorded
from thesis_assets.schemas.evaluation import EvaluationManifest, Protocol


def write_manifest(cell: EvaluationCell, on_progress: Progress = silent) -> EvaluationManifest:
    """Look at every enabled task of every epoch, and write what is whole; the rest stands in `notes` with its reason."""
    contents, absent = Contents(), absent_tasks(cell)
    tasks = [task for task in cell.tasks if task not in absent]
    reasons = {epoch: _incompleteness(cell, tasks, epoch, step, contents) for epoch, step in cell.epoch_steps().items()}
    whole = [epoch for epoch, reason in reasons.items() if reason is None]
    protocols = [
        protocol for epoch in whole for task in tasks if (protocol := read_protocol(cell.tree.task(epoch, task)))
    ]
    manifest = EvaluationManifest(
        output_layout_version="v1",
        eval_epochs=[epoch_name(epoch) for epoch in whole],
        **manifest_facts(cell, tasks, protocols),
        notes={
            "run_name": cell.run_name,
            "epoch_steps": {epoch_name(each.epoch): each.step for each in protocols},
            "absent_tasks": absent,
            "incomplete_epochs": {epoch_name(epoch): reason for epoch, reason in reasons.items() if reason is not None},
            "predictions": cell.experiment.evaluation.predictions.source,
        },
    )
    unit, content = _unit(cell, whole, tasks), storage.to_json_bytes(manifest)
    if not (verified(unit, contents).is_made and cell.tree.manifest.read_bytes() == content):
        making = begin(unit, contents)
        storage.write_bytes(cell.tree.manifest, content)
        making.finish([cell.tree.manifest])
    on_progress(f"{cell.scene.name}: manifest with {len(whole)} epochs of {', '.join(tasks) or 'no task'}")
    return manifest


def manifest_unit(cell: EvaluationCell) -> Unit:
    """The manifest as it is wanted: of every epoch of every task that the scene can have, or has."""
    return _unit(cell, list(cell.epoch_steps()), enabled_tasks(cell))


def _unit(cell: EvaluationCell, epochs: Sequence[int], tasks: Sequence[str]) -> Unit:
    tree = cell.tree
    trees = {f"evaluation/{epoch_name(epoch)}/{task}": tree.task(epoch, task) for epoch in epochs for task in tasks}
    place = Place(tree.base, tree.manifest_made_from)
    record = recorded(place)
    # Of an older tree numbers may be given their records after the manifest was given its own.
    older = record if record is not None and record.noted.get("taken_over") else None
    versions = known_versions(older, {name: Place(task.base, task.made_from) for name, task in trees.items()})
    wanted = Wanted(
        "evaluation_manifest", CODE_VERSIONS["evaluation_manifest"], made={"tasks": ", ".join(tasks), **versions}
    )
    return Unit(f"manifest of {cell.scene.name}", place, wanted, lambda: _older(cell))


def _older(cell: EvaluationCell) -> Older | None:
    """A manifest that a version without records wrote: one that names every epoch, and so none that was taken back since."""
    try:
        manifest = storage.read_json(cell.tree.manifest, EvaluationManifest)
    except InvalidFile:
        return None
    names_all = manifest.eval_epochs == [epoch_name(epoch) for epoch in cell.epoch_steps()]
    return Older([cell.tree.manifest]) if names_all else None


def _incompleteness(
    cell: EvaluationCell, tasks: list[str], epoch: int, step: int | None, contents: Contents
) -> str | None:
    """Why an epoch is not whole; None where it is."""
    for name in tasks:
        units = [task_unit(cell, epoch, name), *([prediction_unit(cell, epoch)] if name == "nvs" else [])]
        for unit in units:
            verdict = unit.look(contents)
            if verdict.state in ("missing", "damaged"):
                return f"{unit.name}: {verdict.in_words}"
        protocol = read_protocol(cell.tree.task(epoch, name))
        # A tree that numbers were taken from says which step they are of, and may be gone.
        ours = cell.experiment.evaluation.predictions.source == "refine"
        if protocol is None or (ours and protocol.step != step):
            return f"{name} was measured at step {protocol.step if protocol else None}, and the epoch is step {step}"
    return None if tasks else "no task can be done for this scene"


def manifest_facts(cell: EvaluationCell, tasks: Sequence[str], protocols: Sequence[Protocol]) -> dict[str, Any]:
    """What the manifest says of a scene by the protocols of its finished tasks, by the manifest's keys."""
    alignments = {str(each.comparable["world_alignment"]) for each in protocols if each.task in POSE_TASKS}
    return {
        "exp_name": cell.exp_name,
        "scene_name": cell.scene.name,
        "tasks": list(tasks),
        "source_camera_id": _source_camera(cell, protocols),
        "nvs_cameras": sorted(
            {int(cam) for each in protocols if each.task == "nvs" for cam in each.comparable["cameras"]}
        ),
        "pose_eval_world_alignment_method": ", ".join(sorted(alignments)) or None,
    }


def _source_camera(cell: EvaluationCell, protocols: Sequence[Protocol]) -> int | None:
    """The scene's; of one that is gone, what its numbers were measured with."""
    try:
        return cell.source_camera()
    except ThesisAssetsError:
        said = {each.details.get("source_camera") for each in protocols}
        if len(said) == 1 and isinstance(only := said.pop(), int):
            return only
        raise
