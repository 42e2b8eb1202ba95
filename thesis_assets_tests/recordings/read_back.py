"""Values of a recording, read back without a viewer."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rerun.chunk import RrdReader

from thesis_assets.recordings.verification import RecordingContent


def column(path: Path, entity: str, component: str) -> dict[int | None, Any]:
    """Frame (None where it is static) to the component's value, as Python lists."""
    found: dict[int | None, Any] = {}
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        if chunk.entity_path != entity or component not in batch.schema.names:
            continue
        values = batch.column(component).to_pylist()
        timeline = next((name for name in ("frame", "step", "epoch") if name in chunk.timeline_names), None)
        frames = batch.column(timeline).cast("int64").to_pylist() if timeline else [None]
        found.update(dict(zip(frames, values, strict=True)))
    return dict(sorted(found.items(), key=lambda item: -1 if item[0] is None else item[0]))


def blob(path: Path, entity: str, component: str = "EncodedImage:blob") -> dict[int | None, bytes]:
    """As `column`, for bytes."""
    return {frame: bytes(value[0]) for frame, value in column(path, entity, component).items()}


def matrix(value: Any) -> np.ndarray:
    """(3, 3) from the nine numbers of a column-major matrix."""
    return np.array(value[0], dtype=np.float64).reshape(3, 3).T


def views_of(content: RecordingContent) -> dict[str, int]:
    """Class of view (`3D`, `2D`, `TimeSeries`, `TextDocument`) of the layout to how many there are."""
    return dict(Counter(view.kind for view in content.views))
