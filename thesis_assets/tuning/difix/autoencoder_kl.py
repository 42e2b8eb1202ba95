"""The VAE of a DiFix directory for diffusers 0.25 and later: skip connections and LoRA on the decoder.

Written into the directory by `thesis-assets checkpoint convert`. A pipeline encodes, sets `decoder.incoming_skip_acts` to
`encoder.current_down_blocks`, and decodes.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from diffusers import AutoencoderKL as PlainAutoencoderKL
from diffusers.configuration_utils import register_to_config

SKIPS = ("skip_conv_1", "skip_conv_2", "skip_conv_3", "skip_conv_4")
LORA_ALPHA = 8
LORA_LAYERS = (
    *("conv1", "conv2", "conv_in", "conv_shortcut", "conv", "conv_out"),
    *SKIPS,
    *("to_k", "to_q", "to_v", "to_out.0"),
)


class AutoencoderKL(PlainAutoencoderKL):  # type: ignore[misc]
    """`lora_rank`, `gamma` (scale of the skips) and `ignore_skip` stand in the configuration beside the VAE's own values."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",),
        up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        act_fn: str = "silu",
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int = 32,
        scaling_factor: float = 0.18215,
        force_upcast: bool = True,
        lora_rank: int = 4,
        gamma: float = 1.0,
        ignore_skip: bool = False,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            act_fn=act_fn,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            sample_size=sample_size,
            scaling_factor=scaling_factor,
            force_upcast=force_upcast,
        )
        self._add_skips(tuple(block_out_channels))
        self.decoder.gamma, self.decoder.ignore_skip = gamma, ignore_skip
        self.encoder.forward = MethodType(_encode, self.encoder)
        self.decoder.forward = MethodType(_decode, self.decoder)
        self._add_lora(lora_rank)

    def _add_skips(self, widths: tuple[int, ...]) -> None:
        inputs = reversed([widths[0], *widths[:-1]])
        outputs = [widths[-1], *reversed(widths[1:])]
        for name, ins, outs in zip(SKIPS, inputs, outputs):  # noqa: B905 - Python 3.9 has no `strict`
            setattr(self.decoder, name, torch.nn.Conv2d(ins, outs, 1, bias=False))

    def _add_lora(self, rank: int) -> None:
        from peft import LoraConfig

        names = [name for name, _ in self.named_modules() if name.startswith("decoder.") and name.endswith(LORA_LAYERS)]
        config = LoraConfig(r=rank, lora_alpha=LORA_ALPHA, init_lora_weights="gaussian", target_modules=names)
        self.add_adapter(config, adapter_name="vae_skip")


def _encode(encoder: Any, sample: torch.Tensor) -> torch.Tensor:
    """The encoder's forward pass; keeps what enters each of its blocks."""
    encoder.current_down_blocks = []
    x = encoder.conv_in(sample)
    for block in encoder.down_blocks:
        encoder.current_down_blocks.append(x)
        x = block(x)
    encoded: torch.Tensor = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(x))))
    return encoded


def _decode(decoder: Any, sample: torch.Tensor, latent_embeds: Any = None) -> torch.Tensor:
    """The decoder's forward pass, with the skips of the images that were encoded last."""
    del latent_embeds  # of another kind of VAE
    x = decoder.mid_block(decoder.conv_in(sample))
    # A pipeline decodes the first view alone, but hands over what was kept of all views: the first ones count.
    kept = [acts[: len(x)] for acts in decoder.incoming_skip_acts] if not decoder.ignore_skip else []
    for number, block in enumerate(decoder.up_blocks):
        if kept:
            x = x + getattr(decoder, SKIPS[number])(kept[-1 - number] * decoder.gamma)
        x = block(x)
    decoded: torch.Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    return decoded
