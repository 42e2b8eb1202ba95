"""What a backend brings to the training loop: its network, its loss, its weights, and how it refines.

How a backend plugs in: it implements `TrainedModel` in a file of its own (`tiny_training.py` is the shortest one), a `Backend`
in `backends.py` names it, and a program of three lines (`train_tiny.py`) gives it to `trainer_program.main`. Everything else is
the loop's (`training_loop.py`) and the same for all: order of the samples, accumulation, precision, clipping, learning rate,
several processes, saving, evaluating, stopping, resuming, the run's identity.
Does not belong here: any backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thesis_assets.tuning.refine import RefinesImages


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

    def optimizer_from_file(self, state: dict[str, Any]) -> dict[str, Any]:
        """The way back.

        Raises:
            InvalidFile: it is over other parameters.
        """
        ...

    def refiner(self, step: int) -> RefinesImages:
        """The network as its checkpoint would refine, on the device where it is trained; used before the next step only."""
        ...
