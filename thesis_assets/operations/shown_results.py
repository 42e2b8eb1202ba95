"""What a materialization shows of results: numbers of an evaluation, pictures of recordings, what was published, the leaderboard.

Does not belong here: the forms of metadata (`metadata`), or what a training shows while it runs (`training_observations`).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import epoch_name, frame_name
from thesis_assets.operations.metadata import GAIN, Metadata, picture, table
from thesis_assets.schemas.evaluation import NVS_FRAME_COLUMNS, ComparisonRecord, parse_results

if TYPE_CHECKING:
    from thesis_assets.evaluation.shared_work import Outcomes
    from thesis_assets.recordings.exports import Row as RecordingRow
    from thesis_assets.reports.leaderboard import Leaderboard
    from thesis_assets.schemas.evaluation import Protocol
    from thesis_assets.schemas.recordings import PublicationRecord
Row = tuple[object, ...]
NOT_MEASURED = "not measured"
_MEGABYTE = 1_000_000


# --- an evaluation ----------------------------------------------------------------------------------------------------


def evaluation_results(platform: Platform, task: str, cell: Cell, outcomes: "Outcomes[Protocol]") -> dict[str, Any]:
    """The numbers of every scene and epoch, why others are not there, and for views the gain over the unrefined ones."""
    from thesis_assets.evaluation.metric_names import shown_metrics
    from thesis_assets.reports.leaderboard import UNREFINED, UNREFINED_EPOCH

    metrics, trees = shown_metrics(task), platform.evaluation_trees(cell)
    rows: list[Row] = []
    absent: set[str] = set()
    psnr: dict[int, list[float]] = {}
    gains: dict[int, list[float]] = {}
    unrefined: float | None = None  # of the scene whose epochs are passed through
    for scene, epoch in sorted(outcomes.records):
        protocol, tree = outcomes.records[scene, epoch], trees[scene].task(epoch, task)
        text = (tree.nvs_results if task == "nvs" else tree.pose_results).read_text(encoding="utf-8")
        values = parse_results(text)
        numbers = [values.get(each.name, math.nan) for each in metrics]
        shown = [
            NOT_MEASURED if math.isnan(value) else each.number(value)
            for each, value in zip(metrics, numbers, strict=True)
        ]
        absent |= {
            f"{each.title}: {protocol.empty_metrics.get(each.name, 'the tree has none')}"
            for each, value in zip(metrics, numbers, strict=True)
            if math.isnan(value)
        }
        is_unrefined = epoch == UNREFINED_EPOCH and protocol.step is None
        if task == "nvs":
            if is_unrefined or not rows or scene != rows[-1][0]:
                unrefined = numbers[0] if is_unrefined else None
            gain = None if unrefined is None or is_unrefined else numbers[0] - unrefined
            shown.insert(1, "" if gain is None else f"{gain:+.3f}")
            psnr.setdefault(epoch, []).append(numbers[0])
            gains.setdefault(epoch, []).extend([] if gain is None else [gain])
        step = UNREFINED if is_unrefined else protocol.step
        rows.append((scene, epoch_name(epoch), "" if step is None else step, *shown))
    header = [each.heading for each in metrics]
    if task == "nvs":
        header.insert(1, GAIN)
    means = {
        name: round(sum(of_last) / len(of_last), 3)
        for name, of_epochs in (("PSNR gain of the last epoch", gains), ("PSNR of the last epoch", psnr))
        if of_epochs and (of_last := of_epochs[max(of_epochs)])
    }
    return {
        **means,
        "results": table(("scene", "epoch", "step", *header), rows),
        **({NOT_MEASURED: "; ".join(sorted(absent))} if absent else {}),
        **absent_scenes(outcomes.absent),
    }


def worst_comparison(platform: Platform, cell: Cell) -> Path | None:
    """The saved comparison of the last epoch's view with the lowest PSNR: where one should look first."""
    from thesis_assets.evaluation.metric_tables import read_table

    epoch = max(platform.spec(cell).evaluation.epoch_steps(platform.run_spec(cell)))
    worst: tuple[float, Path] | None = None
    for tree in platform.evaluation_trees(cell).values():
        task = tree.task(epoch, "nvs")
        if not task.nvs_per_frame.is_file():
            continue
        for row in read_table(task.nvs_per_frame, NVS_FRAME_COLUMNS):
            psnr, camera, frame = row["psnr"], row["camera_id"], row["frame_id"]
            if psnr is not None and camera is not None and frame is not None:
                path = task.viz_image(int(camera), "render_vs_gt", frame_name(int(frame)))
                if path.is_file() and (worst is None or psnr < worst[0]):
                    worst = (psnr, path)
    return worst[1] if worst else None


def absent_scenes(absent: Mapping[str, str]) -> dict[str, Any]:
    """A task that a scene cannot have is never silently skipped."""
    return {"absent": table(("scene", "reason"), sorted(absent.items()))} if absent else {}


def without_video(protocols: "Iterable[Protocol]") -> dict[str, Any]:
    """Why cameras have no video, where they have none."""
    reasons = {reason for each in protocols for reason in each.details.get("no_video", {}).values()}
    return {"no video": "; ".join(sorted(reasons))} if reasons else {}


# --- recordings -------------------------------------------------------------------------------------------------------


def recordings_shown(
    platform: Platform, report: Callable[[str], None], cell: Cell, rows: "Sequence[RecordingRow]"
) -> Metadata:
    """The recordings of one cell, with their pictures on the asset, and how to open them."""
    told = recording_pictures(platform, report, [Path(row[0]) for row in rows])
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


def recording_pictures(
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


# --- the leaderboard --------------------------------------------------------------------------------------------------


def largest_gain(board: "Leaderboard") -> dict[str, float]:
    """The number whose history the UI plots."""
    from thesis_assets.reports.leaderboard import UNREFINED
    from thesis_assets.reports.leaderboard_tables import psnr_differences

    gains = [
        row.difference
        for row in psnr_differences(board.shown())
        if row.against == UNREFINED and row.difference is not None and not (row.seen_people or row.leaked)
    ]
    return {"largest PSNR gain over the unrefined render": round(max(gains), 3)} if gains else {}


def compare_pages_table(pages: list[ComparisonRecord]) -> str:
    """As Markdown: each page, or why it is not current and what makes it."""
    lines = [
        f"| {page.exp_name}/{page.run_name} | {page.against} | {page.headline} | {_where(page)} |" for page in pages
    ]
    return "\n".join(["| run | against | difference | page |", "| --- | --- | --- | --- |", *lines])


def _where(page: ComparisonRecord) -> str:
    if page.reason is None:
        return f"`compare/{page.page}`"
    return f"not current: {page.reason}; `{page.command}`".replace("|", "\\|")


def without_picture(markdown: str) -> str:
    """The page without its link to the plot beside it: a browser of the UI cannot reach that file."""
    return "\n".join(line for line in markdown.splitlines() if not line.startswith("!["))
