"""The names that the thesis's own exporters look for, in trees of the preset `thesis`: further names of files of the document's tree.

They are made in the stagings of the files that they name, so that both are published by one rename and stand in one record.
What the document does not tell (`viz/images`, `pose_state`) was guessed; see docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from thesis_assets.evaluation.outputs import Staging, files_below
from thesis_assets.evaluation.views import View
from thesis_assets.layout import EvaluationTree, TaskTree, camera_folder

Photograph = Callable[[int, str], Path | None]


def name_views(
    tree: EvaluationTree, task: TaskTree, views: Iterable[View], photograph: Photograph, stages: Iterable[Staging]
) -> dict[Path, Path]:
    """Name the compared images, the cameras and the photographs of novel views; nothing in a tree of another layout.

    Args:
        photograph: of a camera and frame, where `input_data/` has none; None: it is gone.
        stages: of `pred/`, `gt_inputs/` and `viz/` in the making.

    Returns:
        By a new name the file of the same staging that it is of.
    """
    if not tree.with_thesis_names:
        return {}
    pred, truth, viz = stages
    named: dict[Path, Path] = {}
    for view in views:
        for stage in (pred, truth):
            named |= _name_picture(task, view, stage)
        camera = task.input_camera(view.cam_id, view.fname)
        if camera.is_file():
            viz.link(camera, task.viz_camera(view.cam_id, view.fname))
        image = _linked_photograph(tree, view) or photograph(view.cam_id, view.fname)
        if image is not None:
            viz.link(image, task.viz_photograph(view.cam_id, view.fname, image.suffix))
    return named


def _name_picture(task: TaskTree, view: View, stage: Staging) -> dict[Path, Path]:
    """In a tree that others measured a picture may be JPEG, or missing."""
    folder = stage.final / camera_folder(view.cam_id)
    for suffix in (".png", ".jpg", ".jpeg"):
        path = folder / f"{view.fname}{suffix}"
        if stage.place(path).is_file():
            name = task.metric_picture(stage.final.name, view.cam_id, view.fname, suffix)
            stage.name_also(path, name)
            return {name: path}
    return {}


def _linked_photograph(tree: EvaluationTree, view: View) -> Path | None:
    test = tree.input_data("test")
    paths = (test.image(view.cam_id, view.fname, suffix) for suffix in (".jpg", ".jpeg", ".png"))
    return next((path for path in paths if path.is_file()), None)


def name_input_data(tree: EvaluationTree, input_data: Staging, nv_generation: Staging) -> None:
    """Name the estimated bodies and the debug pictures of novel-view generation. Both folders are in the making."""
    train = tree.input_data("train")
    debug = train.nv_generation_debug("images").parent
    for folder, name in ((train.bodies_dir("smplx"), tree.pose_state_dir), (debug, tree.nv_generation_dir)):
        for made in files_below(input_data.place(folder)):
            nv_generation.link(made, name / made.relative_to(input_data.place(folder)))
