"""PSNR and SSIM of 8-bit images: the one place that knows these formulas.

Both agree with scikit-image within 1e-5 and need numpy alone.
Does not belong here: which images are compared, downscaling, LPIPS.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets.errors import ThesisAssetsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_MSE = 1e-12
WINDOW = 11
SIGMA = 1.5
_MAX_ROUNDING_ERROR = 2e-6
"""Of a strip, as estimated; a fifth of what may be off in an image's mean. Beyond, the strip is filtered in float64."""
_MIN_SAMPLED_WIDTH = 256
"""Below, the error cannot be told from a sample of a strip's windows: it is always filtered in float64."""
K1, K2 = 0.01, 0.03
_BORDER = WINDOW // 2
_ROWS, _COLUMNS = 22, 32
"""Outputs of one filter product down and along. OpenBLAS multiplies matrices this small without packing them first: measured
best of 16 to 96 at 940 x 1280 on one core."""


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8], region: NDArray[np.bool_] | None = None) -> float | None:
    """Peak signal-to-noise ratio: `10 log10(1 / max(mse, 1e-12))`, mse over all pixels and channels, range [0, 1].

    Args:
        a: (H, W, 3) or (H, W) uint8.
        b: as `a`.
        region: (H, W) bool, the pixels that count; None = all.

    Returns:
        dB, or None where the region has no pixel.
    """
    return both_psnr(a, b, region)[0]


def psnr_channel_sum(
    a: NDArray[np.uint8], b: NDArray[np.uint8], region: NDArray[np.bool_] | None = None
) -> float | None:
    """`psnr` by the older convention: squared errors summed over the channels but divided by the pixels only.

    For RGB that is 10 log10(3) = 4.771 dB below `psnr`.
    """
    return both_psnr(a, b, region)[1]


def both_psnr(
    a: NDArray[np.uint8], b: NDArray[np.uint8], region: NDArray[np.bool_] | None = None
) -> tuple[float | None, float | None]:
    """`psnr` and `psnr_channel_sum`, of one look at the images."""
    error = _squared_error_a_pixel(a, b, region)
    return (None, None) if error is None else (_decibel(error / (a.shape[2] if a.ndim == 3 else 1)), _decibel(error))


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], region: NDArray[np.bool_] | None = None) -> float | None:
    """Structural similarity (Wang et al. 2004): Gaussian 11 x 11 window, sigma 1.5, K 0.01 and 0.03, valid windows only.

    scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False, full=True)`, cropped by 5.

    Args:
        a: (H, W, 3) or (H, W) uint8.
        b: as `a`.
        region: (H, W) bool: the mean of the map over it; None = the whole map.

    Returns:
        The mean over pixels and channels; None where the region holds no centre of a valid window, and for an image with a
        side below 11 pixels.
    """
    _check_pair(a, b, region)
    if min(a.shape[:2]) < WINDOW:
        return None
    values = ssim_map(a, b)
    if region is None:
        return float(values.mean(axis=1).mean(dtype=np.float64))
    chosen = values[region[_BORDER:-_BORDER, _BORDER:-_BORDER]]
    return float(chosen.mean(dtype=np.float64)) if chosen.size else None


def ssim_map(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """SSIM at the centre of every valid window.

    Args:
        a: (H, W, 3) or (H, W) uint8, sides of at least 11.
        b: as `a`.

    Returns:
        (H - 10, W - 10, 3) or (H - 10, W - 10) float32.
    """
    _check_pair(a, b, None)
    height, width = a.shape[0] - 2 * _BORDER, a.shape[1] - 2 * _BORDER
    planes_a, level_a = _centred_planes(a)
    planes_b, level_b = _centred_planes(b)
    result = np.empty((len(planes_a), height, width), np.float32)
    narrow = width < _MIN_SAMPLED_WIDTH
    for channel_a, channel_b, out in zip(planes_a, planes_b, result, strict=True):
        for top in range(0, height, _ROWS):
            rows = slice(top, min(top + _ROWS, height) + 2 * _BORDER)
            strips = channel_a[rows], channel_b[rows]
            terms = _filtered(_sums_and_squares(*strips, np.float64 if narrow else np.float32))
            if not narrow and _rounding_error(terms[:, ::4, :width:4]) > _MAX_ROUNDING_ERROR:
                terms = _filtered(_sums_and_squares(*strips, np.float64))
            out[top : top + _ROWS] = _combine(terms, level_a + level_b, level_a - level_b)[:, :width]
    return result[0] if a.ndim == 2 else result.transpose(1, 2, 0)


def _centred_planes(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """(C, H, W) of values 0 to 255 less a whole number near their mean, and this number.

    A variance is the small difference of two large numbers where a flat surface lies far from zero: float32 needs it near.
    """
    planes = np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1))
    level = float(round(planes[:, ::7, ::7].mean()))
    return np.subtract(planes, level, dtype=np.float32), level


def _rounding_error(terms: NDArray[np.floating[Any]]) -> float:
    """About how far float32 is off in these windows' mean SSIM: large where two images are flat and differ unevenly.

    A variance errs by some 2^-24 of the squared mean that was subtracted. SSIM's derivatives by Vs and Vd (`_combine`) carry that
    error on. Such windows are rare in photographs, so a sample of a strip's windows tells.
    """
    mean_s, mean_d, square_s, square_d = terms
    mean_s, mean_d = mean_s * mean_s, mean_d * mean_d
    variance_s, variance_d = square_s - mean_s + 2 * (K2 * 255) ** 2, square_d - mean_d
    error = variance_d * mean_s + variance_s * mean_d
    error /= (variance_s + variance_d) ** 2
    return float(np.abs(error).mean()) * 2 * 2.0**-24


def _sums_and_squares(
    a: NDArray[np.float32], b: NDArray[np.float32], precision: type[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """(4, n, W'): s = a + b, d = a - b and their squares. Filtered, these four hold the five terms of the formula.

    Zeros on the right make the width a multiple of `_COLUMNS`, plus 10.
    """
    height, width = a.shape
    padding = -(width - 2 * _BORDER) % _COLUMNS
    planes = np.empty((4, height, width + padding), precision)
    planes[:, :, width:] = 0
    np.add(a, b, out=planes[0, :, :width])
    np.subtract(a, b, out=planes[1, :, :width])
    np.multiply(planes[:2], planes[:2], out=planes[2:])
    return planes


def _combine(terms: NDArray[np.floating[Any]], level_s: float, level_d: float) -> NDArray[np.floating[Any]]:
    """The map from the filtered s, d, s^2, d^2. In place, so `terms` is used up: fresh arrays cost a third of the time.

    Per window, with S, D the means and Vs, Vd the variances of s and d:
    ((S^2 - D^2 + 2 C1) (Vs - Vd + 2 C2)) / ((S^2 + D^2 + 2 C1) (Vs + Vd + 2 C2)).
    """
    mean_s, mean_d, variance_s, variance_d = terms[0], terms[1], terms[2], terms[3]
    square = mean_s * mean_s
    variance_s -= square
    variance_s += 2 * (K2 * 255) ** 2
    np.multiply(mean_d, mean_d, out=square)
    variance_d -= square
    if level_d != 0:
        mean_d += level_d
        np.multiply(mean_d, mean_d, out=square)
    mean_s += level_s
    mean_s *= mean_s
    mean_s += 2 * (K1 * 255) ** 2
    np.subtract(mean_s, square, out=mean_d)
    mean_s += square
    np.subtract(variance_s, variance_d, out=square)
    variance_s += variance_d
    mean_d *= square
    mean_s *= variance_s
    quotient: NDArray[np.floating[Any]] = np.divide(mean_d, mean_s, out=mean_d)
    return quotient


def _filtered(planes: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The Gaussian window over (4, n + 10, 10 + a multiple of `_COLUMNS`): 10 less of both."""
    n, width = planes.shape[1] - 2 * _BORDER, planes.shape[2] - 2 * _BORDER
    down = np.matmul(_band(n, planes.dtype), planes).reshape(4 * n, -1)
    along, across = down.strides
    shape = (width // _COLUMNS, 4 * n, _COLUMNS + 2 * _BORDER)
    blocks = np.lib.stride_tricks.as_strided(down, shape, (_COLUMNS * across, along, across), writeable=False)
    out = np.empty((4 * n, width // _COLUMNS, _COLUMNS), planes.dtype)
    # One product a block of columns, in one call: a loop in Python takes three times as long.
    np.matmul(blocks, _transposed_band(_COLUMNS, planes.dtype), out=out.transpose(1, 0, 2))
    return out.reshape(4, n, width)


@functools.cache
def _band(outputs: int, precision: np.dtype[Any]) -> NDArray[np.floating[Any]]:
    """(outputs, outputs + 10): the one-dimensional window, shifted by one a row."""
    offsets = np.arange(WINDOW) - _BORDER
    window = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    window /= window.sum()
    matrix = np.zeros((outputs, outputs + WINDOW - 1), precision)
    for row in range(outputs):
        matrix[row, row : row + WINDOW] = window
    return matrix


@functools.cache
def _transposed_band(outputs: int, precision: np.dtype[Any]) -> NDArray[np.floating[Any]]:
    """Its own copy: half the time of a transposed view in a product."""
    return np.ascontiguousarray(_band(outputs, precision).T)


def _squared_error_a_pixel(
    a: NDArray[np.uint8], b: NDArray[np.uint8], region: NDArray[np.bool_] | None
) -> float | None:
    """Squared differences in [0, 1] range, summed over channels, mean over the region's pixels."""
    _check_pair(a, b, region)
    if region is not None:
        a, b = a[region], b[region]
    pixels = len(a) if region is not None else a.shape[0] * a.shape[1]
    if pixels == 0:
        return None
    # Integers up to 255 in float64 sum without rounding; row by row the differences stay in the cache.
    total = 0.0
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for start in range(0, len(flat_a), 65536):
        difference = flat_a[start : start + 65536].astype(np.float64)
        difference -= flat_b[start : start + 65536]
        total += float(difference @ difference)
    return total / pixels / 255**2


def _decibel(mse: float) -> float:
    return 10 * math.log10(1 / max(mse, MIN_MSE))


def _check_pair(a: NDArray[np.uint8], b: NDArray[np.uint8], region: NDArray[np.bool_] | None) -> None:
    if a.shape != b.shape or a.ndim not in (2, 3) or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ThesisAssetsError(
            "two images that cannot be compared",
            found=f"{a.shape} {a.dtype} and {b.shape} {b.dtype}",
            wanted="one shape, (H, W, 3) or (H, W), uint8",
        )
    if region is not None and (region.shape != a.shape[:2] or region.dtype != np.bool_):
        raise ThesisAssetsError(
            "a region that does not fit its images",
            found=f"{region.shape} {region.dtype}",
            wanted=f"{a.shape[:2]} bool",
        )
