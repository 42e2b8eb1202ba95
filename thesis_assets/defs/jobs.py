"""One job a level of the graph: levels have different partitions and cannot share a run."""

from dataclasses import dataclass

import dagster as dg

from thesis_assets.defs.partitions import CellKind


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
