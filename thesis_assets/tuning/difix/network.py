"""The DiFix network: views in, views out, by one step of a diffusion U-Net between the two halves of a VAE.

Made from the directory of a base model, or from the weights of a checkpoint on top of it. Below the network: its text, attention across
views, the one step of the schedule, and the VAE with its skips and adapters by the published names.
Does not belong here: losses, optimizers, files of checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.difix.model_folder import ModelFolder, find_model, import_packages

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
        self.lora_rank = 0
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

    def adapt_unet(self, rank: int) -> None:
        """Give the U-Net's attention adapters of this rank, which are tuned in its place: they change nothing yet."""
        from peft import LoraConfig

        config = LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(UNET_LORA_LAYERS)
        )
        self.unet.add_adapter(config, adapter_name=UNET_ADAPTER)
        self.lora_rank = rank

    def unet_weights(self) -> dict[str, Tensor]:
        """The U-Net's weights by their published names, with its adapters added in, where it has any."""
        weights: dict[str, Tensor] = {}
        for name, weight in self.unet.state_dict().items():
            layer, is_base, rest = name.partition(".base_layer.")
            if is_base and rest == "weight":
                weight = weight + self.unet.get_submodule(layer).get_delta_weight(UNET_ADAPTER)
            if ".lora_" not in name:
                weights[f"{layer}.{rest}" if is_base else name] = weight
        return weights

    def unet_adapters(self) -> dict[str, Tensor]:
        """The adapters' own weights; none without `adapt_unet`."""
        return {name: weight for name, weight in self.unet.state_dict().items() if ".lora_" in name}

    def train_only_what_is_tuned(self) -> None:
        """The U-Net or its adapters, the decoder's adapters and the skips are tuned; the rest of the VAE is frozen."""
        self.requires_grad_(False)
        for _, parameter in self.tuned_parameters():
            parameter.requires_grad_(True)

    def tuned_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is tuned, in the network's order: the U-Net or its adapters, then of the VAE the adapters and the skips."""
        for name, parameter in self.named_parameters():
            whole_unet = name.startswith("unet.") and not self.lora_rank
            if whole_unet or is_tuned(name):
                yield name, parameter


def load_difix(
    model: str | Path | ModelFolder,
    *,
    timestep: int = TIMESTEP,
    mv_unet: bool | None = None,
    rank_vae: int = LORA_RANK,
) -> DifixNetwork:
    """The network of a base model, in full precision on the CPU.

    Args:
        model: a diffusers directory or a Hub id: SD-turbo, or a published DiFix directory.
        mv_unet: None takes what the directory says; true where it does not say.
        rank_vae: of the adapters, where the VAE has none yet.

    Raises:
        InvalidFile: the model cannot be had, lacks a part, or a part is not what its configuration says.
    """
    import_packages()
    folder = model if isinstance(model, ModelFolder) else find_model(model)
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
    import_packages()
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


DEFAULT_PROMPT = "remove degradation"


def encode_prompts(folder: ModelFolder, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Each different prompt as (L, D) float32 on the CPU. The text encoder is frozen and let go afterwards.

    Raises:
        InvalidFile: tokenizer or text encoder cannot be read.
    """
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        # Its bar over some hundred weights would stand on stderr of every command and in every trainer's log.
        logging.disable_progress_bar()
        tokenizer = CLIPTokenizer.from_pretrained(str(folder.path / "tokenizer"))
        encoder = CLIPTextModel.from_pretrained(
            str(folder.path / "text_encoder"), variant=folder.variant, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:
        raise InvalidFile(
            "the base model's tokenizer or text encoder cannot be read",
            file=folder.path,
            found=" ".join(str(error).split())[:400],
        ) from error
    different = sorted(set(prompts))
    tokens = tokenizer(
        different,
        max_length=tokenizer.model_max_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        encoded = encoder.eval()(tokens.input_ids)[0]
    # A copy: what inference mode makes may not take part in a backward pass.
    return {prompt: text.clone() for prompt, text in zip(different, encoded, strict=True)}


SELF_ATTENTION = ".attn1."


@dataclass
class Views:
    """How many views a sample has in the forward pass that runs: its views stand beside each other in the batch."""

    count: int = 1


class AcrossViews:
    """An attention processor of diffusers around another one."""

    def __init__(self, inner: Any, views: Views) -> None:
        self.inner, self.views = inner, views

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`hidden_states`: (B V, N, C); attended to as (B, V N, C)."""
        batch, tokens, channels = hidden_states.shape
        joined = hidden_states.reshape(batch // self.views.count, self.views.count * tokens, channels)
        attended: Tensor = self.inner(attn, joined, *args, **kwargs)
        return attended.reshape(batch, tokens, channels)


def attend_across_views(unet: UNet2DConditionModel) -> Views:
    """Change every self-attention of `unet`; the attention to the text stays within a view. Returns the count to be set."""
    views = Views()
    unet.set_attn_processor(
        {
            name: AcrossViews(inner, views) if SELF_ATTENTION in name else inner
            for name, inner in unet.attn_processors.items()
        }
    )
    return views


@dataclass(frozen=True)
class OneStep:
    """A timestep with what its schedule says of it.

    Attributes:
        kept: the product of all alphas up to the timestep.
        prediction: what the U-Net predicts: `epsilon`, `v_prediction` or `sample`.
        limit: clean latents are held to its both sides; None leaves them.
    """

    timestep: int
    kept: float
    prediction: str
    limit: float | None

    def clean(self, latents: Tensor, predicted: Tensor) -> Tensor:
        """Clean latents, float32, of the noisy `latents` and the U-Net's prediction for them."""
        signal, noise = math.sqrt(self.kept), math.sqrt(1 - self.kept)
        latents, predicted = latents.float(), predicted.float()
        if self.prediction == "epsilon":
            found = (latents - noise * predicted) / signal
        elif self.prediction == "v_prediction":
            found = signal * latents - noise * predicted
        else:
            found = predicted
        return found if self.limit is None else found.clamp(-self.limit, self.limit)


def read_one_step(scheduler_folder: Path, timestep: int) -> OneStep:
    """The step of `timestep` under the schedule in a `scheduler/` folder.

    Raises:
        ValueError: the schedule has no such timestep, or predicts something else.
    """
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_pretrained(str(scheduler_folder))
    config = scheduler.config
    products = scheduler.alphas_cumprod
    if not 0 <= timestep < len(products):
        raise ValueError(f"timestep {timestep} is not one of the schedule's {len(products)}")
    if config["prediction_type"] not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(f"prediction_type {config['prediction_type']} is not known")
    return OneStep(
        timestep,
        float(products[timestep]),
        str(config["prediction_type"]),
        float(config["clip_sample_range"]) if config["clip_sample"] else None,
    )


SKIPS = ("skip_conv_1", "skip_conv_2", "skip_conv_3", "skip_conv_4")
ADAPTER = "vae_skip"
UNET_ADAPTER = "unet"
UNET_LORA_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
NEAR_ZERO = 1e-5
"""What the published trainer starts the skip connections from: nearly absent, with a gradient."""
LORA_ALPHA = 8
"""Of the published files, which do not hold it: the adapter's scale is this over the rank."""
LORA_LAYERS = (
    *("conv1", "conv2", "conv_in", "conv_shortcut", "conv", "conv_out"),
    *SKIPS,
    *("to_k", "to_q", "to_v", "to_out.0"),
)
"""Ends of the names of the decoder's layers that have an adapter."""


def add_skips(vae: AutoencoderKL) -> None:
    """Put the four convolutions onto the decoder, all weights `NEAR_ZERO`. `ValueError`: it has not four levels."""
    widths = [int(width) for width in vae.config["block_out_channels"]]
    if len(widths) != len(SKIPS):
        raise ValueError(f"the VAE has {len(widths)} levels: skip connections join four")
    entering_encoder = [widths[0], *widths[:-1]]
    entering_decoder = [widths[-1], *reversed(widths[1:])]
    for name, inputs, outputs in zip(SKIPS, reversed(entering_encoder), entering_decoder, strict=True):
        convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
        nn.init.constant_(convolution.weight, NEAR_ZERO)
        setattr(vae.decoder, name, convolution)


def lora_targets(vae: AutoencoderKL) -> list[str]:
    """Full names of the decoder's layers that get an adapter; the VAE has its skips and no adapter yet."""
    names = [name for name, _ in vae.named_modules() if name.startswith("decoder.")]
    return [name for name in names if name.endswith(LORA_LAYERS)]


def add_lora(vae: AutoencoderKL, rank: int, targets: list[str]) -> None:
    """Give each target its adapter: A drawn from a normal distribution, B zero, so that nothing changes yet."""
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=LORA_ALPHA, init_lora_weights="gaussian", target_modules=targets)
    vae.add_adapter(config, adapter_name=ADAPTER)


def encode(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Latents and what the decoder's skips need. The encoder is frozen: no gradient flows through it.

    The latents are the mean of the posterior, where the published code draws from it: the same image is always the same latents.

    Args:
        images: (B, 3, H, W) in [-1, 1], sides multiples of 8.

    Returns:
        (B, 4, H / 8, W / 8), scaled for the U-Net, and what enters each of the encoder's blocks, outermost first.
    """
    entering: list[Tensor] = []
    with torch.no_grad():
        encoder = vae.encoder
        x = encoder.conv_in(images)
        for block in encoder.down_blocks:
            entering.append(x)
            x = block(x)
        x = encoder.mid_block(x)
        x = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x)))
        moments = vae.quant_conv(x) if vae.quant_conv is not None else x
        mean, _ = moments.chunk(2, dim=1)
        latents: Tensor = mean * float(vae.config["scaling_factor"])
    return latents, entering


def decode(vae: AutoencoderKL, latents: Tensor, entering: list[Tensor], *, save_memory: bool = False) -> Tensor:
    """Images of latents, with the skips of the images that `entering` comes from.

    Args:
        latents: (B, 4, h, w), scaled as `encode` returns them.
        entering: what `encode` returned for the same images.
        save_memory: compute the blocks anew in the backward pass instead of keeping what is inside them.

    Returns:
        (B, 3, 8 h, 8 w), about [-1, 1], unbounded.
    """
    decoder = vae.decoder
    x = latents / float(vae.config["scaling_factor"])
    if vae.post_quant_conv is not None:
        x = vae.post_quant_conv(x)
    x = _run(decoder.mid_block, decoder.conv_in(x), save_memory)
    for name, block, skipped in zip(SKIPS, decoder.up_blocks, reversed(entering), strict=True):
        x = _run(block, x + getattr(decoder, name)(skipped), save_memory)
    images: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    return images


def _run(block: nn.Module, x: Tensor, save_memory: bool) -> Tensor:
    done: Any = checkpoint(block, x, use_reentrant=False) if save_memory and torch.is_grad_enabled() else block(x)
    result: Tensor = done
    return result
