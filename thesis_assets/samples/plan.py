"""Which triplets one scene gives: target cameras, frames and reference views become candidates, or drops with a reason.

Pure over the scene's listing: no pixel is read. What only the pixels tell (coverage, sizes, broken files) is dropped by the export.
A reference strategy says which camera and frame accompany a target: always one view, known before anything is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidScene
from thesis_assets.experiments.recipes import RecipeRenders
from thesis_assets.experiments.spec import Frames, GenerationSpec, Reference
from thesis_assets.layout import SampleId
from thesis_assets.samples.recipes import share_out
from thesis_assets.schemas.samples import DroppedSample, DropReason

if TYPE_CHECKING:
    from thesis_assets.scenes.scene import Scene


@dataclass(frozen=True)
class PlannedSample:
    """One triplet to export, with the files it reads. A mask is None where the scene has none, or none is asked for.

    `renders`: the recipe's folder that its render is of; None without recipes.
    """

    sample: SampleId
    group_id: str
    target_image: Path
    reference_image: Path
    target_mask: Path | None
    reference_mask: Path | None
    renders: RecipeRenders | None = None


@dataclass(frozen=True)
class ScenePlan:
    """All candidates of a scene: those to export and those dropped already, by frame and target camera."""

    target_cam_ids: list[int]
    candidates: list[PlannedSample]
    dropped: list[DroppedSample]
    uses_masks: bool


def plan_scene(scene: Scene, generation: GenerationSpec, group_id: str) -> ScenePlan:
    """List the triplets of a scene: every chosen frame of every target camera.

    Chosen: the frames that any camera in use has, without skip frames, every `stride`-th, the first `max_samples_per_camera`. With
    recipes each triplet has its own; one at a frame that all of them train on is none.

    Raises:
        InvalidExperiment: a camera that the experiment names is not in the scene, or a target would be its own reference.
        InvalidScene: the scene has no registry entry, no target camera, or no frame.
    """
    source = source_camera(scene, generation)
    targets = target_cameras(scene, generation, source)
    rule = make_reference_rule(scene, generation.reference, source, targets)
    listing = _listing(scene, generation, {*targets, *rule.cameras})
    candidates: list[PlannedSample] = []
    dropped: list[DroppedSample] = []
    for fname in _chosen_frames(listing, generation.frames):
        for cam_id in targets:
            planned = _plan_sample(listing, group_id, cam_id, fname, rule.view_for(cam_id, fname))
            if isinstance(planned, PlannedSample):
                candidates.append(planned)
            else:
                dropped.append(planned)
    if generation.recipes:
        frames = frames_of_scene(scene, generation, source, targets)
        renders = share_out([planned.sample for planned in candidates], frames, generation)
        candidates = [
            replace(planned, renders=renders[planned.sample]) for planned in candidates if planned.sample in renders
        ]
    return ScenePlan(targets, candidates, dropped, listing.uses_masks)


def frames_of_scene(scene: Scene, generation: GenerationSpec, source: int, targets: Sequence[int]) -> list[str]:
    """The frames of which a recipe's 3D model may be trained on some: those of the source and target cameras, in numeric order."""
    used = generation.frames.apply_skip_frames
    found = frozenset[str]().union(*(scene.frames(cam_id, apply_skip_frames=used) for cam_id in (source, *targets)))
    return sorted(found, key=int)


def source_camera(scene: Scene, generation: GenerationSpec) -> int:
    """The camera whose video the renders come from: the experiment's, or the registry's.

    Raises:
        InvalidExperiment: the experiment names a camera that the scene does not have.
        InvalidScene: the registry has no entry, or it names a camera without images.
    """
    if generation.source_camera == "registry":
        return scene.source_camera()
    if generation.source_camera not in scene.camera_ids():
        raise _unknown_cameras(scene, "generation.source_camera", [generation.source_camera])
    return generation.source_camera


def target_cameras(scene: Scene, generation: GenerationSpec, source: int) -> list[int]:
    """The cameras that are rendered and supervised, in numeric order.

    Raises:
        InvalidExperiment: the experiment names cameras that the scene does not have.
        InvalidScene: there is no camera beside the source.
    """
    available = scene.camera_ids()
    if generation.target_cameras.mode == "explicit":
        unknown = sorted(set(generation.target_cameras.ids) - set(available))
        if unknown:
            raise _unknown_cameras(scene, "generation.target_cameras.ids", unknown)
        return sorted(generation.target_cameras.ids)
    targets = [cam_id for cam_id in available if cam_id != source]
    if not targets:
        raise InvalidScene(
            "the scene has no camera beside its source camera",
            file=scene.tree.ground_truth.images_dir,
            found=f"cameras {available}, source {source}",
            wanted="at least two cameras with images",
            remedy=f"bring another camera, or leave the scene out: generation.exclude: [{scene.name}]",
        )
    return targets


def _unknown_cameras(scene: Scene, key: str, unknown: list[int]) -> InvalidExperiment:
    return InvalidExperiment(
        f"the scene `{scene.name}` does not have a camera that the experiment names",
        file=scene.tree.ground_truth.images_dir,
        key=key,
        found=unknown,
        wanted=f"cameras of {scene.camera_ids()}",
        remedy=f"correct the ids, or leave the scene out: generation.exclude: [{scene.name}]",
    )


@dataclass(frozen=True)
class _Listing:
    """What the cameras in use have."""

    scene: Scene
    fnames: dict[int, frozenset[str]]
    """By camera: frames with an image, without skip frames."""
    uses_masks: bool


def _listing(scene: Scene, generation: GenerationSpec, cam_ids: set[int]) -> _Listing:
    apply_skip_frames = generation.frames.apply_skip_frames
    fnames = {
        cam_id: frozenset(scene.frames(cam_id, apply_skip_frames=apply_skip_frames)) for cam_id in sorted(cam_ids)
    }
    needs_masks = generation.filtering.apply_mask or generation.filtering.min_mask_coverage > 0
    # Where any camera in use has a mask, a frame without one is a gap, not a scene without masks.
    has_masks = any(scene.mask_path(cam_id, fname) for cam_id, of_camera in fnames.items() for fname in of_camera)
    return _Listing(scene, fnames, needs_masks and has_masks)


def _chosen_frames(listing: _Listing, frames: Frames) -> list[str]:
    scene = listing.scene
    everything = sorted(frozenset[str]().union(*listing.fnames.values()), key=int)
    if not everything:
        raise InvalidScene(
            "the scene has no frame to make a sample of",
            file=scene.tree.ground_truth.images_dir,
            found=f"no image of cameras {sorted(listing.fnames)}"
            + (", skip frames left out" * bool(scene.skip_frames())),
            wanted="<cam_id>/<frame>.jpg with content",
            remedy=f"bring the images, or leave the scene out: generation.exclude: [{scene.name}]",
        )
    chosen = everything[:: frames.stride]
    return chosen[: frames.max_samples_per_camera] if frames.max_samples_per_camera else chosen


def _plan_sample(
    listing: _Listing, group_id: str, cam_id: int, fname: str, view: ReferenceView
) -> PlannedSample | DroppedSample:
    scene = listing.scene
    if view.fname not in listing.fnames[view.cam_id]:
        detail = f"camera {view.cam_id} has no image of frame {view.fname}"
        return _dropped(scene, cam_id, fname, view, "missing_reference_frame", detail)
    if fname not in listing.fnames[cam_id]:
        detail = f"camera {cam_id} has no image of frame {fname}"
        return _dropped(scene, cam_id, fname, view, "missing_target_image", detail)
    target, reference = scene.image_path(cam_id, fname), scene.image_path(view.cam_id, view.fname)
    assert target is not None, "the frame is listed"
    assert reference is not None, "the frame is listed"
    sample = SampleId(scene.name, cam_id, view.cam_id, fname, view.fname)
    if not listing.uses_masks:
        return PlannedSample(sample, group_id, target, reference, None, None)
    masks = scene.mask_path(cam_id, fname), scene.mask_path(view.cam_id, view.fname)
    for mask, place in zip(masks, ((cam_id, fname), (view.cam_id, view.fname)), strict=True):
        if mask is None:
            detail = f"camera {place[0]} has no mask of frame {place[1]}"
            return _dropped(scene, cam_id, fname, view, "unreadable_input", detail)
    return PlannedSample(sample, group_id, target, reference, *masks)


def _dropped(
    scene: Scene, cam_id: int, fname: str, view: ReferenceView, reason: DropReason, detail: str
) -> DroppedSample:
    # Not `SampleId`: an offset may name a reference frame before the first one, and the row has to say so.
    sample_id = f"{scene.name}__tcam{cam_id}__rccam{view.cam_id}__tf{fname}__rf{view.fname}"
    return DroppedSample(
        sample_id=sample_id,
        scene_name=scene.name,
        target_cam_id=cam_id,
        target_fname=fname,
        reason=reason,
        detail=detail,
    )


@dataclass(frozen=True)
class ReferenceView:
    """A camera and a frame. The frame may be one that no camera has (an offset beyond the sequence): the plan drops it."""

    cam_id: int
    fname: str


@dataclass(frozen=True)
class ReferenceRule:
    """From a target's camera and frame to its reference; `cameras`: every camera that may be one."""

    cameras: frozenset[int]
    view_for: Callable[[int, str], ReferenceView]


def make_reference_rule(scene: Scene, reference: Reference, source: int, targets: Sequence[int]) -> ReferenceRule:
    """The rule of an experiment, for one scene; an InvalidExperiment where a target would be its own reference."""
    weights: dict[str, float] = {str(name): weight for name, weight in reference.weights.items()}
    names = sorted(weights) or [reference.strategy]
    if "same_time_source" in names and source in targets:
        raise InvalidExperiment(
            "the source camera is a target, so its reference would be the target image itself",
            key="generation.target_cameras.ids",
            found=f"{source}, the source camera of `{scene.name}`",
            wanted="target cameras beside the source camera",
            remedy="take the id out, or use the strategy `temporal_offset` or `nearest_camera`",
        )
    rules = {name: _single_rule(name, scene, reference, source, targets) for name in names}
    if reference.strategy == "mixed":
        return _mixed(rules, weights, f"{reference.seed}|{scene.name}")
    return rules[reference.strategy]


def _single_rule(name: str, scene: Scene, reference: Reference, source: int, targets: Sequence[int]) -> ReferenceRule:
    if name == "nearest_camera":
        nearest = nearest_cameras(scene, targets)
        return ReferenceRule(frozenset(nearest.values()), lambda cam_id, fname: ReferenceView(nearest[cam_id], fname))
    # The source camera, a number of frames later (or earlier, where negative).
    offset = reference.offset if name == "temporal_offset" else 0
    return ReferenceRule(frozenset((source,)), lambda _, fname: ReferenceView(source, f"{int(fname) + offset:06d}"))


def _mixed(rules: Mapping[str, ReferenceRule], weights: Mapping[str, float], place: str) -> ReferenceRule:
    """One of several rules for each target, by a draw that depends on seed, scene, camera and frame alone: on no order."""
    names, total = sorted(rules), sum(weights.values())

    def view_for(cam_id: int, fname: str) -> ReferenceView:
        drawn = hashlib.sha256(f"{place}|{cam_id}|{fname}".encode()).digest()
        left = int.from_bytes(drawn[:8], "big") / 2**64 * total
        for name in names:
            left -= weights[name]
            if left < 0:
                return rules[name].view_for(cam_id, fname)
        return rules[names[-1]].view_for(cam_id, fname)  # rounding may leave a rest of 1e-16

    return ReferenceRule(frozenset().union(*(rule.cameras for rule in rules.values())), view_for)


def nearest_cameras(scene: Scene, targets: Sequence[int]) -> dict[int, int]:
    """For each target camera the other calibrated camera with the closest centre; of equally close ones the lower id.

    Cameras may move: the distance is that at each camera's first frame, so that one pair of views stays together.
    """
    import numpy as np

    centers = {}
    for cam_id in scene.camera_ids():
        try:
            centers[cam_id] = scene.camera(cam_id, scene.frames(cam_id)[0]).center
        except (InvalidFile, InvalidScene, IndexError):
            continue  # no candidate; a target among them is refused below
    nearest = {}
    for target in targets:
        others = sorted(set(centers) - {target})
        if target not in centers or not others:
            raise InvalidScene(
                "the nearest camera of a target cannot be told",
                file=scene.tree.ground_truth.cameras_dir,
                key="generation.reference.strategy",
                found=f"readable calibrations of cameras {sorted(centers)}, target {target}",
                wanted="the target's calibration and at least one other camera's",
                remedy="bring the calibrations, or choose another strategy",
            )
        nearest[target] = min(others, key=lambda cam_id: float(np.linalg.norm(centers[cam_id] - centers[target])))
    return nearest
