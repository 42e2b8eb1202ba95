"""The `tiny` backend: its network, a residual U-Net with cross-attention to the reference view, its training and its refiner.

Render and reference go through one encoder, so that the attention compares like with like; at an eighth of the resolution
every place of the render looks at all places of the reference. The last convolution starts at zero: an untrained network
returns its input exactly. About 330,000 parameters at the default width. Loss: `lambda_l2` times the
mean squared error over [0, 1] images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle, scaled_dot_product_attention, silu

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.checkpoints import WEIGHTS
from thesis_assets.tuning.trained_model import Refiner, TripletImages

if TYPE_CHECKING:
    from thesis_assets.tuning.run_config import TrainerFlags

NORM_GROUPS = 8
FOLD = 2
"""The first step trades resolution for channels: a quarter of the work of a first level at full resolution."""


@dataclass(frozen=True)
class TinyArchitecture:
    """Widths of the three levels, at 1/2, 1/4 and 1/8 of the resolution, and heads of the attention. Multiples of 8."""

    channels_half: int = 16
    channels_quarter: int = 32
    channels_eighth: int = 80
    heads: int = 4

    def __post_init__(self) -> None:
        widths = (self.channels_half, self.channels_quarter, self.channels_eighth)
        if not all(isinstance(n, int) and n > 0 for n in (*widths, self.heads)):
            raise ValueError(f"widths and heads are whole numbers above 0: {self}")
        if any(width % NORM_GROUPS for width in widths) or self.channels_eighth % self.heads:
            raise ValueError(f"widths are multiples of {NORM_GROUPS}, the last one also of the heads: {self}")

    def as_numbers(self) -> dict[str, int]:
        return asdict(self)


class TinyRefiner(nn.Module):
    """(render, reference) to the correction that is added to the render."""

    def __init__(self, architecture: TinyArchitecture) -> None:
        super().__init__()
        half, quarter, eighth = (
            architecture.channels_half,
            architecture.channels_quarter,
            architecture.channels_eighth,
        )
        self.architecture = architecture
        self.stem = nn.Conv2d(3 * FOLD**2, half, 3, padding=1)
        self.down_quarter = nn.Conv2d(half, quarter, 3, stride=2, padding=1)
        self.encode_quarter = ResidualBlock(quarter)
        self.down_eighth = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.encode_eighth = ResidualBlock(eighth)
        self.look_at_reference = CrossViewAttention(eighth, architecture.heads)
        self.middle = ResidualBlock(eighth)
        self.up_quarter = nn.Conv2d(eighth, quarter, 1)
        self.decode_quarter = ResidualBlock(quarter)
        self.up_half = nn.Conv2d(quarter, half, 1)
        self.decode_half = ResidualBlock(half)
        self.head = nn.Conv2d(half, 3 * FOLD**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, renders: Tensor, references: Tensor) -> Tensor:
        """The correction.

        Args:
            renders: (B, 3, H, W) in [0, 1], H and W multiples of 16.
            references: as `renders`; another view.

        Returns:
            (B, 3, H, W), to be added to `renders`; unbounded.
        """
        half, quarter, eighth = self._encode(torch.cat([renders, references]))
        own, other = eighth.chunk(2)
        x = self.middle(self.look_at_reference(own, other))
        x = _double(self.up_quarter(x)) + quarter.chunk(2)[0]
        x = self.decode_quarter(x)
        x = _double(self.up_half(x)) + half.chunk(2)[0]
        x = self.head(silu(self.decode_half(x)))
        correction: Tensor = pixel_shuffle(x, FOLD)
        return correction

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = self.stem(pixel_unshuffle(images - 0.5, FOLD))
        quarter = self.encode_quarter(self.down_quarter(silu(half)))
        eighth = self.encode_eighth(self.down_eighth(silu(quarter)))
        return half, quarter, eighth


def network_with(architecture: TinyArchitecture, weights: Mapping[str, Tensor]) -> TinyRefiner:
    """The network that uses these very tensors. Draws no random number, and takes no memory for a width that they do not have.

    Raises:
        RuntimeError: the weights do not fit the architecture.
    """
    with torch.device("meta"):
        network = TinyRefiner(architecture)
    network.load_state_dict(dict(weights), assign=True)
    return network.eval()


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(NORM_GROUPS, channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm_out = nn.GroupNorm(NORM_GROUPS, channels)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y = self.conv_in(silu(self.norm_in(x)))
        added: Tensor = x + self.conv_out(silu(self.norm_out(y)))
        return added


class CrossViewAttention(nn.Module):
    """Every place of one view looks at all places of the other, and at itself."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """`own`, `other`: (B, C, H, W). Returns `own` with what was found added."""
        normed_own, normed_other = self.norm(torch.cat([own, other])).chunk(2)
        query = self._split(self.query(normed_own).flatten(2))
        both = torch.cat([self.key_value(normed_own).flatten(2), self.key_value(normed_other).flatten(2)], dim=2)
        key, value = (self._split(part) for part in both.chunk(2, dim=1))
        found = scaled_dot_product_attention(query, key, value)
        found = found.transpose(2, 3).reshape(own.shape)
        added: Tensor = own + self.out(found)
        return added

    def _split(self, x: Tensor) -> Tensor:
        """(B, C, N) to (B, heads, N, C / heads)."""
        batch, channels, tokens = x.shape
        return x.reshape(batch, self.heads, channels // self.heads, tokens).transpose(2, 3).contiguous()


def _double(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class TinyTraining:
    """A `TrainedModel`: the small residual U-Net, trained from nothing."""

    def __init__(self, flags: TrainerFlags) -> None:
        self._flags = flags
        self.network = TinyRefiner(TinyArchitecture())

    def losses(self, forward: Callable[..., Any], images: TripletImages, step: int) -> dict[str, Tensor]:
        refined = images.renders + forward(images.renders, images.references)
        return {"l2": self._flags.lambda_l2 * (refined - images.targets).square().mean(dim=(1, 2, 3))}

    def state(self) -> dict[str, Any]:
        return {
            WEIGHTS: self.network.state_dict(),
            "architecture": self.network.architecture.as_numbers(),
            "resolution": self._flags.resolution,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        try:
            self.network.load_state_dict(state[WEIGHTS])
        except (RuntimeError, KeyError) as error:
            raise InvalidFile(
                "the checkpoint's weights are not those of the tiny network", found=str(error)[:300]
            ) from error

    def optimizer_to_file(self, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def without_optimizer(self) -> dict[str, Any]:
        return {}

    def optimizer_from_file(self, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def refiner(self, step: int) -> Refiner:
        # A network of its own around the same tensors: accelerate's casts to lower precision are not in it.
        network = network_with(self.network.architecture, self.network.state_dict())
        device = next(network.parameters()).device
        return Refiner(network, self._flags.resolution, str(device), step)


def tiny_refiner(checkpoint: Path, state: Mapping[str, Any], device: str) -> Refiner:
    """The refiner of a checkpoint's content. `InvalidFile`: its weights are not those of the network that it names."""
    try:
        network = network_with(TinyArchitecture(**state["architecture"]), state[WEIGHTS])
        resolution, step = (_whole(state, key) for key in ("resolution", "step"))
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise InvalidFile(
            "the checkpoint's weights do not fit the network it names", file=checkpoint, found=str(error)[:300]
        ) from error
    return Refiner(network.to(device), resolution, device, step)


def _whole(state: Mapping[str, Any], key: str) -> int:
    value = state.get(key, 0)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"`{key}` is {repr(value)[:100]}, and no whole number")
    return value
