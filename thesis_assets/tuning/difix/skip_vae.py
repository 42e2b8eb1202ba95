"""The VAE of DiFix: skip connections from encoder to decoder, and LoRA on the decoder, by the published names.

The four 1x1 convolutions stand on the decoder as `skip_conv_1` to `skip_conv_4`; each brings what enters an encoder block, from the
innermost outwards, to what enters the decoder block of that size (img2img-turbo, Parmar et al. 2024). Encoder and decoder are
walked from outside, so that the class stays diffusers' own.
Does not belong here: the U-Net, and which of the weights a checkpoint holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

SKIPS = ("skip_conv_1", "skip_conv_2", "skip_conv_3", "skip_conv_4")
ADAPTER = "vae_skip"
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
    """Put the four convolutions onto the decoder, all weights `NEAR_ZERO`.

    Raises:
        ValueError: the VAE has not four levels.
    """
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
