"""The `difix` backend in the training loop: every view of a sample against what it should be, and the terms of that loss.

The network sees (render, reference) and is to give (target, reference) back, as in the published trainer; with `mv_unet` off it
sees the render alone. It is trained on L2, LPIPS and, after a warm-up, the distance of Gram matrices of VGG16 features (Wu et al.
2025). LPIPS and Gram share one pass of VGG16 over each image. Scales are the published trainer's, so that a lambda means the same
there: L2 is over images in [-1, 1]; Gram matrices are those of a crop of 400 x 400 pixels, here taken over the whole image and
brought to that area. Does not belong here: the network, the loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.difix.checkpoint import (
    UNET_ADAPTERS,
    DifixRefiner,
    fresh_optimizer,
    load_weights,
    optimizer_from_published,
    optimizer_to_published,
    refuse_another_base,
    usage,
    weights_to_published,
)
from thesis_assets.tuning.difix.model_folder import PUBLISHED_BASE, ModelFolder, find_model, import_packages
from thesis_assets.tuning.difix.network import encode_prompts, load_difix
from thesis_assets.tuning.run_config import TrainerFlags

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips
    from thesis_assets.tuning.trained_model import TripletImages


def check_difix(flags: TrainerFlags) -> list[str]:
    """Refuse what cannot be trained here before anything starts; a Hub id is downloaded, since compute nodes may have no network.

    Returns:
        Lines for `train_config.json`: which base model and which weights of VGG16 the training goes on from.

    Raises:
        InvalidFile: the packages, the base model or the files of VGG16 are not there.
    """
    weights, folder = loss_weights(flags), _vgg_folder(flags)
    require_loss_weights(weights, folder)
    import_packages()
    model = base_of(flags)
    notes = [f"base model {model.name}: {model.path}, digest {model.digest()}"]
    if weights.needs_vgg:
        from thesis_assets.images.lpips_files import find_lpips

        notes.append(f"LPIPS and Gram by VGG16, digest {find_lpips(folder).digest()}")
    else:
        notes.append("lambda_lpips = 0, lambda_gram = 0: trained on L2 alone")
    return notes


class DifixTraining:
    """A `TrainedModel`: SD-turbo's U-Net, the decoder's adapters and the skips, tuned from a base model."""

    def __init__(self, flags: TrainerFlags) -> None:
        self._flags = flags
        require_loss_weights(loss_weights(flags), _vgg_folder(flags))
        self.network = load_difix(
            base_of(flags), timestep=flags.timestep, mv_unet=flags.mv_unet, rank_vae=flags.lora_rank_vae
        )
        if flags.lora_rank_unet:
            self.network.adapt_unet(flags.lora_rank_unet)
        self.network.train_only_what_is_tuned()
        if flags.gradient_checkpointing:
            self.network.checkpoint_gradients()
        self._prompts = _prompts_of(flags)
        self.prompt = Counter(self._prompts.values()).most_common(1)[0][0]
        """The one that refining takes: of all samples, the most common."""
        self._texts = encode_prompts(self.network.folder, list(self._prompts.values()))

    def losses(self, forward: Callable[..., Any], images: TripletImages, step: int) -> dict[str, Tensor]:
        shown, wanted = [images.renders], [images.targets]
        if self._flags.mv_unet:
            shown.append(images.references)
            wanted.append(images.references)
        views, targets = torch.stack(shown, dim=1), torch.stack(wanted, dim=1)
        text = torch.stack([self._text_of(sample_id, views.device) for sample_id in images.sample_ids])
        refined = forward(views, text)
        terms = self._loss(refined.flatten(0, 1), targets.flatten(0, 1), step)
        return {name: term.reshape(views.shape[:2]).mean(dim=1) for name, term in terms.items()}

    def state(self) -> dict[str, Any]:
        adapters = {UNET_ADAPTERS: self.network.unet_adapters()} if self.network.lora_rank else {}
        return {**weights_to_published(self.network), **adapters, **self._usage, "resolution": self._flags.resolution}

    def load_state(self, state: Mapping[str, Any]) -> None:
        refuse_another_base(self.network.folder, state)
        load_weights(self.network, state)

    def optimizer_to_file(self, state: dict[str, Any]) -> dict[str, Any]:
        return optimizer_to_published(self.network, state)

    def without_optimizer(self) -> dict[str, Any]:
        return {"optimizer": fresh_optimizer(self.network)}

    def optimizer_from_file(self, state: dict[str, Any]) -> dict[str, Any]:
        return optimizer_from_published(self.network, state)

    def refiner(self, step: int) -> DifixRefiner:
        device = next(self.network.parameters()).device
        text = self._texts[self.prompt].to(device)
        return DifixRefiner(self.network, self.prompt, text, self._flags.resolution, str(device), step)

    @cached_property
    def _loss(self) -> DifixLoss:
        """Made at the first step, on the device that the loop has brought the network to."""
        weights = loss_weights(self._flags)
        if not weights.needs_vgg:
            return DifixLoss(weights, None)
        from thesis_assets.images.perceptual import load_lpips

        device = next(self.network.parameters()).device
        return DifixLoss(weights, load_lpips(_vgg_folder(self._flags), str(device)))

    @cached_property
    def _usage(self) -> dict[str, Any]:
        return usage(self.network, self.prompt)

    def _text_of(self, sample_id: str, device: torch.device) -> Tensor:
        prompt = self._prompts.get(sample_id, self.prompt)
        self._texts[prompt] = self._texts[prompt].to(device)
        return self._texts[prompt]


def loss_weights(flags: TrainerFlags) -> LossWeights:
    """The lambdas of a command line."""
    return LossWeights(flags.lambda_l2, flags.lambda_lpips, flags.lambda_gram, flags.gram_loss_warmup_steps + 1)


def base_of(flags: TrainerFlags) -> ModelFolder:
    """The base model of a command line."""
    model = flags.pretrained_model_name_or_path or flags.base_model_id or PUBLISHED_BASE
    return find_model(model, revision=flags.revision, variant=flags.variant, cache_dir=flags.cache_dir)


def _prompts_of(flags: TrainerFlags) -> dict[str, str]:
    """The text of each training sample: `--prompt` for all, or that of data.json."""
    if flags.prompt is not None:
        return {"": flags.prompt}
    from thesis_assets.tuning.triplets import read_data_json

    entries = read_data_json(Path(flags.dataset_path).absolute())
    return {sample_id: entry.prompt for sample_id, entry in entries.train.items()}


def _vgg_folder(flags: TrainerFlags) -> Path | None:
    return None if flags.lpips_weights is None else Path(flags.lpips_weights)


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
