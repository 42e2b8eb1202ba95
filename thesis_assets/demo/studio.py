"""The studio: six synthetic scenes of two moving people each, with perfect ground truth and imperfect estimates, and their files.

Everything is drawn from seeds: the same version of this code on the same machine writes the same bytes. Nobody's likeness,
no licensed body model, no download. A scene is written by one rename a root. The ground-truth folder comes last: its record lists
every file of the scene, so that an interrupted making is seen and redone.

The pose parameters are the studio skeleton's own rotations in the slots of the same joints. What the studio's bodies do not
have (fingers, jaw, eyes, expression) is zero. `betas` belong to the studio's shape space: a licensed body model would give
another surface for them, which is why joints and vertices stand in the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from thesis_assets import storage
from thesis_assets.demo import studio_estimates as estimates
from thesis_assets.demo.studio_bodies import N_SMPLX_JOINTS, Pose, join_meshes, posed_joints
from thesis_assets.demo.studio_motion import CHOREOGRAPHIES, solve
from thesis_assets.demo.studio_people import PAIRS, SCENES, Individual, StudioScene
from thesis_assets.demo.studio_views import SOURCE_CAMERA, Crowd, View, crowd_of, draw, empty_studio, studio_cameras
from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import encode_jpeg, encode_png
from thesis_assets.layout import SceneFolders, SceneTree, frame_name
from thesis_assets.rendering.gaussians import write_ply
from thesis_assets.scenes.bodies import Bodies, BodyModel, write_bodies
from thesis_assets.scenes.bounded_files import array_bytes
from thesis_assets.scenes.camera import Camera, write_camera
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import write_genders, write_registry
from thesis_assets.schemas.base import FileModel
from thesis_assets.schemas.scenes import BODY_ARRAYS, IdentityAlignment, SceneRegistryEntry

_STUDIO_VERSION = 1
"""Raise it with every change that shows in a file: scenes made by another version are made again."""
_IMAGE_SIZE = 128
_N_FRAMES = 12
CONTACT_METRES = 0.04
"""Vertices nearer than this touch: about half the distance between neighbours on the studio's surfaces."""
_BODY_MODELS: tuple[BodyModel, ...] = ("smplx", "smpl")


def make_studio(
    roots: SceneRoots,
    on_progress: Callable[[str], None],
    *,
    scenes: Sequence[StudioScene] = SCENES,
    size: int = _IMAGE_SIZE,
    n_frames: int = _N_FRAMES,
) -> list[str]:
    """Write the studio scenes; one that is complete by its record is left untouched.

    Args:
        on_progress: gets one line a scene.
        size: height and width of the images, pixels.
        n_frames: the same actions in more or fewer frames.

    Returns:
        The names of all scenes, made now or before.
    """
    begin = time.monotonic()
    recipes = {
        scene: storage.sha256_value([_STUDIO_VERSION, scene.name, scene.choreography, scene.seed, size, n_frames])
        for scene in scenes
    }
    missing = [scene for scene in scenes if not _is_complete(roots.tree(scene.name), recipes[scene])]
    if len(missing) < len(scenes):
        on_progress(f"{len(scenes) - len(missing)} of {len(scenes)} studio scenes are there already")
    for number, scene in enumerate(missing, start=1):
        write_scene(roots.tree(scene.name), film(scene, size, n_frames), recipes[scene])
        left = (time.monotonic() - begin) / number * (len(missing) - number)
        on_progress(f"{scene.name}: {n_frames} frames; {number} of {len(missing)} scenes, about {left:.0f} s left")
    return [scene.name for scene in scenes]


class DemoRecord(FileModel):
    """`misc/demo_record.json`: the digest of the recipe, and of each file the sizes and all contents together.

    `sizes`: bytes by `<root>/<path>`, the root one of `ground_truth`, `estimated`, `registry`.
    """

    recipe: str
    content: str
    sizes: dict[str, int]


@dataclass(frozen=True)
class Take:
    """Everything about a scene before a pixel is drawn; cameras by id. The estimate had the source camera's video."""

    scene: StudioScene
    people: tuple[Individual, ...]
    motion: estimates.Motion
    cameras: dict[int, Camera]
    estimate: estimates.Estimate


def film(scene: StudioScene, size: int, n_frames: int) -> Take:
    """The motion of a scene, its cameras and its estimate; no image is drawn yet."""
    people, cameras = PAIRS[scene.pair], studio_cameras(size)
    times = [number / max(n_frames - 1, 1) for number in range(n_frames)]
    motion = [solve(people, CHOREOGRAPHIES[scene.choreography](moment), scene.turned) for moment in times]
    estimate = estimates.estimate_motion(people, motion, cameras[SOURCE_CAMERA], np.random.default_rng([scene.seed, 0]))
    return Take(scene, people, motion, cameras, estimate)


def write_scene(tree: SceneTree, take: Take, recipe: str) -> None:
    """Write both roots and the registry entry of a scene; `recipe` is the digest that its record carries."""
    with (
        storage.atomic_directory(tree.ground_truth.base) as truth_dir,
        storage.atomic_directory(tree.estimated.base) as estimated_dir,
    ):
        truth = SceneFolders(truth_dir)
        source_views = _write_truth(truth, take)
        _write_estimates(SceneFolders(estimated_dir), take, source_views)
        alignment = IdentityAlignment(manual_preproc_to_gt={0: 1, 1: 0}) if take.scene.swapped else None
        entry = SceneRegistryEntry(seq_name=take.scene.name, cam_id=SOURCE_CAMERA, identity_alignment=alignment)
        write_registry(tree.registry_entry, entry)
        files = _files_by_name(truth_dir, estimated_dir, tree.registry_entry)
        digests = {name: storage.sha256_file(path) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        record = DemoRecord(recipe=recipe, content=storage.sha256_value(digests), sizes=sizes)
        storage.write_json(truth.demo_record, record)


def _is_complete(tree: SceneTree, recipe: str) -> bool:
    """Whether the scene was made by this recipe and every file of it still has its size."""
    try:
        record = storage.read_json(tree.ground_truth.demo_record, DemoRecord)
    except InvalidFile:
        return False  # never made, or spoilt: making it again is the answer to both
    files = _files_by_name(tree.ground_truth.base, tree.estimated.base, tree.registry_entry)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    return record.recipe == recipe and record.sizes.items() <= sizes.items()


def _files_by_name(truth: Path, estimated: Path, registry_entry: Path) -> dict[str, Path]:
    """Every file of a scene but the record, by its name there."""
    record = SceneFolders(truth).demo_record
    files = {
        f"{word}/{path.relative_to(root).as_posix()}": path
        for word, root in (("estimated", estimated), ("ground_truth", truth))
        for path in sorted(root.rglob("*"))
        if path.is_file() and path != record
    }
    return files | ({f"registry/{registry_entry.name}": registry_entry} if registry_entry.is_file() else {})


def _write_truth(folders: SceneFolders, take: Take) -> list[View]:
    """Write the ground truth; return the views of the source camera."""
    backdrops = {cam_id: empty_studio(camera) for cam_id, camera in take.cameras.items()}
    source_views = []
    for number, poses in enumerate(take.motion):
        fname, crowd = frame_name(number), crowd_of(take.people, poses)
        for cam_id, camera in take.cameras.items():
            view = draw(crowd, backdrops[cam_id])
            _write_view(folders, camera, fname, view)
            if cam_id == SOURCE_CAMERA:
                source_views.append(view)
        for model in _BODY_MODELS:
            write_bodies(folders.body(model, fname), studio_bodies(take.people, poses, model, contact=True))
        _put(folders.mesh(fname), _obj(crowd))
    write_genders(folders.meta, [person.gender for person in take.people])
    return source_views


def _write_estimates(folders: SceneFolders, take: Take, source_views: Sequence[View]) -> None:
    estimate, source = take.estimate, take.cameras[SOURCE_CAMERA]
    order = [1, 0] if take.scene.swapped else [0, 1]
    # One a purpose: what one draws does not change the others.
    splats_rng, frames_rng, maps_rng = (np.random.default_rng([take.scene.seed, purpose]) for purpose in (1, 2, 3))
    splats = [estimates.scatter_splats(person, splats_rng) for person in take.people]
    people = [estimate.people[index] for index in order]
    for number, view in enumerate(source_views):
        fname = frame_name(number)
        masks = np.stack([estimates.estimated_mask(view.masks[index], maps_rng) for index in order])
        seen = View(view.image, estimates.estimated_depth(view.depth, maps_rng), masks)
        _write_view(folders, estimate.camera(source), fname, seen)
        poses = [estimate.in_own_world(estimate.motion[number][index]) for index in order]
        for model in _BODY_MODELS:
            write_bodies(folders.body(model, fname), studio_bodies(people, poses, model, contact=False))
        gaussians = estimates.imperfect_gaussians(splats, estimate, take.motion, number, source, frames_rng)
        write_ply(folders.gaussians(fname), gaussians)
    storage.write_text(folders.preprocess_info, "status: success\n")
    # where the estimate numbers the people the other way round, it was not sure of them either
    storage.write_json(folders.person_id_map, {"confidence_min": 0.41 if take.scene.swapped else 0.93})


def _write_view(folders: SceneFolders, camera: Camera, fname: str, view: View) -> None:
    write_camera(folders.camera(camera.cam_id, fname), camera)
    _put(folders.image(camera.cam_id, fname), encode_jpeg(view.image))
    _put(folders.depth(camera.cam_id, fname), array_bytes(view.depth))
    for person, mask in zip(("0", "1", "all"), (*view.masks, view.masks.any(axis=0)), strict=True):
        _put(folders.mask(camera.cam_id, fname, person), encode_png(mask.astype(np.uint8) * 255))


def _put(path: Path, content: bytes) -> None:
    """Write into the folder that is still unpublished: no flush to disk a file, which took a fifth of the whole making."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _obj(crowd: Crowd) -> bytes:
    """Wavefront OBJ of everybody: `v` rows in metres with 0.1 mm, `f` rows counted from 1."""
    faces = join_meshes([person.meshes["dressed"] for person in crowd.people]).faces + 1
    rows = [f"v {x:.4f} {y:.4f} {z:.4f}\n" for surface in crowd.surfaces for x, y, z in surface.vertices.tolist()]
    rows += [f"f {a} {b} {c}\n" for a, b, c in faces.tolist()]
    return "".join(rows).encode("ascii")


def studio_bodies(people: Sequence[Individual], poses: Sequence[Pose], model: BodyModel, *, contact: bool) -> Bodies:
    """Two people of one frame as one of the body models.

    Args:
        contact: also say which vertices touch (ground truth only: an estimate does not know).
    """
    n_joints = N_SMPLX_JOINTS if model == "smplx" else None
    joints = [posed_joints(person.rest, pose)[:n_joints] for person, pose in zip(people, poses, strict=True)]
    vertices = [person.surface(pose, model).vertices for person, pose in zip(people, poses, strict=True)]
    rotations = np.stack([pose.rotations for pose in poses])[:, :n_joints]
    root, place = ("root_pose", "trans") if model == "smplx" else ("global_orient", "transl")
    known = {
        "betas": np.array([person.betas for person in people]),
        root: rotations[:, 0],
        "body_pose": rotations[:, 1:],
        place: np.stack([pose.translation for pose in poses]),
    }
    return Bodies(
        model=model,
        parameters={
            name: known.get(name, np.zeros((len(people), *shape))).astype(np.float32)
            for name, shape in BODY_ARRAYS[model].items()
        },
        joints=np.stack(joints).astype(np.float32),
        vertices=np.stack(vertices).astype(np.float32),
        faces=people[0].meshes[model].faces.astype(np.int32),
        contact=contact_between(vertices[0], vertices[1]) if contact else None,
    )


def contact_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The other person's vertex that each vertex touches: (2, V) int32 of two (V, 3) metres, row 0 for the first; 0 = none.

    Vertex 0 itself can therefore not be named; a vertex whose nearest is vertex 0 gets the next nearest.
    """
    found = [KDTree(other[1:]).query(own) for own, other in ((first, second), (second, first))]
    return np.stack([np.where(distance < CONTACT_METRES, nearest + 1, 0) for distance, nearest in found]).astype(
        np.int32
    )
