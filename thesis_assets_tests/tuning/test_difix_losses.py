"""The terms of DiFix's loss: their formulas, when they count, and what is said where VGG16's files are not there."""

from pathlib import Path

import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.images.perceptual import Lpips, load_lpips
from thesis_assets.tuning.difix.training import DifixLoss, LossWeights, gram_distance, require_loss_weights
from thesis_assets_tests.images.lpips_weights import write_lpips_weights


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Lpips:
    return load_lpips(write_lpips_weights(tmp_path_factory.mktemp("lpips")))


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = torch.rand(2, 2, 3, 32, 48, generator=torch.Generator().manual_seed(seed))
    return images, targets


def test_l2_is_over_images_from_minus_one_to_one(vgg: Lpips) -> None:
    images, targets = pair()
    terms = DifixLoss(LossWeights(0.5, 0, 0, 1), None)(images, targets, 1)
    assert list(terms) == ["l2"]
    wanted = 0.5 * ((2 * images - 1) - (2 * targets - 1)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(terms["l2"], wanted)


def test_lpips_is_the_distance_that_is_reported_later(vgg: Lpips) -> None:
    images, targets = pair()
    terms = DifixLoss(LossWeights(1, 2, 0, 1), vgg)(images, targets, 1)
    torch.testing.assert_close(terms["lpips"], 2 * vgg(images, targets))


def test_the_gram_term_is_its_formula_on_a_crop_of_400_pixels() -> None:
    """The sums over places of the published trainer, squared, over channels and places."""
    generator = torch.Generator().manual_seed(0)
    taps = [torch.rand(1, 3, 400 // 2**level, 400 // 2**level, generator=generator) for level in range(5)]
    others = [torch.rand(tap.shape, generator=generator) for tap in taps]
    wanted = 0.0
    for weight, one, other in zip((1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5), taps, others, strict=True):
        a, b = one[0].flatten(1).double(), other[0].flatten(1).double()
        wanted += weight * float((a @ a.T - b @ b.T).square().mean()) / one[0].numel()
    assert float(gram_distance(taps, others)[0]) == pytest.approx(wanted, rel=1e-3)


def test_the_gram_term_counts_after_its_warm_up_and_is_there_from_the_first_step(vgg: Lpips) -> None:
    loss = DifixLoss(LossWeights(1, 0, 3, gram_from=5), vgg)
    images, targets = pair()
    before, after = loss(images, targets, 4), loss(images, targets, 5)
    assert set(before) == set(after) == {"l2", "gram"}
    assert torch.all(before["gram"] == 0)
    taps, wanted = vgg.taps_of(images), vgg.taps_of(targets)
    torch.testing.assert_close(after["gram"], 3 * gram_distance(taps, wanted))


def test_every_term_is_nought_for_the_target_itself_and_draws_towards_it(vgg: Lpips) -> None:
    images, targets = pair()
    loss = DifixLoss(LossWeights(1, 1, 1, 1), vgg)
    assert all(float(term.abs().max()) < 1e-6 for term in loss(targets, targets, 1).values())
    for name in ("l2", "lpips", "gram"):
        moved = images.clone().requires_grad_()
        loss(moved, targets, 1)[name].sum().backward()
        assert moved.grad is not None
        step = 1e-2 * moved.grad / moved.grad.abs().max()
        nearer = loss((moved - step).detach(), targets, 1)[name]
        assert torch.all(nearer < loss(images, targets, 1)[name]), name


def test_a_term_without_its_files_is_refused_and_never_left_out(tmp_path: Path) -> None:
    for weights in (LossWeights(1, 1, 0, 1), LossWeights(1, 0, 1, 1)):
        with pytest.raises(InvalidFile, match=r"(?s)vgg16.*lambda_lpips: 0 and lambda_gram: 0"):
            require_loss_weights(weights, tmp_path)
    require_loss_weights(LossWeights(1, 0, 0, 1), tmp_path)
    require_loss_weights(LossWeights(1, 1, 1, 1), write_lpips_weights(tmp_path))
