"""One optimizer step over its micro-batches: loss, gradients, clipping, learning rate, and whether all of it is finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from thesis_assets.tuning.accelerated import trained_parameters
from thesis_assets.tuning.learning_rate import learning_rate
from thesis_assets.tuning.trained_model import TrainedModel
from thesis_assets.tuning.trainer_flags import TrainerFlags
from thesis_assets.tuning.training_faults import AnotherProcessFailed, not_finite
from thesis_assets.tuning.triplets import TripletBatch


@dataclass(frozen=True)
class StepResult:
    """`losses`: each part's mean over the step's samples, of all processes."""

    losses: dict[str, float]
    learning_rate: float

    @property
    def loss(self) -> float:
        return sum(self.losses.values())


class TrainingStep:
    """The model and its AdamW optimizer, as accelerate prepared them."""

    def __init__(self, flags: TrainerFlags, model: TrainedModel, accelerator: Accelerator) -> None:
        self._flags, self._model, self._accelerator = flags, model, accelerator
        trained = trained_parameters(model.network)
        optimizer = torch.optim.AdamW(
            trained,
            betas=(flags.adam_beta1, flags.adam_beta2),
            weight_decay=flags.adam_weight_decay,
            eps=flags.adam_epsilon,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        self._parameters = trained
        self._forward, self._optimizer = accelerator.prepare(model.network, optimizer)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs of the optimizer."""
        state = {"optimizer": self._model.optimizer_to_file(self._optimizer.state_dict())}
        if self._accelerator.scaler is not None:
            state["scaler"] = self._accelerator.scaler.state_dict()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on as the checkpoint's optimizer was."""
        self._optimizer.load_state_dict(self._model.optimizer_from_file(state["optimizer"]))
        if self._accelerator.scaler is not None and "scaler" in state:
            self._accelerator.scaler.load_state_dict(state["scaler"])

    def make(self, step: int, micro_batches: Sequence[list[TripletBatch]]) -> StepResult:
        """Update the weights.

        Args:
            step: that is made, counted from 1.
            micro_batches: of this process; each a batch an image size.

        Raises:
            NotFinite: a loss or the gradient is not; the message names step and samples. The weights are spoilt then.
            AnotherProcessFailed: the loss is not finite in another process, which names the samples.
        """
        rate = self._set_learning_rate(step)
        self._model.network.train()
        losses: list[dict[str, Tensor]] = []
        norm = None
        for number, micro_batch in enumerate(micro_batches):
            self._seed(step, number)
            with self._accelerator.accumulate(self._forward):
                parts = self._losses(micro_batch, step)
                self._accelerator.backward(torch.stack([part.mean() for part in parts.values()]).sum())
                if self._accelerator.sync_gradients and self._flags.max_grad_norm > 0:
                    norm = self._accelerator.clip_grad_norm_(self._parameters, self._flags.max_grad_norm)
                self._optimizer.step()
                self._optimizer.zero_grad()
            losses.append({name: part.detach() for name, part in parts.items()})
        sample_ids = [name for micro_batch in micro_batches for batch in micro_batch for name in batch.sample_ids]
        return StepResult(self._means(losses, norm, step, sample_ids), rate)

    def _set_learning_rate(self, step: int) -> float:
        flags = self._flags
        rate = learning_rate(
            flags.learning_rate,
            flags.lr_scheduler,
            step=step,
            warmup_steps=flags.lr_warmup_steps,
            max_steps=flags.max_train_steps,
            cycles=flags.lr_num_cycles,
            power=flags.lr_power,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _seed(self, step: int, number: int) -> None:
        """What a loss draws depends on the micro-batch's place in the run, not on what was drawn before, or by whom."""
        processes = self._accelerator.num_processes
        place = (step - 1) * self._flags.gradient_accumulation_steps + number
        words = [self._flags.seed, place * processes + self._accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def _losses(self, micro_batch: list[TripletBatch], step: int) -> dict[str, Tensor]:
        """(B,) by part, over the samples of a micro-batch, which may be of several image sizes."""
        parts = [self._model.losses(self._forward, batch.to(self._accelerator.device), step) for batch in micro_batch]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _means(
        self, losses: list[dict[str, Tensor]], norm: Tensor | None, step: int, sample_ids: list[str]
    ) -> dict[str, float]:
        """Means of the step, over all processes; looked at once a step, since each look waits for the GPU."""
        names = list(losses[0])
        each = torch.stack([torch.cat([one[name] for one in losses]) for name in names])
        # With fp16 an overflow is part of the game: the gradient scaler skips the step and lowers its scale.
        watched = norm if norm is not None and self._accelerator.scaler is None else each.new_zeros(())
        per_sample = each.sum(dim=0)
        *values, gradient = torch.cat([per_sample, watched.reshape(1)]).tolist()
        # Before anybody gives up: the others would wait for the means in vain.
        means = self._accelerator.reduce(each.mean(dim=1), reduction="mean").tolist()
        bad = [name for name, value in zip(sample_ids, values, strict=True) if not np.isfinite(value)]
        if bad:
            raise not_finite("loss", step, bad)
        if not np.isfinite(means).all() and self._accelerator.num_processes > 1:
            raise AnotherProcessFailed(f"the loss of another process is not finite at step {step}")
        if not (np.isfinite(gradient) and np.isfinite(means).all()):
            raise not_finite("gradient", step, sample_ids)
        return dict(zip(names, means, strict=True))
