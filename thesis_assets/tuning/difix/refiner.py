"""Refining renders with a DiFix network: the render at the training's resolution, one step, back to the render's own size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning.difix.model_folder import PUBLISHED_BASE, ModelFolder, find_model
from thesis_assets.tuning.difix.network import TIMESTEP, DifixNetwork, load_difix, network_of_weights
from thesis_assets.tuning.difix.prompts import DEFAULT_PROMPT, encode_prompts
from thesis_assets.tuning.difix.published_state import RESOLUTION, check_published, refuse_another_base
from thesis_assets.tuning.resolution import processing_size, resize


@dataclass(frozen=True)
class DifixRefiner:
    """A network on its device with its prompt. What leaves the VAE is the image, not a correction to the render.

    Attributes:
        text: the encoded prompt, (L, D).
    """

    network: DifixNetwork
    prompt: str
    text: Tensor
    resolution: int
    device: str
    step: int

    def refine(self, renders: Tensor, references: Tensor) -> Tensor:
        """Refined renders.

        Args:
            renders: (B, 3, H, W) float32 in [0, 1], any size and device.
            references: (B, 3, H', W') float32 in [0, 1]; looked at where the network crosses views.

        Returns:
            (B, 3, H, W) float32 in [0, 1], on the refiner's device.
        """
        import torch

        with torch.inference_mode():
            height, width = renders.shape[-2:]
            size = processing_size(height, width, self.resolution)
            views = [resize(renders.to(self.device), size)]
            if self.network.mv_unet:
                views.append(resize(references.to(self.device), size))
            text = self.text.expand(len(renders), -1, -1)
            # The class's own forward: around the instance's accelerate may have put half precision.
            refined = DifixNetwork.forward(self.network, torch.stack(views, dim=1), text, first_only=True)
            return resize(refined[:, 0], (height, width)).clamp(0, 1)


def pretrained_refiner(model: str | Path, device: str = "cpu", *, resolution: int | None = None) -> DifixRefiner:
    """The refiner of a base model as it is, such as `nvidia/difix_ref`, or of a converted directory.

    Args:
        resolution: None takes what a converted directory says, else 512.

    Raises:
        InvalidFile: the model cannot be had or read.
    """
    folder = find_model(model)
    record = folder.record()
    network = load_difix(folder, timestep=record.timestep if record else TIMESTEP)
    prompt = record.prompt if record else DEFAULT_PROMPT
    return _refiner(network, prompt, resolution or (record.resolution if record else RESOLUTION), device, 0)


def refiner_of_checkpoint(
    checkpoint: Path, state: Mapping[str, Any], device: str = "cpu", *, model: str | None = None
) -> DifixRefiner:
    """The refiner of a `.pkl` with the published keys, ours or the published trainer's.

    What the file does not say is asked of the `train_config.json` of its run, then of the published trainer's defaults.

    Args:
        state: the file's content.
        model: the base model, in place of the one that the file or its run names.

    Raises:
        InvalidFile: the base model cannot be had, or is another one than that of the training.
    """
    check_published(state, checkpoint)
    folder = base_model(checkpoint, state, model)
    # A setting that is None was left open, which is no answer.
    said = {name: value for name, value in {**_flags_of_run(checkpoint), **state}.items() if value is not None}
    network = network_of_weights(
        folder,
        state["state_dict_unet"],
        state["state_dict_vae"],
        timestep=int(said.get("timestep", TIMESTEP)),
        mv_unet=said.get("mv_unet"),
        rank_vae=int(state["rank_vae"]),
        targets=state["vae_lora_target_modules"],
    )
    prompt, resolution = said.get("prompt", DEFAULT_PROMPT), int(said.get("resolution", RESOLUTION))
    return _refiner(network, prompt, resolution, device, int(said.get("step", 0)))


def _refiner(network: DifixNetwork, prompt: str, resolution: int, device: str, step: int) -> DifixRefiner:
    text = encode_prompts(network.folder, [prompt])[prompt]
    return DifixRefiner(network.to(device).requires_grad_(False), prompt, text.to(device), resolution, device, step)


def base_model(checkpoint: Path, state: Mapping[str, Any], model: str | None = None) -> ModelFolder:
    """The base model of a checkpoint, the very files of its training where the checkpoint says which.

    Raises:
        InvalidFile: it cannot be had, or has changed.
    """
    said = state.get("base_model") or {}
    flags = _flags_of_run(checkpoint)
    name = model or said.get("name") or flags.get("pretrained_model_name_or_path") or PUBLISHED_BASE
    try:
        folder = find_model(
            name,
            revision=None if model else said.get("revision", flags.get("revision")),
            variant=said.get("variant", flags.get("variant")),
            cache_dir=flags.get("cache_dir"),
        )
    except InvalidFile as error:
        raise InvalidFile(
            f"the base model of the checkpoint cannot be had: {error.problem}",
            file=error.file,
            key="base_model",
            found=error.found,
            wanted=name,
            remedy=f"name it by --model ({checkpoint} holds what was tuned, not the rest of the base model)",
        ) from error
    refuse_another_base(folder, state)
    return folder


def _flags_of_run(checkpoint: Path) -> Mapping[str, Any]:
    """Flags in the `train_config.json` of the run that the checkpoint lies in; none where it was copied away."""
    path = TuningRunTree(checkpoint.absolute().parent.parent).train_config
    return read_json(path, TrainConfig).flags if path.is_file() else {}
