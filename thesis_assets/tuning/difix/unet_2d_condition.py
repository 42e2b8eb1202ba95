"""The U-Net of a DiFix directory for diffusers 0.25 and later: each self-attention sees the tokens of render and reference.

Written into the directory by `thesis-assets checkpoint convert`. The views of a sample stand beside each other in the batch; a
batch of odd length is taken as single views.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from diffusers import UNet2DConditionModel as PlainUNet2DConditionModel

VIEWS = 2


class AcrossViews:
    """An attention processor of diffusers around another one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`hidden_states`: (B V, N, C); attended to as (B, V N, C)."""
        batch, tokens, channels = hidden_states.shape
        views = VIEWS if batch % VIEWS == 0 else 1
        joined = hidden_states.reshape(batch // views, views * tokens, channels)
        attended: torch.Tensor = self.inner(attn, joined, *args, **kwargs)
        return attended.reshape(batch, tokens, channels)


class UNet2DConditionModel(PlainUNet2DConditionModel):  # type: ignore[misc]
    """diffusers' own U-Net, its weights and configuration unchanged."""

    @wraps(PlainUNet2DConditionModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        processors = self.attn_processors
        self.set_attn_processor(
            {name: AcrossViews(inner) if ".attn1." in name else inner for name, inner in processors.items()}
        )
