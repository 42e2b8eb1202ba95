"""PSNR and SSIM of a full-size pair on one core against scikit-image's and torchmetrics'."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row, paired, seconds_of, skipped_without
from benchmarks.photograph import disturbed, photograph

ROUNDS = 3


def rows() -> Iterator[Row]:
    """Speed, and the largest difference of the two results."""
    from thesis_assets.images import metrics

    image = photograph()
    other = disturbed(image)
    seconds, baseline, ratio = paired(
        lambda: seconds_of(lambda: (metrics.psnr(image, other), metrics.ssim(image, other))),
        lambda: seconds_of(lambda: by_scikit_image(image, other)),
        ROUNDS,
    )
    name = "PSNR and SSIM of a 940x1280 pair, one core, times faster than scikit-image"
    yield Row("images", name, seconds, "s", baseline, 1 / ratio)
    name = "PSNR and SSIM of a 940x1280 pair, one core, times faster than torchmetrics"
    yield skipped_without("torchmetrics", "images", name, ">= 10") or against_torchmetrics(name, image, other)
    psnr, ssim = metrics.psnr(image, other), metrics.ssim(image, other)
    assert psnr is not None
    assert ssim is not None
    expected = by_scikit_image(image, other)
    difference = max(abs(psnr - expected[0]), abs(ssim - expected[1]))
    yield Row("images", "largest difference of PSNR and SSIM to scikit-image", difference, "", target="<= 1e-5")


def against_torchmetrics(name: str, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Row:
    """torchmetrics gets its float tensors ready made."""
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    from thesis_assets.images import metrics

    torch.set_num_threads(1)
    x, y = (torch.from_numpy(image).permute(2, 0, 1)[None].float().div(255) for image in (a, b))
    ours, theirs, ratio = paired(
        lambda: seconds_of(lambda: (metrics.psnr(a, b), metrics.ssim(a, b))),
        lambda: seconds_of(
            lambda: (
                peak_signal_noise_ratio(x, y, data_range=1.0),
                structural_similarity_index_measure(x, y, data_range=1.0),
            )
        ),
        ROUNDS,
    )
    return Row("images", name, ours, "s", theirs, 1 / ratio, ">= 10")


def by_scikit_image(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[float, float]:
    """PSNR and SSIM with scikit-image's options of the same formulas."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    _, values = structural_similarity(
        a, b, gaussian_weights=True, use_sample_covariance=False, full=True, channel_axis=2, data_range=255
    )
    return float(peak_signal_noise_ratio(a, b, data_range=255)), float(values[5:-5, 5:-5].mean())
