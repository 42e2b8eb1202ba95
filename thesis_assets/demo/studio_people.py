"""One individual of the studio: shape, appearance and meshes together, and the same person posed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from thesis_assets.demo.studio_bodies import body_mesh
from thesis_assets.demo.studio_meshes import Mesh, Part, Surface, join_meshes, pose_mesh
from thesis_assets.demo.studio_outfits import Outfit, outfit_mesh, surface_color
from thesis_assets.demo.studio_skeleton import JOINT, Pose, Proportions, forward_kinematics, rest_joints

Side = Literal["left", "right"]
BODY_SEGMENTS = {"smplx": 12, "smpl": 9}
"""Vertices around the torso: the two body models have surfaces of different density, as the real ones do."""


@dataclass(frozen=True)
class Individual:
    """A person: gender, shape coefficients (10), outfit."""

    gender: Literal["female", "male", "neutral"]
    betas: tuple[float, ...]
    outfit: Outfit

    @cached_property
    def proportions(self) -> Proportions:
        return Proportions.of_betas(np.array(self.betas))

    @cached_property
    def rest(self) -> np.ndarray:
        """(24, 3) rest joints."""
        return rest_joints(self.proportions)

    def body(self, model: str = "smplx") -> Mesh:
        """The body alone, of the same topology for everybody. `model`: `smplx` or `smpl`."""
        return self._bodies[model]

    @cached_property
    def _bodies(self) -> dict[str, Mesh]:
        return {model: body_mesh(self.rest, self.proportions, segments=n) for model, n in BODY_SEGMENTS.items()}

    @cached_property
    def dressed(self) -> Mesh:
        """The body with hair and garments: what a camera sees."""
        return join_meshes([self.body(), outfit_mesh(self.outfit, self.rest, self.proportions)])

    def color(self, parts: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Unlit colours (N, 3) in [0, 1] at rest positions (N, 3) of parts (N,)."""
        return surface_color(self.outfit, self.rest, parts, points)

    def surface(self, pose: Pose, mesh: Mesh | None = None) -> Surface:
        """A mesh of this person (default: the body) in a pose."""
        return pose_mesh(self.body() if mesh is None else mesh, self.rest, pose)

    def palm(self, side: Side) -> np.ndarray:
        """(3,) rest position of the middle of a hand."""
        size = self.proportions.stature * self.proportions.extremities
        outward = 1.0 if side == "left" else -1.0
        palm: np.ndarray = self.rest[JOINT[f"{side}_wrist"]] + size * np.array([outward * 0.08, 0.0, 0.0])
        return palm

    def posed_palm(self, pose: Pose, side: Side) -> np.ndarray:
        """(3,) world position of the middle of a hand."""
        wrist = JOINT[f"{side}_wrist"]
        transform = forward_kinematics(self.rest, pose)[wrist]
        palm: np.ndarray = transform[:3, :3] @ (self.palm(side) - self.rest[wrist]) + transform[:3, 3]
        return palm

    def grounded(self, pose: Pose) -> Pose:
        """The pose moved up or down until its lowest point stands on the floor, y = 0."""
        return pose.moved(np.array([0.0, -self.surface(pose).vertices[:, 1].min(), 0.0]))

    def spot(self, joint: str, direction: tuple[float, float, float]) -> int:
        """The torso vertex near a joint on the side that `direction` (in the rest pose) points to."""
        mesh = self.body()
        wanted = self.rest[JOINT[joint]] + 0.15 * np.array(direction)
        distance = np.linalg.norm(mesh.vertices - wanted, axis=1)
        distance[mesh.parts != Part.TORSO] = np.inf
        return int(distance.argmin())
