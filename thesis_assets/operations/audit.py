"""The full audit: every check of every cell that was made, over again, and with every image decoded.

The checks of a run look at what that run made, and decode a share. This finds what changed or rotted since.
"""

from collections.abc import Callable, Iterator

import dagster as dg

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.history import History
from thesis_assets.graph.nodes import LEVELS
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import cells_of_level
from thesis_assets.operations.check_outcomes import evaluations_of


def audit(
    platform: Platform, instance: dg.DagsterInstance, report: Callable[[str], None]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Make every check of every declared cell that was ever made; an evaluation each, with its partition."""
    history = History(instance)
    for spec in platform.readable_experiments():
        for level in LEVELS:
            for asset in level.assets:
                if level.kind == "none" or asset not in CHECKS:
                    continue
                cells = [cell for cell in _cells(platform, level.job, spec.exp_name) if cell.key in history.made(asset)]
                for cell in cells:
                    report(f"{asset} of {cell}")
                    yield from evaluations_of(platform, asset, cell)


def _cells(platform: Platform, job: str, exp_name: str) -> list[Cell]:
    level = next(level for level in LEVELS if level.job == job)
    try:
        return cells_of_level(platform, level, exp_name, (), ())
    except ThesisAssetsError:
        return []  # a scene that the file names is gone: registering says so
