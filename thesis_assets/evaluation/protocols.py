"""Reading `protocol.json`."""

from __future__ import annotations

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.layout import TaskTree
from thesis_assets.schemas.evaluation import Protocol


def read_protocol(task: TaskTree) -> Protocol | None:
    """The protocol of a finished task; None where it is not finished, or written by another version."""
    try:
        return storage.read_json(task.protocol, Protocol)
    except InvalidFile:  # not finished: the task is computed again
        return None
