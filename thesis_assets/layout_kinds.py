"""Every kind of path of `layout` that carries ids: its fields, and how `layout` builds it from them. Pure: no IO.

Does not belong here: any path, or the form of an id.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.layout import POSE_TASKS, SceneFolders


@dataclass(frozen=True)
class PathKind:
    """One kind of path of a tree. `build`: the tree and the fields by name -> the path."""

    fields: tuple[str, ...]
    build: Callable[..., Path]


def _difix_kinds() -> Iterator[tuple[str, PathKind]]:
    for name in ("image", "target_image", "ref_image", "sample_meta", "sample_dir"):
        yield name, _kind(lambda tree, sample, name=name: getattr(tree, name)(sample), "sample")
    yield "lock", _kind(lambda tree, cell: tree.lock(cell), "cell")
    for name in ("record", "exit_file", "answer", "told_dir"):
        yield f"cell_job/{name}", _kind(lambda tree, cell, name=name: getattr(tree.job(cell), name), "cell")
    for name in ("render_stdout", "render_stderr", "render_job"):
        yield name, _kind(lambda tree, scene_name, name=name: getattr(tree, name)(scene_name), "scene_name")
    for name in ("all_samples", "dropped_samples", "run_stats", "base"):
        yield (
            f"scene_run/{name}",
            _kind(lambda tree, scene_name, name=name: getattr(tree.scene_run(scene_name), name), "scene_name"),
        )
    for name in ("checkpoint", "checkpoint_info", "converted", "eval_metrics", "eval_contact_sheet"):
        yield (
            name,
            _kind(
                lambda tree, run_name, step, name=name: getattr(tree.tuning_run(run_name), name)(step),
                "run_name",
                "step",
            ),
        )
    singles = (
        "train_config",
        "pruned",
        "progress",
        "job",
        "script_job",
        "job_exit",
        "selected_checkpoint",
        "pipeline_overrides",
        "triplet_recording",
        "publication",
        "base",
    )
    for name in singles:
        yield (
            f"tuning_run/{name}",
            _kind(lambda tree, run_name, name=name: getattr(tree.tuning_run(run_name), name), "run_name"),
        )


def _scene_kinds() -> Iterator[tuple[str, PathKind]]:
    for root in ("ground_truth", "estimated"):
        for name, kind in _folder_kinds():
            yield (
                f"{root}/{name}",
                PathKind(kind.fields, lambda tree, root=root, kind=kind, **ids: kind.build(getattr(tree, root), **ids)),
            )
    yield "render", _kind(lambda tree, cam_id, fname: tree.render(cam_id, fname), "cam_id", "fname")


def _folder_kinds() -> Iterator[tuple[str, PathKind]]:
    """The kinds of one `SceneFolders`."""
    yield "image", _kind(SceneFolders.image, "cam_id", "fname", "suffix")
    yield "camera", _kind(SceneFolders.camera, "cam_id", "fname")
    yield "mask", _kind(SceneFolders.mask, "cam_id", "person", "fname")
    yield "depth", _kind(SceneFolders.depth, "cam_id", "fname")
    yield "mesh", _kind(SceneFolders.mesh, "fname")
    yield "gaussians", _kind(SceneFolders.gaussians, "fname")
    yield "canonical_gaussians", _kind(SceneFolders.canonical_gaussians, "person")
    for model in ("smplx", "smpl"):
        yield model, _kind(lambda folders, fname, model=model: folders.body(model, fname), "fname")


def _evaluation_kinds() -> Iterator[tuple[str, PathKind]]:
    for split in ("train", "test"):
        for name, kind in _folder_kinds():
            yield (
                f"input_data/{split}/{name}",
                PathKind(
                    kind.fields, lambda tree, split=split, kind=kind, **ids: kind.build(tree.input_data(split), **ids)
                ),
            )
    for name in ("rgb", "depth", "gt_input"):
        yield (
            f"training_artifacts/{name}",
            _kind(lambda tree, epoch, name=name: tree.training_artifacts(epoch, name), "epoch"),
        )
    yield "training_artifacts_record", _kind(lambda tree, epoch: tree.training_artifacts_record(epoch), "epoch")
    yield "epoch_dir", _kind(lambda tree, epoch: tree.epoch_dir(epoch), "epoch")
    yield "evaluation_recording", _kind(lambda tree, epoch: tree.evaluation_recording(epoch), "epoch")
    yield from _nvs_kinds()
    for task in POSE_TASKS:
        yield from _pose_kinds(task)


def _nvs_kinds() -> Iterator[tuple[str, PathKind]]:
    yield from _task_kinds("nvs", ("prediction_record", "nvs_results", "nvs_per_camera", "nvs_per_frame"))
    for name in ("input_render", "input_mask", "input_camera", "pred_image", "gt_image", "older_metric_picture"):
        yield (
            f"nvs/{name}",
            _kind(
                lambda tree, epoch, cam_id, fname, name=name: getattr(tree.task(epoch, "nvs"), name)(cam_id, fname),
                *("epoch", "cam_id", "fname"),
            ),
        )
    for name in ("render_vs_gt", "render_white_bg"):
        yield (
            f"nvs/viz/{name}",
            _kind(
                lambda tree, epoch, cam_id, fname, name=name: tree.task(epoch, "nvs").viz_image(cam_id, name, fname),
                *("epoch", "cam_id", "fname"),
            ),
        )
    yield (
        "nvs/viz_video",
        _kind(lambda tree, epoch, cam_id: tree.task(epoch, "nvs").viz_video(cam_id), "epoch", "cam_id"),
    )


def _pose_kinds(task: str) -> Iterator[tuple[str, PathKind]]:
    yield from _task_kinds(task, ("pose_results", "pose_per_frame"))
    for name in ("input_body", "true_body", "pose_overlay"):
        yield (
            f"{task}/{name}",
            _kind(lambda tree, epoch, fname, name=name: getattr(tree.task(epoch, task), name)(fname), "epoch", "fname"),
        )
    for side in ("pred", "gt_inputs"):
        for alignment in ("world_aligned", "root_aligned"):
            place = f"{task}/{side}/{alignment}"
            yield (
                f"{place}/mesh",
                _kind(
                    lambda tree, epoch, fname, of=(side, alignment): tree.task(epoch, task).mesh(*of, fname),
                    "epoch",
                    "fname",
                ),
            )
            yield (
                f"{place}/person_mesh",
                _kind(
                    lambda tree, epoch, person_number, fname, of=(side, alignment): tree.task(epoch, task).person_mesh(
                        *of, person_number, fname
                    ),
                    *("epoch", "person_number", "fname"),
                ),
            )


def _task_kinds(task: str, names: tuple[str, ...]) -> Iterator[tuple[str, PathKind]]:
    for name in ("base", "protocol", *names):
        yield f"{task}/{name}", _kind(lambda tree, epoch, name=name: getattr(tree.task(epoch, task), name), "epoch")
    yield f"{task}/recording", _kind(lambda tree, epoch: tree.task_recording(epoch, task), "epoch")


def _kind(build: Callable[..., Path], *fields: str) -> PathKind:
    return PathKind(fields, build)


DIFIX_KINDS = dict(_difix_kinds())
"""Of a `DifixTree`, by name."""
EVALUATION_KINDS = dict(_evaluation_kinds())
"""Of an `EvaluationTree`, by name."""
SCENE_KINDS = dict(_scene_kinds())
"""Of a `SceneTree`, by name."""
