"""The studio's estimates: what methods with one camera would have made of a scene, all a little wrong.

Poses: joints jitter from frame to frame, the estimate lags behind fast motion, the position drifts, most of all along the
source camera's axis; shape coefficients are off. The estimate's world is rotated and displaced as a whole.

The Gaussians ride on the estimated poses after most of the error was tuned away, in the true world. What is wrong with them:
- everywhere and always alike (so that it can be learned): a colour cast, low contrast, splats too large for the detail;
- on the side the source camera hardly saw: faded to the person's mean colour, blotchy;
- at random: too few, displaced, wrongly coloured, with holes, and a few floating off the surface.
Only the people have Gaussians: the surroundings are black in the render, as in the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from thesis_assets.demo.studio_bodies import JOINT, N_JOINTS, Pose, blend_poses, face_normals
from thesis_assets.demo.studio_people import Individual
from thesis_assets.demo.studio_views import light_on
from thesis_assets.rendering.gaussians import Gaussians, from_colors
from thesis_assets.scenes.camera import Camera

Motion = Sequence[Sequence[Pose]]
"""Frames of people: `motion[frame][person]`."""

_FOLLOWING = 0.72  # share of the way to the true pose that the estimate goes in a frame
_JOINT_JITTER, _ROOT_JITTER, _JOINT_BIAS = np.deg2rad([3.0, 1.5, 2.0])
_PLACE_JITTER = 0.008
_DRIFT, _DRIFT_AHEAD = 0.05, 0.10  # metres over the whole sequence, and along the camera's axis
_UNSEEN_JOINTS = [JOINT["left_hand"], JOINT["right_hand"]]  # rigid in SMPL-X: nothing to estimate

_GAUSSIANS_A_PERSON = 2000
_REMAINING_POSE_ERROR = 0.15  # share of the estimate's error that tuning against the video leaves
_CAST = np.array([1.05, 0.86, 0.62])  # warm: blue is lost most
_CONTRAST, _LIFT = 0.55, 0.14
_SCALE_METRES = 0.013  # a fifth of a stripe's period: stripes run into each other, limbs grow a seam
_FLOATERS = 0.02


@dataclass(frozen=True)
class Estimate:
    """People as estimated: their shapes, and poses in the true world.

    In the world of the files a true point x stands at `rotation @ x + translation`.
    """

    people: Sequence[Individual]
    motion: Motion
    rotation: np.ndarray
    translation: np.ndarray

    def in_own_world(self, pose: Pose) -> Pose:
        """A pose of the true world in the world of the files (the rest pelvis is the origin)."""
        rotations = pose.rotations.copy()
        rotations[0] = (Rotation.from_matrix(self.rotation) * Rotation.from_rotvec(rotations[0])).as_rotvec()
        return Pose(rotations, self.rotation @ pose.translation + self.translation)

    def camera(self, camera: Camera) -> Camera:
        """The same camera, in the world of the files."""
        turned = camera.rotation @ self.rotation.T
        moved = camera.translation - turned @ self.translation
        return replace(camera, extrinsics=np.column_stack([turned, moved]))


def estimate_motion(people: Sequence[Individual], motion: Motion, source: Camera, rng: np.random.Generator) -> Estimate:
    """An imperfect estimate of a motion as seen by the source camera."""
    estimated = [_person_estimate(truth, source, rng) for truth in zip(*motion, strict=True)]
    axis = rng.normal(size=3) + np.array([0.0, 3.0, 0.0])
    turn = Rotation.from_rotvec(np.deg2rad(rng.uniform(20.0, 50.0)) * axis / np.linalg.norm(axis))
    translation = rng.uniform(-0.6, 0.6, size=3)
    shapes = [
        replace(person, betas=tuple((person.betas + 0.35 * rng.normal(size=len(person.betas))).tolist()))
        for person in people
    ]
    return Estimate(shapes, list(zip(*estimated, strict=True)), turn.as_matrix(), translation)


def _person_estimate(truth: Sequence[Pose], source: Camera, rng: np.random.Generator) -> list[Pose]:
    drift = _slow_walk(len(truth), rng) * _DRIFT
    drift = drift + (_slow_walk(len(truth), rng)[:, :1] * _DRIFT_AHEAD) * source.rotation[2]
    bias = _JOINT_BIAS * rng.normal(size=(N_JOINTS, 3))
    followed, estimates = truth[0], []
    for pose, drifted in zip(truth, drift, strict=True):
        followed = blend_poses(followed, pose, _FOLLOWING)
        jitter = bias + _JOINT_JITTER * rng.normal(size=(N_JOINTS, 3))
        jitter[0] = _ROOT_JITTER * rng.normal(size=3)
        jitter[_UNSEEN_JOINTS] = 0.0
        rotations = Rotation.from_rotvec(followed.rotations) * Rotation.from_rotvec(jitter)
        place = followed.translation + drifted + _PLACE_JITTER * rng.normal(size=3)
        estimates.append(Pose(rotations.as_rotvec(), place))
    return estimates


def _slow_walk(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """(n_frames, 3): a line and one slow wave, each of random direction and about unit length."""
    time = np.linspace(0.0, 1.0, n_frames)[:, None]
    line, wave, phase = rng.normal(size=(3, 3)) / np.sqrt(3)
    return np.asarray(line * time + 0.5 * wave * np.sin(2 * np.pi * time + phase))


def estimated_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) bool as a segmentation network gives it: a little too small, with an uncertain edge."""
    return _smoothed(mask.astype(np.float64), 1) + 0.22 * _smooth_noise(mask.shape, 5, rng) > 0.62


def estimated_depth(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A depth map (H, W) in metres with a wrong scale, smooth errors and blurred edges; float32."""
    scale = 1.0 + 0.03 * rng.normal()
    wrong = 1.0 + 0.02 * _smooth_noise(depth.shape, 12, rng)
    return np.asarray(scale * wrong * _smoothed(depth.astype(np.float64), 1), dtype=np.float32)


def _smoothed(values: np.ndarray, radius: int) -> np.ndarray:
    return ndimage.uniform_filter(values, 2 * radius + 1, mode="nearest")


def _smooth_noise(shape: tuple[int, ...], radius: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) noise of unit deviation whose blobs are about `radius` pixels wide."""
    noise = _smoothed(_smoothed(rng.normal(size=shape), radius), radius)
    return np.asarray(noise / noise.std())


class Splats(NamedTuple):
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
    mesh, count = person.meshes["dressed"], _GAUSSIANS_A_PERSON
    areas = np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1)
    corners = mesh.faces[rng.choice(len(areas), size=count, p=areas / areas.sum())]
    shares = rng.dirichlet(np.ones(3), size=count)[:, :, None]
    points = (mesh.vertices[corners] * shares).sum(axis=1)
    holes = points[rng.choice(count, size=6, replace=False)]
    distances = np.linalg.norm(points[:, None] - holes, axis=-1)
    kept = (distances > rng.uniform(0.03, 0.07, size=len(holes))).all(axis=1)
    floating = rng.random(count) < _FLOATERS
    splats = Splats(
        corners=corners,
        shares=shares,
        color=person.color(mesh.parts[corners[:, 0]], points),
        tint=_blotches(points, rng) + 0.02 * rng.normal(size=(count, 3)),
        offset=np.where(floating, rng.uniform(0.02, 0.10, size=count), 0.006 * rng.normal(size=count)),
        scale=_SCALE_METRES * np.exp(0.25 * rng.normal(size=count)),
        opacity=np.clip(0.75 + 0.15 * rng.normal(size=count), 0.25, 0.97),
    )
    return Splats(*(values[kept] for values in splats))


def _blotches(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) colour errors that vary over about 20 cm of a surface: a few random waves."""
    waves = rng.normal(size=(3, 4, 3)) * (2 * np.pi / 0.45)
    phases = rng.uniform(0, 2 * np.pi, size=(3, 4))
    return np.asarray(0.02 * np.cos(np.einsum("nd,cwd->ncw", points, waves) + phases).sum(axis=-1))


def imperfect_gaussians(
    splats: Sequence[Splats], estimate: Estimate, truth: Motion, frame: int, source: Camera, rng: np.random.Generator
) -> Gaussians:
    """All people's Gaussians at a frame, in the true world."""
    means, colors = [], []
    for person, own, tuned, exact in zip(estimate.people, splats, estimate.motion[frame], truth[frame], strict=True):
        surface = person.surface(blend_poses(exact, tuned, _REMAINING_POSE_ERROR), "dressed")
        places, normals, light = (
            (values[own.corners] * own.shares).sum(axis=1)
            for values in (surface.vertices, surface.normals, light_on(surface))
        )
        to_camera = source.center - places
        facing = (normals * to_camera).sum(axis=1) / np.linalg.norm(to_camera, axis=1)
        unseen = np.clip(0.5 - 1.2 * facing, 0.0, 1.0)[:, None]
        color = own.color * light
        color = color + unseen * (0.45 * (color.mean(axis=0) - color) + 1.2 * own.tint) + own.tint
        colors.append(np.clip(_CAST * (_LIFT + _CONTRAST * color), 0.0, 1.0))
        means.append(places + own.offset[:, None] * normals + 0.005 * rng.normal(size=places.shape))
    scales, opacity = (
        np.concatenate(column) for column in zip(*((own.scale, own.opacity) for own in splats), strict=True)
    )
    return from_colors(np.concatenate(means), np.concatenate(colors), scales, opacity)
