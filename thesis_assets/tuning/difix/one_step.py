"""From one prediction of a diffusion U-Net to the clean latents: the whole of a DDPM schedule with a single step.

With one step the previous state is the clean one, so that the step's formula (Ho et al. 2020, equation 7) leaves only the estimate
of x0, and its variance is nought.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


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
