"""The asset checks: one multi-check an asset, with the asset's partitions, so that there is a status a partition.

A check declared inside an asset would run before the IO manager has written. Does not belong here: making a check
(`operations.check_outcomes`). Concept: https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterator

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, declared_cells
from thesis_assets.graph.cells import PARTITIONS, Cell
from thesis_assets.graph.checks import CHECKS, checks_job
from thesis_assets.graph.nodes import NODES
from thesis_assets.graph.platform import Platform
from thesis_assets.operations.check_outcomes import outcome_of, outcomes_of, result_of


def checks_of(asset: str) -> dg.AssetChecksDefinition:
    """The multi-check of one asset. A check that cannot be made (its file is missing or has another shape) has failed, with the
    reason as its message."""
    node = NODES[asset]
    names = CHECKS[asset]

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


ASSET_CHECKS = [checks_of(asset) for asset in CHECKS]
