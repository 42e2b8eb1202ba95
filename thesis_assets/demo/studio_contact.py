"""Which vertices of two people touch: the `contact` array of the scene contract."""

import numpy as np
from scipy.spatial import KDTree

CONTACT_METRES = 0.04
"""Vertices nearer than this touch: about half the distance between neighbours on the studio's surfaces."""


def contact_between(first: np.ndarray, second: np.ndarray, *, within: float = CONTACT_METRES) -> np.ndarray:
    """The other person's vertex that each vertex touches.

    Args:
        first, second: (V, 3) metres.
        within: the largest distance of a touch, metres.

    Returns:
        (2, V) int32: row 0 names vertices of the second for those of the first, row 1 the reverse; 0 = none. Vertex 0 itself
        can therefore not be named; a vertex whose nearest is vertex 0 gets the next nearest.
    """
    return np.stack([_partners(first, second, within), _partners(second, first, within)])


def _partners(own: np.ndarray, other: np.ndarray, within: float) -> np.ndarray:
    distance, nearest = KDTree(other[1:]).query(own)
    return np.where(distance < within, nearest + 1, 0).astype(np.int32)
