"""The jobs: one a level of the graph, one an asset for its checks alone, and those that the schedules start.

Levels have different partitions and cannot share a run. Concept: https://docs.dagster.io/guides/build/jobs
"""

import time
from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # no public name yet

from thesis_assets.defs.resources import ASSET_GRAPH, PLATFORM
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import PARTITIONS
from thesis_assets.graph.checks import checks_job
from thesis_assets.graph.nodes import LEVELS, SCENE_FILES
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.operations.backfill_plan import plan_backfill
from thesis_assets.operations.execution import hand_over
from thesis_assets.operations.metadata import table
from thesis_assets.operations.registration import fork_for_late_scenes, plan_registration, register
from thesis_assets.operations.report_pages import renew_numbers

JOBS = [
    dg.define_asset_job(level.job, dg.AssetSelection.assets(*level.assets), description=f"Materialize {level.title}.")
    for level in LEVELS
]
OBSERVE_JOB = "observe_scene_files"
OBSERVE = dg.define_asset_job(
    OBSERVE_JOB, dg.AssetSelection.assets(SCENE_FILES), description="Observe the exported scenes that changed on disk."
)


def checks_jobs(assets: Iterable[str]) -> list[UnresolvedAssetJobDefinition]:
    """A job an asset for its checks alone, with the asset's partitions: the tab "Checks" cannot ask for a partition."""
    kinds = {asset: level.kind for level in LEVELS for asset in level.assets}
    return [
        dg.define_asset_job(
            checks_job(asset),
            dg.AssetSelection.checks_for_assets(asset),
            # Dagster infers the partitions of a job from its assets, and this one has none.
            config=dg.PartitionedConfig(definition, run_config_for_partition_key_fn=lambda key: {})
            if (definition := PARTITIONS[kinds[asset]]) is not None
            else None,
            description=f"Make every check of `{asset}` for one partition anew, and nothing else.",
        )
        for asset in assets
    ]


@dg.op(required_resource_keys={PLATFORM, ASSET_GRAPH}, out=dg.Out(dg.Nothing))
def hand_over_missing_cells(context: dg.OpExecutionContext) -> None:
    """Fork what says so, register, and hand each experiment's missing cells over as one backfill through all levels."""
    platform: Platform = context.resources.platform
    ready = ReadyScenes(platform, time.time())
    rows: list[tuple[object, ...]] = []
    for late in fork_for_late_scenes(platform, ready):
        context.log.info(f"{late.exp_name} is frozen; its fork {late.fork} is written")
    register(context.instance, plan_registration(platform, context.instance))
    graph = context.resources.asset_graph
    for spec in platform.readable_experiments():
        try:
            plan = plan_backfill(platform, context.instance, spec.exp_name, "missing", ready, by_person=False)
        except ThesisAssetsError as error:
            context.log.error(f"{spec.exp_name}: {error}")
            continue
        for cell, why in plan.waiting.items():
            context.log.info(f"{cell} waits: {why}")
        if plan.cells:
            backfill_id = hand_over(context.instance, graph, plan, asked_by="new_dataset_backfill")
            rows.append((spec.exp_name, backfill_id, len(plan.cells), len(plan.waiting), round(plan.gpu_hours, 2)))
    header = ("experiment", "backfill", "cells", "waiting", "GPU hours by past runs")
    context.log_event(
        dg.ExpectationResult(success=True, label="backfills", metadata={"backfills": table(header, rows)})
    )


@dg.op(required_resource_keys={PLATFORM}, out=dg.Out(dg.Nothing))
def look_at_every_file(context: dg.OpExecutionContext) -> None:
    """Make every check of all experiments, the outcomes of which stand there; then compare every byte with its record, and compute
    every number again.

    Raises:
        dagster.Failure: something is damaged; what, is in the message and on the page of checks.
    """
    from thesis_assets.operations.integrity_audit import audit_everything

    platform: Platform = context.resources.platform
    damaged = audit_everything(platform, context.instance, context.log_event, context.log)
    if damaged:
        renew_numbers(platform, context.instance)
        raise dg.Failure(description="\n".join(damaged[:20]), metadata={"damaged": len(damaged)}, allow_retries=False)


@dg.job
def new_dataset_backfill() -> None:
    """Hand the missing cells of every experiment over to the daemon, all levels; their runs are the backfills'."""
    hand_over_missing_cells()


@dg.job
def integrity_audit() -> None:
    """Read every file of all partitions, in one run."""
    look_at_every_file()


OPERATION_JOBS = [new_dataset_backfill, integrity_audit]
