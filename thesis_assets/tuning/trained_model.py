"""What a backend brings to the training loop (its network, its loss, its weights), and how whatever was trained refines images.

How a backend plugs in: it implements `TrainedModel` in a file of its own (`TinyTraining` in `tiny_model.py` is the shortest
one), a `Backend` in `backends.py` names it, and a program of three lines (`train_tiny.py`) gives it to `trainer_program.main`.
Everything else is the loop's (`training_loop.py`) and the same for all: order of the samples, accumulation, precision, clipping,
learning rate, several processes, saving, evaluating, stopping, resuming, the run's identity.
Does not belong here: any backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TripletImages:
    """Samples of one size on the training's device: (B, 3, H, W) float32 in [0, 1] each, H and W multiples of 16."""

    renders: Tensor
    targets: Tensor
    references: Tensor
    sample_ids: Sequence[str]


class TrainedModel(Protocol):
    """One backend's network, as the loop trains it.

    It is built after `torch.manual_seed(seed)`. The loop seeds torch anew for every micro-batch, so a loss may draw random
    numbers: a resumed run draws the same ones, and so do several processes.
    """

    @property
    def network(self) -> nn.Module:
        """The module with every parameter that is trained (`requires_grad`), in float32 whatever the run's precision: the
        loop casts while it computes. Frozen parts may be in it, in any precision. The loop moves it to its device."""
        ...

    def losses(self, forward: Callable[..., Any], images: TripletImages, step: int) -> Mapping[str, Tensor]:
        """The parts of the loss, weighted: their sum is minimised, each is a curve.

        Args:
            forward: `network` as accelerate prepared it. Every forward pass goes through it and never through `network`
                itself, or processes would not share their gradients. Its output is float32.
            step: that is being made, counted from 1.

        Returns:
            By name, (B,) each: the mean over the samples is the loop's, which names those that are not finite. The same
            names at every step.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs of the model: tensors and numbers. Weights stand in `state_dict_<part>`.

        The loop adds `optimizer`, `step`, `scheduler`, `data_order`, `random_state`, and `scaler` with fp16.
        """
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take the weights of a checkpoint, in place (the optimizer holds the parameters).

        Raises:
            InvalidFile: they do not fit the network.
        """
        ...

    def optimizer_to_file(self, state: dict[str, Any]) -> dict[str, Any]:
        """The optimizer's state over `network`'s trained parameters in the form that the backend's files have."""
        ...

    def without_optimizer(self) -> dict[str, Any]:
        """What stands in a file of weights alone where the optimizer's state would, for readers that want the key."""
        ...

    def optimizer_from_file(self, state: dict[str, Any]) -> dict[str, Any]:
        """The way back.

        Raises:
            InvalidFile: it is over other parameters.
        """
        ...

    def refiner(self, step: int) -> RefinesImages:
        """The network as its checkpoint would refine, on the device where it is trained; used before the next step only."""
        ...


class RefinesImages(Protocol):
    """Whatever the backend: renders and their references in, refined renders of the renders' size out."""

    @property
    def resolution(self) -> int:
        """The long side that it brings images to while it refines them, in pixels."""
        ...

    def refine(self, renders: Tensor, references: Tensor, *, consume: bool = False) -> Tensor:
        """(B, 3, H, W) and (B, 3, H', W'), or (1, 3, H', W') for all, float32 in [0, 1] to (B, 3, H, W).

        `consume`: the result may lie where the renders lay, which are no longer needed.
        """
        ...


@dataclass(frozen=True)
class Refiner:
    """A network at its resolution, on its device.

    The network's correction is brought to the render's own size and added there: the render itself is never resized, so
    that details the network does not touch stay, and a correction of zero gives the render back exactly.
    """

    correct: Callable[[Tensor, Tensor], Tensor]
    """(renders, references), sides multiples of 16, to the correction of the same shape."""
    resolution: int
    device: str
    step: int

    def refine(self, renders: Tensor, references: Tensor, *, consume: bool = False) -> Tensor:
        """Refined renders.

        Args:
            renders: (B, 3, H, W) float32 in [0, 1], any size and device.
            references: (B, 3, H', W') float32 in [0, 1]: the reference view of each render; or (1, 3, H', W'): of all.
            consume: write onto the renders: fresh memory for a batch costs more than what is computed with it.

        Returns:
            (B, 3, H, W) float32 in [0, 1], on the refiner's device.
        """
        import torch

        with torch.inference_mode():
            renders = renders.to(self.device)
            height, width = renders.shape[-2:]
            size = processing_size(height, width, self.resolution)
            views = one_a_render(resize(references.to(self.device), size), len(renders))
            correction = self.correct(resize(renders, size), views)
            refined = renders if consume else torch.empty_like(renders)
            for render, change, out in zip(renders, correction, refined, strict=True):
                # Plane by plane it is enlarged in half the time; image by image memory is used again.
                enlarged = resize(change[None].float().contiguous(), (height, width))[0]
                torch.add(render, enlarged, out=out).clamp_(0, 1)
            return refined


def one_a_render(references: Tensor, count: int) -> Tensor:
    """(count, 3, H, W) of as many references, or of one that is for all: that is resized once, before it is repeated."""
    import torch

    return references if len(references) == count else torch.cat([references] * count)


PUBLISHED_LONG_SIDE = 1024
"""The published script trains at 576x1024, whatever `--resolution` says; so were all published weights."""
SNAP = 16
"""Both sides are multiples of it: the networks halve the image up to four times."""


def processing_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """(height, width) with the long side at `resolution` and the aspect ratio kept, both snapped to the nearest 16."""
    scale = resolution / max(height, width)
    return _snap(height * scale), _snap(width * scale)


def _snap(length: float) -> int:
    return max(SNAP, int(length / SNAP + 0.5) * SNAP)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, antialiased when shrinking. `images`: (B, C, H, W) float. The very same tensor where the size is the same."""
    if tuple(images.shape[-2:]) == size:
        return images
    from torch.nn.functional import interpolate

    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
