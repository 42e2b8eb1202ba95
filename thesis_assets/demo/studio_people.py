"""Who is in the studio: what its people wear and look like, one individual, and the pairs and scenes they play in.

Colours are evaluated at any point of a surface from its rest position, so that a texture moves with the body and has no
seams. Does not belong here: light (`studio_views`), movement (`studio_motion`).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from thesis_assets.demo import studio_bodies as bodies
from thesis_assets.demo.studio_bodies import JOINT, Mesh, Part, Pose, Proportions, Surface

Color = tuple[float, float, float]
Side = Literal["left", "right"]
OUTWARD = {"left": 1.0, "right": -1.0}
"""Along x in the rest pose."""
_BODY_SEGMENTS = {"smplx": 12, "smpl": 9}
"""Vertices around the torso: the two body models have surfaces of different density, as the real ones do."""


@dataclass(frozen=True)
class Pattern:
    """A cloth of two colours in [0, 1]; `period` in metres."""

    kind: Literal["plain", "stripes", "checks", "dots", "band"]
    first: Color
    second: Color = (0.0, 0.0, 0.0)
    period: float = 0.14

    def color(self, along: np.ndarray, across: np.ndarray) -> np.ndarray:
        """The cloth's colour, (N, 3). `along` and `across`: (N,) metres on the cloth."""
        down, side = along / self.period, across / self.period
        second = np.zeros(len(along), dtype=bool)
        if self.kind in ("stripes", "checks"):
            second = np.mod(down, 1.0) > 0.5
        if self.kind == "checks":
            second ^= np.mod(side, 1.0) > 0.5
        elif self.kind == "dots":
            shifted = side + 0.5 * np.mod(np.floor(down), 2.0)
            second = np.hypot(np.mod(down, 1.0) - 0.5, np.mod(shifted, 1.0) - 0.5) < 0.3
        elif self.kind == "band":
            second = np.abs(along - 0.30) < self.period / 2  # across the chest
        return np.where(second[:, None], self.second, self.first)


@dataclass(frozen=True)
class Outfit:
    """The appearance of one individual. Lengths of sleeves and trousers are shares of the limb that is covered."""

    skin: Color
    hair: Color
    top: Pattern
    bottom: Pattern
    shoes: Color
    sleeves: float = 0.45
    trousers: float = 0.95
    hair_style: Literal["short", "long", "bun"] = "short"
    skirt: bool = False


@dataclass(frozen=True)
class Individual:
    """A person: gender, shape coefficients (10), outfit."""

    gender: Literal["female", "male", "neutral"]
    betas: tuple[float, ...]
    outfit: Outfit

    @cached_property
    def proportions(self) -> Proportions:
        return bodies.proportions_of(self.betas)

    @cached_property
    def rest(self) -> np.ndarray:
        """(24, 3) rest joints."""
        return bodies.rest_joints(self.proportions)

    @cached_property
    def meshes(self) -> dict[str, Mesh]:
        """The body alone as `smplx` and `smpl`, of the same topology for everybody; `dressed`: what a camera sees."""
        alone = {
            model: bodies.body_mesh(self.rest, self.proportions, segments=n) for model, n in _BODY_SEGMENTS.items()
        }
        hair = bodies.hair_meshes(self.rest, self.proportions, self.outfit.hair_style)
        skirt = [bodies.skirt_mesh(self.proportions)] if self.outfit.skirt else []
        return alone | {"dressed": bodies.join_meshes([alone["smplx"], *hair, *skirt])}

    def color(self, parts: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Unlit colours (N, 3) in [0, 1] at rest positions (N, 3), metres, of parts (N,)."""
        colors = np.empty_like(points)
        for part in Part:
            colors[parts == part] = _painted(self.outfit, part, self.rest, *points[parts == part].T)
        return colors

    def surface(self, pose: Pose, mesh: str = "smplx") -> Surface:
        """One of the meshes in a pose."""
        return bodies.pose_mesh(self.meshes[mesh], self.rest, pose)

    def palm(self, side: Side) -> np.ndarray:
        """(3,) the middle of a hand from its wrist in the rest pose."""
        size = self.proportions["stature"] * self.proportions["extremities"]
        return np.array([size * OUTWARD[side] * 0.08, 0.0, 0.0])

    def posed_palm(self, pose: Pose, side: Side) -> np.ndarray:
        """(3,) world position of the middle of a hand."""
        wrist = bodies.forward_kinematics(self.rest, pose)[JOINT[f"{side}_wrist"]]
        return np.asarray(wrist[:3, :3] @ self.palm(side) + wrist[:3, 3])

    def grounded(self, pose: Pose) -> Pose:
        """The pose moved up or down until its lowest point stands on the floor, y = 0."""
        return Pose(pose.rotations, pose.translation - [0.0, self.surface(pose).vertices[:, 1].min(), 0.0])

    def spot(self, joint: str, direction: tuple[float, float, float]) -> int:
        """The torso vertex near a joint on the side that `direction` (in the rest pose) points to."""
        mesh, wanted = self.meshes["smplx"], self.rest[JOINT[joint]] + 0.15 * np.array(direction)
        distance = np.linalg.norm(mesh.vertices - wanted, axis=1)
        return int(np.where(mesh.parts == Part.TORSO, distance, np.inf).argmin())


# --- colours ---------------------------------------------------------------------------------------------------------


def _painted(
    outfit: Outfit, part: Part, rest: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> np.ndarray | Color:
    """The colour of points of a part, at x, y, z (N,) in the rest pose, metres."""
    top, bottom, at = outfit.top, outfit.bottom, {name: rest[joint] for name, joint in JOINT.items()}
    match part:
        case Part.TORSO:
            waist = 0.5 * at["spine1"][1]
            neckline = at["neck"][1] - 0.035 - 0.05 * np.clip(z / 0.06, 0.0, 1.0)
            colors = np.where((y < waist)[:, None], bottom.color(y, x + z), top.color(y, x + z))
            colors[np.abs(y - waist) < 0.018] = 0.35 * np.array(bottom.first)  # a belt
            colors[y > neckline] = outfit.skin
            return colors
        case Part.HEAD:
            return _painted_head(outfit, *((np.stack([x, y, z], axis=1) - bodies.skull(rest, 1.0)) / _SKULL).T)
        case Part.LEG:
            covered = (at["left_hip"][1] - y) / (at["left_hip"][1] - at["left_ankle"][1]) < outfit.trousers
            return np.where(covered[:, None], bottom.color(y, x + z), outfit.skin)
        case Part.FOOT:
            return np.where((y < at["left_ankle"][1] - 0.062)[:, None], (0.92, 0.92, 0.90), outfit.shoes)
        case Part.ARM:
            shoulder, wrist = at["left_shoulder"][0], at["left_wrist"][0]
            covered = (np.abs(x) - shoulder) / (wrist - shoulder) < outfit.sleeves
            cloth = replace(top, kind="plain") if top.kind == "band" else top
            return np.where(covered[:, None], cloth.color(np.abs(x), y + z), outfit.skin)
        case Part.HAND:
            return outfit.skin
        case Part.SKIRT:
            return bottom.color(y, 0.2 * np.arctan2(z, x))
        case Part.HAIR:
            strands = 0.9 + 0.1 * np.sin(160.0 * x + 60.0 * z)
            return np.asarray(np.clip(strands[:, None] * np.array(outfit.hair), 0.0, 1.0))


_SKULL = (0.078, 0.118, 0.098)
"""Half its width, height and depth, metres."""


def _painted_head(outfit: Outfit, across: np.ndarray, up: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Coordinates (N,) in sizes of the skull."""
    across, skin = np.abs(across), np.array(outfit.skin)
    colors = np.tile(skin, (len(up), 1))
    colors[up > np.where(ahead > 0.0, 0.35 + 0.25 * ahead, -0.62)] = outfit.hair
    features = (
        (np.hypot(across - 0.62, 0.8 * (up + 0.25)) < 0.22, np.minimum(skin * [1.02, 0.88, 0.86], 1.0)),  # cheeks
        (np.hypot(across - 0.40, up - 0.06) < 0.17, (0.95, 0.95, 0.93)),
        (np.hypot(across - 0.38, up - 0.06) < 0.11, (0.08, 0.07, 0.08)),
        ((np.abs(across - 0.40) < 0.22) & (np.abs(up - 0.32) < 0.05), outfit.hair),  # brows
        ((across < 0.30) & (np.abs(up + 0.50) < 0.08), (0.66, 0.22, 0.22)),
        ((across < 0.10) & (np.abs(up + 0.15) < 0.10), 0.82 * skin),  # a shadow for a nose
    )
    for region, color in features:
        colors[(ahead > 0.3) & region] = color
    return colors


# --- the cast --------------------------------------------------------------------------------------------------------

_PALE, _TAN, _DARK = (0.93, 0.76, 0.66), (0.85, 0.65, 0.51), (0.44, 0.29, 0.21)
_WHITE, _NAVY, _BLACK = (0.93, 0.93, 0.90), (0.13, 0.18, 0.40), (0.12, 0.12, 0.13)

_CAST = (
    Individual("male", (1.0, 0.3, 0.8, 0.5, 0.8, -0.3, 0.0, 0.2, 0.5, 0.6), Outfit(
        _PALE, (0.32, 0.20, 0.12), Pattern("stripes", (0.80, 0.16, 0.17), _WHITE, 0.15),
        Pattern("plain", (0.20, 0.29, 0.50)), (0.25, 0.16, 0.12),
    )),
    Individual("female", (-1.2, -0.6, 0.3, -0.2, -0.8, 0.6, -0.8, -0.1, 0.3, -0.8), Outfit(
        _TAN, (0.86, 0.70, 0.34), Pattern("plain", (0.10, 0.58, 0.57)),
        Pattern("dots", (0.10, 0.58, 0.57), _WHITE, 0.12), (0.90, 0.88, 0.82),
        sleeves=0.2, trousers=-1.0, hair_style="long", skirt=True,
    )),
    Individual("male", (0.4, 0.8, -0.2, 0.4, 1.0, 0.2, 0.6, 0.0, 0.9, 0.5), Outfit(
        _TAN, (0.10, 0.09, 0.09), Pattern("checks", (0.20, 0.55, 0.25), (0.09, 0.22, 0.13), 0.16),
        Pattern("plain", (0.70, 0.62, 0.45)), (0.15, 0.15, 0.16), sleeves=0.95,
    )),
    Individual("male", (-0.3, -0.5, 0.6, 0.2, 0.1, -0.4, -0.6, 0.3, -0.2, 0.1), Outfit(
        _PALE, (0.72, 0.35, 0.14), Pattern("band", (0.94, 0.78, 0.20), _NAVY, 0.12),
        Pattern("plain", (0.45, 0.47, 0.52)), (0.85, 0.25, 0.20), sleeves=0.35, trousers=0.48,
    )),
    Individual("female", (-0.8, 0.1, 0.2, 0.0, -0.6, 0.9, -0.2, 0.1, 0.4, -0.6), Outfit(
        _DARK, (0.09, 0.07, 0.07), Pattern("stripes", (0.56, 0.32, 0.70), _WHITE, 0.13),
        Pattern("plain", _BLACK), (0.55, 0.25, 0.60), sleeves=0.7, hair_style="bun",
    )),
    Individual("male", (0.7, 1.0, 0.1, 0.3, 0.5, 0.3, 1.4, 0.2, 0.5, 0.6), Outfit(
        _PALE, (0.66, 0.66, 0.67), Pattern("checks", (0.92, 0.52, 0.16), (0.60, 0.22, 0.10), 0.15),
        Pattern("plain", _NAVY), (0.35, 0.24, 0.18),
    )),
    Individual("male", (0.9, -0.2, 1.0, 0.8, 0.6, -0.2, -0.3, -0.2, 0.2, 0.7), Outfit(
        _DARK, (0.08, 0.07, 0.07), Pattern("stripes", (0.25, 0.62, 0.85), _NAVY, 0.14),
        Pattern("plain", (0.86, 0.84, 0.78)), (0.30, 0.20, 0.15), sleeves=0.95,
    )),
    Individual("female", (-0.9, -0.2, 0.5, -0.1, -0.5, 0.4, -0.5, 0.0, 0.5, -0.7), Outfit(
        _PALE, (0.36, 0.17, 0.10), Pattern("plain", (0.90, 0.36, 0.52)),
        Pattern("stripes", (0.90, 0.36, 0.52), (0.96, 0.86, 0.60), 0.14), (0.70, 0.15, 0.25),
        sleeves=0.3, trousers=-1.0, hair_style="bun", skirt=True,
    )),
)  # fmt: skip
PAIRS = {f"pair{number:02d}": pair for number, pair in enumerate(zip(_CAST[::2], _CAST[1::2], strict=True))}


@dataclass(frozen=True)
class StudioScene:
    """One scene: who, what they do (a choreography), where the pair is turned (degrees about y), its seed.

    `swapped`: the estimate numbers the two people the other way round; the registry says so.
    """

    pair: str
    action: str
    choreography: str
    turned: float
    seed: int
    swapped: bool = False

    @property
    def name(self) -> str:
        return f"studio_{self.pair}_{self.action}"


SCENES = (
    StudioScene("pair00", "dance", "waltz", 10.0, 100),
    StudioScene("pair00", "hug", "hug", -20.0, 101),
    StudioScene("pair01", "dance", "swing", -5.0, 110),
    StudioScene("pair01", "fight", "boxing", 15.0, 111),
    StudioScene("pair02", "hug", "hug", 25.0, 120, swapped=True),
    StudioScene("pair03", "dance", "twirl", 0.0, 130),
)
