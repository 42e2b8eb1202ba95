"""Distances between predicted and true bodies of one frame, in millimetres, and the order of people in depth.

Every function takes the matched people of both sides, the same person at the same index, in the same world.
Does not belong here: moving one world onto the other (`world_alignment`), reading files.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

ROOT_JOINT = 0
"""The pelvis, in SMPL as in SMPL-X."""
MM_PER_M = 1000.0
EQUAL_DEPTH_M = 0.15
"""A predicted pair stands side by side below this difference in depth, and in a clear order beyond it."""
LAYER_GAP_M = 0.3
"""A gap in true depth wider than this starts a new layer of people."""
NO_CONTACT = 0


def finite_people(*arrays: Array) -> Array:
    """Which people have finite numbers only, in every array: (P,) bool. Arrays are (P, ..., 3)."""
    rows = [np.isfinite(array).reshape(len(array), -1).all(axis=1) for array in arrays]
    return np.asarray(np.logical_and.reduce(rows))


def mean_distance_mm(predicted: Array, true: Array) -> float | None:
    """Mean Euclidean distance over people and points. None where there is nobody.

    Args:
        predicted: (P, N, 3) metres; of joints this is MPJPE, of vertices MVE.
        true: the same shape.
    """
    if predicted.size == 0:
        return None
    return float(np.linalg.norm(predicted - true, axis=-1).mean() * MM_PER_M)


def root_relative_mm(predicted: Array, true: Array, predicted_roots: Array, true_roots: Array) -> float | None:
    """`mean_distance_mm` after each person's root joint was moved to the origin: RR-MPJPE of joints, RR-MVE of vertices.

    Args:
        predicted: (P, N, 3) metres.
        predicted_roots: (P, 3) metres.
    """
    return mean_distance_mm(predicted - predicted_roots[:, None], true - true_roots[:, None])


def procrustes_mm(predicted: Array, true: Array) -> float | None:
    """PA-MPJPE: each predicted person fitted to the true one by rotation, translation and scale, never by a mirror.

    Args:
        predicted: (P, J, 3) metres.
    """
    fitted = [fit_similarity(source, target) for source, target in zip(predicted, true, strict=True)]
    return mean_distance_mm(np.stack(fitted), true) if fitted else None


def fit_similarity(source: Array, target: Array) -> Array:
    """`source` (N, 3) moved onto `target` (N, 3) by the least-squares similarity without reflection.

    The closed form of S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991, equations 40 to 42. All points in one place are only translated.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    rotation, singular_values = rotation_onto(centred, target - target_mean)
    spread = float((centred**2).sum())
    scale = float(singular_values.sum()) / spread if spread > 0 else 1.0
    return np.asarray(scale * centred @ rotation.T + target_mean)


def rotation_onto(source: Array, target: Array) -> tuple[Array, Array]:
    """The proper rotation R that brings centred points closest: argmin of sum |R source - target|^2, det R = 1.

    W. Kabsch, Acta Crystallographica A32, 1976; the last singular direction is turned where a mirror would fit better.

    Args:
        source: (N, 3), mean 0.
        target: (N, 3), mean 0.

    Returns:
        (3, 3) rotation, and the (3,) signed singular values of the covariance (their sum scales a similarity).
    """
    left, values, right = np.linalg.svd(target.T @ source)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    return np.asarray((left * signs) @ right), np.asarray(values * signs)


def contact_distance_mm(predicted_vertices: Array, contact: Array | None) -> float | None:
    """CD: how far apart the vertices are that touch in the ground truth; the mean of the two directions' means.

    Args:
        predicted_vertices: (2, V, 3) metres.
        contact: (2, V) int, of the ground truth: the other person's vertex that vertex i touches, 0 = none.

    Returns:
        None without contact, or for any other number of people than two.
    """
    if contact is None or len(predicted_vertices) != 2 or contact.shape != predicted_vertices.shape[:2]:
        return None
    directions = []
    for person, other in ((0, 1), (1, 0)):
        touches = contact[person]
        here = np.flatnonzero((touches > NO_CONTACT) & (touches < predicted_vertices.shape[1]))
        if here.size:
            gap = predicted_vertices[person, here] - predicted_vertices[other, touches[here]]
            directions.append(float(np.linalg.norm(gap, axis=-1).mean()))
    return float(np.mean(directions) * MM_PER_M) if directions else None


def depth_order_share(predicted_depths: Array, true_depths: Array) -> float | None:
    """PCDR: the share of pairs of people whose predicted order in depth is right. None below two people.

    The relation of a pair is the ground truth's: same layer, closer, or farther. It is right where the predicted difference
    is within `EQUAL_DEPTH_M`, or beyond it in the right direction. (Y. Sun et al., "Putting People in their Place", CVPR 2022,
    with layers from measured depths.)

    Args:
        predicted_depths: (P,) metres along the source camera's axis.
        true_depths: (P,).
    """
    if len(true_depths) < 2:
        return None
    layers = depth_layers(true_depths)
    first, second = np.triu_indices(len(true_depths), k=1)
    relation = np.sign(layers[first] - layers[second])
    difference = predicted_depths[first] - predicted_depths[second]
    equal, farther, closer = np.abs(difference) < EQUAL_DEPTH_M, difference > EQUAL_DEPTH_M, difference < -EQUAL_DEPTH_M
    return float(np.mean(np.select([relation == 0, relation > 0], [equal, farther], default=closer)))


def depth_layers(depths: Array) -> Array:
    """The layer of each person, 0 = nearest: sorted by depth, a gap beyond `LAYER_GAP_M` starts the next layer. (P,) int."""
    order = np.argsort(depths, kind="stable")
    steps = np.concatenate([[0], np.cumsum(np.diff(depths[order]) > LAYER_GAP_M)])
    layers = np.empty(len(depths), dtype=np.int64)
    layers[order] = steps
    return layers
