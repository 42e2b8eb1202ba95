"""The `tiny` backend in the training loop: L2 between the refined render and the target.

Loss: `lambda_l2` times the mean squared error over [0, 1] images.
Does not belong here: the network (`tiny_model`), the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.checkpoints import WEIGHTS
from thesis_assets.tuning.refine import Refiner
from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner, network_with
from thesis_assets.tuning.trained_model import TripletImages
from thesis_assets.tuning.trainer_flags import TrainerFlags


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

    def optimizer_from_file(self, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def refiner(self, step: int) -> Refiner:
        # A network of its own around the same tensors: accelerate's casts to lower precision are not in it.
        network = network_with(self.network.architecture, self.network.state_dict())
        device = next(network.parameters()).device
        return Refiner(network, self._flags.resolution, str(device), step)
