"""`training_artifacts/epoch_XXXX/`: what the trainer would see of this scene's samples, and what it makes of them, at one epoch.

`rgb/` holds the renders as the epoch's checkpoint refines them (at the training size, with the sample's own reference), `gt_input/`
the targets that they are held against, `depth/` the scene's depth of the same views as grey pictures, near is bright. An evaluated
scene's people are held out, so these samples are looked at and never learned from. Each folder has one picture a sample and a
contact sheet; `artifacts.json` says which samples, and what is absent and why.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, source_tree
from thesis_assets.evaluation.outputs import (
    Staging,
    below,
    checkpoint_version,
    files_below,
    named_files,
    older_of,
    picked,
    publish,
    shard_version,
    staged,
    verified,
    with_step,
)
from thesis_assets.evaluation.refined_predictions import Refinement
from thesis_assets.launch.telling import tell
from thesis_assets.layout import epoch_name
from thesis_assets.provenance import CODE_VERSIONS, Contents, Place, Unit, Wanted, begin, recorded
from thesis_assets.schemas.evaluation import TrainingArtifactsRecord
from thesis_assets.schemas.samples import DataJsonEntry, SampleRow
from thesis_assets.tuning.run_config import trained_resolution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SAMPLES = 6
KINDS = ("rgb", "depth", "gt_input")
SHEET_HEIGHT = 160


def write_training_artifacts(cell: EvaluationCell, epoch: int) -> TrainingArtifactsRecord:
    """Publish one epoch's pictures by one rename; what is as wanted is left alone.

    Raises:
        InvalidFile: the checkpoint, or an image of a chosen sample, is missing or cannot be read.
    """
    unit, record_file = training_artifacts_unit(cell, epoch), cell.tree.training_artifacts_record(epoch)
    contents = Contents()
    verdict = verified(unit, contents)
    if verdict.is_made:
        return storage.read_json(record_file, TrainingArtifactsRecord)
    step, rows, making = cell.epoch_steps()[epoch], _chosen_rows(cell), begin(unit, contents)
    with staged(record_file.parent) as (stage,):
        for kind in KINDS:
            stage.place(cell.tree.training_artifacts(epoch, kind) / "file")
        absent = _write_pictures(cell, epoch, step, rows, stage)
        record = TrainingArtifactsRecord(
            epoch=epoch,
            step=step,
            resolution=trained_resolution(cell.tuning_run, cell.run),
            sample_ids=[row.sample_id for row in rows],
            absent=absent,
        )
        stage.write(record_file, storage.to_json_bytes(record))
        publish([stage], unit, verdict, making, contents, noted={"device": cell.device})
    tell(f"{cell.title} {epoch_name(epoch)}: training artifacts of {len(rows)} samples")
    return record


def take_training_artifacts(cell: EvaluationCell, epoch: int, contents: Contents | None = None) -> None:
    """Link what a source tree has under `training_artifacts/` of an epoch. Where it has none, pictures of another source make way."""
    unit, source = training_artifacts_unit(cell, epoch), taken_artifacts(cell, epoch)
    folder, record = unit.place.base, recorded(unit.place)
    if source is None:
        if record is not None and record.options.get("evaluation") != unit.wanted.options.get("evaluation"):
            # With their record, by one rename: what is left of a removal that was ended is nobody's picture.
            aside = storage.temporary_sibling(folder)
            folder.replace(aside)
            shutil.rmtree(aside)
        return
    contents = contents or Contents()
    verdict = verified(unit, contents)
    if verdict.is_made:
        return
    making = begin(unit, contents)
    with staged(folder) as (stage,):
        stage.link_all(source)
        publish([stage], unit, verdict, making, contents)


def taken_artifacts(cell: EvaluationCell, epoch: int) -> Path | None:
    """The folder of an epoch's pictures in the source tree; None where there is none."""
    tree = source_tree(cell)
    folder = tree.training_artifacts_record(epoch).parent if tree is not None else None
    return folder if folder is not None and folder.is_dir() else None


def training_artifacts_unit(cell: EvaluationCell, epoch: int) -> Unit:
    """The pictures of an epoch. The samples, the scene and the checkpoint may be gone."""
    side_file = cell.tree.training_artifacts_record(epoch)
    place = Place(side_file.parent, cell.tree.training_artifacts_made_from(epoch))
    record, source = recorded(place), taken_artifacts(cell, epoch)
    options, _ = picked(cell, cell, ("evaluation.predictions.source",))
    files: Mapping[str, Path | str] = {}
    made: dict[str, str] = {}
    if source is not None:
        files = below("tree", source.parent.parent, files_below(source))
    elif cell.experiment.evaluation.predictions.source == "refine":
        options = {
            **with_step(cell, epoch, options),
            "run": {"resolution": trained_resolution(cell.tuning_run, cell.run)},
        }
        files = named_files(cell, _depths(cell))
        # Pictures of samples that had no record yet are not stale for it; a scene without samples that has some since is.
        shown = record if record is not None and len(record.outputs) > 1 else None
        made = {**checkpoint_version(cell, epoch), **shard_version(cell, shown)}
    wanted = Wanted("training_artifacts", CODE_VERSIONS["training_artifacts"], options, files=files, made=made)
    return Unit(
        f"training artifacts of {cell.scene.name}, {epoch_name(epoch)}", place, wanted, lambda: older_of(side_file)
    )


def _depths(cell: EvaluationCell) -> Iterator[Path | None]:
    with contextlib.suppress(ThesisAssetsError):  # the samples are gone, or cannot be read: making the pictures says so
        yield from [_depth_path(cell, row) for row in _chosen_rows(cell)]


def _chosen_rows(cell: EvaluationCell) -> list[SampleRow]:
    """A few samples, evenly over the scene's shard; none where the snapshot does not hold the scene."""
    from thesis_assets.samples.sample_rows import read_rows

    shard = cell.difix.scene_run(cell.scene.name)
    rows = read_rows(shard.all_samples) if shard.run_stats.is_file() else []
    if len(rows) <= MAX_SAMPLES:
        return rows
    return [rows[index * (len(rows) - 1) // (MAX_SAMPLES - 1)] for index in range(MAX_SAMPLES)]


def _write_pictures(
    cell: EvaluationCell, epoch: int, step: int | None, rows: Sequence[SampleRow], stage: Staging
) -> dict[str, str]:
    """Write all pictures; returns what is absent, by kind or `<kind>/<sample>`, with the reason."""
    if not rows:
        return dict.fromkeys(KINDS, "the snapshot holds no sample of this scene")
    refinement = Refinement(cell, step) if step is not None else None
    absent: dict[str, str] = {}
    pictures: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for row in rows:
        refined, target = _as_the_trainer_sees(cell, row, refinement)
        depth = _depth_picture(cell, row, target.shape[:2])
        if depth is None:
            absent[f"depth/{row.sample_id}"] = "neither root has a depth map of this view"
        for kind, picture in zip(KINDS, (refined, depth, target), strict=True):
            pictures[kind].append(picture)
            if picture is not None:
                path = cell.tree.training_artifacts(epoch, kind) / f"{row.sample_id}.png"
                stage.write_png(path, picture, cell.experiment.generation.export.png_encoder)
    _write_sheets(cell, epoch, rows, pictures, stage)
    return absent


def _as_the_trainer_sees(
    cell: EvaluationCell, row: SampleRow, refinement: Refinement | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(refined render, target) of one sample at its training size; unrefined without a checkpoint."""
    from thesis_assets.tuning.triplets import read_triplet

    entry = DataJsonEntry(
        image=str(cell.difix.base / row.image_path),
        target_image=str(cell.difix.base / row.target_image_path),
        ref_image=str(cell.difix.base / row.ref_image_path),
        prompt="",
    )
    triplet = read_triplet(row.sample_id, entry, trained_resolution(cell.tuning_run, cell.run))
    render, target, reference = (
        image.permute(1, 2, 0).contiguous().numpy() for image in (triplet.render, triplet.target, triplet.reference)
    )
    return (render if refinement is None else refinement.refine([render], [reference])[0]), target


def _depth_picture(cell: EvaluationCell, row: SampleRow, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The estimated depth of the target view, else the true one; (H, W) uint8, 255 nearest, 0 farthest or unknown."""
    import numpy as np
    from PIL import Image

    from thesis_assets.scenes.bounded_files import read_depth

    path = _depth_path(cell, row)
    if path is None:
        return None
    depth = np.asarray(read_depth(path), np.float64)
    known = np.isfinite(depth) & (depth > 0)
    grey = np.zeros(depth.shape, np.uint8)
    if known.any():
        near, far = float(depth[known].min()), float(depth[known].max())
        grey[known] = np.round(255 - 200 * (depth[known] - near) / max(far - near, 1e-6))
    return np.asarray(Image.fromarray(grey).resize((size[1], size[0]), Image.Resampling.NEAREST))


def _depth_path(cell: EvaluationCell, row: SampleRow) -> Path | None:
    key = (row.target_cam_id, row.target_fname)
    return cell.scene.depth_path(*key, estimated=True) or cell.scene.depth_path(*key)


def _write_sheets(
    cell: EvaluationCell, epoch: int, rows: Sequence[SampleRow], pictures: dict[str, list[Any]], stage: Staging
) -> None:
    from thesis_assets.images.contact_sheet import contact_sheet

    titles = [f"cam {row.target_cam_id}, {row.target_fname}" for row in rows]
    for kind in KINDS:
        if any(picture is not None for picture in pictures[kind]):
            sheet = contact_sheet(
                [pictures[kind]], column_titles=titles, cell_height=SHEET_HEIGHT, max_bytes=None, encoding="png"
            )
            stage.write(cell.tree.training_artifacts(epoch, kind) / "contact_sheet.png", sheet)
