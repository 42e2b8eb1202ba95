"""What lies under `nvs/inputs/`: its record, and the views that it holds. Does not belong here: making it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.views import View
from thesis_assets.layout import TaskTree
from thesis_assets.schemas.evaluation import PredictionRecord

_RENDER = re.compile(r"cam_(?P<cam>0|[1-9]\d{0,9})/render/(?P<frame>\d{6}|[1-9]\d{6,11})\.png", re.ASCII)


def read_predictions(task: TaskTree) -> PredictionRecord:
    """What the predictions of a task say of themselves.

    Raises:
        InvalidFile: there are none, or their record cannot be read.
    """
    return storage.read_json(task.prediction_record, PredictionRecord)


def predicted_views(task: TaskTree) -> list[View]:
    """The views that lie under `nvs/inputs/`, by camera and frame number. Other names are passed over."""
    matches = (_RENDER.fullmatch(path.relative_to(task.inputs_dir).as_posix()) for path in _renders(task))
    views = [View(int(match["cam"]), match["frame"]) for match in matches if match]
    return sorted(views, key=lambda view: (view.cam_id, int(view.fname)))


def _renders(task: TaskTree) -> Iterator[Path]:
    return task.inputs_dir.glob("cam_*/render/*.png")


def no_views(cell: EvaluationCell, left_out: dict[str, str]) -> InvalidScene:
    """The error for a scene without anything to compare."""
    return InvalidScene(
        f"no view of `{cell.scene.name}` can be compared",
        file=cell.scene.tree.ground_truth.base,
        found="; ".join(sorted(set(left_out.values()))[:5]) or "no target camera has a chosen frame",
        wanted="a target camera's image, calibration and render, and the source camera's image, of one frame at least",
    )
