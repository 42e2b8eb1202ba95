"""The imperfect Gaussians of a studio scene: what a pipeline that saw one camera would have reconstructed of the people.

They ride on the estimated poses after most of the error was tuned away, in the true world. What is wrong with them:
- everywhere and always alike (so that it can be learned): a colour cast, low contrast, splats too large for the detail;
- on the side the source camera hardly saw: faded to the person's mean colour, blotchy;
- at random: too few, displaced, wrongly coloured, with holes, and a few floating off the surface.
Only the people have Gaussians: the surroundings are black in the render, as in the samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thesis_assets.demo.studio_estimates import Estimate, Motion
from thesis_assets.demo.studio_people import Individual
from thesis_assets.demo.studio_skeleton import Pose, blend_poses
from thesis_assets.demo.studio_views import light_on
from thesis_assets.rendering.gaussians import Gaussians, from_colors
from thesis_assets.scenes.camera import Camera

GAUSSIANS_A_PERSON = 2000
_REMAINING_POSE_ERROR = 0.15  # share of the estimate's error that tuning against the video leaves
_CAST = np.array([1.05, 0.86, 0.62])  # warm: blue is lost most
_CONTRAST, _LIFT = 0.55, 0.14
_SCALE_METRES = 0.013  # a fifth of a stripe's period: stripes run into each other, limbs grow a seam
_FLOATERS = 0.02


@dataclass(frozen=True)
class Splats:
    """What is fixed about one person's Gaussians over all frames, N each.

    Attributes:
        corners: (N, 3) vertices of the face each rides on.
        shares: (N, 3) barycentric place on it.
        color: (N, 3) unlit colour.
        tint: (N, 3) colour error of its own.
        offset: (N,) metres off the surface, along the normal.
        scale: (N,) standard deviation, metres.
        opacity: (N,)
    """

    corners: np.ndarray
    shares: np.ndarray
    color: np.ndarray
    tint: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    opacity: np.ndarray


def scatter_splats(person: Individual, rng: np.random.Generator, *, count: int = GAUSSIANS_A_PERSON) -> Splats:
    """Gaussians spread evenly over a dressed person, with the errors that stay the same in all frames."""
    mesh = person.dressed
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
    outside: np.ndarray = (distances > radii).all(axis=1)
    return outside


def _blotches(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) colour errors that vary over about 20 cm of a surface: a few random waves."""
    waves = rng.normal(size=(3, 4, 3)) * (2 * np.pi / 0.45)
    phases = rng.uniform(0, 2 * np.pi, size=(3, 4))
    blotches: np.ndarray = 0.02 * np.cos(np.einsum("nd,cwd->ncw", points, waves) + phases).sum(axis=-1)
    return blotches
