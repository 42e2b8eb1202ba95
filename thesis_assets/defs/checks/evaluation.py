"""Checks of an evaluation: required files, clean inputs, a manifest that tells the truth, numbers that come out again."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from thesis_assets.defs.checks.outcomes import Outcomes, checks_of
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import POSE_TASKS
from thesis_assets.schemas.checks import MAX_OFFENDERS, CheckOutcome

if TYPE_CHECKING:
    from thesis_assets.evaluation.cell import EvaluationCell

MAX_TOLD = 5
"""Scenes whose message stands in the joined one: a hundred of them are no message."""


def over_scenes(
    platform: Platform, cell: Cell, check: "Callable[[EvaluationCell], CheckOutcome]"
) -> Callable[[], CheckOutcome]:
    """One outcome over all evaluated scenes of a cell: passed where each passed; counts added, offenders joined."""

    def run() -> CheckOutcome:
        outcomes = {evaluated.scene.name: check(evaluated) for evaluated in platform.evaluation_cells(cell)}
        return joined(outcomes)

    return run


def joined(outcomes: dict[str, CheckOutcome]) -> CheckOutcome:
    """Several outcomes of one check as one."""
    counts: dict[str, int | float] = {}
    for outcome in outcomes.values():
        for name, count in outcome.counts.items():
            counts[name] = counts.get(name, 0) + count
    failed = {name: outcome for name, outcome in outcomes.items() if not outcome.passed}
    shown = failed or outcomes
    said = [f"{name}: {outcome.message}" for name, outcome in list(shown.items())[:MAX_TOLD]]
    more = [f"and {len(shown) - MAX_TOLD} more scenes"] if len(shown) > MAX_TOLD else []
    offenders = [offender for outcome in failed.values() for offender in outcome.offenders]
    return CheckOutcome(
        passed=not failed,
        message="; ".join([*said, *more]),
        counts={**counts, "scenes": len(outcomes)},
        offenders=offenders[:MAX_OFFENDERS],
    )


def _required_files(task: str) -> Callable[[Platform, Cell], Outcomes]:
    def outcomes(platform: Platform, cell: Cell) -> Outcomes:
        from thesis_assets.evaluation.required_files import check_required_files

        of_all = over_scenes(platform, cell, lambda each: check_required_files(each, task))
        return {f"{task}_required_files": lambda: said_absent(of_all())}

    return outcomes


def said_absent(outcome: CheckOutcome) -> CheckOutcome:
    """A warning in place of a check that passed because no scene can have the task: that nothing was made is not to be overlooked."""
    from thesis_assets.evaluation.required_files import ABSENT

    nothing = 0 < outcome.counts.get("scenes", 0) == outcome.counts.get(ABSENT, 0)
    return outcome.model_copy(update={"passed": False, "warns": True}) if nothing else outcome


def _nvs(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation.required_files import check_lpips

    return {**_required_files("nvs")(platform, cell), "lpips_present": over_scenes(platform, cell, check_lpips)}


def _input_data(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation.required_files import check_input_data_clean

    return {"input_data_clean": over_scenes(platform, cell, check_input_data_clean)}


def _evaluation_manifest(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation import required_files

    return {
        "manifest_matches_disk": over_scenes(platform, cell, required_files.check_manifest),
        "layout_version_is_v1": over_scenes(platform, cell, required_files.check_layout_version),
        "metrics_recompute": over_scenes(platform, cell, required_files.check_metrics_recompute),
        "evaluated_people_unseen": lambda: _unseen(platform, cell),
    }


def _unseen(platform: Platform, cell: Cell) -> CheckOutcome:
    from thesis_assets.evaluation.seen_people import check_evaluated_unseen
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.splits.photographs import check_photographs

    spec, tree = platform.spec(cell), platform.difix(cell)
    trained_on = platform.trained_on(cell)
    by_name = check_evaluated_unseen(platform.evaluation_groups(spec), trained_on)
    if trained_on is None:
        return by_name
    evaluated = set(platform.evaluation_scenes(spec))
    held_out = [row for row in read_rows(tree.split_test) if row.scene_name in evaluated]
    by_photographs = check_photographs(
        tree, read_rows(tree.split_train), held_out, platform.roots, ("train", "evaluation")
    )
    return next((outcome for outcome in (by_name, by_photographs) if not outcome.passed), by_name)


EVALUATION_CHECKS = [
    checks_of("input_data", _input_data),
    checks_of("nvs", _nvs),
    *(checks_of(task, _required_files(task)) for task in POSE_TASKS),
    checks_of("evaluation_manifest", _evaluation_manifest),
]
