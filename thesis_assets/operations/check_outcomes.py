"""Making the checks: of every asset that has some, a function a check that says how it came out in one cell.

Belongs here: which function of which room makes a check, and from what of the platform. Does not belong here: the test itself (its
room), what a check is called and what mends it (`graph.checks`), the outcomes that the event log has (`graph.check_history`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.checks import CHECKS, remedy_of
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import POSE_TASKS, EvaluationTree
from thesis_assets.operations.metadata import check_result
from thesis_assets.schemas.checks import MAX_OFFENDERS, CheckOutcome

if TYPE_CHECKING:
    from thesis_assets.evaluation.cell import EvaluationCell


Outcomes = Mapping[str, Callable[[], CheckOutcome]]
"""By the check's name."""


def evaluations_of(platform: Platform, asset: str, cell: Cell) -> Iterator[dg.AssetCheckEvaluation]:
    """Every check of one asset in one cell, made now, and with every image decoded."""
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


def _checks(platform: Platform, asset: str, cell: Cell) -> Outcomes:
    checks = dict(outcomes_of(platform, asset, cell))
    if asset == "sample_set":
        checks["every_sample_complete"] = lambda: _every_image(platform, cell)
    return checks


def _every_image(platform: Platform, cell: Cell) -> CheckOutcome:
    from thesis_assets.samples.integrity import check_samples_complete
    from thesis_assets.samples.sample_rows import read_rows

    tree = platform.difix(cell)
    return check_samples_complete(tree, read_rows(tree.all_samples), full=True)


def outcomes_of(platform: Platform, asset: str, cell: Cell) -> Outcomes:
    """The asset's checks of one cell, by name. Where the files that they read cannot be read, each of them has failed with that."""
    try:
        found = OUTCOMES[asset](platform, cell)
    except (ThesisAssetsError, OSError) as error:
        failed = CheckOutcome(passed=False, message=str(error), offenders=[])
        return dict.fromkeys(CHECKS[asset], lambda: failed)
    assert found.keys() == CHECKS[asset].keys(), f"{asset}: {found.keys()} are not the declared {CHECKS[asset].keys()}"
    return found


def outcome_of(check: Callable[[], CheckOutcome]) -> CheckOutcome:
    """The outcome of a check; one that cannot be made has failed, with the reason as its message."""
    try:
        return check()
    except ThesisAssetsError as error:
        return CheckOutcome(passed=False, message=str(error), offenders=[error.file] if error.file else [])


def result_of(asset: str, name: str, outcome: CheckOutcome, key: str | None) -> dg.AssetCheckResult:
    """The outcome of a check in one partition as the UI shows it, with what mends it where it did not pass."""
    remedy = None if outcome.passed else remedy_of(asset, name, key)
    return check_result(asset, name, outcome, blocks=CHECKS[asset][name].blocks, remedy=remedy)


# --- the data ---------------------------------------------------------------------------------------------------------


def _sample_set(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.samples import integrity
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.samples.shards import read_dropped
    from thesis_assets.samples.snapshot import check_generation_config

    tree = platform.difix(cell)
    spec = platform.spec(cell)
    rows = read_rows(tree.all_samples)
    dropped = read_dropped(tree.dropped_samples)

    def generation_config_unchanged() -> CheckOutcome:
        return check_generation_config(tree, spec.generation, platform.scene_names(spec))

    return {
        "every_sample_complete": lambda: integrity.check_samples_complete(tree, rows),
        "manifest_matches_disk": lambda: integrity.check_manifest_matches_disk(tree, rows),
        "generation_config_unchanged": generation_config_unchanged,
        "dropped_share_below": lambda: integrity.check_dropped_share(len(rows), dropped),
    }


def _split_manifests(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.scenes.catalog import known_scenes
    from thesis_assets.splits import leakage
    from thesis_assets.splits.exclusions import excluded_from
    from thesis_assets.splits.manifests import group_finder, reserved_groups
    from thesis_assets.splits.near_duplicates import check_near_duplicates
    from thesis_assets.splits.photographs import check_photographs

    tree = platform.difix(cell)
    split = platform.spec(cell).split
    group_of = group_finder(split.group_rules)

    def reserved_scenes_not_in_train() -> CheckOutcome:
        return leakage.check_reserved_scenes(train, reserved_groups(split, group_of, {row.dataset for row in rows}))

    rows, train, test = (read_rows(path) for path in (tree.all_samples, tree.split_train, tree.split_test))
    return {
        "group_non_leakage": lambda: leakage.check_group_non_leakage(train, test, group_of),
        "reserved_scenes_not_in_train": reserved_scenes_not_in_train,
        "reserved_scenes_exist": lambda: leakage.check_reserved_exist(split, known_scenes(platform.roots)),
        "group_rule_splits_people": lambda: leakage.check_group_rules(rows, split),
        "splits_partition_all_samples": lambda: leakage.check_partition(rows, train, test, excluded_from(tree)),
        "splits_not_empty": lambda: leakage.check_not_empty(train, test, train_only=split.train_only),
        "photographs_across_splits": lambda: check_photographs(tree, train, test, platform.roots),
        "near_duplicates_across_splits": lambda: check_near_duplicates(train, test, platform.roots),
    }


def _difix_data(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.splits.data_json import check_data_json, kept_prompt

    tree = platform.difix(cell)
    prompt = kept_prompt(tree, platform.spec(cell).generation.export)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    return {"data_json_matches_manifests": lambda: check_data_json(tree, train, test, prompt)}


# --- a tuning run -----------------------------------------------------------------------------------------------------


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
        "improves_over_input": lambda: run_checks.improves_over_input(tree, selected),
    }


# --- an evaluation: one outcome over its scenes -----------------------------------------------------------------------


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


def _input_data(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation.checks import check_input_data_clean

    return {"input_data_clean": over_scenes(platform, cell, check_input_data_clean)}


def _nvs(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation.checks import check_lpips

    return {**_required_files("nvs")(platform, cell), "lpips_present": over_scenes(platform, cell, check_lpips)}


def _required_files(task: str) -> Callable[[Platform, Cell], Outcomes]:
    def outcomes(platform: Platform, cell: Cell) -> Outcomes:
        from thesis_assets.evaluation.checks import check_required_files

        of_all = over_scenes(platform, cell, lambda each: check_required_files(each, task))
        return {f"{task}_required_files": lambda: said_absent(of_all())}

    return outcomes


def said_absent(outcome: CheckOutcome) -> CheckOutcome:
    """A warning in place of a check that passed because no scene can have the task: that nothing was made is not to be overlooked."""
    from thesis_assets.evaluation.checks import ABSENT

    nothing = 0 < outcome.counts.get("scenes", 0) == outcome.counts.get(ABSENT, 0)
    return outcome.model_copy(update={"passed": False, "warns": True}) if nothing else outcome


def _evaluation_manifest(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.evaluation import checks

    return {
        "manifest_matches_disk": over_scenes(platform, cell, checks.check_manifest),
        "layout_version_is_v1": over_scenes(platform, cell, checks.check_layout_version),
        "metrics_recompute": over_scenes(platform, cell, checks.check_metrics_recompute),
        "evaluated_people_unseen": lambda: _unseen(platform, cell),
        "upstream_saw_evaluated_people": lambda: _unseen_upstream(platform, cell),
    }


def _unseen(platform: Platform, cell: Cell) -> CheckOutcome:
    from thesis_assets.evaluation.checks import check_evaluated_unseen
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


def _unseen_upstream(platform: Platform, cell: Cell) -> CheckOutcome:
    from thesis_assets.evaluation import upstream
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.splits.photographs import check_photographs

    spec, tree = platform.spec(cell), platform.difix(cell)
    rules, evaluated = spec.split.group_rules, platform.evaluation_scenes(spec)
    scenes = {name: upstream.names_of_scene(name, platform.roots, rules) for name in evaluated}
    rows = read_rows(tree.all_samples) if tree.all_samples.is_file() else []

    def same_photographs(model: upstream.UpstreamModel) -> list[str]:
        saw = {name for name in {row.scene_name for row in rows} - scenes.keys() if model.saw(name, rules)}
        held_out = [row for row in rows if row.scene_name in scenes and not model.saw(row.scene_name, rules)]
        if not (saw and held_out):
            return []
        of_model = [row for row in rows if row.scene_name in saw]
        return check_photographs(tree, of_model, held_out, platform.roots, ("seen", "evaluated")).offenders

    models = upstream.upstream_models(tree, cell.run_name, spec, platform.settings.models, platform.roots, evaluated)
    return upstream.check_upstream_unseen(scenes, models, rules, same_photographs)


# --- the recordings ---------------------------------------------------------------------------------------------------


def _triplet_recording(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.recordings.contract import check_triplet_recording

    return {"recording_follows_contract": lambda: check_triplet_recording(platform.difix(cell), cell.run_name)}


def _input_data_recording(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.recordings.contract import check_recording_contract

    contract = _over_trees(platform, cell, lambda _, tree: check_recording_contract(tree, epochs=()))
    return {"recording_follows_contract": contract}


def _evaluation_recordings(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.recordings import checks
    from thesis_assets.recordings.contract import check_recording_contract

    def current(scene_name: str, tree: EvaluationTree) -> CheckOutcome:
        return checks.check_recordings_current(tree, run_name=cell.run_name, scene_name=scene_name)

    def within_budget(_: str, tree: EvaluationTree) -> CheckOutcome:
        return checks.check_recording_sizes(tree, platform.settings.max_recording_mb)

    return {
        "recording_follows_contract": _over_trees(platform, cell, lambda _, tree: check_recording_contract(tree)),
        "recording_verifies": _over_trees(platform, cell, lambda _, tree: checks.check_recordings_verify(tree)),
        "recording_is_current": _over_trees(platform, cell, current),
        "recording_within_size_budget": _over_trees(platform, cell, within_budget),
    }


def _over_trees(
    platform: Platform, cell: Cell, check: Callable[[str, EvaluationTree], CheckOutcome]
) -> Callable[[], CheckOutcome]:
    trees = platform.evaluation_trees(cell)
    return lambda: joined({name: check(name, tree) for name, tree in trees.items()})


OUTCOMES: dict[str, Callable[[Platform, Cell], Outcomes]] = {
    "sample_set": _sample_set,
    "split_manifests": _split_manifests,
    "difix_data": _difix_data,
    "tuned_checkpoint": _tuned_checkpoint,
    "selected_checkpoint": _selected_checkpoint,
    "input_data": _input_data,
    "nvs": _nvs,
    **{task: _required_files(task) for task in POSE_TASKS},
    "evaluation_manifest": _evaluation_manifest,
    "triplet_recording": _triplet_recording,
    "input_data_recording": _input_data_recording,
    "evaluation_recordings": _evaluation_recordings,
}
"""By asset its checks of a cell, a function each, by the names of `graph.checks`."""
