"""Predictions of the source `refine`: the imperfect renders refined by the epoch's checkpoint, with masks and cameras.

A worker refines some frames of one (scene, epoch), all cameras of a frame in one batch: its Gaussians and its reference are read once, and
the pixels are those of any other number of workers.
Does not belong here: any metric (`nvs`), or predictions that others made (`source_trees`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from thesis_assets import storage
from thesis_assets.errors import InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.outputs import (
    Staging,
    as_recorded,
    kept,
    publish,
    put_back,
    remade,
    staged,
    verified,
    withdraw,
)
from thesis_assets.evaluation.shared_work import VIEWS_A_WORKER, one_thread, split_by_frame
from thesis_assets.evaluation.units import prediction_unit
from thesis_assets.evaluation.views import View, evaluated_views, no_views, read_predictions
from thesis_assets.launch.mapping import Course, Shared
from thesis_assets.launch.telling import counted, tell
from thesis_assets.layout import TaskTree, TuningRunTree, epoch_name
from thesis_assets.provenance import Contents, Output, Verdict, begin
from thesis_assets.provenance import Unit as OutputUnit
from thesis_assets.rendering.renderer import MissingRender, Renderer, RenderSizeMismatch
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.samples.shards import shard_unit
from thesis_assets.scenes.matching import group_id
from thesis_assets.scenes.scene import Scene
from thesis_assets.schemas.evaluation import PredictionRecord
from thesis_assets.schemas.tuning import CheckpointInfo
from thesis_assets.tuning.checkpoints import handed_off, verify_checkpoint
from thesis_assets.tuning.refine import load_refiner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from thesis_assets.images.codecs import PngEncoder
    from thesis_assets.tuning.trained_model import RefinesImages

MAX_BATCH = 8
"""Images a forward pass: bounds the memory, whatever the number of cameras."""


@dataclass(frozen=True)
class SampleImage:
    """The file of a sample that has a render as we encode it, and what the samples' record says of it."""

    path: Path
    recorded: Output | None


Render: TypeAlias = "NDArray[np.uint8] | SampleImage"
"""(H, W, 3) uint8, or a file that holds them."""


@dataclass(frozen=True)
class RefinedViews:
    """What refining some views gave: those without a render, each with its reason; where the renders came from; what was written.

    `refiner_size`: as of the `PredictionRecord`.
    """

    missing: dict[str, str]
    origins: frozenset[str]
    refiner_size: int | None
    written: dict[Path, Output]


def refine_epoch(cell: EvaluationCell, epoch: int, contents: Contents) -> Course[PredictionRecord]:
    """Make an epoch's predictions by the options they were made with before; where they are as wanted, say what they are.

    Older predictions, and what was measured on them, make way.
    """
    unit, task = prediction_unit(cell, epoch), cell.tree.task(epoch, "nvs")
    verdict = verified(unit, contents)
    if verdict.is_made:
        return read_predictions(task)
    step, cell = cell.epoch_steps()[epoch], kept(cell, verdict.record)
    info = None if step is None else storage.read_json(cell.tuning_run.checkpoint_info(step), CheckpointInfo)
    chosen, making = evaluated_views(cell), begin(unit, contents)
    # Where only files were lost, the views that have them are refined again, and those are looked for that had no render.
    then = verdict.record.noted.get("renderer") if verdict.record is not None else None
    again = then is not None and verdict.only_lost_files and verdict.by_these_tools(unit.wanted)
    spoilt = {unit.place.base / name for name in (*verdict.missing, *verdict.damaged)}
    views = [view for view in chosen.views if not again or not _is_whole(task, view, spoilt)]
    with staged(task.inputs_dir) as (stage,):
        refine = functools.partial(refine_part, cell, step, task, stage)
        found: list[RefinedViews] = yield Shared(refine, views, split_by_frame, VIEWS_A_WORKER)
        missing = {view: reason for each in found for view, reason in each.missing.items()}
        record = PredictionRecord(
            prediction_source="refine",
            epoch=epoch,
            step=step,
            checkpoint_sha256=None if info is None else info.sha256,
            n_images=len(chosen.views) - len(missing),
            refiner_size=next((each.refiner_size for each in found), None),
            renderer=then if again else _origins(found),
            left_out={**chosen.left_out, **missing},
        )
        if record.n_images == 0:
            raise no_views(cell, record.left_out)
        stage.write(task.prediction_record, storage.to_json_bytes(record))
        written = {path: output for each in found for path, output in each.written.items()}
        withdrawn = functools.partial(withdraw, cell.tree, epoch, task)
        if again:
            _put_back(cell, stage, unit, verdict, written, contents, missing, withdrawn)
        else:
            noted = {"device": cell.device, "renderer": record.renderer}
            publish([stage], unit, verdict, making, contents, written=written, noted=noted, on_change=withdrawn)
    left_out = len(record.left_out)
    tell(f"{cell.title} {epoch_name(epoch)}: {record.n_images} predictions, {left_out} left out")
    return record


def _is_whole(task: TaskTree, view: View, spoilt: Collection[Path]) -> bool:
    key = (view.cam_id, view.fname)
    paths = {task.input_render(*key), task.input_mask(*key), task.input_camera(*key)}
    return paths.isdisjoint(spoilt) and task.input_render(*key).is_file()


def _origins(found: Sequence[RefinedViews]) -> str:
    return ", ".join(sorted({origin for each in found for origin in each.origins})) or "none"


def _put_back(
    cell: EvaluationCell,
    stage: Staging,
    unit: OutputUnit,
    verdict: Verdict,
    written: Mapping[Path, Output],
    contents: Contents,
    missing: Mapping[str, str],
    on_change: Callable[[], None],
) -> None:
    """Put lost files back. A model may give another pixel on another device: what was measured on it then makes way.

    Raises:
        InvalidScene: one of them cannot be made any more.
    """
    lost = remade([stage], unit, verdict, {**written, **stage.written}, contents)
    if lost is None:
        raise InvalidScene(
            "predictions that were lost cannot be made again; the others are as they were",
            file=unit.place.base,
            found="; ".join(f"{view}: {reason}" for view, reason in missing.items())[:500] or verdict.in_words,
            remedy=f"bring back what they are made from; or let all of them be made from what is there: `thesis-assets run --exp "
            f"{cell.exp_name} --run {cell.run_name} --force predictions`",
        )
    if not as_recorded(verdict, lost):
        on_change()
    put_back([stage], unit, lost)


def refine_part(
    cell: EvaluationCell, step: int | None, task: TaskTree, stage: Staging, views: Sequence[View]
) -> RefinedViews:
    """Write renders, masks and cameras of some views, whole frames, into a staging.

    Raises:
        InvalidFile: the checkpoint, or an image, is missing or cannot be read.
    """
    renders, encoder = ImperfectRenders(cell), cell.experiment.generation.export.png_encoder
    refinement = Refinement(cell, step) if step is not None else None
    missing: dict[str, str] = {}
    progress, n_done = counted(cell.title, "predictions", len(views)), 0
    for fname, cam_ids in _by_frame(views):
        found, lacking = renders.of_frame(fname, cam_ids)
        missing |= {str(View(cam_id, fname)): reason for cam_id, reason in lacking.items()}
        for cam_id, render in (refinement.of_frame(fname, found) if refinement else found).items():
            _write_view(cell.scene, task, stage, View(cam_id, fname), render, encoder)
        n_done += len(cam_ids)
        progress(n_done)
    size = None if refinement is None else refinement.refiner.resolution
    return RefinedViews(missing, renders.origins, size, stage.written)


def _by_frame(views: Sequence[View]) -> Iterator[tuple[str, list[int]]]:
    frames: dict[str, list[int]] = {}
    for view in views:
        frames.setdefault(view.fname, []).append(view.cam_id)
    yield from sorted(frames.items(), key=lambda item: int(item[0]))


def _write_view(scene: Scene, task: TaskTree, stage: Staging, view: View, render: Render, encoder: PngEncoder) -> None:
    key = (view.cam_id, view.fname)
    if isinstance(render, SampleImage):
        stage.link(render.path, task.input_render(*key), render.recorded)
    else:
        stage.write_png(task.input_render(*key), render, encoder)
    stage.link(scene.tree.ground_truth.camera(*key), task.input_camera(*key))
    mask = scene.mask_path(*key)
    if mask is not None:
        stage.link(mask, task.input_mask(*key))


class ImperfectRenders:
    """Unrefined renders of one scene. The renderer is made the first time a view has no sample."""

    def __init__(self, cell: EvaluationCell) -> None:
        self._cell = cell
        self._used: set[str] = set()

    @cached_property
    def samples(self) -> dict[View, SampleImage]:
        """`image.png` of the scene's samples, by target view; a render does not depend on the reference.

        None of a shard that would be made from something else now, and none that is missing or damaged: those views are rendered. With
        recipes none at all: a sample's render may be of another one than those that are evaluated.
        """
        if self._cell.experiment.generation.recipes:
            return {}
        difix, scene, experiment = self._cell.difix, self._cell.scene, self._cell.experiment
        group = group_id(scene.name, experiment.split.group_rules)
        shard = shard_unit(difix, scene.roots, scene.name, experiment.generation, group).look()
        rows_file = difix.scene_run(scene.name).all_samples
        spoilt = {*shard.missing, *shard.damaged}
        unfinished = shard.record is None and not shard.is_made
        if unfinished or shard.is_stale or difix.relative(rows_file) in spoilt:
            return {}
        record = shard.record
        images = {
            View(row.target_cam_id, row.target_fname): SampleImage(
                difix.base / row.image_path, None if record is None else record.output(row.image_path)
            )
            for row in read_rows(rows_file)
            if row.image_path not in spoilt
        }
        return {view: image for view, image in images.items() if image.path.is_file()}

    @property
    def origins(self) -> frozenset[str]:
        """Where the renders came from, for the record: `samples`, a renderer's name and version, or both."""
        return frozenset(self._used)

    def of_frame(self, fname: str, cam_ids: Sequence[int]) -> tuple[dict[int, Render], dict[int, str]]:
        """Renders of one frame by camera; and the cameras without one, with the reason."""
        renders: dict[int, Render] = {}
        missing: dict[int, str] = {}
        for cam_id in cam_ids:
            sample = self.samples.get(View(cam_id, fname))
            if sample is not None:
                self._used.add("samples")
                renders[cam_id] = sample
                continue
            try:
                renders[cam_id] = self._render(fname, cam_id)
            except (MissingRender, RenderSizeMismatch) as error:
                missing[cam_id] = str(error).replace("\n", ";")
        return renders, missing

    def _render(self, fname: str, cam_id: int) -> NDArray[np.uint8]:
        from thesis_assets.images.quantise import quantise, to_host

        name, version = self._renderer.name, self._renderer.version
        self._used.add(version if version.startswith(name) else f"{name} {version}")
        with one_thread():
            batch = self._renderer.render(fname, [self._cell.scene.camera(cam_id, fname)])
        pixels: NDArray[np.uint8] = to_host(quantise(batch))[0]
        return pixels

    @cached_property
    def _renderer(self) -> Renderer:
        from thesis_assets.samples.triplet_export import scene_renderer

        cell = self._cell
        return scene_renderer(cell.difix, cell.scene, cell.experiment.generation, device=cell.device)


class Refinement:
    """One checkpoint over one scene. The model is loaded at the first frame."""

    def __init__(self, cell: EvaluationCell, step: int) -> None:
        self._cell, self._step = cell, step

    @cached_property
    def refiner(self) -> RefinesImages:
        """The checkpoint's model, verified before it is loaded; kept for the next scene in the same process."""
        run = handed_off(self._cell.tuning_run, self._step)
        stamps = tuple(
            storage.file_stamp(path) if path.is_file() else None
            for path in (run.checkpoint(self._step), run.checkpoint_info(self._step))
        )
        return _verified_refiner(run, self._step, self._cell.device, stamps)

    def of_frame(self, fname: str, renders: Mapping[int, Render]) -> dict[int, Render]:
        """Refined renders of one frame, with the source camera's image of that frame as reference.

        Returns:
            Of the same cameras and sizes.
        """
        from thesis_assets.images.codecs import read_rgb

        imperfect = {
            cam_id: read_rgb(each.path) if isinstance(each, SampleImage) else each for cam_id, each in renders.items()
        }
        refined: dict[int, Render] = {}
        reference = self._reference(fname)
        for cam_ids in _batches(imperfect):
            pixels = self.refine([imperfect[cam_id] for cam_id in cam_ids], [reference])
            refined |= dict(zip(cam_ids, pixels, strict=True))
        return refined

    def refine(
        self, renders: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]]
    ) -> list[NDArray[np.uint8]]:
        """One batch: renders of one size, and one reference for all or one each, of one size too. Returns the renders' size."""
        from thesis_assets.images.quantise import quantise, to_host

        with one_thread():
            refined = self.refiner.refine(_tensor(renders), _tensor(references), consume=True)
            return list(to_host(quantise(refined)))

    def _reference(self, fname: str) -> NDArray[np.uint8]:
        from thesis_assets.images.codecs import read_rgb

        scene, source = self._cell.scene, self._cell.source_camera()
        path = scene.image_path(source, fname)
        if path is None:
            raise InvalidScene(
                "the source camera has no image of a frame", file=scene.tree.ground_truth.image(source, fname)
            )
        image = read_rgb(path)
        return self._masked(image, fname, source) if self._cell.experiment.generation.filtering.apply_mask else image

    def _masked(self, image: NDArray[np.uint8], fname: str, source: int) -> NDArray[np.uint8]:
        """Black outside the people, as in the samples; a scene without masks keeps the whole image."""
        from thesis_assets.images.codecs import a_channel, on_background, read_mask

        path = self._cell.scene.mask_path(source, fname)
        return image if path is None else on_background(image, a_channel(read_mask(path)))


def forget_refiners() -> None:
    """Free the memory of the model that this process keeps."""
    _verified_refiner.cache_clear()


@functools.lru_cache(maxsize=1)
def _verified_refiner(run: TuningRunTree, step: int, device: str, stamps: tuple[str | None, ...]) -> RefinesImages:
    """`stamps` of the files: another file of the same name is verified and loaded anew."""
    del stamps

    verify_checkpoint(run, step)
    return load_refiner(run.checkpoint(step), device)


def _tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1]."""
    import numpy as np
    import torch

    values = np.empty((len(images), *images[0].shape), np.float32)
    for image, out in zip(images, values, strict=True):
        np.divide(image, np.float32(255), out=out, dtype=np.float32)  # in one pass: a quarter of torch's time
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def _batches(renders: Mapping[int, NDArray[np.uint8]]) -> Iterator[list[int]]:
    """Cameras of one image size, at most `MAX_BATCH` at a time."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for cam_id, pixels in renders.items():
        by_size.setdefault(pixels.shape, []).append(cam_id)
    for cam_ids in by_size.values():
        for start in range(0, len(cam_ids), MAX_BATCH):
            yield cam_ids[start : start + MAX_BATCH]
