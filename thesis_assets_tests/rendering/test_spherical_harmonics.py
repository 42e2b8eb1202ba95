"""Spherical harmonics against SciPy's, and their orthonormality."""

import math

import numpy as np
import torch
from scipy.special import sph_harm_y

from thesis_assets.rendering.torch_rasteriser import basis, colours


def directions(n: int = 200) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3))), dim=1)


def test_the_basis_is_the_real_spherical_harmonics_of_scipy() -> None:
    points = directions().numpy()
    polar, azimuth = np.arccos(points[:, 2]), np.arctan2(points[:, 1], points[:, 0])
    column = 0
    values = basis(directions(), 15).numpy()
    for degree in (1, 2, 3):
        for order in range(-degree, degree + 1):
            complex_value = sph_harm_y(degree, abs(order), polar, azimuth)
            part = complex_value.imag if order < 0 else complex_value.real
            # SciPy's own sign (-1)^order stays in: the 3DGS basis carries it too.
            expected = part * (math.sqrt(2) if order else 1)
            assert np.allclose(values[:, column], expected, atol=1e-6), (degree, order)
            column += 1


def test_a_lower_degree_is_the_beginning_of_a_higher_one() -> None:
    whole = basis(directions(), 15)
    assert torch.equal(basis(directions(), 3), whole[:, :3])
    assert torch.equal(basis(directions(), 8), whole[:, :8])


def test_a_colour_without_higher_terms_is_the_same_from_every_side_and_never_negative() -> None:
    dc = torch.tensor([[0.0, 1.0, -9.0]]).expand(200, 3)
    seen = colours(dc, torch.zeros(200, 0, 3), directions().float())
    assert torch.allclose(seen, torch.tensor([0.5, 0.5 + 0.28209479, 0.0]).expand(200, 3))
