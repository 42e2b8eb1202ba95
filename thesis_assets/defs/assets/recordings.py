"""Rerun recordings of a tuning run, of the input data and of every evaluation epoch; and sharing them."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, graph_asset
from thesis_assets.defs.step_work import CPU, GPU, Described, described_calls, only
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform, PlatformParam
from thesis_assets.operations.metadata import Metadata
from thesis_assets.operations.shown_results import publication_metadata, recordings_shown

if TYPE_CHECKING:
    from thesis_assets.publishing.plan import PublicationPlan
    from thesis_assets.recordings.exports import Row, SceneWork


_MEGABYTE = 1_000_000


@graph_asset(
    "triplet_recording",
    description="Render, refined, target and reference of the same test samples along the run's steps.",
    kinds={"rerun"},
)
def triplet_recording(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described:
    """Record the qualitative course of the tuning run."""
    from thesis_assets.recordings.exports import RunWork, record_triplets

    (cell,) = cells_of(context, "exp_by_run")
    work = RunWork(platform.difix(cell), cell.run_name, platform.device)
    calls = {cell: described_calls(platform, "triplet_recording", cell, {"": work})}
    return Described(record_triplets, calls, GPU, functools.partial(_show, platform, platform.reporter(context)))


def _show(platform: Platform, report: Callable[[str], None], cell: Cell, answers: "list[Any]") -> Metadata:
    """What every scene, or the run, has recorded.

    Raises:
        Exception: that of the first that failed, when the others are recorded.
    """
    rows: list[Row] = []
    for answer in answers:
        rows += only([answer])
    return recordings_shown(platform, report, cell, rows)


def _of_scenes(
    context: dg.AssetExecutionContext,
    platform: Platform,
    function: "Callable[[SceneWork], list[Row]]",
    epochs: Sequence[int] = (),
) -> Described:
    """One call a scene."""
    from thesis_assets.recordings.exports import SceneWork

    (cell,) = cells_of(context, "exp_by_run")
    split_bytes = platform.settings.split_recording_mb * _MEGABYTE
    works = {
        name: SceneWork(tree, cell.run_name, name, epochs, split_bytes)
        for name, tree in platform.evaluation_trees(cell).items()
    }
    calls = {cell: described_calls(platform, context.asset_key.to_user_string(), cell, works)}
    return Described(function, calls, CPU, functools.partial(_show, platform, platform.reporter(context)))


@graph_asset(
    "input_data_recording",
    description="input_data.rrd of each evaluated scene: cameras and people in 3D beside the images.",
    kinds={"rerun"},
)
def input_data_recording(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described:
    """Record the input data of each evaluated scene."""
    from thesis_assets.recordings.exports import record_input_data

    return _of_scenes(context, platform, record_input_data)


@graph_asset(
    "evaluation_recordings",
    description="One evaluation_epoch_XXXX.rrd an epoch of each evaluated scene: predictions, truth, metrics, bodies.",
    kinds={"rerun"},
)
def evaluation_recordings(context: dg.AssetExecutionContext, platform: PlatformParam) -> Described:
    """Record every evaluation epoch of each evaluated scene."""
    from thesis_assets.recordings.exports import record_epochs

    (cell,) = cells_of(context, "exp_by_run")
    epochs = tuple(platform.spec(cell).evaluation.epoch_steps(platform.run_spec(cell)))
    return _of_scenes(context, platform, record_epochs, epochs)


@graph_asset(
    "published_recordings",
    description="The run's recordings in a Hub dataset repo. Off unless HF_RERUN_REPO_ID is set.",
    kinds={"huggingface"},
    pool="upload",
)
def published_recordings(context: dg.AssetExecutionContext, platform: PlatformParam) -> None:
    """Publish what changed, or say that publishing is off."""
    from thesis_assets.publishing.publication import publication_unit, publish

    (cell,) = cells_of(context, "exp_by_run")
    repo_id = platform.settings.hf_rerun_repo_id
    if repo_id is None:
        context.add_output_metadata({"published": "off: HF_RERUN_REPO_ID is not set"})
        return
    plan = publication_plan(platform, cell, repo_id)
    context.add_output_metadata({"plan": dg.MetadataValue.md(plan.markdown)})
    unit = publication_unit(platform.evaluation_trees(cell), platform.difix(cell), cell.run_name, repo_id)
    record = publish(
        plan,
        unit,
        private=not platform.settings.hf_rerun_public,
        on_progress=platform.reporter(context),
    )
    context.add_output_metadata(publication_metadata(record))


def publication_plan(platform: Platform, cell: Cell, repo_id: str) -> "PublicationPlan":
    """What of a cell goes to a repo: its scenes' recordings and the tuning run's."""
    from thesis_assets.publishing.plan import plan_publication

    return plan_publication(
        list(platform.evaluation_trees(cell).values()),
        repo_id,
        tuning_run=(platform.difix(cell), cell.run_name),
        datasets=platform.spec(cell).datasets,
    )
