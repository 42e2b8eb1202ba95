"""PSNR and SSIM against scikit-image, and their edge cases."""

import io
import math

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images import metrics
from thesis_assets.images.codecs import encode_jpeg

Image = NDArray[np.uint8]


def reference_map(a: Image, b: Image) -> NDArray[np.float64]:
    _, full = structural_similarity(
        a,
        b,
        channel_axis=2 if a.ndim == 3 else None,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
        data_range=255,
    )
    return np.asarray(full[5:-5, 5:-5])


def views(height: int = 70, width: int = 90) -> tuple[Image, Image]:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    a = np.stack([127 + 120 * np.sin(x / 9), 127 + 90 * np.cos(y / 7), (x * y) % 255], 2)
    b = np.clip(a + random.normal(0, 12, a.shape), 0, 255)
    return a.astype(np.uint8), b.astype(np.uint8)


def flat(value: int) -> Image:
    return np.full((40, 50, 3), value, np.uint8)


def halves(left: int, right: int) -> Image:
    return np.concatenate([flat(left), flat(right)], axis=1)


def grainy(image: Image, seed: int) -> Image:
    """Noise of one or two steps: no two neighbours need be equal, and the surface is flat all the same."""
    noise = np.random.default_rng(seed).normal(0, 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


NOISE = np.random.default_rng(1).integers(0, 2, (40, 50, 3), dtype=np.uint8)


def photograph() -> tuple[Image, Image]:
    """A natural image, and what JPEG leaves of it."""
    from skimage.data import astronaut

    image = np.ascontiguousarray(astronaut()[40:170, 150:310])
    return image, np.asarray(PIL.Image.open(io.BytesIO(encode_jpeg(image, quality=40))))


def on_black(pair: tuple[Image, Image]) -> tuple[Image, Image]:
    """People before a black background, as the evaluation compares them."""
    height, width = pair[0].shape[:2]
    y, x = np.mgrid[:height, :width]
    inside = ((y / height - 0.5) ** 2 + (x / width - 0.4) ** 2 < 0.1)[..., None]
    return np.where(inside, pair[0], 0).astype(np.uint8), np.where(inside, pair[1], 0).astype(np.uint8)


def random_pair() -> tuple[Image, Image]:
    random = np.random.default_rng(2)
    return tuple(random.integers(0, 256, (60, 50, 3), dtype=np.uint8) for _ in range(2))  # type: ignore[return-value]


PAIRS = {
    "random": random_pair(),
    "natural": photograph(),
    "natural and masked": on_black(photograph()),
    "constant and equal": (flat(77), flat(77)),
    "photograph and noise": views(),
    "equal": (views()[0], views()[0]),
    "inverted": (views()[0], 255 - views()[0]),
    "black and white": (flat(0), flat(255)),
    "black and nearly black": (flat(0), NOISE),
    "white and nearly white": (flat(255), 255 - NOISE),
    "grey by one": (flat(127), flat(128)),
    "flat surfaces that differ": (halves(251, 129), halves(37, 208)),
    "grainy surfaces that differ": (grainy(halves(23, 192)[:15], 0), grainy(halves(240, 107)[:15], 1)),
    "one channel": (views()[0][..., 0], views()[1][..., 0]),
    "smallest": (views(11, 11)[0], views(11, 11)[1]),
    "a strip": (views(11, 200)[0], views(11, 200)[1]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ssim_is_that_of_scikit_image(name: str) -> None:
    a, b = PAIRS[name]
    expected = reference_map(a, b)
    assert metrics.ssim(a, b) == pytest.approx(expected.mean(), abs=2e-6)
    assert np.abs(metrics.ssim_map(a, b) - expected).max() < 5e-4


@pytest.mark.parametrize("name", [name for name in PAIRS if "equal" not in name])
def test_psnr_is_that_of_scikit_image(name: str) -> None:
    a, b = PAIRS[name]
    assert metrics.psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-9)


@st.composite
def patchworks(draw: st.DrawFn) -> Image:
    """Noise of some strength on a few flat surfaces: flat surfaces are where float arithmetic shows."""
    height, width = draw(st.integers(11, 40)), draw(st.integers(11, 60) | st.integers(250, 300))
    patches = draw(arrays(np.uint8, (2, 2, 3)))
    image = patches[(np.arange(height) > height // 2).astype(int)][:, (np.arange(width) > width // 3).astype(int)]
    strength = draw(st.sampled_from([0, 1, 30]))
    noise = np.random.default_rng(draw(st.integers(0, 9))).normal(0, strength, image.shape)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


@settings(max_examples=150, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(patchworks(), patchworks())
def test_both_agree_with_scikit_image_on_any_pair(a: Image, b: Image) -> None:
    height, width = min(len(a), len(b)), min(a.shape[1], b.shape[1])
    a, b = a[:height, :width], b[:height, :width]
    assert metrics.ssim(a, b) == pytest.approx(reference_map(a, b).mean(), abs=1e-5)
    if not np.array_equal(a, b):
        assert metrics.psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-5)


def test_equal_images_have_the_highest_values() -> None:
    a, _ = views()
    assert metrics.psnr(a, a) == 120.0
    assert metrics.ssim(a, a) == 1.0


def test_the_older_convention_lies_4_771_decibel_lower() -> None:
    a, b = views()
    assert metrics.psnr(a, b) - metrics.psnr_channel_sum(a, b) == pytest.approx(10 * math.log10(3))  # type: ignore[operator]


@pytest.mark.parametrize("n_rows", [0, 7, 40])
def test_one_look_gives_both_conventions(n_rows: int) -> None:
    a, b = views()
    region = np.zeros(a.shape[:2], bool)
    region[:n_rows] = True
    for each in (None, region):
        assert metrics.both_psnr(a, b, each) == (metrics.psnr(a, b, each), metrics.psnr_channel_sum(a, b, each))


def test_a_region_counts_its_own_pixels_only() -> None:
    a, b = views()
    region = np.zeros(a.shape[:2], bool)
    region[20:50, 30:60] = True
    outside = np.where(region[..., None], b, 255 - b).astype(np.uint8)
    assert metrics.psnr(a, outside, region) == metrics.psnr(a, b, region)
    assert metrics.psnr(a, b, region) == pytest.approx(peak_signal_noise_ratio(a[20:50, 30:60], b[20:50, 30:60]))
    expected = reference_map(a, b)[15:45, 25:55].mean()
    assert metrics.ssim(a, b, region) == pytest.approx(expected, abs=2e-6)


def test_a_full_region_is_no_region() -> None:
    a, b = views()
    everywhere = np.ones(a.shape[:2], bool)
    assert metrics.psnr(a, b, everywhere) == metrics.psnr(a, b)
    assert metrics.ssim(a, b, everywhere) == pytest.approx(metrics.ssim(a, b), abs=1e-7)


def test_an_empty_region_has_no_value() -> None:
    a, b = views()
    nowhere = np.zeros(a.shape[:2], bool)
    assert metrics.psnr(a, b, nowhere) is None
    assert metrics.psnr_channel_sum(a, b, nowhere) is None
    assert metrics.ssim(a, b, nowhere) is None


def test_ssim_has_no_value_where_no_window_fits() -> None:
    a, b = views(10, 40)
    assert metrics.ssim(a, b) is None
    a, b = views()
    border = np.zeros(a.shape[:2], bool)
    border[:5] = True
    assert metrics.ssim(a, b, border) is None


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.psnr_channel_sum, metrics.ssim])
def test_images_that_do_not_belong_together_are_refused(metric: object) -> None:
    a, b = views()
    with pytest.raises(ThesisAssetsError, match="cannot be compared"):
        metric(a, b[:-1])  # type: ignore[operator]
    with pytest.raises(ThesisAssetsError, match="cannot be compared"):
        metric(a / 255, b / 255)  # type: ignore[operator]
    with pytest.raises(ThesisAssetsError, match="region"):
        metric(a, b, np.ones((3, 3), bool))  # type: ignore[operator]
