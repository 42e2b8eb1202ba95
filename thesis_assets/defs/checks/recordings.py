"""Checks of the recordings: readable, current, small enough, and holding exactly what the tree holds."""

from collections.abc import Callable

from thesis_assets.defs.checks.evaluation import joined
from thesis_assets.defs.checks.outcomes import Outcomes, checks_of
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import EvaluationTree
from thesis_assets.schemas.checks import CheckOutcome


def _over_trees(
    platform: Platform, cell: Cell, check: Callable[[str, EvaluationTree], CheckOutcome]
) -> Callable[[], CheckOutcome]:
    trees = platform.evaluation_trees(cell)
    return lambda: joined({name: check(name, tree) for name, tree in trees.items()})


def _triplets(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.recordings.contract import check_triplet_recording

    return {"recording_follows_contract": lambda: check_triplet_recording(platform.difix(cell), cell.run_name)}


def _input_data(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.recordings.contract import check_recording_contract

    contract = _over_trees(platform, cell, lambda _, tree: check_recording_contract(tree, epochs=()))
    return {"recording_follows_contract": contract}


def _evaluation(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.recordings import contract

    def current(scene_name: str, tree: EvaluationTree) -> CheckOutcome:
        return contract.check_recordings_current(tree, run_name=cell.run_name, scene_name=scene_name)

    def within_budget(_: str, tree: EvaluationTree) -> CheckOutcome:
        return contract.check_recording_sizes(tree, platform.settings.max_recording_mb)

    return {
        "recording_follows_contract": _over_trees(
            platform, cell, lambda _, tree: contract.check_recording_contract(tree)
        ),
        "recording_verifies": _over_trees(platform, cell, lambda _, tree: contract.check_recordings_verify(tree)),
        "recording_is_current": _over_trees(platform, cell, current),
        "recording_within_size_budget": _over_trees(platform, cell, within_budget),
    }


RECORDING_CHECKS = [
    checks_of("triplet_recording", _triplets),
    checks_of("input_data_recording", _input_data),
    checks_of("evaluation_recordings", _evaluation),
]
