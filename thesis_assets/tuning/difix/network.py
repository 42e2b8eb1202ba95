"""The DiFix network: views in, views out, by one step of a diffusion U-Net between a VAE's two halves.

Made from a base model's directory, or from a checkpoint's weights on top of it.
Does not belong here: losses, optimizers, files of checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.difix.cross_view import attend_across_views
from thesis_assets.tuning.difix.model_folder import ModelFolder, find_model
from thesis_assets.tuning.difix.one_step import OneStep, read_one_step
from thesis_assets.tuning.difix.skip_vae import add_lora, add_skips, decode, encode, lora_targets

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

TIMESTEP = 199
LORA_RANK = 4
LORA_A = ".lora_A."


class DifixNetwork(nn.Module):
    """U-Net and VAE as one. `mv_unet`: the views of a sample look at each other."""

    def __init__(
        self,
        folder: ModelFolder,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        step: OneStep,
        *,
        mv_unet: bool,
        rank_vae: int,
        targets: Sequence[str],
    ) -> None:
        super().__init__()
        self.folder, self.step, self.mv_unet = folder, step, mv_unet
        self.rank_vae, self.targets = rank_vae, list(targets)
        self.unet, self.vae = unet, vae
        self.save_memory = False
        self._views = attend_across_views(unet) if mv_unet else None

    def forward(self, views: Tensor, text: Tensor, *, first_only: bool = False) -> Tensor:
        """One step.

        Args:
            views: (B, V, 3, H, W) in [0, 1], sides multiples of 16: the render, and with `mv_unet` any further views.
            text: (B, L, D): the encoded prompt of each sample.
            first_only: decode the first view alone, which is all that refining needs.

        Returns:
            (B, V, 3, H, W) float32, V = 1 where `first_only`; about [0, 1], unbounded.
        """
        samples, count = views.shape[:2]
        if self._views is not None:
            self._views.count = count
        latents, entering = encode(self.vae, views.flatten(0, 1) * 2 - 1)
        predicted = self.unet(
            latents, self.step.timestep, encoder_hidden_states=text.repeat_interleave(count, dim=0)
        ).sample
        clean = self.step.clean(latents, predicted)
        if first_only:
            clean, entering, count = clean[::count], [each[::count] for each in entering], 1
        decoded = decode(self.vae, clean, entering, save_memory=self.save_memory)
        return (decoded.float() / 2 + 0.5).reshape(samples, count, *decoded.shape[1:])

    def checkpoint_gradients(self) -> None:
        """Trade time for memory in the backward pass, in the U-Net and in the decoder."""
        self.unet.enable_gradient_checkpointing()
        self.save_memory = True

    def train_only_what_is_tuned(self) -> None:
        """The whole U-Net, the decoder's adapters and the skips are tuned; the rest of the VAE is frozen."""
        self.requires_grad_(False)
        for _, parameter in self.tuned_parameters():
            parameter.requires_grad_(True)

    def tuned_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is tuned, in the network's order: the U-Net, then of the VAE the adapters and the skips."""
        for name, parameter in self.named_parameters():
            if name.startswith("unet.") or is_tuned(name):
                yield name, parameter


def load_difix(
    model: str | Path | ModelFolder,
    *,
    timestep: int = TIMESTEP,
    mv_unet: bool | None = None,
    rank_vae: int = LORA_RANK,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
) -> DifixNetwork:
    """The network of a base model, in full precision on the CPU.

    Args:
        model: a diffusers directory or a Hub id: SD-turbo, or a published DiFix directory.
        mv_unet: None takes what the directory says; true where it does not say.
        rank_vae: of the adapters, where the VAE has none yet.

    Raises:
        InvalidFile: the model cannot be had, lacks a part, or a part is not what its configuration says.
    """
    folder = (
        model
        if isinstance(model, ModelFolder)
        else find_model(model, revision=revision, variant=variant, cache_dir=cache_dir)
    )
    with _named(folder, "unet"):
        from diffusers import UNet2DConditionModel

        unet = UNet2DConditionModel.from_pretrained(
            str(folder.path), subfolder="unet", variant=folder.variant, use_safetensors=True, torch_dtype=torch.float32
        )
    return _assemble(folder, unet, timestep=timestep, mv_unet=mv_unet, rank_vae=rank_vae, targets=None)


def network_of_weights(
    folder: ModelFolder,
    unet_weights: Mapping[str, Tensor],
    vae_weights: Mapping[str, Tensor],
    *,
    timestep: int,
    mv_unet: bool | None,
    rank_vae: int,
    targets: Sequence[str],
) -> DifixNetwork:
    """The network of a checkpoint: the U-Net has these weights, the VAE is the base model's with adapters and skips put in.

    Raises:
        InvalidFile: they do not fit the base model.
    """
    with _named(folder, "unet"):
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(folder.config("unet"))
        floats = {name: weight.float() for name, weight in unet_weights.items()}
        unet.load_state_dict(floats, assign=True)
    network = _assemble(
        folder, unet.eval(), timestep=timestep, mv_unet=mv_unet, rank_vae=rank_vae, targets=list(targets)
    )
    with _named(folder, "vae"):
        put_into_vae(network.vae, vae_weights)
    return network


def put_into_vae(vae: AutoencoderKL, weights: Mapping[str, Tensor]) -> None:
    """Copy adapters and skips into a VAE that has them already.

    Raises:
        ValueError: the names are not the VAE's.
        RuntimeError: a shape is not the VAE's.
    """
    wanted = {name for name in vae.state_dict() if is_tuned(name)}
    if wanted != set(weights):
        odd = sorted(wanted ^ set(weights))
        raise ValueError(f"adapters and skips are not those of this VAE: {len(odd)} differ, such as {odd[0]}")
    vae.load_state_dict(dict(weights), strict=False)


def is_tuned(name: str) -> bool:
    """Whether a weight of the VAE stands in a checkpoint: it is of an adapter or of a skip."""
    return "lora" in name or "skip" in name


def _assemble(
    folder: ModelFolder,
    unet: UNet2DConditionModel,
    *,
    timestep: int,
    mv_unet: bool | None,
    rank_vae: int,
    targets: list[str] | None,
) -> DifixNetwork:
    with _named(folder, "scheduler"):
        step = read_one_step(folder.path / "scheduler", timestep)
    with _named(folder, "vae"):
        if folder.has_adapters():
            vae, rank_vae, targets = _published_vae(folder)
        else:
            vae, targets = _plain_vae(folder, rank_vae, targets)
    if mv_unet is None:
        said = folder.crosses_views()
        mv_unet = True if said is None else said
    network = DifixNetwork(folder, unet, vae, step, mv_unet=mv_unet, rank_vae=rank_vae, targets=targets)
    for parameter in network.parameters():
        # Copies: weights of a mapped file are not aligned, which changes the last bits of sums on a CPU.
        parameter.data = parameter.data.clone()
    return network


def _plain_vae(folder: ModelFolder, rank: int, targets: list[str] | None) -> tuple[AutoencoderKL, list[str]]:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(
        str(folder.path), subfolder="vae", variant=folder.variant, use_safetensors=True, torch_dtype=torch.float32
    )
    add_skips(vae)
    targets = lora_targets(vae) if targets is None else targets
    add_lora(vae, rank, targets)
    return vae.eval(), targets


def _published_vae(folder: ModelFolder) -> tuple[AutoencoderKL, int, list[str]]:
    """A VAE whose file holds skips and adapters beside the base layers."""
    from diffusers import AutoencoderKL
    from safetensors.torch import load_file

    config = folder.config("vae")
    if config.get("ignore_skip", False) or config.get("gamma", 1.0) != 1.0:
        raise ValueError("gamma and ignore_skip are 1 and false in every published directory")
    rank = int(config["lora_rank"])
    vae = AutoencoderKL.from_config({key: value for key, value in config.items() if key not in _DIFIX_KEYS})
    add_skips(vae)
    weights = load_file(folder.weights("vae"))
    targets = [name.partition(LORA_A)[0] for name in weights if LORA_A in name]
    targets = [name for name in lora_targets(vae) if name in set(targets)]
    add_lora(vae, rank, targets)
    vae.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return vae.eval(), rank, targets


_DIFIX_KEYS = ("lora_rank", "gamma", "ignore_skip")


@contextmanager
def _named(folder: ModelFolder, part: str) -> Iterator[None]:
    """Turn what a library says of a part into an error that names the model's directory."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise InvalidFile(
            f"the base model's {part} is not one that DiFix is made of",
            file=folder.path / part,
            found=" ".join(str(error).split())[:400],
            wanted="the parts of SD-turbo, or a published DiFix directory",
        ) from error
