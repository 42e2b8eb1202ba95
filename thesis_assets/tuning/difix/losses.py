"""What DiFix is trained on: L2, LPIPS and, after a warm-up, the distance of Gram matrices of VGG16 features (Wu et al. 2025).

LPIPS and Gram share one pass of VGG16 over each image. Scales are the published trainer's, so that a lambda means the same there:
L2 is over images in [-1, 1]; Gram matrices are those of a crop of 400 x 400 pixels, here taken over the whole image and brought to
that area. Does not belong here: which images are compared, and how the loss is minimised.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thesis_assets.errors import InvalidFile

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips

GRAM_WEIGHTS = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)
"""Of the five taps (Chen and Koltun 2017, as the published trainer takes them)."""
GRAM_SIDE = 400


@dataclass(frozen=True)
class LossWeights:
    """The lambdas; `gram_from`: the first step that has the Gram term."""

    l2: float
    lpips: float
    gram: float
    gram_from: int

    @property
    def needs_vgg(self) -> bool:
        return self.lpips > 0 or self.gram > 0


class DifixLoss:
    """The loss of a run on its device.

    Args:
        vgg: None where neither LPIPS nor Gram is asked for.
    """

    def __init__(self, weights: LossWeights, vgg: Lpips | None) -> None:
        self.weights, self.vgg = weights, vgg

    def __call__(self, images: Tensor, targets: Tensor, step: int) -> dict[str, Tensor]:
        """The weighted terms `l2`, `lpips` and `gram`, (B,) each, at the update to `step`, counted from 1.

        A term with a lambda of 0 is not there; Gram is 0 until its first step.

        Args:
            images: (B, 3, H, W) float32, about [0, 1]; gradients flow to them.
            targets: the same shape, in [0, 1].
        """
        weights = self.weights
        terms = {"l2": weights.l2 * 4 * (images - targets).square().mean(dim=(1, 2, 3))}
        with_gram = weights.gram > 0 and step >= weights.gram_from
        if self.vgg is not None and (weights.lpips > 0 or with_gram):
            taps = self.vgg.taps_of(images)
            with torch.no_grad():
                wanted = self.vgg.taps_of(targets)
            if weights.lpips > 0:
                terms["lpips"] = weights.lpips * self.vgg.between(taps, wanted)
            if with_gram:
                terms["gram"] = weights.gram * gram_distance(taps, wanted)
        if weights.gram > 0:
            terms.setdefault("gram", torch.zeros_like(terms["l2"]))
        return terms


def gram_distance(taps: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Weighted mean squared difference of the Gram matrices of two sets of taps, (B,)."""
    parts = []
    for level, (weight, one, other) in enumerate(zip(GRAM_WEIGHTS, taps, wanted, strict=True)):
        area = (GRAM_SIDE / 2**level) ** 2
        difference = (_gram(one) - _gram(other)).square().mean(dim=(1, 2))
        parts.append(weight * area / one.shape[1] * difference)
    return torch.stack(parts).sum(dim=0)


def _gram(taps: Tensor) -> Tensor:
    """(B, C, h, w) to (B, C, C): products of channels, mean over the places."""
    rows = taps.flatten(2)
    return rows @ rows.transpose(1, 2) / rows.shape[2]


def require_loss_weights(weights: LossWeights, folder: Path | None) -> None:
    """Refuse LPIPS or Gram without the files of VGG16, before anything is loaded: a term is never left out silently.

    Raises:
        InvalidFile: a file is not there; the message says how to go without.
    """
    if not weights.needs_vgg:
        return
    from thesis_assets.images.lpips_files import find_lpips

    try:
        find_lpips(folder)
    except InvalidFile as error:
        raise InvalidFile(
            "the loss asks for VGG16 features, and their file of weights is not there",
            file=error.file,
            key="runs.<run_name>.lambda_lpips, runs.<run_name>.lambda_gram",
            found=f"{weights.lpips:g} and {weights.gram:g}",
            wanted=error.wanted,
            remedy=f"{error.remedy}; or set lambda_lpips: 0 and lambda_gram: 0, which trains on L2 alone and says so",
        ) from error
