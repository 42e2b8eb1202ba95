"""Attention across views in a U-Net: each self-attention sees the tokens of all views of a sample as one sequence.

The U-Net's layers and weights stay as they are (Wu et al. 2025, DiFix: the reference mixing layer): only the sequence grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

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
