"""The `difix` backend in the training loop: every view of a sample against what it should be.

The network sees (render, reference) and is to give (target, reference) back, as in the published trainer; with `mv_unet` off it
sees the render alone. Does not belong here: the network, the terms of the loss, the loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.tuning.difix.losses import DifixLoss, LossWeights, require_loss_weights
from thesis_assets.tuning.difix.model_folder import PUBLISHED_BASE, ModelFolder, find_model
from thesis_assets.tuning.trainer_flags import TrainerFlags

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from thesis_assets.tuning.difix.refiner import DifixRefiner
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
        from thesis_assets.tuning.difix.network import load_difix
        from thesis_assets.tuning.difix.prompts import encode_prompts

        self._flags = flags
        require_loss_weights(loss_weights(flags), _vgg_folder(flags))
        self.network = load_difix(
            base_of(flags), timestep=flags.timestep, mv_unet=flags.mv_unet, rank_vae=flags.lora_rank_vae
        )
        self.network.train_only_what_is_tuned()
        if flags.gradient_checkpointing:
            self.network.checkpoint_gradients()
        self._prompts = _prompts_of(flags)
        self.prompt = Counter(self._prompts.values()).most_common(1)[0][0]
        """The one that refining takes: of all samples, the most common."""
        self._texts = encode_prompts(self.network.folder, list(self._prompts.values()))

    def losses(self, forward: Callable[..., Any], images: TripletImages, step: int) -> dict[str, Tensor]:
        import torch

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
        from thesis_assets.tuning.difix.published_state import weights_to_published

        return {**weights_to_published(self.network), **self._usage, "resolution": self._flags.resolution}

    def load_state(self, state: Mapping[str, Any]) -> None:
        from thesis_assets.tuning.difix.published_state import load_weights, refuse_another_base

        refuse_another_base(self.network.folder, state)
        load_weights(self.network, state)

    def optimizer_to_file(self, state: dict[str, Any]) -> dict[str, Any]:
        from thesis_assets.tuning.difix.published_state import optimizer_to_published

        return optimizer_to_published(self.network, state)

    def optimizer_from_file(self, state: dict[str, Any]) -> dict[str, Any]:
        from thesis_assets.tuning.difix.published_state import optimizer_from_published

        return optimizer_from_published(self.network, state)

    def refiner(self, step: int) -> DifixRefiner:
        from thesis_assets.tuning.difix.refiner import DifixRefiner

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
        from thesis_assets.tuning.difix.published_state import usage

        return usage(self.network, self.prompt)

    def _text_of(self, sample_id: str, device: torch.device) -> Tensor:
        prompt = self._prompts.get(sample_id, self.prompt)
        self._texts[prompt] = self._texts[prompt].to(device)
        return self._texts[prompt]


def loss_weights(flags: TrainerFlags) -> LossWeights:
    """The lambdas of a command line."""
    return LossWeights(flags.lambda_l2, flags.lambda_lpips, flags.lambda_gram, flags.gram_loss_warmup_steps + 1)


def base_of(flags: TrainerFlags) -> ModelFolder:
    """The base model of a command line.

    Raises:
        InvalidFile: it cannot be had.
    """
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
