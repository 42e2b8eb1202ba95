"""Skinned surfaces: closed tubes of elliptic rings, joined, posed by linear blending, with their normals.

Does not belong here: the shape of a person (`studio_bodies`), colour, pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from thesis_assets.demo.studio_skeleton import JOINT, N_JOINTS, Pose, forward_kinematics


class Part(IntEnum):
    """What a vertex belongs to."""

    TORSO = 0
    HEAD = 1
    LEG = 2
    FOOT = 3
    ARM = 4
    HAND = 5
    SKIRT = 6
    HAIR = 7


@dataclass(frozen=True)
class Mesh:
    """A surface in the rest pose.

    Attributes:
        vertices: (V, 3) rest positions, metres.
        faces: (F, 3) vertex numbers, anticlockwise seen from outside.
        weights: (V, 24) share of each joint in a vertex, rows sum to 1.
        parts: (V,) `Part` of each vertex.
    """

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Surface:
    """A posed mesh: `vertices` (V, 3) and unit `normals` (V, 3), in the world."""

    vertices: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True)
class Ring:
    """One cross-section of a tube: centre (3,), half widths along the tube's two axes, shares of joints."""

    centre: np.ndarray
    half_widths: tuple[float, float]
    shares: dict[str, float]


def tube(rings: Sequence[Ring], first_axis: np.ndarray, second_axis: np.ndarray, segments: int, part: Part) -> Mesh:
    """A closed tube through elliptic rings; its two ends are single vertices."""
    angles = 2 * np.pi * np.arange(segments) / segments
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = [ring.centre + (circle * ring.half_widths) @ np.stack([first_axis, second_axis]) for ring in rings]
    tips = [rings[0].centre, rings[-1].centre]
    n_rings = len(rings)
    around = np.arange(segments)
    following = (around + 1) % segments
    faces = []
    for row in range(n_rings - 1):
        lower, upper = row * segments, (row + 1) * segments
        faces.append(np.stack([lower + around, upper + around, lower + following], axis=1))
        faces.append(np.stack([lower + following, upper + around, upper + following], axis=1))
    bottom, top, last = n_rings * segments, n_rings * segments + 1, (n_rings - 1) * segments
    faces.append(np.stack([np.full(segments, bottom), around, following], axis=1))
    faces.append(np.stack([np.full(segments, top), last + following, last + around], axis=1))
    shares = np.stack([_weights(ring.shares) for ring in rings])
    mesh = Mesh(
        vertices=np.concatenate([*vertices, np.stack(tips)]),
        faces=np.concatenate(faces),
        weights=np.concatenate([np.repeat(shares, segments, axis=0), shares[[0, -1]]]),
        parts=np.full(n_rings * segments + 2, int(part)),
    )
    return mesh if _signed_volume(mesh) > 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1], mesh.weights, mesh.parts)


def join_meshes(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one, in order."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        weights=np.concatenate([mesh.weights for mesh in meshes]),
        parts=np.concatenate([mesh.parts for mesh in meshes]),
    )


def pose_mesh(mesh: Mesh, rest: np.ndarray, pose: Pose) -> Surface:
    """Linear blend skinning (Magnenat-Thalmann et al. 1988; the form SMPL uses), and area-weighted normals."""
    transforms = forward_kinematics(rest, pose)
    transforms[:, :3, 3] -= np.einsum("jab,jb->ja", transforms[:, :3, :3], rest)
    blended = np.einsum("vj,jab->vab", mesh.weights, transforms[:, :3])
    vertices = np.einsum("vab,vb->va", blended[:, :, :3], mesh.vertices) + blended[:, :, 3]
    return Surface(vertices, vertex_normals(vertices, mesh.faces))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, each the mean of the faces around, weighted by area."""
    corners = vertices[faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], areas)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals


def _weights(shares: dict[str, float]) -> np.ndarray:
    row = np.zeros(N_JOINTS)
    for name, share in shares.items():
        row[JOINT[name]] = share
    return row


def _signed_volume(mesh: Mesh) -> float:
    first, second, third = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.einsum("fa,fa->", first, np.cross(second, third)))
