"""Checks of the recordings: readable, and holding exactly what the tree holds."""

from thesis_assets.defs.checks.evaluation import joined
from thesis_assets.defs.checks.outcomes import Outcomes, checks_of
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform


def _input_data(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation.qualitative.contract import check_input_data_recording

    trees = platform.evaluation_trees(cell)
    return {
        "recording_follows_contract": lambda: joined(
            {name: check_input_data_recording(tree) for name, tree in trees.items()}
        )
    }


def _evaluation(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation.qualitative.contract import check_evaluation_recording

    trees = platform.evaluation_trees(cell)
    epochs = platform.spec(cell).evaluation.epoch_steps(platform.run_spec(cell))
    return {
        "recording_follows_contract": lambda: joined(
            {
                f"{name} epoch {epoch}": check_evaluation_recording(tree, epoch)
                for name, tree in trees.items()
                for epoch in epochs
            }
        )
    }


RECORDING_CHECKS = [
    checks_of("input_data_recording", _input_data),
    checks_of("evaluation_recordings", _evaluation),
]
