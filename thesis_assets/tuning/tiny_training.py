"""The training loop of the `tiny` backend: L2 between refined render and target, resumable to the bit on a CPU.

Loss: `lambda_l2` times the mean squared error over [0, 1] images, mean over the samples of a step. Half of the samples are
shown mirrored left to right, which the published trainer does not do. Nothing in a step is drawn
from a generator's history (`sample_order`, `learning_rate`), so the weights after a step depend on the flags, the data and the
step alone. The number of threads changes the last bits of sums: equal to the bit means with equal threads.
Does not belong here: reading samples, scoring, the files' formats.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from thesis_assets.errors import InvalidFile, SnapshotChanged
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import CheckpointInfo
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.held_out_samples import HeldOutSample
from thesis_assets.tuning.learning_rate import learning_rate
from thesis_assets.tuning.random_state import capture_random_state, restore_random_state
from thesis_assets.tuning.refine import Refiner
from thesis_assets.tuning.sample_order import SampleOrder
from thesis_assets.tuning.stop_signals import StopRequest
from thesis_assets.tuning.tiny_evaluation import evaluate_step
from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner, network_with
from thesis_assets.tuning.trainer_flags import TrainerFlags
from thesis_assets.tuning.trainer_report import TrainerReport
from thesis_assets.tuning.training_faults import at_step, not_finite
from thesis_assets.tuning.triplets import TripletBatch, Triplets, load_batches


@dataclass(frozen=True)
class TrainingInputs:
    """What a run is made of."""

    flags: TrainerFlags
    tree: TuningRunTree
    triplets: Triplets
    test_samples: Sequence[HeldOutSample]
    data_json_sha256: str
    workers: int


class TinyTraining:
    """One run from its newest checkpoint to its last step."""

    def __init__(self, inputs: TrainingInputs, accelerator: Accelerator, report: TrainerReport) -> None:
        self._inputs, self._flags = inputs, inputs.flags
        self._accelerator, self._report = accelerator, report
        self._order = SampleOrder(len(inputs.triplets), self._flags.seed)
        self.step = 0
        torch.manual_seed(self._flags.seed)
        network = TinyRefiner(TinyArchitecture())
        optimizer = torch.optim.AdamW(
            network.parameters(),
            betas=(self._flags.adam_beta1, self._flags.adam_beta2),
            weight_decay=self._flags.adam_weight_decay,
            eps=self._flags.adam_epsilon,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        self._network, self._optimizer = accelerator.prepare(network, optimizer)

    def resume(self) -> list[str]:
        """Go on from the newest checkpoint that verifies. Returns a line for each newer one that does not.

        Raises:
            SnapshotChanged: the checkpoint was trained on other data or with other hyperparameters.
        """
        info, refused = checkpoints.latest_verified(self._inputs.tree)
        if info is not None:
            self._check_identity(info)
            state = checkpoints.load_checkpoint(self._inputs.tree.checkpoint(info.step))
            self._accelerator.unwrap_model(self._network).load_state_dict(state[checkpoints.WEIGHTS])
            self._optimizer.load_state_dict(state["optimizer"])
            if self._accelerator.scaler is not None and "scaler" in state:
                self._accelerator.scaler.load_state_dict(state["scaler"])
            restore_random_state(state["random_state"])
            self.step = info.step
        return refused

    def run(self, stop: StopRequest) -> bool:
        """Train to the last step. False: stopped by a signal, after saving."""
        flags = self._flags
        # What a kill between the checkpoint and its evaluation left out.
        self._evaluate_if_due()
        batches = self._batches()
        while self.step < flags.max_train_steps:
            loss = self._train_step(batches)
            last = self.step == flags.max_train_steps
            saved = last or self.step % flags.checkpointing_steps == 0
            if saved:
                self._save(loss)
            if last or not stop:
                self._evaluate_if_due()
            if stop and not last:
                if not saved:
                    self._save(loss)
                return False
        return True

    def _train_step(self, batches: Iterator[list[TripletBatch]]) -> float:
        """One optimizer step and its progress line. Returns the loss."""
        started = time.monotonic()
        micro_batches = list(islice(batches, self._flags.gradient_accumulation_steps))
        rate, loss = self._update(self.step + 1, micro_batches)
        self.step += 1
        seconds = time.monotonic() - started
        self._report.update(self.step, loss=loss, learning_rate=rate, samples=self._seen(1), seconds=seconds)
        return loss

    def _batches(self) -> Iterator[list[TripletBatch]]:
        """The micro-batches that are left of the run."""
        flags = self._flags
        draws = self._order.batches(self._seen(self.step), self._seen(flags.max_train_steps), flags.train_batch_size)
        try:
            self._inputs.triplets.decode_if_small(threads=max(1, self._inputs.workers))
            yield from load_batches(self._inputs.triplets, draws, self._inputs.workers)
        except InvalidFile as error:
            raise at_step(error, self.step + 1) from error

    def _seen(self, step: int) -> int:
        """Samples seen until after `step`."""
        return step * self._flags.train_batch_size * self._flags.gradient_accumulation_steps

    def _update(self, step: int, micro_batches: list[list[TripletBatch]]) -> tuple[float, float]:
        """One optimizer step. Returns its learning rate and mean loss."""
        flags = self._flags
        rate = learning_rate(
            flags.learning_rate,
            flags.lr_scheduler,
            step=step,
            warmup_steps=flags.lr_warmup_steps,
            max_steps=flags.max_train_steps,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        losses = []
        for batch in micro_batches:
            with self._accelerator.accumulate(self._network):
                loss = self._loss(batch, step)
                self._accelerator.backward(loss)
                if self._accelerator.sync_gradients and flags.max_grad_norm > 0:
                    norm = self._accelerator.clip_grad_norm_(self._network.parameters(), flags.max_grad_norm)
                    self._check_gradient(norm, step, micro_batches)
                self._optimizer.step()
                self._optimizer.zero_grad()
                losses.append(float(loss.detach()))
        return rate, sum(losses) / len(losses)

    def _loss(self, batch: list[TripletBatch], step: int) -> Tensor:
        """Mean over the samples of a micro-batch, which may be of several image sizes."""
        parts = []
        for one_size in batch:
            renders, targets, references = one_size.to(self._accelerator.device)
            refined = renders + self._network(renders, references)
            errors = (refined - targets).square().mean(dim=(1, 2, 3))
            if not bool(errors.isfinite().all()):
                bad = [
                    sample for sample, error in zip(one_size.sample_ids, errors, strict=True) if not error.isfinite()
                ]
                raise not_finite("loss", step, bad)
            parts.append(errors)
        return self._flags.lambda_l2 * torch.cat(parts).mean()

    def _check_gradient(self, norm: Tensor | None, step: int, micro_batches: list[list[TripletBatch]]) -> None:
        # With fp16 an overflow is part of the game: the gradient scaler skips the step and lowers its scale.
        if norm is not None and self._accelerator.scaler is None and not bool(norm.isfinite()):
            raise not_finite(
                "gradient", step, [s for micro in micro_batches for part in micro for s in part.sample_ids]
            )

    def _save(self, loss: float) -> None:
        flags = self._flags
        weights = self._accelerator.unwrap_model(self._network)
        state: dict[str, Any] = {
            checkpoints.WEIGHTS: weights.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "architecture": weights.architecture.as_numbers(),
            "resolution": flags.resolution,
            "step": self.step,
            "scheduler": {"last_step": self.step, "learning_rate": flags.learning_rate},
            "data_order": {
                "seed": flags.seed,
                "samples_seen": self._seen(self.step),
                "n_samples": self._order.n_samples,
            },
            "random_state": capture_random_state(),
        }
        if self._accelerator.scaler is not None:
            state["scaler"] = self._accelerator.scaler.state_dict()
        checkpoints.save_checkpoint(
            self._inputs.tree,
            state,
            metrics={"loss": loss},
            data_json_sha256=self._inputs.data_json_sha256,
            hyperparameter_digest=flags.hyperparameter_digest(),
        )
        self._report.event("checkpoint", self._inputs.tree.checkpoint(self.step).name)

    def _evaluate_if_due(self) -> None:
        due = self.step > 0 and (self.step % self._flags.eval_freq == 0 or self.step == self._flags.max_train_steps)
        if not due or not self._inputs.test_samples or self._inputs.tree.eval_metrics(self.step).is_file():
            return
        try:
            metrics = evaluate_step(self._refiner(), self._inputs.test_samples, self._inputs.tree, self.step)
        except InvalidFile as error:
            raise at_step(error, self.step) from error
        checkpoints.add_metrics(self._inputs.tree, self.step, metrics)
        self._report.event("eval", f"{len(self._inputs.test_samples)} test samples", metrics)

    def _refiner(self) -> Refiner:
        """The network as a checkpoint would give it: in full precision, whatever the training runs in."""
        trained = self._accelerator.unwrap_model(self._network)
        network = network_with(trained.architecture, trained.state_dict())
        return Refiner(network, self._flags.resolution, str(self._accelerator.device), self.step)

    def _check_identity(self, info: CheckpointInfo) -> None:
        for key, found, wanted in (
            ("data_json_sha256", self._inputs.data_json_sha256, info.data_json_sha256),
            ("hyperparameter_digest", self._flags.hyperparameter_digest(), info.hyperparameter_digest),
        ):
            if found != wanted:
                raise SnapshotChanged(
                    "the run's checkpoints were trained on other data or with other hyperparameters",
                    file=self._inputs.tree.checkpoint_info(info.step),
                    key=key,
                    found=found,
                    wanted=wanted,
                    remedy="train under another run name; a finished run is never changed",
                )
