"""The photograph that image benchmarks use: real texture and noise at the size of the people scenes' images."""

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 1280, 940


def photograph() -> NDArray[np.uint8]:
    """(1280, 940, 3) uint8: the stereo photograph inside scikit-image's wheel, mirrored at its edges, not resized."""
    from skimage.data import stereo_motorcycle

    left = np.asarray(stereo_motorcycle()[0], np.uint8)
    missing = ((0, HEIGHT - left.shape[0]), (0, WIDTH - left.shape[1]), (0, 0))
    return np.ascontiguousarray(np.pad(left, missing, mode="symmetric"))


def disturbed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with seeded noise: a pair for metrics."""
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
