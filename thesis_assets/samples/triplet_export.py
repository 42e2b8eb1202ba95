"""The triplets of one plan: frame by frame rendered, and written side by side; what is finished already is kept.

A render or photograph that cannot be used costs its own sample alone, and the row of drops says why.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile, InvalidScene, ThesisAssetsError
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.images.codecs import SizeMismatch
from thesis_assets.launch.telling import counted
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.provenance import Contents, Output
from thesis_assets.rendering.renderer import MissingRender, Renderer, RenderSizeMismatch
from thesis_assets.samples.integrity import IMAGE_FILES
from thesis_assets.samples.plan import (
    PlannedSample,
    ScenePlan,
    frames_of_scene,
    source_camera,
    target_cameras,
)
from thesis_assets.samples.recipes import training_frames
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.samples.triplet_sheet import CELL_HEIGHT, shown_of
from thesis_assets.schemas.samples import DroppedSample, DropReason, SampleMeta, SampleProvenance, SampleRow

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from thesis_assets.images.triplet_writer import PlacedImage, TripletJob, TripletWriter
    from thesis_assets.rendering.command_renders import Told
    from thesis_assets.rendering.renderer import Renderer
    from thesis_assets.scenes.camera import Camera
    from thesis_assets.scenes.scene import Scene


@dataclass(frozen=True)
class TripletWork:
    """What the triplets of one shard are made by. `identity`: of the shard's made-from record.

    `finished`: samples that need not be made, with what the record says of their files. `accept`: called with a sample's id and
    files before it appears; raises where it may not.
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


def export_triplets(work: TripletWork, plan: ScenePlan, say: Callable[[str], None]) -> ExportedTriplets:
    """Make every triplet of the plan that is not finished: the writer drains what the renderer gives.

    Args:
        say: gets a short line every few seconds.

    Raises:
        ThesisAssetsError: the scene cannot be rendered at all, or an encoder is missing.
        OSError: the disk is full, or cannot be written.
    """
    from thesis_assets.images.codecs import encoder_version
    from thesis_assets.images.triplet_writer import TripletWriter

    renderers = _renderers(work, plan, say)
    renderer = next(iter(renderers.values()))
    named = renderer.version.startswith(renderer.name)
    export = work.generation.export
    common = SampleProvenance(
        identity=work.identity,
        renderer=renderer.version if named else f"{renderer.name} {renderer.version}",
        mask_coverage=None,
        png_encoder=encoder_version(export.png_encoder),
        target_mode="",
        reference_mode="",
    )
    wanted = [planned for planned in plan.candidates if str(planned.sample) not in work.finished]
    n_kept, total = len(work.finished), len(work.finished) + len(wanted)
    if n_kept:
        say(f"{work.scene.name}: {n_kept} of {total} triplets are there already")
    progress = counted(work.scene.name, "triplets", total, n_kept, say)
    dropped: list[DroppedSample] = []
    submitted: list[PlannedSample] = []
    with (
        _one_torch_thread(renderer.device),
        TripletWriter(
            export.png_encoder, export.link_mode, threads=max(1, work.threads), contents=work.contents
        ) as writer,
    ):
        for planned, made in _jobs(work, renderers, wanted, common, writer):
            if isinstance(made, ThesisAssetsError):
                dropped.append(dropped_by(planned.sample, made))
            else:
                submitted.append(planned)
                writer.submit(made)
            progress(writer.n_finished + len(dropped))
    dropped += [
        dropped_by(planned.sample, result.error)
        for planned, result in zip(submitted, writer.results, strict=True)
        if result.error is not None
    ]
    lost = {row.sample_id for row in dropped}
    rows = [row_of(planned.sample, planned.group_id) for planned in plan.candidates if str(planned.sample) not in lost]
    files = {**work.finished, **{result.final_dir.name: result.outputs for result in writer.results}}
    return ExportedTriplets(
        rows=sorted(rows, key=lambda row: row.sample_id),
        dropped=sorted(dropped, key=lambda row: row.sample_id),
        outputs={
            f"samples/{row.sample_id}/{name}": each for row in rows for name, each in files[row.sample_id].items()
        },
        renderer=common.renderer,
        png_encoder=common.png_encoder,
        bytes_written=sum(result.bytes_written for result in writer.results),
        thumbnails={result.final_dir.name: result.thumbnails for result in writer.results if result.thumbnails},
    )


def _renderers(work: TripletWork, plan: ScenePlan, say: Callable[[str], None]) -> dict[str, Renderer]:
    """One a folder of renders that a sample of the plan is of, by the recipe's folder; the empty one without recipes."""
    from thesis_assets.scenes.scene import open_scene

    folders = {planned.renders.folder for planned in plan.candidates if planned.renders is not None}
    named = [renders.folder for renders in work.generation.recipe_renders()]
    found = {}
    for folder in [folder for folder in named if folder in folders] or named[:1] or [""]:
        scene = open_scene(work.scene.roots, work.scene.name, recipe=folder) if folder else work.scene
        found[folder] = scene_renderer(work.tree, scene, work.generation, device=work.device, on_progress=say)
    return found


def _jobs(
    work: TripletWork,
    renderers: Mapping[str, Renderer],
    wanted: list[PlannedSample],
    common: SampleProvenance,
    writer: TripletWriter,
) -> Iterator[tuple[PlannedSample, TripletJob | ThesisAssetsError]]:
    """Render frame by frame: every wanted sample as it can be written, or with what is wrong with it."""
    pictured = set(shown_of(sorted(str(planned.sample) for planned in wanted)))
    for fname, group in groupby(wanted, key=lambda planned: planned.sample.target_fname):
        of_frame = list(group)
        pairs = _view_pairs(of_frame, work.generation)
        for reference in {id(pair.reference): pair.reference for pair in pairs}.values():
            if not reference.untouched:
                writer.make_ahead(reference.content)
        renders = _renders_of(of_frame, fname, renderers, work.scene)
        for planned, pair in zip(of_frame, pairs, strict=True):
            render = renders[_folder(planned), planned.sample.target_cam_id]
            if isinstance(render, ThesisAssetsError):
                yield planned, render
            else:
                yield planned, _job(work, planned, pair, render, common, pictured=str(planned.sample) in pictured)


def _folder(planned: PlannedSample) -> str:
    return "" if planned.renders is None else planned.renders.folder


def _renders_of(
    of_frame: list[PlannedSample], fname: str, renderers: Mapping[str, Renderer], scene: Scene
) -> dict[tuple[str, int], Tensor | ThesisAssetsError]:
    """The renders of one frame's samples, by folder and camera: a folder at once."""
    cameras: dict[str, list[int]] = {}
    for planned in of_frame:
        cameras.setdefault(_folder(planned), []).append(planned.sample.target_cam_id)
    return {
        (folder, cam_id): render
        for folder, cam_ids in cameras.items()
        for cam_id, render in render_frame(renderers[folder], scene, fname, cam_ids).items()
    }


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
            "recipe": None if planned.renders is None else planned.renders.recipe.name,
            "schedule": None if planned.renders is None else planned.renders.value,
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


def scene_renderer(
    tree: DifixTree,
    scene: Scene,
    generation: GenerationSpec,
    *,
    device: str,
    on_progress: Callable[[str], None] | None = None,
) -> Renderer:
    """The renderer that `generation.renders` names. Of the source `command`: runs it where its renders are not there already.

    Of the recipe whose renders the scene has (`open_scene`).

    Raises:
        As `rendering.choice.make_renderer`, and as the choice of cameras (`plan.source_camera`, `plan.target_cameras`).
    """
    from thesis_assets.rendering.choice import make_renderer
    from thesis_assets.rendering.command_renders import RenderCommand

    command = None
    if generation.renders.source == "command":  # it is told the scene's cameras
        source = source_camera(scene, generation)
        targets = target_cameras(scene, generation, source)
        told = _told(scene, generation, source, targets)
        command = RenderCommand(tree, scene, generation, source, tuple(targets), told)
    return make_renderer(generation.renders, scene, device=device, command=command, on_progress=on_progress)


def _told(scene: Scene, generation: GenerationSpec, source: int, targets: Sequence[int]) -> Told | None:
    """What the command is told of the recipe whose renders the scene has."""
    from thesis_assets.rendering.command_renders import Told

    renders = next((each for each in generation.recipe_renders() if each.folder == scene.tree.recipe), None)
    if renders is None:
        return None
    frames = training_frames(frames_of_scene(scene, generation, source, targets), renders.recipe)
    cameras = [source] if renders.recipe.train_cameras == "source" else scene.camera_ids()
    return Told(renders, tuple(cameras), tuple(frames))


def render_frame(
    renderer: Renderer, scene: Scene, fname: str, cam_ids: Sequence[int]
) -> dict[int, Tensor | ThesisAssetsError]:
    """Render a frame at several cameras: one call a size where all goes well, else one a camera.

    By camera: (3, H, W) float in [0, 1] on the renderer's device, or the error that drops its sample.
    """
    outcomes: dict[int, Tensor | ThesisAssetsError] = {}
    by_size: dict[tuple[int, int], list[Camera]] = {}
    for cam_id in cam_ids:
        try:
            camera = scene.camera(cam_id, fname)
        except (InvalidFile, InvalidScene) as error:
            outcomes[cam_id] = error
        else:
            by_size.setdefault((camera.height, camera.width), []).append(camera)
    for cameras in by_size.values():
        outcomes |= _render_together(renderer, fname, cameras)
    return outcomes


def _render_together(
    renderer: Renderer, fname: str, cameras: Sequence[Camera]
) -> dict[int, Tensor | ThesisAssetsError]:
    try:
        images = renderer.render(fname, cameras)
    except (MissingRender, RenderSizeMismatch, InvalidFile, InvalidScene) as error:
        if len(cameras) == 1:
            return {cameras[0].cam_id: error}
        alone = [_render_together(renderer, fname, [camera]) for camera in cameras]
        return {cam_id: outcome for outcomes in alone for cam_id, outcome in outcomes.items()}
    return {camera.cam_id: image for camera, image in zip(cameras, images, strict=True)}


class LowMaskCoverage(ThesisAssetsError):
    """People cover less of a view than the experiment wants."""


class View:
    """One photograph and its union mask. Read at most once, by the first thread that asks: a reference serves several targets.

    Args:
        mask: None where the scene has no masks, or none is needed: then the view counts as one whole mask.
        blacken: black outside the mask.
    """

    def __init__(self, image: Path, mask: Path | None, *, blacken: bool) -> None:
        self._image = image
        self._mask_path = mask
        self._blacken = blacken
        self._reading = threading.Lock()
        self._making = threading.Lock()
        self._mask: NDArray[np.bool_] | None = None
        self._coverage: float | None = None
        self._content: Path | bytes | None = None

    @property
    def untouched(self) -> bool:
        """Whether the file stays as it is whatever its mask says; false where a mask has to be read first."""
        return self._mask_path is None or not self._blacken

    @property
    def coverage(self) -> float | None:
        """Mean of the mask, in [0, 1]; None without one.

        Raises:
            InvalidFile: the mask cannot be read.
        """
        with self._reading:
            if self._mask_path is not None and self._coverage is None:
                import numpy as np

                from thesis_assets.images.codecs import read_mask

                self._mask = read_mask(self._mask_path)
                self._coverage = np.count_nonzero(self._mask) / self._mask.size
            return self._coverage

    def content(self) -> Path | bytes:
        """What becomes the sample's image: the file itself where no pixel changes, else the bytes of a JPEG.

        Raises:
            InvalidFile: the photograph or its mask cannot be read.
            SizeMismatch: they differ in size.
        """
        with self._making:
            if self._content is None:
                all_people = self.coverage in (None, 1.0)
                self._content = self._image if all_people or not self._blacken else self._blackened()
                self._mask = None  # A megapixel each, and not needed again.
            return self._content

    def _blackened(self) -> bytes:
        from thesis_assets.images.codecs import check_size, encode_blackened, read_rgb

        assert self._mask is not None, "the coverage was read just before"
        image = read_rgb(self._image)
        height, width = self._mask.shape
        check_size((height, width), (image.shape[0], image.shape[1]), str(self._mask_path))
        return encode_blackened(image, self._mask)


@dataclass(frozen=True)
class ViewPair:
    """Target and reference of one triplet, with the coverage that the experiment wants of both."""

    target: View
    reference: View
    min_coverage: float

    def target_content(self) -> Path | bytes:
        """As `View.content`; first of all refuses a pair with too few people in it.

        Raises:
            LowMaskCoverage: the smaller coverage of the two is below the wanted one.
        """
        coverage = self.coverage()
        if coverage is not None and coverage < self.min_coverage:
            raise LowMaskCoverage(
                "people cover too little of the target or the reference",
                key="generation.filtering.min_mask_coverage",
                found=f"{coverage:.4f}",
                wanted=f"at least {self.min_coverage}",
            )
        return self.target.content()

    def coverage(self) -> float | None:
        """The smaller coverage of the two; None in a scene without masks."""
        shares = [share for share in (self.target.coverage, self.reference.coverage) if share is not None]
        return min(shares) if shares else None


_REASONS: tuple[tuple[type[ThesisAssetsError], DropReason], ...] = (
    (MissingRender, "missing_render"),
    (RenderSizeMismatch, "size_mismatch"),
    (SizeMismatch, "size_mismatch"),
    (LowMaskCoverage, "low_mask_coverage"),
    (InvalidFile, "unreadable_input"),
    (InvalidScene, "unreadable_input"),
)
_SAID_IN_FULL = ("size_mismatch", "low_mask_coverage")


def dropped_by(sample: SampleId, error: ThesisAssetsError) -> DroppedSample:
    """The row of a sample that could not be made. Raises an error that is no fault of one sample's inputs: then the whole scene fails."""
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)
    if reason is None:
        raise error
    return DroppedSample(
        sample_id=str(sample),
        scene_name=sample.scene_name,
        target_cam_id=sample.target_cam_id,
        target_fname=sample.target_fname,
        reason=reason,
        detail=_detail(reason, error),
    )


def _detail(reason: DropReason, error: ThesisAssetsError) -> str:
    """What went wrong with which file, without a root: the table is the same on every machine."""
    detail = " ".join(error.problem.split())
    if error.file is not None:
        detail += ": " + "/".join(Path(error.file).parts[-3:])
    if reason in _SAID_IN_FULL:  # other errors may quote a library, and with it a full path
        detail += f" ({error.found}, wanted {error.wanted})"
    return detail
