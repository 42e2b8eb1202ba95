"""`manifest.json` of an evaluated scene: written last, from what is on disk, so that it never names an epoch that is not whole."""

from __future__ import annotations

from thesis_assets import storage
from thesis_assets.evaluation.cell import EvaluationCell, Progress, absent_tasks, silent
from thesis_assets.evaluation.prediction_records import current_record
from thesis_assets.evaluation.protocols import read_protocol
from thesis_assets.evaluation.task_faults import missing_sources, task_faults
from thesis_assets.layout import POSE_TASKS, epoch_name
from thesis_assets.schemas.evaluation import EvaluationManifest, Protocol


def write_manifest(cell: EvaluationCell, on_progress: Progress = silent) -> EvaluationManifest:
    """Look at every enabled task of every epoch, and write what is whole; the rest stands in `notes` with its reason."""
    absent = absent_tasks(cell)
    tasks = [task for task in cell.tasks if task not in absent]
    incomplete: dict[str, str] = {}
    for epoch, step in cell.epoch_steps().items():
        reason = incompleteness(cell, tasks, epoch, step)
        if reason is not None:
            incomplete[epoch_name(epoch)] = reason
    whole = [epoch for epoch in cell.epoch_steps() if epoch_name(epoch) not in incomplete]
    protocols = [
        protocol for epoch in whole for task in tasks if (protocol := read_protocol(cell.tree.task(epoch, task)))
    ]
    manifest = EvaluationManifest(
        output_layout_version="v1",
        exp_name=cell.exp_name,
        scene_name=cell.scene.name,
        tasks=tasks,
        eval_epochs=[epoch_name(epoch) for epoch in whole],
        nvs_cameras=nvs_cameras(protocols),
        source_camera_id=cell.source_camera(),
        pose_eval_world_alignment_method=world_alignment(protocols),
        notes={
            "run_name": cell.run_name,
            "epoch_steps": {epoch_name(epoch): cell.epoch_steps()[epoch] for epoch in whole},
            "absent_tasks": absent,
            "incomplete_epochs": incomplete,
            "predictions": cell.experiment.evaluation.predictions.source,
        },
    )
    storage.write_json(cell.tree.manifest, manifest)
    on_progress(f"{cell.scene.name}: manifest with {len(whole)} epochs of {', '.join(tasks) or 'no task'}")
    return manifest


def incompleteness(cell: EvaluationCell, tasks: list[str], epoch: int, step: int | None) -> str | None:
    """Why an epoch is not whole; None where it is."""
    for name in tasks:
        task = cell.tree.task(epoch, name)
        faults = task_faults(task)
        if faults:
            return f"{cell.tree.relative(faults[0][0])}: {faults[0][1]}"
        protocol = read_protocol(task)
        if protocol is None or protocol.step != step:
            return f"{name} was measured at step {protocol.step if protocol else None}, and the epoch is step {step}"
        if name == "nvs" and current_record(task) is None:
            return f"{cell.tree.relative(task.prediction_record)}: the predictions are not whole"
        missing = next(missing_sources(task), None)
        if missing is not None:
            return f"{cell.tree.relative(missing)}: the file is missing"
    return None if tasks else "no task can be done for this scene"


def nvs_cameras(protocols: list[Protocol]) -> list[int]:
    """The cameras that the novel-view tables have rows of."""
    return sorted({int(cam) for each in protocols if each.task == "nvs" for cam in each.comparable["cameras"]})


def world_alignment(protocols: list[Protocol]) -> str | None:
    """How the pose tasks moved the ground truth; None without a pose task."""
    methods = {str(each.comparable["world_alignment"]) for each in protocols if each.task in POSE_TASKS}
    return ", ".join(sorted(methods)) or None
