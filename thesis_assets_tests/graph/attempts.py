"""An attempt at cells as a step makes it, without the step."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from thesis_assets.graph.attempts import begin_attempts, end_attempts, noting_failure
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform


@contextlib.contextmanager
def attempting(
    platform: Platform, asset: str, cells: Sequence[Cell], run_id: str, is_ended_by_person: Callable[[], bool]
) -> Iterator[None]:
    """Note that cells are begun; that they failed, and why, where they do."""
    begin_attempts(platform, asset, cells, run_id)
    with noting_failure(platform, asset, cells, run_id, is_ended_by_person):
        yield
    end_attempts(platform, asset, cells)
