"""How checks are declared: a table of names an asset, and one function that gives their outcomes.

One multi-check an asset, with the asset's partitions, so that there is a status a partition. A check declared inside an asset
would run before the IO manager has written.
"""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, declared_cells
from thesis_assets.defs.graph import NODES
from thesis_assets.defs.jobs import checks_job
from thesis_assets.defs.metadata import check_result
from thesis_assets.defs.partitions import PARTITIONS, Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.schemas.checks import CheckOutcome

Outcomes = Mapping[str, Callable[[], CheckOutcome]]

CHECKS: dict[str, dict[str, str]] = {
    "sample_set": {
        "every_sample_complete": "Four files a sample, whole images of equal size; a seeded share decoded.",
        "manifest_matches_disk": "Every row has its folder and every folder its row.",
        "generation_config_unchanged": "generation_config.yaml and every shard have one digest.",
        "dropped_share_below": "Not too many candidates were dropped.",
    },
    "split_manifests": {
        "group_non_leakage": "No (dataset, group) stands in both train and test.",
        "reserved_scenes_not_in_train": "No sample of a reserved scene's group is in training.",
        "splits_partition_all_samples": "Train and test are disjoint and together all samples.",
        "splits_not_empty": "Both sides have samples (train alone where the file says train_only).",
        "near_duplicates_across_splits": "No photograph of a test group is nearly one of a training group.",
    },
    "difix_data": {
        "data_json_matches_manifests": "data.json holds exactly the manifests' samples, with files that exist."
    },
    "tuned_checkpoint": {
        "checkpoint_loads": "Every checkpoint has its digest, loads without unpickling, and is finite.",
        "checkpoint_belongs_to_data": "Every checkpoint and the configuration name this data.json.",
        "loss_is_finite": "Every loss the trainer reported is finite.",
        "train_config_complete": "train_config.json has every key.",
    },
    "selected_checkpoint": {
        "selection_disjoint_from_evaluation": "No person the choice looked at is one the evaluation reports on.",
        "improves_over_input": "The chosen checkpoint scores above the unrefined render.",
    },
    "input_data": {
        "input_data_clean": "input_data/train holds core inputs only; est_* debug lies under misc/nv_generation."
    },
    "nvs": {
        "nvs_required_files": "Every enabled epoch and scene has the three files, complete and finite.",
        "lpips_present": "The tables have LPIPS, or say why not.",
    },
    "pose_smplx": {"pose_smplx_required_files": "Every enabled epoch and scene has both files, complete and finite."},
    "pose_smpl": {"pose_smpl_required_files": "Every enabled epoch and scene has both files, complete and finite."},
    "evaluation_manifest": {
        "manifest_matches_disk": "manifest.json lists exactly the tasks and epochs that are complete on disk.",
        "layout_version_is_v1": "output_layout_version is v1.",
        "metrics_recompute": "A seeded share of the numbers is recomputed from the saved images.",
        "evaluated_people_unseen": "No person that is reported on was trained on.",
    },
    "triplet_recording": {"recording_follows_contract": "Samples, steps and rows are those of the run."},
    "input_data_recording": {"recording_follows_contract": "Entities, timelines and rows are those of the tree."},
    "evaluation_recordings": {
        "recording_follows_contract": "Entities, timelines and rows are those of the tree, in both directions.",
        "recording_verifies": "Every file of rerun/ passes the SDK's own verification.",
        "recording_is_current": "Every recording was made from the files that are on disk now.",
        "recording_within_size_budget": "No file is larger than the web viewer can hold.",
    },
}
WARNINGS = {
    "dropped_share_below",
    "near_duplicates_across_splits",
    "improves_over_input",
    "lpips_present",
    "metrics_recompute",
    "evaluated_people_unseen",
    "input_data_clean",
    "recording_within_size_budget",
}


OUTCOMES: dict[str, Callable[[Platform, Cell], Outcomes]] = {}
"""By asset, what `checks_of` was given: for whoever makes the checks without the graph."""


def checks_of(asset: str, outcomes: Callable[[Platform, Cell], Outcomes]) -> dg.AssetChecksDefinition:
    """The multi-check of one asset. `outcomes(platform, cell)` gives a function a check, by name.

    A check that cannot be made (its file is missing or has another shape) has failed, with the reason as its message.
    """
    node = NODES[asset]
    names = CHECKS[asset]
    OUTCOMES[asset] = outcomes

    @dg.multi_asset_check(
        name=f"check_{asset}",
        specs=[
            dg.AssetCheckSpec(
                name,
                asset=asset,
                description=description,
                blocking=name not in WARNINGS,
                partitions_def=PARTITIONS[node.kind],
            )
            for name, description in names.items()
        ],
        can_subset=True,
    )
    def run(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        cell = _the_cell(context, asset)
        if not declared_cells(context, platform, node.kind):
            context.log.info(f"{cell} is skipped: {platform.why_undeclared(cell)}")
            return
        functions = outcomes_of(platform, asset, cell)
        selected = {key.name for key in context.selected_asset_check_keys}
        for name in (name for name in names if name in selected):
            outcome = outcome_of(functions[name])
            word = "passed" if outcome.passed else "warning" if name in WARNINGS else "FAILED"
            detail = "" if outcome.passed else ": " + "; ".join([outcome.message, *outcome.offenders[:1]])
            platform.echo(f"  check {asset}.{name}: {word}{detail}")
            yield check_result(asset, name, outcome, blocking_severity=name not in WARNINGS)

    return run


def _the_cell(context: dg.AssetCheckExecutionContext, asset: str) -> Cell:
    """The one cell that the checks are made of.

    Raises:
        dagster.Failure: they were started without a partition, as the tab "Checks" does.
    """
    kind = NODES[asset].kind
    if kind != "none" and not context.run.is_partitioned:
        option = "--exp <name> --run <name>" if kind == "exp_by_run" else "--exp <name>"
        raise dg.Failure(
            description=f"the checks of {asset} are made of one partition, and this run has none. Start the job "
            f"`{checks_job(asset)}`, which asks for it (Jobs, {checks_job(asset)}, Launchpad), or on the command line: "
            f"`thesis-assets checks run {option} {asset}`",
            allow_retries=False,
        )
    (cell,) = cells_of(context, kind)
    return cell


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
