"""Rerun recordings of a tuning run, of the input data and of every evaluation epoch; and sharing them."""

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, graph_asset
from thesis_assets.defs.graph import NODES, input_digest
from thesis_assets.defs.io_manager import Verified
from thesis_assets.defs.metadata import table
from thesis_assets.defs.platform import Platform, PlatformParam
from thesis_assets.storage import sha256_value


def _listed(
    context: dg.AssetExecutionContext, platform: Platform, asset: str, rows: list[tuple[object, ...]]
) -> Verified:
    (cell,) = cells_of(context, "exp_by_run")
    context.add_output_metadata({"recordings": table(("file", "bytes", "absent"), rows)})
    files = tuple(NODES[asset].outputs(platform, cell))
    return Verified(files=files, digest=input_digest(platform, context.instance, asset, cell))


@graph_asset(
    "triplet_recording",
    description="Render, refined, target and reference of the same test samples along the run's steps.",
    kinds={"rerun"},
)
def triplet_recording(context: dg.AssetExecutionContext, platform: PlatformParam) -> Verified:
    """Record the qualitative course of the tuning run."""
    from thesis_assets.evaluation.qualitative.triplets import export_triplets

    (cell,) = cells_of(context, "exp_by_run")
    record = export_triplets(
        platform.difix(cell), cell.run_name, device=platform.device, on_progress=platform.reporter(context)
    )
    path = platform.difix(cell).tuning_run(cell.run_name).triplet_recording
    return _listed(
        context, platform, "triplet_recording", [(path, record.bytes, ", ".join(record.absent) or "nothing")]
    )


@graph_asset(
    "input_data_recording",
    description="input_data.rrd of each evaluated scene: cameras and people in 3D beside the images.",
    kinds={"rerun"},
)
def input_data_recording(context: dg.AssetExecutionContext, platform: PlatformParam) -> Verified:
    """Record the input data of each evaluated scene."""
    from thesis_assets.evaluation.qualitative.input_data import export_input_data

    (cell,) = cells_of(context, "exp_by_run")
    report = platform.reporter(context)
    rows: list[tuple[object, ...]] = []
    for scene_name, tree in platform.evaluation_trees(cell).items():
        record = export_input_data(tree, run_name=cell.run_name, scene_name=scene_name, on_progress=report)
        rows.append((tree.input_data_recording, record.bytes, ", ".join(record.absent) or "nothing"))
    return _listed(context, platform, "input_data_recording", rows)


@graph_asset(
    "evaluation_recordings",
    description="One evaluation_epoch_XXXX.rrd an epoch of each evaluated scene: predictions, truth, metrics, bodies.",
    kinds={"rerun"},
)
def evaluation_recordings(context: dg.AssetExecutionContext, platform: PlatformParam) -> Verified:
    """Record every evaluation epoch of each evaluated scene."""
    from thesis_assets.evaluation.qualitative.evaluation import export_evaluation

    (cell,) = cells_of(context, "exp_by_run")
    epochs = platform.spec(cell).evaluation.epoch_steps(platform.run_spec(cell))
    report = platform.reporter(context)
    rows: list[tuple[object, ...]] = []
    for scene_name, tree in platform.evaluation_trees(cell).items():
        for epoch in epochs:
            record = export_evaluation(tree, epoch, run_name=cell.run_name, scene_name=scene_name, on_progress=report)
            rows.append((tree.evaluation_recording(epoch), record.bytes, ", ".join(record.absent) or "nothing"))
    return _listed(context, platform, "evaluation_recordings", rows)


@graph_asset(
    "published_recordings",
    description="The run's recordings in a Hub dataset repo. Off unless HF_RERUN_REPO_ID is set.",
    kinds={"huggingface"},
    pool="upload",
)
def published_recordings(context: dg.AssetExecutionContext, platform: PlatformParam) -> Verified:
    """Publish, or say that publishing is off."""
    from thesis_assets.publishing.plan import plan_publication, publish

    (cell,) = cells_of(context, "exp_by_run")
    repo_id = platform.settings.hf_rerun_repo_id
    if repo_id is None:
        context.add_output_metadata({"published": "off: HF_RERUN_REPO_ID is not set"})
        return Verified(files=(), digest=sha256_value("off"))
    plan = plan_publication(list(platform.evaluation_trees(cell).values()), repo_id)
    context.add_output_metadata({"plan": dg.MetadataValue.md(plan.markdown)})
    publish(plan, dry_run=False)
    return Verified(files=(), digest=sha256_value(repo_id))
