"""Moving the ground truth into the world of the predictions: rigid, without scale and without mirror.

Two ways, by `evaluation.pose.world_alignment`: one fit of all pelvis positions of a scene, or the source camera's two poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.pose_metrics import Array, rotation_onto


@dataclass(frozen=True, eq=False)
class RigidMotion:
    """x -> rotation @ x + translation.

    Attributes:
        rotation: (3, 3), determinant 1.
        translation: (3,) metres.
    """

    rotation: Array
    translation: Array

    def move(self, points: Array) -> Array:
        """Points of any shape (..., 3), moved."""
        return np.asarray(points @ self.rotation.T + self.translation)

    def inverse(self) -> RigidMotion:
        return RigidMotion(self.rotation.T, -self.rotation.T @ self.translation)

    @property
    def matrix(self) -> Array:
        """(4, 4) homogeneous."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.translation
        return matrix

    @classmethod
    def of(cls, matrix: Array) -> RigidMotion:
        """From (4, 4) or (3, 4)."""
        return cls(np.asarray(matrix[:3, :3], dtype=np.float64), np.asarray(matrix[:3, 3], dtype=np.float64))


def fit_rigid(source: Array, target: Array) -> RigidMotion:
    """The least-squares rigid motion of `source` (N, 3) onto `target` (N, 3); rows that are not finite are left out.

    Points on one line leave the turn about that line open: some rotation of the best ones is returned.

    Raises:
        ThesisAssetsError: no row is finite on both sides.
    """
    usable = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    if not usable.any():
        raise ThesisAssetsError(
            "the two worlds have no finite point in common, so they cannot be aligned",
            found=f"{len(source)} pairs of points, none finite on both sides",
            wanted="at least one; three that are not on a line for a unique motion",
        )
    source, target = source[usable].astype(np.float64), target[usable].astype(np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    rotation, _ = rotation_onto(source - source_mean, target - target_mean)
    return RigidMotion(rotation, target_mean - rotation @ source_mean)


def by_pelvis_trajectory(predicted_roots: Sequence[Array], true_roots: Sequence[Array]) -> RigidMotion:
    """One motion for a whole scene: the true pelvis positions of all frames and people onto the predicted ones.

    Args:
        predicted_roots: a frame each, (P, 3) metres; people matched.
        true_roots: the same shapes.

    Raises:
        ThesisAssetsError: there is no finite pair.
    """
    if not predicted_roots:
        return fit_rigid(np.empty((0, 3)), np.empty((0, 3)))
    return fit_rigid(np.concatenate(list(true_roots)), np.concatenate(list(predicted_roots)))


def by_source_camera(predicted_extrinsics: Array, true_extrinsics: Array) -> RigidMotion:
    """The motion of one frame that puts the true source camera where the predicted one is: `c2w_pred @ inv(c2w_gt)`.

    Args:
        predicted_extrinsics: (3, 4) world to camera, metres.
        true_extrinsics: (3, 4).
    """
    to_camera, from_camera = RigidMotion.of(true_extrinsics), RigidMotion.of(predicted_extrinsics).inverse()
    return RigidMotion(
        from_camera.rotation @ to_camera.rotation,
        from_camera.rotation @ to_camera.translation + from_camera.translation,
    )


def depths_in_camera(points: Array, extrinsics: Array) -> Array:
    """Depth of each point along the camera's axis: (P,) metres. `points` (P, 3), `extrinsics` (3, 4) world to camera."""
    return np.asarray(points @ extrinsics[2, :3] + extrinsics[2, 3])
