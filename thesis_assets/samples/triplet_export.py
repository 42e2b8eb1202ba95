"""The triplets of one plan: frame by frame rendered, and written side by side; what is finished already is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Contents, Output
from thesis_assets.samples.drops import dropped_by
from thesis_assets.samples.export_progress import ExportProgress
from thesis_assets.samples.frame_renders import render_frame
from thesis_assets.samples.integrity import IMAGE_FILES
from thesis_assets.samples.plan import PlannedSample, ScenePlan
from thesis_assets.samples.preview import CELL_HEIGHT, shown_of
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.samples.views import View, ViewPair
from thesis_assets.schemas.samples import DroppedSample, SampleMeta, SampleProvenance, SampleRow

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from thesis_assets.images.triplet_writer import PlacedImage, TripletJob, TripletResult
    from thesis_assets.rendering.renderer import Renderer
    from thesis_assets.scenes.scene import Scene


@dataclass(frozen=True)
class TripletWork:
    """What the triplets of one shard are made by.

    Attributes:
        identity: of the shard's made-from record.
        finished: samples that need not be made, with what the record says of their files.
        accept: called with a sample's id and files before it appears; raises where it may not.
    """

    tree: DifixTree
    scene: Scene
    generation: GenerationSpec
    identity: str
    finished: Mapping[str, Mapping[str, Output]]
    contents: Contents
    device: str
    threads: int
    accept: Callable[[str, Mapping[str, Output]], None] | None = None


@dataclass(frozen=True)
class ExportedTriplets:
    """Rows and drops sorted by sample id; `outputs` by name below the snapshot; `thumbnails` of some triplets by sample id."""

    rows: list[SampleRow]
    dropped: list[DroppedSample]
    outputs: dict[str, Output]
    renderer: str
    png_encoder: str
    bytes_written: int
    thumbnails: dict[str, tuple[NDArray[np.uint8], ...]]


def export_triplets(work: TripletWork, plan: ScenePlan, progress: ExportProgress) -> ExportedTriplets:
    """Make every triplet of the plan that is not finished.

    Raises:
        ThesisAssetsError: the scene cannot be rendered at all, or an encoder is missing.
        OSError: the disk is full, or cannot be written.
    """
    from thesis_assets.images.codecs import encoder_version
    from thesis_assets.samples.scene_renderer import scene_renderer

    renderer = scene_renderer(work.tree, work.scene, work.generation, device=work.device, on_progress=progress.say)
    common = SampleProvenance(
        identity=work.identity,
        renderer=_renderer_version(renderer),
        mask_coverage=None,
        png_encoder=encoder_version(work.generation.export.png_encoder),
        target_mode="",
        reference_mode="",
    )
    wanted = [planned for planned in plan.candidates if str(planned.sample) not in work.finished]
    progress.keep(len(work.finished))
    dropped, written = _make(work, renderer, wanted, common, progress)
    lost = {row.sample_id for row in dropped}
    rows = [row_of(planned.sample, planned.group_id) for planned in plan.candidates if str(planned.sample) not in lost]
    files = {**work.finished, **{result.final_dir.name: result.outputs for result in written}}
    return ExportedTriplets(
        rows=sorted(rows, key=lambda row: row.sample_id),
        dropped=sorted(dropped, key=lambda row: row.sample_id),
        outputs={
            f"samples/{row.sample_id}/{name}": each for row in rows for name, each in files[row.sample_id].items()
        },
        renderer=common.renderer,
        png_encoder=common.png_encoder,
        bytes_written=sum(result.bytes_written for result in written),
        thumbnails={result.final_dir.name: result.thumbnails for result in written if result.thumbnails},
    )


def _renderer_version(renderer: Renderer) -> str:
    named = renderer.version.startswith(renderer.name)
    return renderer.version if named else f"{renderer.name} {renderer.version}"


def _make(
    work: TripletWork,
    renderer: Renderer,
    wanted: list[PlannedSample],
    common: SampleProvenance,
    progress: ExportProgress,
) -> tuple[list[DroppedSample], list[TripletResult]]:
    """Render and write. Returns the samples that could not be made, and what became of those that were submitted."""
    from thesis_assets.images.triplet_writer import TripletWriter

    dropped: list[DroppedSample] = []
    submitted: list[PlannedSample] = []
    export = work.generation.export
    pictured = set(shown_of(sorted(str(planned.sample) for planned in wanted)))
    with (
        _one_torch_thread(renderer.device),
        TripletWriter(
            export.png_encoder, export.link_mode, threads=max(1, work.threads), contents=work.contents
        ) as writer,
    ):
        for fname, group in groupby(wanted, key=lambda planned: planned.sample.target_fname):
            of_frame = list(group)
            pairs = _view_pairs(of_frame, work.generation)
            for reference in {id(pair.reference): pair.reference for pair in pairs}.values():
                if not reference.untouched:
                    writer.make_ahead(reference.content)
            renders = render_frame(renderer, work.scene, fname, [planned.sample.target_cam_id for planned in of_frame])
            for planned, pair in zip(of_frame, pairs, strict=True):
                render = renders[planned.sample.target_cam_id]
                if isinstance(render, ThesisAssetsError):
                    dropped.append(dropped_by(planned.sample, render))
                    continue
                submitted.append(planned)
                writer.submit(_job(work, planned, pair, render, common, pictured=str(planned.sample) in pictured))
            progress.at(writer.n_finished + len(dropped))
    for planned, result in zip(submitted, writer.results, strict=True):
        if result.error is not None:
            dropped.append(dropped_by(planned.sample, result.error))
    return dropped, writer.results


@contextlib.contextmanager
def _one_torch_thread(device: str) -> Iterator[None]:
    """Render on one core: the order in which several threads sum up changes the last bits, and with them a pixel here and there.

    Scenes are exported side by side in processes of their own, and other threads of this one encode meanwhile.
    """
    if device != "cpu":
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _view_pairs(of_frame: list[PlannedSample], generation: GenerationSpec) -> list[ViewPair]:
    """Target and reference of each sample; samples of one frame that have the same reference share its pixels."""
    blacken = generation.filtering.apply_mask
    references: dict[Path, View] = {}
    pairs = []
    for planned in of_frame:
        reference = references.setdefault(
            planned.reference_image, View(planned.reference_image, planned.reference_mask, blacken=blacken)
        )
        target = View(planned.target_image, planned.target_mask, blacken=blacken)
        pairs.append(ViewPair(target, reference, generation.filtering.min_mask_coverage))
    return pairs


def _job(
    work: TripletWork,
    planned: PlannedSample,
    pair: ViewPair,
    render: Tensor,
    common: SampleProvenance,
    *,
    pictured: bool,
) -> TripletJob:
    from thesis_assets.images.triplet_writer import TripletJob

    row = row_of(planned.sample, planned.group_id)
    accept = work.accept

    def meta(placed: Mapping[str, PlacedImage]) -> SampleMeta:
        made = {
            "images": {name: placed[name].output.sha256 for name in IMAGE_FILES},
            "pixels": placed["image.png"].output.pixels,
            "photographs": {
                "target": work.contents.sha256(planned.target_image),
                "reference": work.contents.sha256(planned.reference_image),
            },
            "mask_coverage": pair.coverage(),
            "target_mode": placed["target_image.jpg"].mode,
            "reference_mode": placed["ref_image.jpg"].mode,
        }
        return SampleMeta(**row.__dict__, provenance=common.model_copy(update=made))

    return TripletJob(
        final_dir=work.tree.sample_dir(planned.sample),
        render=render,
        target=pair.target_content,
        reference=pair.reference.content,
        meta=meta,
        accept=None if accept is None else lambda outputs: accept(row.sample_id, outputs),
        thumbnail_height=CELL_HEIGHT if pictured else 0,
    )
