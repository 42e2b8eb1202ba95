"""Who is in the studio: what its people wear and look like, one individual, and the pairs and scenes they play in.

Colours are evaluated at any point of a surface from its rest position, so that a texture moves with the body and has no
seams. Does not belong here: light (`studio_views`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from thesis_assets.demo.studio_bodies import (
    JOINT,
    Mesh,
    Part,
    Pose,
    Proportions,
    Ring,
    Surface,
    body_mesh,
    forward_kinematics,
    head_rings,
    join_meshes,
    pose_mesh,
    rest_joints,
    tube,
)

Color = tuple[float, float, float]
_X, _Y, _Z = np.eye(3)


@dataclass(frozen=True)
class Pattern:
    """A cloth of two colours in [0, 1]; `period` in metres."""

    kind: Literal["plain", "stripes", "checks", "dots", "band"]
    first: Color
    second: Color = (0.0, 0.0, 0.0)
    period: float = 0.14


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


def outfit_mesh(outfit: Outfit, rest: np.ndarray, proportions: Proportions) -> Mesh:
    """Hair and, where worn, a skirt: what lies over the body. Skinned like it."""
    pieces = _hair(outfit, rest, proportions)
    if outfit.skirt:
        pieces.append(_skirt(rest, proportions))
    return join_meshes(pieces)


def surface_color(outfit: Outfit, rest: np.ndarray, parts: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The unlit colour, (N, 3) in [0, 1], of surface points (N, 3) at rest, metres.

    `rest`: (24, 3) rest joints of the person; `parts`: (N,) `Part` of each point.
    """
    colors = np.empty_like(points)
    painters = {
        Part.TORSO: _torso_color,
        Part.HEAD: _head_color,
        Part.LEG: _leg_color,
        Part.FOOT: _foot_color,
        Part.ARM: _arm_color,
        Part.HAND: lambda outfit, _, points: np.tile(outfit.skin, (len(points), 1)),
        Part.SKIRT: _skirt_color,
        Part.HAIR: _hair_color,
    }
    for part, painter in painters.items():
        chosen = parts == part
        if chosen.any():
            colors[chosen] = painter(outfit, rest, points[chosen])
    return colors


def pattern_color(pattern: Pattern, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The cloth's colour, (N, 3). `along` and `across`: (N,) metres on the cloth."""
    down, side = along / pattern.period, across / pattern.period
    if pattern.kind == "stripes":
        second = np.mod(down, 1.0) > 0.5
    elif pattern.kind == "checks":
        second = (np.mod(down, 1.0) > 0.5) ^ (np.mod(side, 1.0) > 0.5)
    elif pattern.kind == "dots":
        shifted = side + 0.5 * np.mod(np.floor(down), 2.0)
        second = np.hypot(np.mod(down, 1.0) - 0.5, np.mod(shifted, 1.0) - 0.5) < 0.3
    elif pattern.kind == "band":
        second = np.abs(along - 0.30) < pattern.period / 2  # across the chest
    else:
        second = np.zeros(len(along), dtype=bool)
    return np.where(second[:, None], pattern.second, pattern.first)


def _hair(outfit: Outfit, rest: np.ndarray, body: Proportions) -> list[Mesh]:
    size = body.stature * body.head
    skull = rest[JOINT["head"]] + size * np.array([0.0, 0.085, 0.012])
    cap = [
        Ring(ring.centre + size * np.array([0.0, 0.012, -0.020]), ring.half_widths, ring.shares)
        for ring in head_rings(rest, body, 1.10)[3:]
    ]
    pieces = [tube(cap, _X, _Z, 10, Part.HAIR)]
    if outfit.hair_style == "bun":
        levels = ((-1.0, 0.3), (-0.4, 0.9), (0.4, 0.9), (1.0, 0.3))
        middle = skull + size * np.array([0.0, 0.09, -0.105])
        bun = [
            Ring(
                middle + size * np.array([0.0, 0.042 * up, 0.0]),
                (size * 0.045 * wide, size * 0.045 * wide),
                {"head": 1.0},
            )
            for up, wide in levels
        ]
        pieces.append(tube(bun, _X, _Z, 8, Part.HAIR))
    if outfit.hair_style == "long":
        levels_down = (
            (0.05, 0.070, 0.035, 1.0),
            (-0.08, 0.078, 0.040, 1.0),
            (-0.20, 0.080, 0.032, 0.6),
            (-0.31, 0.060, 0.020, 0.2),
        )
        fall = [
            Ring(
                skull + size * np.array([0.0, up, -0.075 - 0.02 * (1 - hold)]),
                (size * wide, size * deep),
                {"head": hold, "spine3": 1 - hold},
            )
            for up, wide, deep, hold in levels_down
        ]
        pieces.append(tube(fall, _X, _Z, 10, Part.HAIR))
    return pieces


def _skirt(rest: np.ndarray, body: Proportions) -> Mesh:
    width = body.stature * body.girth * body.hips
    levels = (
        (0.08, 0.148, 0.115, 0.0),
        (-0.06, 0.185, 0.140, 0.1),
        (-0.20, 0.220, 0.175, 0.4),
        (-0.36, 0.255, 0.205, 0.6),
        (-0.46, 0.270, 0.220, 0.7),
    )
    rings = [
        Ring(
            np.array([0.0, body.stature * up, -0.01]),
            (width * wide, width * deep),
            {"pelvis": 1 - legs, "left_hip": legs / 2, "right_hip": legs / 2},
        )
        for up, wide, deep, legs in levels
    ]
    mesh = tube(rings, _X, _Z, 14, Part.SKIRT)
    return Mesh(mesh.vertices, mesh.faces, _weights_by_side(mesh), mesh.parts)


def _weights_by_side(mesh: Mesh) -> np.ndarray:
    """The legs' share of a skirt goes to the leg it hangs over."""
    weights = mesh.weights.copy()
    left, right = JOINT["left_hip"], JOINT["right_hip"]
    legs = weights[:, left] + weights[:, right]
    share = np.clip(0.5 + mesh.vertices[:, 0] / 0.3, 0.0, 1.0)
    weights[:, left], weights[:, right] = legs * share, legs * (1 - share)
    return weights


def _torso_color(outfit: Outfit, rest: np.ndarray, points: np.ndarray) -> np.ndarray:
    height, waist, neck = points[:, 1], 0.5 * rest[JOINT["spine1"]][1], rest[JOINT["neck"]][1]
    colors = pattern_color(outfit.top, height, points[:, 0] + points[:, 2])
    colors = np.where((height < waist)[:, None], _bottom(outfit, points), colors)
    belt = np.abs(height - waist) < 0.018
    colors = np.where(belt[:, None], 0.35 * np.array(outfit.bottom.first), colors)
    neckline = neck - 0.035 - 0.05 * np.clip(points[:, 2] / 0.06, 0.0, 1.0)
    return np.where((height > neckline)[:, None], outfit.skin, colors)


def _leg_color(outfit: Outfit, rest: np.ndarray, points: np.ndarray) -> np.ndarray:
    hip, ankle = rest[JOINT["left_hip"]][1], rest[JOINT["left_ankle"]][1]
    covered = (hip - points[:, 1]) / (hip - ankle) < outfit.trousers
    return np.where(covered[:, None], _bottom(outfit, points), outfit.skin)


def _bottom(outfit: Outfit, points: np.ndarray) -> np.ndarray:
    return pattern_color(outfit.bottom, points[:, 1], points[:, 0] + points[:, 2])


def _arm_color(outfit: Outfit, rest: np.ndarray, points: np.ndarray) -> np.ndarray:
    shoulder, wrist = rest[JOINT["left_shoulder"]][0], rest[JOINT["left_wrist"]][0]
    along = (np.abs(points[:, 0]) - shoulder) / (wrist - shoulder)
    cloth = pattern_color(outfit.top, np.abs(points[:, 0]), points[:, 1] + points[:, 2])
    if outfit.top.kind == "band":
        cloth = np.broadcast_to(outfit.top.first, cloth.shape)
    return np.where((along < outfit.sleeves)[:, None], cloth, outfit.skin)


def _foot_color(outfit: Outfit, rest: np.ndarray, points: np.ndarray) -> np.ndarray:
    sole = rest[JOINT["left_ankle"]][1] - 0.062
    return np.where((points[:, 1] < sole)[:, None], (0.92, 0.92, 0.90), outfit.shoes)


def _skirt_color(outfit: Outfit, rest: np.ndarray, points: np.ndarray) -> np.ndarray:
    around = 0.2 * np.arctan2(points[:, 2], points[:, 0])
    return pattern_color(outfit.bottom, points[:, 1], around)


def _hair_color(outfit: Outfit, rest: np.ndarray, points: np.ndarray) -> np.ndarray:
    strands = 0.9 + 0.1 * np.sin(160.0 * points[:, 0] + 60.0 * points[:, 2])
    return np.asarray(np.clip(strands[:, None] * np.array(outfit.hair), 0.0, 1.0))


def _head_color(outfit: Outfit, rest: np.ndarray, points: np.ndarray) -> np.ndarray:
    skull = rest[JOINT["head"]] + np.array([0.0, 0.085, 0.012])
    across, up, ahead = ((points - skull) / np.array([0.078, 0.118, 0.098])).T
    colors = np.tile(outfit.skin, (len(points), 1))
    face = ahead > 0.3
    hairline = np.where(ahead > 0.0, 0.35 + 0.25 * ahead, -0.62)
    colors[up > hairline] = outfit.hair

    def paint(region: np.ndarray, color: Color) -> None:
        colors[face & region] = color

    paint(np.hypot(np.abs(across) - 0.62, 0.8 * (up + 0.25)) < 0.22, _tinted(outfit.skin))
    paint(np.hypot(np.abs(across) - 0.40, up - 0.06) < 0.17, (0.95, 0.95, 0.93))
    paint(np.hypot(np.abs(across) - 0.38, up - 0.06) < 0.11, (0.08, 0.07, 0.08))
    paint((np.abs(np.abs(across) - 0.40) < 0.22) & (np.abs(up - 0.32) < 0.05), outfit.hair)
    paint((np.abs(across) < 0.30) & (np.abs(up + 0.50) < 0.08), (0.66, 0.22, 0.22))
    paint((np.abs(across) < 0.10) & (np.abs(up + 0.15) < 0.10), tuple(0.82 * value for value in outfit.skin))  # type: ignore[arg-type]
    return colors


def _tinted(skin: Color) -> Color:
    red, green, blue = skin
    return (min(1.0, red * 1.02), green * 0.88, blue * 0.86)


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
        return np.asarray(self.rest[JOINT[f"{side}_wrist"]] + size * np.array([outward * 0.08, 0.0, 0.0]))

    def posed_palm(self, pose: Pose, side: Side) -> np.ndarray:
        """(3,) world position of the middle of a hand."""
        wrist = JOINT[f"{side}_wrist"]
        transform = forward_kinematics(self.rest, pose)[wrist]
        return np.asarray(transform[:3, :3] @ (self.palm(side) - self.rest[wrist]) + transform[:3, 3])

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


_PALE, _TAN, _BROWN, _DARK = (0.93, 0.76, 0.66), (0.85, 0.65, 0.51), (0.66, 0.46, 0.34), (0.44, 0.29, 0.21)
_WHITE, _NAVY, _BLACK = (0.93, 0.93, 0.90), (0.13, 0.18, 0.40), (0.12, 0.12, 0.13)

PAIRS: dict[str, tuple[Individual, Individual]] = {
    "pair00": (
        Individual("male", (1.0, 0.3, 0.8, 0.5, 0.8, -0.3, 0.0, 0.2, 0.5, 0.6), Outfit(
            _PALE, (0.32, 0.20, 0.12), Pattern("stripes", (0.80, 0.16, 0.17), _WHITE, 0.15),
            Pattern("plain", (0.20, 0.29, 0.50)), (0.25, 0.16, 0.12),
        )),
        Individual("female", (-1.2, -0.6, 0.3, -0.2, -0.8, 0.6, -0.8, -0.1, 0.3, -0.8), Outfit(
            _TAN, (0.86, 0.70, 0.34), Pattern("plain", (0.10, 0.58, 0.57)),
            Pattern("dots", (0.10, 0.58, 0.57), _WHITE, 0.12), (0.90, 0.88, 0.82),
            sleeves=0.2, trousers=-1.0, hair_style="long", skirt=True,
        )),
    ),
    "pair01": (
        Individual("male", (0.4, 0.8, -0.2, 0.4, 1.0, 0.2, 0.6, 0.0, 0.9, 0.5), Outfit(
            _TAN, (0.10, 0.09, 0.09), Pattern("checks", (0.20, 0.55, 0.25), (0.09, 0.22, 0.13), 0.16),
            Pattern("plain", (0.70, 0.62, 0.45)), (0.15, 0.15, 0.16), sleeves=0.95,
        )),
        Individual("male", (-0.3, -0.5, 0.6, 0.2, 0.1, -0.4, -0.6, 0.3, -0.2, 0.1), Outfit(
            _PALE, (0.72, 0.35, 0.14), Pattern("band", (0.94, 0.78, 0.20), _NAVY, 0.12),
            Pattern("plain", (0.45, 0.47, 0.52)), (0.85, 0.25, 0.20), sleeves=0.35, trousers=0.48,
        )),
    ),
    "pair02": (
        Individual("female", (-0.8, 0.1, 0.2, 0.0, -0.6, 0.9, -0.2, 0.1, 0.4, -0.6), Outfit(
            _DARK, (0.09, 0.07, 0.07), Pattern("stripes", (0.56, 0.32, 0.70), _WHITE, 0.13),
            Pattern("plain", _BLACK), (0.55, 0.25, 0.60), sleeves=0.7, hair_style="bun",
        )),
        Individual("male", (0.7, 1.0, 0.1, 0.3, 0.5, 0.3, 1.4, 0.2, 0.5, 0.6), Outfit(
            _PALE, (0.66, 0.66, 0.67), Pattern("checks", (0.92, 0.52, 0.16), (0.60, 0.22, 0.10), 0.15),
            Pattern("plain", _NAVY), (0.35, 0.24, 0.18),
        )),
    ),
    "pair03": (
        Individual("male", (0.9, -0.2, 1.0, 0.8, 0.6, -0.2, -0.3, -0.2, 0.2, 0.7), Outfit(
            _DARK, (0.08, 0.07, 0.07), Pattern("stripes", (0.25, 0.62, 0.85), _NAVY, 0.14),
            Pattern("plain", (0.86, 0.84, 0.78)), (0.30, 0.20, 0.15), sleeves=0.95,
        )),
        Individual("female", (-0.9, -0.2, 0.5, -0.1, -0.5, 0.4, -0.5, 0.0, 0.5, -0.7), Outfit(
            _PALE, (0.36, 0.17, 0.10), Pattern("plain", (0.90, 0.36, 0.52)),
            Pattern("stripes", (0.90, 0.36, 0.52), (0.96, 0.86, 0.60), 0.14), (0.70, 0.15, 0.25),
            sleeves=0.3, trousers=-1.0, hair_style="bun", skirt=True,
        )),
    ),
}  # fmt: skip


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
