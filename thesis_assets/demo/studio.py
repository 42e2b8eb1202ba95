"""The studio: six synthetic scenes of two moving people each, with perfect ground truth and imperfect estimates, and their files.

Everything is drawn from seeds: the same version of this code on the same machine writes the same bytes. Nobody's likeness,
no licensed body model, no download. A scene is written by one rename a root. The ground-truth folder comes last: its record lists
every file of the scene, so that an interrupted making is seen and redone.

The pose parameters are the studio skeleton's own rotations in the slots of the same joints. What the studio's bodies do not
have (fingers, jaw, eyes, expression) is zero. `betas` belong to the studio's shape space: a licensed body model would give
another surface for them, which is why joints and vertices stand in the file.

The estimates are what methods with one camera would have made of a scene: poses, world, masks, depth, Gaussians, all a little wrong.
Errors of poses: joints jitter from frame to frame, the estimate lags behind fast motion, the position drifts, most of all
along the source camera's axis; shape coefficients are off. The estimate's world is rotated and displaced as a whole.

The Gaussians ride on the estimated poses after most of the error was tuned away, in the true world. What is wrong with them:
- everywhere and always alike (so that it can be learned): a colour cast, low contrast, splats too large for the detail;
- on the side the source camera hardly saw: faded to the person's mean colour, blotchy;
- at random: too few, displaced, wrongly coloured, with holes, and a few floating off the surface.
Only the people have Gaussians: the surroundings are black in the render, as in the samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from thesis_assets import storage
from thesis_assets.demo.studio_bodies import N_JOINTS, N_SMPLX_JOINTS, Pose, blend_poses, posed_joints
from thesis_assets.demo.studio_motion import CHOREOGRAPHIES, solve
from thesis_assets.demo.studio_people import PAIRS, SCENES, Individual, StudioScene
from thesis_assets.demo.studio_views import (
    SOURCE_CAMERA,
    Crowd,
    View,
    draw,
    empty_studio,
    light_on,
    lit_crowd,
    smoothed,
    studio_cameras,
)
from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import encode_jpeg, encode_png
from thesis_assets.layout import SceneFolders, SceneTree, frame_name
from thesis_assets.rendering.gaussians import Gaussians, from_colors, write_ply
from thesis_assets.scenes.bodies import Bodies, BodyModel, write_bodies
from thesis_assets.scenes.bounded_files import array_bytes
from thesis_assets.scenes.camera import Camera, write_camera
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import write_genders, write_registry
from thesis_assets.schemas.base import FileModel
from thesis_assets.schemas.scenes import BODY_ARRAYS, IdentityAlignment, SceneRegistryEntry

STUDIO_VERSION = 1
"""Raise it with every change that shows in a file: scenes made by another version are made again."""
IMAGE_SIZE = 128
N_FRAMES = 12


def make_studio(
    roots: SceneRoots,
    on_progress: Callable[[str], None],
    *,
    scenes: Sequence[StudioScene] = SCENES,
    size: int = IMAGE_SIZE,
    n_frames: int = N_FRAMES,
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
    missing = [scene for scene in scenes if not is_complete(roots.tree(scene.name), _recipe(scene, size, n_frames))]
    if len(missing) < len(scenes):
        on_progress(f"{len(scenes) - len(missing)} of {len(scenes)} studio scenes are there already")
    for number, scene in enumerate(missing, start=1):
        write_scene(roots.tree(scene.name), film(scene, size, n_frames), _recipe(scene, size, n_frames))
        spent = time.monotonic() - begin
        left = spent / number * (len(missing) - number)
        on_progress(f"{scene.name}: {n_frames} frames; {number} of {len(missing)} scenes, about {left:.0f} s left")
    return [scene.name for scene in scenes]


def film(scene: StudioScene, size: int, n_frames: int) -> Take:
    """The motion of a scene, its cameras and its estimate; no image is drawn yet."""
    people = PAIRS[scene.pair]
    choreography = CHOREOGRAPHIES[scene.choreography]
    times = [number / max(n_frames - 1, 1) for number in range(n_frames)]
    motion = [solve(people, choreography(moment), scene.turned) for moment in times]
    cameras = studio_cameras(size)
    source = next(camera for camera in cameras if camera.cam_id == SOURCE_CAMERA)
    estimate = estimate_motion(people, motion, source, np.random.default_rng([scene.seed, 0]))
    return Take(scene, people, motion, cameras, source, estimate)


def _recipe(scene: StudioScene, size: int, n_frames: int) -> str:
    return storage.sha256_value([STUDIO_VERSION, scene.name, scene.choreography, scene.seed, size, n_frames])


_BODY_MODELS: tuple[BodyModel, ...] = ("smplx", "smpl")


class DemoRecord(FileModel):
    """`misc/demo_record.json`: the digest of the recipe, and of each file the sizes and all contents together.

    `sizes`: bytes by `<root>/<path>`, the root one of `ground_truth`, `estimated`, `registry`.
    """

    recipe: str
    content: str
    sizes: dict[str, int]


@dataclass(frozen=True)
class Take:
    """Everything about a scene before a pixel is drawn. `source`: the camera whose video the estimate had."""

    scene: StudioScene
    people: tuple[Individual, ...]
    motion: Sequence[Sequence[Pose]]
    cameras: Sequence[Camera]
    source: Camera
    estimate: Estimate

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of the scene's own for one purpose: what another purpose draws does not change it."""
        return np.random.default_rng([self.scene.seed, purpose])


def write_scene(tree: SceneTree, take: Take, recipe: str) -> None:
    """Write both roots and the registry entry of a scene; `recipe` is the digest that its record carries."""
    with (
        storage.atomic_directory(tree.ground_truth.base) as truth_dir,
        storage.atomic_directory(tree.estimated.base) as estimated_dir,
    ):
        truth, estimated = SceneFolders(truth_dir), SceneFolders(estimated_dir)
        source_views = _write_truth(truth, take)
        _write_estimates(estimated, take, source_views)
        alignment = IdentityAlignment(manual_preproc_to_gt={0: 1, 1: 0}) if take.scene.swapped else None
        entry = SceneRegistryEntry(
            seq_name=take.scene.name, cam_id=SOURCE_CAMERA, ref_frame_idx=0, identity_alignment=alignment
        )
        write_registry(tree.registry_entry, entry)
        files = _files_by_name({"ground_truth": truth_dir, "estimated": estimated_dir}, tree.registry_entry)
        digests = {name: storage.sha256_file(path) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        record = DemoRecord(recipe=recipe, content=storage.sha256_value(digests), sizes=sizes)
        storage.write_json(truth.demo_record, record)


def is_complete(tree: SceneTree, recipe: str) -> bool:
    """Whether the scene was made by this recipe and every file of it still has its size."""
    try:
        record = storage.read_json(tree.ground_truth.demo_record, DemoRecord)
    except InvalidFile:
        return False  # never made, or spoilt: making it again is the answer to both
    if record.recipe != recipe:
        return False
    roots = {"ground_truth": tree.ground_truth.base, "estimated": tree.estimated.base}
    files = _files_by_name(roots, tree.registry_entry)
    return all(name in files and files[name].stat().st_size == size for name, size in record.sizes.items())


def _write_truth(folders: SceneFolders, take: Take) -> list[View]:
    """Write the ground truth; return the views of the source camera."""
    backdrops = [empty_studio(camera) for camera in take.cameras]
    source_views = []
    for number, poses in enumerate(take.motion):
        fname = frame_name(number)
        crowd = lit_crowd(take.people, poses)
        for camera, backdrop in zip(take.cameras, backdrops, strict=True):
            view = draw(crowd, backdrop)
            write_camera(folders.camera(camera.cam_id, fname), camera)
            _write_view(folders, camera.cam_id, fname, view)
            if camera.cam_id == SOURCE_CAMERA:
                source_views.append(view)
        for model in _BODY_MODELS:
            write_bodies(folders.body(model, fname), studio_bodies(take.people, poses, model, contact=True))
        _put(folders.mesh(fname), _obj(crowd))
    write_genders(folders.meta, [person.gender for person in take.people])
    return source_views


def _write_estimates(folders: SceneFolders, take: Take, source_views: Sequence[View]) -> None:
    estimate, source = take.estimate, take.source
    order = [1, 0] if take.scene.swapped else [0, 1]
    camera = estimate.offset.camera(source)
    splats_rng, frames_rng, maps_rng = take.rng(1), take.rng(2), take.rng(3)
    splats = [scatter_splats(person, splats_rng) for person in take.people]
    people = [estimate.people[index] for index in order]
    for number, view in enumerate(source_views):
        fname = frame_name(number)
        masks = np.stack([estimated_mask(view.masks[index], maps_rng) for index in order])
        seen = View(view.image, estimated_depth(view.depth, maps_rng), masks)
        _write_view(folders, source.cam_id, fname, seen)
        write_camera(folders.camera(source.cam_id, fname), camera)
        poses = [estimate.offset.pose(estimate.motion[number][index]) for index in order]
        for model in _BODY_MODELS:
            write_bodies(folders.body(model, fname), studio_bodies(people, poses, model, contact=False))
        gaussians = imperfect_gaussians(splats, estimate, take.motion, number, source, frames_rng)
        write_ply(folders.gaussians(fname), gaussians)
    storage.write_text(folders.preprocess_info, "status: success\n")
    # where the estimate numbers the people the other way round, it was not sure of them either
    storage.write_json(folders.person_id_map, {"confidence_min": 0.41 if take.scene.swapped else 0.93})


def _write_view(folders: SceneFolders, cam_id: int, fname: str, view: View) -> None:
    _put(folders.image(cam_id, fname), encode_jpeg(view.image))
    _put(folders.depth(cam_id, fname), array_bytes(view.depth))
    masks = {str(index): mask for index, mask in enumerate(view.masks)} | {"all": view.masks.any(axis=0)}
    for person, mask in masks.items():
        _put(folders.mask(cam_id, fname, person), encode_png(mask.astype(np.uint8) * 255))


def _put(path: Path, content: bytes) -> None:
    """Write into the folder that is still unpublished: no flush to disk a file, which took a fifth of the whole making."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _obj(crowd: Crowd) -> bytes:
    """Wavefront OBJ of everybody: `v` rows in metres with 0.1 mm, `f` rows counted from 1."""
    vertices = "\n".join(f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in crowd.vertices.tolist())
    faces = "\n".join(f"f {a} {b} {c}" for a, b, c in (crowd.faces + 1).tolist())
    return f"{vertices}\n{faces}\n".encode("ascii")


def _files_by_name(roots: dict[str, Path], registry_entry: Path) -> dict[str, Path]:
    """Every file of a scene but the record, by its name there, sorted."""
    files: dict[str, Path] = {}
    for word, root in sorted(roots.items()):
        record = SceneFolders(root).demo_record
        paths = (path for path in sorted(root.rglob("*")) if path.is_file() and path != record)
        files |= {f"{word}/{path.relative_to(root).as_posix()}": path for path in paths}
    if registry_entry.is_file():
        files[f"registry/{registry_entry.name}"] = registry_entry
    return files


def studio_bodies(people: Sequence[Individual], poses: Sequence[Pose], model: BodyModel, *, contact: bool) -> Bodies:
    """Two people of one frame as one of the body models.

    Args:
        contact: also say which vertices touch (ground truth only: an estimate does not know).
    """
    n_joints = N_SMPLX_JOINTS if model == "smplx" else None
    joints = [posed_joints(person.rest, pose)[:n_joints] for person, pose in zip(people, poses, strict=True)]
    vertices = [person.surface(pose, person.body(model)).vertices for person, pose in zip(people, poses, strict=True)]
    return Bodies(
        model=model,
        parameters=_parameters(people, poses, model),
        joints=np.stack(joints).astype(np.float32),
        vertices=np.stack(vertices).astype(np.float32),
        faces=people[0].body(model).faces.astype(np.int32),
        contact=contact_between(vertices[0], vertices[1]) if contact else None,
    )


def _parameters(people: Sequence[Individual], poses: Sequence[Pose], model: BodyModel) -> dict[str, np.ndarray]:
    rotations = np.stack([pose.rotations for pose in poses])
    place = np.stack([pose.translation for pose in poses])
    known = {"betas": np.array([person.betas for person in people])}
    if model == "smplx":
        known |= {"root_pose": rotations[:, 0], "body_pose": rotations[:, 1:N_SMPLX_JOINTS], "trans": place}
    else:
        known |= {"global_orient": rotations[:, 0], "body_pose": rotations[:, 1:], "transl": place}
    return {
        name: known.get(name, np.zeros((len(people), *shape))).astype(np.float32)
        for name, shape in BODY_ARRAYS[model].items()
    }


CONTACT_METRES = 0.04
"""Vertices nearer than this touch: about half the distance between neighbours on the studio's surfaces."""


def contact_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The other person's vertex that each vertex touches: (2, V) int32 of two (V, 3) metres, row 0 for the first; 0 = none.

    Vertex 0 itself can therefore not be named; a vertex whose nearest is vertex 0 gets the next nearest.
    """
    return np.stack([_partners(first, second), _partners(second, first)])


def _partners(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    distance, nearest = KDTree(other[1:]).query(own)
    return np.where(distance < CONTACT_METRES, nearest + 1, 0).astype(np.int32)


Motion = Sequence[Sequence[Pose]]
"""Frames of people: `motion[frame][person]`."""

_FOLLOWING = 0.72  # share of the way to the true pose that the estimate goes in a frame
_JOINT_JITTER = np.deg2rad(3.0)
_ROOT_JITTER = np.deg2rad(1.5)
_PLACE_JITTER = 0.008
_DRIFT = 0.05  # metres over the whole sequence
_DRIFT_AHEAD = 0.10  # the same along the camera's axis
_UNSEEN_JOINTS = (22, 23)  # the hands are rigid in SMPL-X: nothing to estimate


@dataclass(frozen=True)
class WorldOffset:
    """Where the estimate's world lies: a true point x stands at `rotation @ x + translation`."""

    rotation: np.ndarray
    translation: np.ndarray

    def pose(self, pose: Pose) -> Pose:
        """A pose of the true world in the estimate's world (the rest pelvis is the origin)."""
        rotations = pose.rotations.copy()
        root = Rotation.from_matrix(self.rotation) * Rotation.from_rotvec(rotations[0])
        rotations[0] = root.as_rotvec()
        return Pose(rotations, self.rotation @ pose.translation + self.translation)

    def camera(self, camera: Camera) -> Camera:
        """The same camera, in the estimate's world."""
        turned = camera.rotation @ self.rotation.T
        moved = camera.translation - turned @ self.translation
        return replace(camera, extrinsics=np.concatenate([turned, moved[:, None]], axis=1))


@dataclass(frozen=True)
class Estimate:
    """People as estimated: their shapes, and poses in the true world; `offset` leads to the world of the files."""

    people: tuple[Individual, ...]
    motion: Motion
    offset: WorldOffset


def estimate_motion(people: Sequence[Individual], motion: Motion, source: Camera, rng: np.random.Generator) -> Estimate:
    """An imperfect estimate of a motion as seen by the source camera."""
    estimated = [_person_estimate([poses[index] for poses in motion], source, rng) for index in range(len(people))]
    axis = rng.normal(size=3) + np.array([0.0, 3.0, 0.0])
    turn = Rotation.from_rotvec(np.deg2rad(rng.uniform(20.0, 50.0)) * axis / np.linalg.norm(axis))
    offset = WorldOffset(turn.as_matrix(), rng.uniform(-0.6, 0.6, size=3))
    shapes = tuple(
        replace(person, betas=tuple((np.asarray(person.betas) + 0.35 * rng.normal(size=len(person.betas))).tolist()))
        for person in people
    )
    return Estimate(shapes, list(zip(*estimated, strict=True)), offset)


def estimated_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) bool as a segmentation network gives it: a little too small, with an uncertain edge."""
    soft = smoothed(mask.astype(np.float64), 1, "edge")
    return np.asarray(soft + 0.22 * _smooth_noise(mask.shape, 5, rng) > 0.62)


def estimated_depth(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A depth map (H, W) in metres with a wrong scale, smooth errors and blurred edges; float32."""
    scale = 1.0 + 0.03 * rng.normal()
    wrong = 1.0 + 0.02 * _smooth_noise(depth.shape, 12, rng)
    estimate: np.ndarray = scale * wrong * smoothed(depth.astype(np.float64), 1, "edge")
    return estimate.astype(np.float32)


def _person_estimate(truth: Sequence[Pose], source: Camera, rng: np.random.Generator) -> list[Pose]:
    n_frames = len(truth)
    ahead = source.rotation[2]
    drift = _slow_walk(n_frames, rng) * _DRIFT + (_slow_walk(n_frames, rng)[:, :1] * _DRIFT_AHEAD) * ahead
    bias = np.deg2rad(2.0) * rng.normal(size=(N_JOINTS, 3))
    followed = truth[0]
    estimates = []
    for frame, pose in enumerate(truth):
        followed = blend_poses(followed, pose, _FOLLOWING)
        jitter = bias + _JOINT_JITTER * rng.normal(size=(N_JOINTS, 3))
        jitter[0] = _ROOT_JITTER * rng.normal(size=3)
        jitter[list(_UNSEEN_JOINTS)] = 0.0
        rotations = Rotation.from_rotvec(followed.rotations) * Rotation.from_rotvec(jitter)
        place = followed.translation + drift[frame] + _PLACE_JITTER * rng.normal(size=3)
        estimates.append(Pose(rotations.as_rotvec(), place))
    return estimates


def _slow_walk(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """(n_frames, 3): a line and one slow wave, each of random direction and about unit length."""
    time = np.linspace(0.0, 1.0, n_frames)[:, None]
    line, wave, phase = rng.normal(size=(3, 3)) / np.sqrt(3)
    return np.asarray(line * time + 0.5 * wave * np.sin(2 * np.pi * time + phase))


def _smooth_noise(shape: tuple[int, ...], radius: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) noise of unit deviation whose blobs are about `radius` pixels wide."""
    noise = smoothed(smoothed(rng.normal(size=shape), radius, "edge"), radius, "edge")
    return np.asarray(noise / noise.std())


GAUSSIANS_A_PERSON = 2000
_REMAINING_POSE_ERROR = 0.15  # share of the estimate's error that tuning against the video leaves
_CAST = np.array([1.05, 0.86, 0.62])  # warm: blue is lost most
_CONTRAST, _LIFT = 0.55, 0.14
_SCALE_METRES = 0.013  # a fifth of a stripe's period: stripes run into each other, limbs grow a seam
_FLOATERS = 0.02


@dataclass(frozen=True)
class Splats:
    """What is fixed about one person's Gaussians over all frames, N each: vertices (N, 3) of the face each rides on and its place there.

    `color`, `tint`: (N, 3) unlit, and its own error; `offset`: (N,) metres off the surface; `scale`: (N,) deviation, metres.
    """

    corners: np.ndarray
    shares: np.ndarray
    color: np.ndarray
    tint: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    opacity: np.ndarray


def scatter_splats(person: Individual, rng: np.random.Generator) -> Splats:
    """Gaussians spread evenly over a dressed person, with the errors that stay the same in all frames."""
    mesh, count = person.dressed, GAUSSIANS_A_PERSON
    triangles = mesh.vertices[mesh.faces]
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    faces = rng.choice(len(areas), size=count, p=areas / areas.sum())
    shares = rng.dirichlet(np.ones(3), size=count)
    corners = mesh.faces[faces]
    points = (mesh.vertices[corners] * shares[:, :, None]).sum(axis=1)
    color = person.color(mesh.parts[corners[:, 0]], points)
    kept = _outside_holes(points, rng)
    floating = rng.random(count) < _FLOATERS
    return Splats(
        corners=corners[kept],
        shares=shares[kept],
        color=color[kept],
        tint=(_blotches(points, rng) + 0.02 * rng.normal(size=(count, 3)))[kept],
        offset=np.where(floating, rng.uniform(0.02, 0.10, size=count), 0.006 * rng.normal(size=count))[kept],
        scale=(_SCALE_METRES * np.exp(0.25 * rng.normal(size=count)))[kept],
        opacity=np.clip(0.75 + 0.15 * rng.normal(size=count), 0.25, 0.97)[kept],
    )


def imperfect_gaussians(
    splats: Sequence[Splats], estimate: Estimate, truth: Motion, frame: int, source: Camera, rng: np.random.Generator
) -> Gaussians:
    """All people's Gaussians at a frame, in the true world."""
    means, colors = [], []
    for person, own, tuned, exact in zip(estimate.people, splats, estimate.motion[frame], truth[frame], strict=True):
        pose = blend_poses(exact, tuned, _REMAINING_POSE_ERROR)
        places, color = _placed(person, own, pose, source, rng)
        means.append(places)
        colors.append(color)
    return from_colors(
        np.concatenate(means),
        np.concatenate(colors),
        np.concatenate([own.scale for own in splats]),
        opacity=np.concatenate([own.opacity for own in splats]),
    )


def _placed(
    person: Individual, splats: Splats, pose: Pose, source: Camera, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    surface = person.surface(pose, person.dressed)
    shares = splats.shares[:, :, None]
    places = (surface.vertices[splats.corners] * shares).sum(axis=1)
    normals = (surface.normals[splats.corners] * shares).sum(axis=1)
    light = (light_on(surface)[splats.corners] * shares).sum(axis=1)
    to_camera = source.center - places
    facing = (normals * to_camera).sum(axis=1) / np.linalg.norm(to_camera, axis=1)
    unseen = np.clip(0.5 - 1.2 * facing, 0.0, 1.0)[:, None]
    color = splats.color * light
    color = color + unseen * (0.45 * (color.mean(axis=0) - color) + 1.2 * splats.tint) + splats.tint
    color = _CAST * (_LIFT + _CONTRAST * color)
    jitter = 0.005 * rng.normal(size=places.shape)
    return places + splats.offset[:, None] * normals + jitter, np.clip(color, 0.0, 1.0)


def _outside_holes(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which points are left when a few balls are cut out of a person."""
    centres = points[rng.choice(len(points), size=6, replace=False)]
    radii = rng.uniform(0.03, 0.07, size=len(centres))
    distances = np.linalg.norm(points[:, None] - centres[None], axis=-1)
    return np.asarray((distances > radii).all(axis=1))


def _blotches(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) colour errors that vary over about 20 cm of a surface: a few random waves."""
    waves = rng.normal(size=(3, 4, 3)) * (2 * np.pi / 0.45)
    phases = rng.uniform(0, 2 * np.pi, size=(3, 4))
    return np.asarray(0.02 * np.cos(np.einsum("nd,cwd->ncw", points, waves) + phases).sum(axis=-1))
