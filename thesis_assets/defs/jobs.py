"""One job a level of the graph: levels have different partitions and cannot share a run."""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # no public name yet

from thesis_assets.defs.graph import SCENE_FILES
from thesis_assets.defs.partitions import PARTITIONS, CellKind


@dataclass(frozen=True)
class Level:
    """Assets with the same partitions that run together, in order."""

    job: str
    kind: CellKind
    assets: tuple[str, ...]
    title: str


LEVELS = (
    Level("observe_scenes", "none", ("scene_catalog",), "the scenes on disk"),
    Level("export_scenes", "exp_by_scene", ("scene_samples",), "triplets, a scene each"),
    Level("prepare_data", "exp", ("sample_set", "split_manifests", "difix_data"), "manifests, hold-out, data.json"),
    Level("tune", "exp_by_run", ("tuned_checkpoint", "selected_checkpoint"), "fine-tuning and selection"),
    Level(
        "evaluate",
        "exp_by_run",
        ("input_data", "predictions", "nvs", "pose_smplx", "pose_smpl", "evaluation_manifest"),
        "evaluation at every epoch",
    ),
    Level("record", "exp_by_run", ("triplet_recording", "input_data_recording", "evaluation_recordings"), "recordings"),
    Level("report", "none", ("leaderboard", "check_report"), "leaderboard and check page"),
    Level("publish", "exp_by_run", ("published_recordings",), "sharing"),
)

JOBS = [
    dg.define_asset_job(level.job, dg.AssetSelection.assets(*level.assets), description=f"Materialize {level.title}.")
    for level in LEVELS
]
OBSERVE_JOB = "observe_scene_files"
OBSERVE = dg.define_asset_job(
    OBSERVE_JOB, dg.AssetSelection.assets(SCENE_FILES), description="Observe the exported scenes that changed on disk."
)


def checks_job(asset: str) -> str:
    """The name of the job that makes an asset's checks alone."""
    return f"{asset}_checks"


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
