"""The full audit: every check of every cell that was made, over again, and with every image decoded.

The checks of a run look at what that run made, and decode a share. This finds what changed or rotted since.
"""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from thesis_assets.defs.checks.outcomes import outcome_of, outcomes_of, result_of
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.history import History
from thesis_assets.graph.nodes import LEVELS
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import cells_of_level
from thesis_assets.schemas.checks import CheckOutcome

Check = Callable[[], CheckOutcome]


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


def evaluations_of(platform: Platform, asset: str, cell: Cell) -> Iterator[dg.AssetCheckEvaluation]:
    """Every check of one asset in one cell, made now."""
    for name, check in _checks(platform, asset, cell).items():
        result = result_of(asset, name, outcome_of(check), cell.key)
        yield dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset),
            check_name=name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            blocking=CHECKS[asset][name].blocks,
            partition=cell.key,
        )


def _checks(platform: Platform, asset: str, cell: Cell) -> Mapping[str, Check]:
    checks = dict(outcomes_of(platform, asset, cell))
    if asset == "sample_set":
        checks["every_sample_complete"] = lambda: _every_image(platform, cell)
    return checks


def _every_image(platform: Platform, cell: Cell) -> CheckOutcome:
    from thesis_assets.samples.integrity import check_samples_complete
    from thesis_assets.samples.sample_rows import read_rows

    tree = platform.difix(cell)
    return check_samples_complete(tree, read_rows(tree.all_samples), full=True)
