"""Rerun recordings of a tuning run, of the input data and of every evaluation epoch; and sharing them."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from thesis_assets.defs.assets.declaration import cells_of, graph_asset
from thesis_assets.defs.launching import CPU, GPU, Described, Metadata, described_calls, only
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform, PlatformParam
from thesis_assets.operations.metadata import picture, table

if TYPE_CHECKING:
    from thesis_assets.publishing.plan import PublicationPlan
    from thesis_assets.recordings.exports import Row, SceneWork
    from thesis_assets.schemas.recordings import PublicationRecord

_MEGABYTE = 1_000_000


def _recordings(platform: Platform, report: Callable[[str], None], cell: Cell, rows: "Sequence[Row]") -> Metadata:
    """The recordings of one cell, with their pictures on the asset, and how to open them."""
    told = _pictures(platform, report, [Path(row[0]) for row in rows])
    seen = {name: value for name, value in told.items() if isinstance(value, dg.MarkdownMetadataValue)}
    shown = [
        (_below(platform.settings.data_home, path), f"{n_bytes / _MEGABYTE:.1f} MB", gone)
        for path, n_bytes, gone in rows
    ]
    opened = f"thesis-assets rerun open --exp {cell.exp_name} --run {cell.run_name}"
    listed = table(("file", "size", "absent"), shown)
    last = {"last recording": dg.MetadataValue.path(rows[-1][0])} if rows else {}
    return {**seen, "open": opened, "recordings": listed, **told, **last}


def _below(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _pictures(
    platform: Platform, report: Callable[[str], None], recordings: Sequence[Path]
) -> dict[str, dg.MetadataValue]:
    """Pictures beside every recording, and a sheet of the last one's for the UI; where none can be made, why.

    A recording without a picture is whole all the same, so nothing here fails the asset.
    """
    if platform.settings.recording_previews == "off":
        return {"previews": dg.MetadataValue.text("off: THESIS_RECORDING_PREVIEWS")}
    from thesis_assets.recordings.previews import make_previews, preview_sheet

    try:
        records = make_previews(recordings, on_progress=report)
        sheet = preview_sheet(recordings[-1:])
    except (ThesisAssetsError, OSError) as error:
        report(f"previews skipped: {str(error).splitlines()[0]}")
        return {"previews": dg.MetadataValue.text(f"skipped: {error}")}
    shown: dict[str, dg.MetadataValue] = {}
    if sheet:
        shown["previews"] = picture(sheet)
    faults = [(path.name, fault) for path, record in records.items() for fault in record.faults]
    if faults:
        shown["views with faults"] = table(("recording", "fault"), faults)
    return shown


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
    return _recordings(platform, report, cell, rows)


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


def publication_metadata(record: "PublicationRecord") -> dict[str, dg.MetadataValue]:
    """What was published, as the UI shows it: revision, paths, digests, links."""
    from thesis_assets.publishing.card import viewer_link

    rows = [(file.path, file.bytes, file.path in record.sent, file.sha256, file.data_version) for file in record.files]
    pages = f"{record.endpoint}/datasets/{record.repo_id}"
    links = {"page": dg.MetadataValue.url(pages)}
    if record.files and not record.private:
        last = max(record.files, key=lambda file: (file.kind == "evaluation", file.epoch or 0))
        links["open in the web viewer"] = dg.MetadataValue.url(viewer_link(last, record.repo_id, record.endpoint))
    return {
        "repo": dg.MetadataValue.text(f"{record.repo_id} ({'private' if record.private else 'public'})"),
        "revision": dg.MetadataValue.text(record.revision),
        "commit": dg.MetadataValue.url(record.url),
        **links,
        "published": table(("path", "bytes", "sent now", "sha256", "data version"), rows),
    }
