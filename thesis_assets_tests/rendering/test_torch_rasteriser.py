"""The torch rasteriser against a brute-force reference and against what a picture must show."""

import time

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from thesis_assets.rendering import torch_rasteriser
from thesis_assets.rendering.gaussians import Gaussians, from_colors, to_tensors
from thesis_assets.rendering.torch_rasteriser import rasterise
from thesis_assets_tests.rendering import brute_force

INTRINSICS = np.array([[50.0, 0, 15.5], [0, 46.0, 11.5], [0, 0, 1]])
IN_FRONT = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2]])


def concatenate(parts: list[Gaussians]) -> Gaussians:
    return Gaussians(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))


def draw(
    gaussians: Gaussians, extrinsics: np.ndarray = IN_FRONT, size: tuple[int, int] = (23, 31), **more: object
) -> torch.Tensor:  # type: ignore[type-arg]
    cameras = [torch.from_numpy(matrix).float() for matrix in (INTRINSICS, extrinsics)]
    return rasterise(to_tensors(gaussians), *cameras, *size, **more)  # type: ignore[arg-type]


def cloud(n: int, rest: int = 0, seed: int = 0, size: float = 0.05) -> Gaussians:
    random = np.random.default_rng(seed)
    return Gaussians(
        means=random.uniform(-0.8, 0.8, (n, 3)).astype(np.float32),
        sh_dc=random.normal(0, 1, (n, 3)).astype(np.float32),
        sh_rest=random.normal(0, 0.4, (n, rest, 3)).astype(np.float32),
        opacity_logit=random.normal(1, 2, n).astype(np.float32),
        log_scales=(np.log(size) + random.normal(0, 0.7, (n, 3))).astype(np.float32),
        rotations=random.normal(0, 1, (n, 4)).astype(np.float32),
    )


@pytest.mark.parametrize("rest", [0, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_picture_is_that_of_the_brute_force_reference(rest: int, seed: int) -> None:
    gaussians = cloud(25, rest, seed, size=0.15)
    turned = np.c_[Rotation.random(random_state=seed).as_matrix(), [0.05, -0.1, 1.5]]
    expected = brute_force.render(gaussians, INTRINSICS, turned, 23, 31)
    drawn = draw(gaussians, turned).double().numpy()
    # A contribution on the edge of 1/255 may fall on either side of it; everything else agrees to float32.
    assert np.mean(np.abs(drawn - expected) > 1e-4) < 0.001
    assert np.abs(drawn - expected).max() < 2 / 255
    assert expected.max() > 0.5


def test_chunks_and_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    gaussians = cloud(300, size=0.2)
    whole = draw(gaussians)
    monkeypatch.setattr(torch_rasteriser, "CHUNK_ELEMENTS", 7 * 25)
    monkeypatch.setattr(torch_rasteriser, "_tile_side", lambda splats: 5)
    assert torch.allclose(draw(gaussians), whole, atol=1e-5)


def test_a_pixel_behind_an_opaque_one_stays_closed_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    red = from_colors([[0, 0, 0.01 * i] for i in range(4)], [[1, 0, 0]] * 4, 5.0, opacity=0.99)
    blue = from_colors([[0, 0, 1]] * 4, [[0, 0, 1]] * 4, 5.0, opacity=0.01)
    monkeypatch.setattr(torch_rasteriser, "_tile_side", lambda splats: 8)
    monkeypatch.setattr(torch_rasteriser, "CHUNK_ELEMENTS", 4 * 64)
    assert draw(concatenate([red, blue]))[2].max() == 0


def test_a_small_gaussian_appears_where_the_pinhole_puts_it() -> None:
    point = np.array([0.2, -0.1, 0.3])
    image = draw(from_colors([point], [[1, 1, 1]], 0.005, opacity=0.95))
    pixel = INTRINSICS @ (point + IN_FRONT[:, 3])
    weights = image[0].double().numpy()
    rows, columns = np.mgrid[:23, :31] + 0.5
    assert (weights * columns).sum() / weights.sum() == pytest.approx(pixel[0] / pixel[2], abs=0.02)
    assert (weights * rows).sum() / weights.sum() == pytest.approx(pixel[1] / pixel[2], abs=0.02)


def test_the_nearer_one_hides_the_farther_one_in_whatever_order_they_are_stored() -> None:
    red = from_colors([[0, 0, 0]], [[1, 0, 0]], 1.0, opacity=0.999)
    blue = from_colors([[0, 0, 1]], [[0, 0, 1]], 1.0, opacity=0.9)
    for order in ([red, blue], [blue, red]):
        centre = draw(concatenate(order))[:, 11, 15]
        assert centre[0] == pytest.approx(0.99, abs=1e-3)  # alpha is held at 0.99
        assert centre[2] == pytest.approx(0.009, abs=1e-4)


def test_what_is_behind_the_camera_or_beside_the_picture_is_not_drawn() -> None:
    outside = from_colors([[0, 0, -3], [50, 0, 0], [0, -50, 0]], [[1, 1, 1]] * 3, 0.1)
    assert draw(outside).max() == 0


def test_nothing_gives_the_background() -> None:
    empty = from_colors(np.zeros((0, 3)), np.zeros((0, 3)), 0.1)
    assert draw(empty).max() == 0
    image = draw(empty, background=(0.25, 0.5, 1.0))
    assert image.shape == (3, 23, 31)
    assert image[:, 3, 3].tolist() == [0.25, 0.5, 1.0]


def test_the_background_shows_through_what_is_not_opaque() -> None:
    veil = from_colors([[0, 0, 0]], [[0, 0, 0]], 50.0, opacity=0.6)
    assert draw(veil, background=(1.0, 1.0, 1.0))[0].mean() == pytest.approx(0.4, abs=1e-3)


def test_bright_colours_are_clamped_in_the_picture() -> None:
    image = draw(from_colors([[0, 0, 0]], [[9, 9, 9]], 5.0, opacity=0.9))
    assert image.max() == 1


def test_a_scaled_quaternion_is_the_same_rotation() -> None:
    gaussians = cloud(30, size=0.2)
    scaled = Gaussians(**{**vars(gaussians), "rotations": gaussians.rotations * np.float32(-3)})
    assert torch.allclose(draw(gaussians), draw(scaled), atol=1e-5)


def test_the_number_of_threads_changes_no_pixel() -> None:
    gaussians, before = cloud(500, 8, size=0.1), torch.get_num_threads()
    pictures = []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            pictures.append(draw(gaussians, size=(64, 80)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])


def test_five_thousand_gaussians_take_well_below_a_second_of_one_core() -> None:
    gaussians, before = to_tensors(cloud(5000, size=0.02)), torch.get_num_threads()
    cameras = [torch.from_numpy(m).float() for m in (np.diag([4.0, 4, 1]) @ INTRINSICS, IN_FRONT)]
    torch.set_num_threads(1)
    try:
        rasterise(gaussians, *cameras, 128, 128)
        start = time.process_time()
        rasterise(gaussians, *cameras, 128, 128)
    finally:
        torch.set_num_threads(before)
    assert time.process_time() - start < 1.0
