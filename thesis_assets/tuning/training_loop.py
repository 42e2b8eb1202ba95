"""The training loop of every backend: steps, saving, evaluating, stopping, and going on from a checkpoint.

The weights after a step depend on the flags, the data and the step alone: which samples a step sees is a function of its number
(`sample_order`), so is its learning rate (`learning_rate`), and torch is seeded anew for every micro-batch. A resumed run is
therefore equal to one in one go, to the bit on a CPU with equal threads. With P processes and A accumulated batches a step sees
A * P batches, process p every P-th of them: the same samples as one process with A * P accumulated batches.
Does not belong here: a backend's network and loss (`trained_model`), one update (`training_step`), the files' formats.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import TuningRunTree
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.held_out_samples import HeldOutSample
from thesis_assets.tuning.random_state import capture_random_state, restore_random_state
from thesis_assets.tuning.run_identity import RunIdentity
from thesis_assets.tuning.sample_order import SampleOrder
from thesis_assets.tuning.step_evaluation import evaluate_step
from thesis_assets.tuning.stop_signals import StopRequest
from thesis_assets.tuning.trained_model import TrainedModel
from thesis_assets.tuning.trainer_flags import TrainerFlags
from thesis_assets.tuning.trainer_processes import all_or_none, from_first
from thesis_assets.tuning.trainer_report import TrainerReport
from thesis_assets.tuning.training_faults import at_step, out_of_memory
from thesis_assets.tuning.training_step import StepResult, TrainingStep
from thesis_assets.tuning.triplets import TripletBatch, Triplets, load_batches


@dataclass(frozen=True)
class TrainingInputs:
    """What a run is made of.

    Attributes:
        flags: resolved, `num_processes` included.
        n_test: samples of data.json's test half; `test_samples` are those of them that are scored.
        workers: decoding processes of each training process.
    """

    flags: TrainerFlags
    tree: TuningRunTree
    triplets: Triplets
    n_test: int
    test_samples: Sequence[HeldOutSample]
    identity: RunIdentity
    workers: int


class TrainingLoop:
    """One run from its newest checkpoint to its last step."""

    def __init__(
        self, inputs: TrainingInputs, model: TrainedModel, accelerator: Accelerator, report: TrainerReport
    ) -> None:
        self._inputs, self._flags, self._model = inputs, inputs.flags, model
        self._accelerator, self._report = accelerator, report
        self._order = SampleOrder(len(inputs.triplets), self._flags.seed)
        self._update = TrainingStep(self._flags, model, accelerator)
        self.step = 0

    def resume(self) -> list[str]:
        """Go on from the newest checkpoint that verifies. Returns a line for each newer one that does not.

        Raises:
            SnapshotChanged: the checkpoint was trained on other data or with other hyperparameters.
        """
        self.step, refused = from_first(self._accelerator, self._newest_checkpoint)
        if self.step:
            # Not mapped: the optimizer keeps these very tensors, and the run must not depend on the file any longer.
            state = checkpoints.load_checkpoint(self._inputs.tree.checkpoint(self.step), mapped=False)
            self._model.load_state(state)
            self._update.load_state(state)
            restore_random_state(state["random_state"])
        return refused

    def run(self, stop: StopRequest) -> bool:
        """Train to the last step. False: stopped by a signal, after saving."""
        flags = self._flags
        # What a kill between the checkpoint and its evaluation left out.
        self._evaluate_if_due()
        batches = self._batches()
        while self.step < flags.max_train_steps:
            result = self._train_step(batches)
            last = self.step == flags.max_train_steps
            saved = last or self.step % flags.checkpointing_steps == 0
            stopping = all_or_none(self._accelerator, bool(stop)) and not last
            if saved or stopping:
                self._save(result)
            if stopping:
                return False
            self._evaluate_if_due()
        return True

    def _newest_checkpoint(self) -> tuple[int, list[str]]:
        """Step (0: there is none) and refused ones; asked of the first process only."""
        checkpoints.remove_unfinished(self._inputs.tree)
        info, refused = checkpoints.latest_verified(self._inputs.tree)
        if info is None:
            return 0, refused
        self._inputs.identity.refuse_another(self._inputs.tree, info)
        return info.step, refused

    def _train_step(self, batches: Iterator[list[TripletBatch]]) -> StepResult:
        """One optimizer step and its progress line."""
        started = time.monotonic()
        micro_batches = list(islice(batches, self._flags.gradient_accumulation_steps))
        try:
            result = self._update.make(self.step + 1, micro_batches)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise out_of_memory(error, self.step + 1, self._flags) from error
        self.step += 1
        self._report.update(
            self.step,
            losses=result.losses,
            learning_rate=result.learning_rate,
            samples=self._seen(1),
            seconds=time.monotonic() - started,
        )
        return result

    def _batches(self) -> Iterator[list[TripletBatch]]:
        """This process's micro-batches that are left of the run."""
        flags, triplets = self._flags, self._inputs.triplets
        draws = self._order.batches(self._seen(self.step), self._seen(flags.max_train_steps), flags.train_batch_size)
        own = islice(draws, self._accelerator.process_index, None, self._accelerator.num_processes)
        try:
            triplets.decode_if_small(threads=max(1, self._inputs.workers))
            yield from load_batches(
                triplets, own, self._inputs.workers, pin_memory=self._accelerator.device.type == "cuda"
            )
        except InvalidFile as error:
            raise at_step(error, self.step + 1) from error

    def _seen(self, step: int) -> int:
        """Samples seen by all processes until after `step`."""
        return step * self._flags.samples_per_step()

    def _save(self, result: StepResult) -> None:
        if self._accelerator.is_main_process:
            info = checkpoints.save_checkpoint(
                self._inputs.tree,
                {**self._model.state(), **self._update.state(), **self._resume_state()},
                metrics={"loss": result.loss},
                data_json_sha256=self._inputs.identity.data_json_sha256,
                hyperparameter_digest=self._inputs.identity.hyperparameter_digest,
            )
            self._report.event("checkpoint", self._inputs.tree.checkpoint(info.step).name)
        self._accelerator.wait_for_everyone()

    def _resume_state(self) -> dict[str, Any]:
        flags = self._flags
        return {
            "step": self.step,
            "scheduler": {"last_step": self.step, "learning_rate": flags.learning_rate},
            "data_order": {
                "seed": flags.seed,
                "samples_seen": self._seen(self.step),
                "n_samples": self._order.n_samples,
            },
            "random_state": capture_random_state(),
        }

    def _evaluate_if_due(self) -> None:
        """Score and draw the test samples where this step is one to, and it was not done."""
        due = self.step > 0 and (self.step % self._flags.eval_freq == 0 or self.step == self._flags.max_train_steps)
        if not due or not self._inputs.test_samples:
            return
        if self._accelerator.is_main_process and not self._inputs.tree.eval_metrics(self.step).is_file():
            try:
                metrics = evaluate_step(
                    self._model.refiner(self.step), self._inputs.test_samples, self._inputs.tree, self.step
                )
            except InvalidFile as error:
                raise at_step(error, self.step) from error
            checkpoints.add_metrics(self._inputs.tree, self.step, metrics)
            sheet = self._inputs.tree.eval_contact_sheet(self.step)
            self._report.event("eval", f"{len(self._inputs.test_samples)} test samples", metrics, sheet)
        self._accelerator.wait_for_everyone()
