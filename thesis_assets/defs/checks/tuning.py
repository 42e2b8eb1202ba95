"""Checks of a tuning run: checkpoints that load and belong to the data, and a choice that leaks nobody."""

from thesis_assets.defs.checks.outcomes import Outcomes, checks_of
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.schemas.checks import CheckOutcome


def _tuned_checkpoint(platform: Platform, cell: Cell) -> Outcomes:
    import thesis_assets.tuning.run_checks as run_checks

    tree = platform.difix(cell)
    return {
        "checkpoint_loads": lambda: run_checks.checkpoint_loads(tree, cell.run_name),
        "checkpoint_belongs_to_data": lambda: run_checks.checkpoint_belongs_to_data(tree, cell.run_name),
        "loss_is_finite": lambda: run_checks.loss_is_finite(tree, cell.run_name),
        "train_config_complete": lambda: run_checks.train_config_complete(tree, cell.run_name),
    }


def _selected_checkpoint(platform: Platform, cell: Cell) -> Outcomes:
    import thesis_assets.tuning.run_checks as run_checks
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.schemas.samples import SplitSummary
    from thesis_assets.schemas.tuning import SelectedCheckpoint
    from thesis_assets.splits.photographs import check_photographs
    from thesis_assets.storage import read_json
    from thesis_assets.tuning.selection import check_selection_disjoint

    tree = platform.difix(cell)
    selected = read_json(tree.tuning_run(cell.run_name).selected_checkpoint, SelectedCheckpoint)
    summary = read_json(tree.split_summary, SplitSummary)
    spec = platform.spec(cell)

    def selection_disjoint_from_evaluation() -> CheckOutcome:
        by_name = check_selection_disjoint(selected, platform.evaluation_groups(spec), summary)
        looked_at, evaluated = set(selected.selection_sample_ids), set(platform.evaluation_scenes(spec))
        if not by_name.passed or not looked_at:
            return by_name
        rows = read_rows(tree.split_test)
        sides = (
            [row for row in rows if row.sample_id in looked_at],
            [row for row in rows if row.scene_name in evaluated],
        )
        by_photographs = check_photographs(tree, *sides, platform.roots, ("selection", "evaluation"))
        return by_name if by_photographs.passed else by_photographs

    return {
        "selection_disjoint_from_evaluation": selection_disjoint_from_evaluation,
        "improves_over_input": lambda: run_checks.improves_over_input(selected),
    }


TUNING_CHECKS = [
    checks_of("tuned_checkpoint", _tuned_checkpoint),
    checks_of("selected_checkpoint", _selected_checkpoint),
]
