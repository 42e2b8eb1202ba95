"""Which rows and which scenes count in a mean, and the mean: the one place that knows.

- A row of the source camera is no result: it is the reference of every other view. Trees that others wrote may have such rows.
- An empty value is left out of a scene's mean over frames; a scene without a value leaves the mean over scenes empty, as one over
  the other scenes would not compare with the line beside it.
- Scenes of people that a run was trained on never share a mean with scenes of people it has not seen (`split_by_people`).
- Damaged numbers are no rows at all: `measured_tasks` does not give them out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

Values = Mapping[str, float | None]
RowOfMetrics = TypeVar("RowOfMetrics", bound=Mapping[str, Any])


def counted_rows(rows: Iterable[RowOfMetrics], source_camera: object) -> list[RowOfMetrics]:
    """The rows that a mean over frames is over.

    Args:
        source_camera: its id; None where nobody says which it is, and for rows of bodies, which have no camera.
    """
    return [row for row in rows if source_camera is None or row.get("camera_id") != source_camera]


def mean_of(rows: Iterable[Values], metric: str) -> float | None:
    """Mean over the rows that have a value; None where none has."""
    values = [value for row in rows if (value := row[metric]) is not None]
    return math.fsum(values) / len(values) if values else None


def mean_over_scenes(values: Iterable[float | None]) -> float | None:
    """Mean of one value a scene; None where a scene has none, or where there is no scene."""
    found = list(values)
    present = [value for value in found if value is not None]
    return math.fsum(present) / len(present) if present and len(present) == len(found) else None


def split_by_people(scenes: Iterable[str], seen: Mapping[str, bool]) -> list[tuple[bool, Sequence[str]]]:
    """The scenes that may share a mean: (False, those of unseen people), then (True, those of people the run was trained on).

    Args:
        seen: by scene whether its people were trained on; a scene that is not named was not.
    """
    names = list(scenes)
    parts = [(kind, [name for name in names if seen.get(name, False) == kind]) for kind in (False, True)]
    return [(kind, part) for kind, part in parts if part]
