"""One job a level of the graph: levels have different partitions and cannot share a run."""

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # no public name yet

from thesis_assets.graph.cells import PARTITIONS
from thesis_assets.graph.checks import checks_job
from thesis_assets.graph.nodes import LEVELS, SCENE_FILES

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
