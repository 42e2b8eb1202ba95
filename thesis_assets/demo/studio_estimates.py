"""What a monocular method would have estimated of a studio scene: poses, world, masks and depth, all a little wrong.

Errors of poses: joints jitter from frame to frame, the estimate lags behind fast motion, the position drifts, most of all
along the source camera's axis; shape coefficients are off. The estimate's world is rotated and displaced as a whole.
Does not belong here: the imperfect Gaussians (`studio_gaussians`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from thesis_assets.demo.studio_people import Individual
from thesis_assets.demo.studio_skeleton import N_JOINTS, Pose, blend_poses
from thesis_assets.scenes.camera import Camera

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
    shapes = tuple(replace(person, betas=_perturbed(person.betas, rng)) for person in people)
    return Estimate(shapes, list(zip(*estimated, strict=True)), offset)


def estimated_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) bool as a segmentation network gives it: a little too small, with an uncertain edge."""
    soft = _smoothed(mask.astype(np.float64), 1)
    inside: np.ndarray = soft + 0.22 * _smooth_noise(mask.shape, 5, rng) > 0.62
    return inside


def estimated_depth(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A depth map (H, W) in metres with a wrong scale, smooth errors and blurred edges; float32."""
    scale = 1.0 + 0.03 * rng.normal()
    wrong = 1.0 + 0.02 * _smooth_noise(depth.shape, 12, rng)
    estimate: np.ndarray = scale * wrong * _smoothed(depth.astype(np.float64), 1)
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
    walk: np.ndarray = line * time + 0.5 * wave * np.sin(2 * np.pi * time + phase)
    return walk


def _perturbed(betas: Sequence[float], rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(float(beta) for beta in np.asarray(betas) + 0.35 * rng.normal(size=len(betas)))


def _smooth_noise(shape: tuple[int, ...], radius: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) noise of unit deviation whose blobs are about `radius` pixels wide."""
    noise = _smoothed(_smoothed(rng.normal(size=shape), radius), radius)
    normalised: np.ndarray = noise / noise.std()
    return normalised


def _smoothed(values: np.ndarray, radius: int) -> np.ndarray:
    """Box filter of `2 radius + 1` along both axes; the border repeats."""
    for axis in (0, 1):
        padded = np.pad(values, [(radius, radius) if axis == index else (0, 0) for index in (0, 1)], mode="edge")
        values = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=axis).mean(axis=-1)
    return values
