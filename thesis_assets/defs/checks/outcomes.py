"""How checks are declared: a table of an asset's checks with what mends each, and one function that gives their outcomes.

One multi-check an asset, with the asset's partitions, so that there is a status a partition. A check declared inside an asset
would run before the IO manager has written.
"""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, declared_cells
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import PARTITIONS, Cell
from thesis_assets.graph.checks import CHECKS, checks_job, remedy_of
from thesis_assets.graph.nodes import NODES
from thesis_assets.graph.platform import Platform
from thesis_assets.operations.metadata import check_result
from thesis_assets.schemas.checks import CheckOutcome

Outcomes = Mapping[str, Callable[[], CheckOutcome]]


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
                description=check.says,
                blocking=check.blocks,
                partitions_def=PARTITIONS[node.kind],
            )
            for name, check in names.items()
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
            yield result_of(asset, name, outcome, cell.key)

    return run


def result_of(asset: str, name: str, outcome: CheckOutcome, key: str | None) -> dg.AssetCheckResult:
    """The outcome of a check in one partition as the UI shows it, with what mends it where it did not pass."""
    remedy = None if outcome.passed else remedy_of(asset, name, key)
    return check_result(asset, name, outcome, blocks=CHECKS[asset][name].blocks, remedy=remedy)


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
