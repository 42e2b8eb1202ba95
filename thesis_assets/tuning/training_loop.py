"""The training loop of every backend: steps, saving, evaluating, stopping, and going on from a checkpoint.

The weights after a step depend on the flags, the data and the step alone: which samples a step sees is a function of its number
(`triplets.SampleOrder`), so is its learning rate, and torch is seeded anew for every micro-batch. A resumed run is therefore equal
to one in one go, to the bit on a CPU with equal threads. With P processes and A accumulated batches a step sees A * P batches,
process p every P-th of them: the same samples as one process with A * P accumulated batches.
Below the loop: one optimizer step, the accelerator, what several processes agree on, the random state.
Does not belong here: a backend's network and loss (`trained_model`), the files' formats.
"""

from __future__ import annotations

import math
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor

from thesis_assets.errors import InvalidExperiment, InvalidFile
from thesis_assets.launch.jobs import no_bf16
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import CheckpointInfo, EarlyStop
from thesis_assets.storage import read_json, write_json
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.progress_file import (
    AnotherProcessFailed,
    StopRequest,
    TrainerReport,
    at_step,
    not_finite,
    out_of_memory,
    write_curves,
)
from thesis_assets.tuning.run_config import RunIdentity, TrainerFlags
from thesis_assets.tuning.scoring import HeldOutSample, evaluate_step, mean_psnr, who_is_scored
from thesis_assets.tuning.trained_model import TrainedModel
from thesis_assets.tuning.triplets import SampleOrder, TripletBatch, Triplets, load_batches

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips


@dataclass(frozen=True)
class TrainingInputs:
    """What a run is made of.

    Attributes:
        flags: resolved, `num_processes` included.
        n_test: samples of data.json's test half; `test_samples` are those of them that are scored.
        workers: decoding processes of each training process.
        source: that the run begins from, where it has no checkpoint of its own yet; one of its own must be its newest.
        lpips: for the evaluations; None where its weights are not there.
    """

    flags: TrainerFlags
    tree: TuningRunTree
    triplets: Triplets
    n_test: int
    test_samples: Sequence[HeldOutSample]
    identity: RunIdentity
    workers: int
    source: checkpoints.ResumeSource | None = None
    lpips: Lpips | None = None


class TrainingLoop:
    """One run from its newest checkpoint to its last step."""

    def __init__(
        self, inputs: TrainingInputs, model: TrainedModel, accelerator: Accelerator, report: TrainerReport
    ) -> None:
        self._inputs, self._flags, self._model = inputs, inputs.flags, model
        self._accelerator, self._report = accelerator, report
        self._order = SampleOrder(len(inputs.triplets), self._flags.seed, self._flags.mirror)
        self._update = TrainingStep(self._flags, model, accelerator)
        self._average = AveragedWeights(trained_parameters(model.network), self._flags.ema_decay)
        self.step = 0

    def resume(self) -> list[str]:
        """Go on from the newest checkpoint that verifies, else from what the run was told to begin from.

        Returns:
            A line for each newer one that does not verify, or one that says what it began from.

        Raises:
            SnapshotChanged: the checkpoint was trained on other data or with other hyperparameters.
            InvalidFile: the one that was asked for cannot be gone on from.
        """
        tree, source = self._inputs.tree, self._inputs.source
        self.step, notes = from_first(self._accelerator, self._newest_checkpoint)
        # Its own were verified just now. Not mapped: the optimizer keeps these very tensors, and the run must not depend on the file.
        load: Callable[[Path], dict[str, Any]] = partial(checkpoints.load_checkpoint, mapped=False)
        path = checkpoints.state_place(tree, self.step).checkpoint(self.step)
        averaged = tree.averaged.checkpoint(self.step)
        if source is not None and self.step < source.step:
            if notes and source.path.parent == tree.checkpoints_dir:
                raise InvalidFile(
                    "the checkpoint that the run is to go on from cannot be used", file=source.path, found=notes[0]
                )
            self.step, path, notes = source.step, source.path, [*notes, source.note]
            averaged, load = tree.average_beside(path), checkpoints.load_told_checkpoint
        if self.step:
            state = load(path)
            if state.get("step", self.step) != self.step:
                raise InvalidFile(
                    "the file's name and its step differ", file=path, found=state["step"], wanted=self.step
                )
            self._model.load_state(state)
            self._update.load_state(state, path)
            # The published trainer's files have none; every micro-batch is seeded anew in any case.
            restore_random_state(state.get("random_state", {}))
            self._average.begin()
            if self._flags.ema_decay and averaged.is_file():
                with self._average.in_place():
                    self._model.load_state(load(averaged))
            elif self._flags.ema_decay:
                notes = [*notes, f"ema_decay: the average begins anew at step {self.step}, as {averaged} is not there"]
            if path == tree.resume.checkpoint(self.step) and self._accelerator.is_main_process:
                notes = [*notes, *self._weights_made_whole()]
        return notes

    def _weights_made_whole(self) -> list[str]:
        """Write the weights of the step that the run goes on from again, where their file is lost or damaged: what it goes on from
        holds them too. Returns a line where that was so."""
        tree = self._inputs.tree
        try:
            checkpoints.verify_checkpoint(tree, self.step)
        except InvalidFile as error:
            if self.step in checkpoints.pruned_steps(tree):
                return []
            info = read_json(tree.resume.checkpoint_info(self.step), CheckpointInfo)
            self._write(tree, self._weights_alone(), info.metrics)
            return [f"{tree.checkpoint(self.step).name} was written again: {error.problem}"]
        return []

    def run(self, stop: StopRequest) -> bool:
        """Train to the last step. False: stopped by a signal, after saving."""
        flags = self._flags
        # What a kill between the checkpoint and its evaluation left out.
        self._evaluate_if_due()
        if checkpoints.reached_step(self._inputs.tree, flags.max_train_steps) == self.step:
            return True
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
            if flags.patience and not last and from_first(self._accelerator, self._ends_early):
                if not saved:
                    self._save(result)
                return True
        return True

    def _ends_early(self) -> bool:
        """Whether the last `patience` evaluations were no better than the best before them; noted then. Asked of the first process only."""
        flags, tree = self._flags, self._inputs.tree
        steps = range(flags.eval_freq, self.step + 1, flags.eval_freq)
        scores = {step: mean_psnr(tree.eval_metrics(step)) for step in steps if tree.eval_metrics(step).is_file()}
        if self.step not in scores:
            return False
        best = max(scores, key=lambda step: (scores[step], -step))
        waited = sum(step > best for step in scores)
        if waited < flags.patience:
            return False
        write_json(
            tree.early_stop,
            EarlyStop(step=self.step, best_step=best, best_psnr=scores[best], patience=flags.patience),
        )
        return True

    def _newest_checkpoint(self) -> tuple[int, list[str]]:
        """Step (0: there is none) and refused ones; asked of the first process only."""
        tree = self._inputs.tree
        checkpoints.remove_unfinished(tree)
        info, refused = checkpoints.latest_verified(tree, averaged=bool(self._flags.ema_decay))
        steps, states = checkpoints.list_checkpoints(tree), checkpoints.list_checkpoints(tree.resume)
        # A kill within the first save leaves weights, and nothing yet that would be lost.
        begun = info is None and refused and (states or len(steps) > 1)
        # By what is there too: the key may have been another when it was written.
        if begun and (not self._flags.save_optimizer or states or checkpoints.hold_weights_alone(tree, steps)):
            raise InvalidFile(
                "what the run goes on from cannot be used, and its checkpoints hold weights alone (save_optimizer: false)",
                file=tree.resume.checkpoints_dir,
                key="save_optimizer",
                found=refused[0],
                remedy="restore it from a copy; or train the run anew under another name",
            )
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
        self._average.update(self.step)
        self._report.update(
            self.step,
            losses=result.losses,
            metrics=result.metrics,
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
            tree, flags, metrics = self._inputs.tree, self._flags, {"loss": result.loss}
            if flags.ema_decay:
                # Before the checkpoint, which is whole only with it.
                with self._average.in_place():
                    self._write(tree.averaged, {**self._weights_alone(), "ema_decay": flags.ema_decay}, metrics)
            whole = {**self._model.state(), **self._update.state(), **self._resume_state()}
            self._write(tree, whole if flags.save_optimizer else self._weights_alone(), metrics)
            if not flags.save_optimizer:
                self._write(tree.resume, whole, metrics)
            for step in checkpoints.list_checkpoints(tree.resume):
                if flags.save_optimizer or step != self.step:
                    tree.resume.checkpoint_info(step).unlink()
                    tree.resume.checkpoint(step).unlink(missing_ok=True)
            if flags.keep_last:
                kept = {int(step) for step in (flags.keep_steps or "").split(",") if step}
                checkpoints.keep_only(tree, flags.keep_last, kept)
            self._report.event("checkpoint", tree.checkpoint(self.step).name)
        self._accelerator.wait_for_everyone()

    def _weights_alone(self) -> dict[str, Any]:
        return {**self._model.state(), **self._model.without_optimizer(), "step": self.step}

    def _write(self, tree: TuningRunTree, state: dict[str, Any], metrics: Mapping[str, float]) -> None:
        identity = self._inputs.identity
        checkpoints.save_checkpoint(
            tree,
            state,
            metrics=metrics,
            data_json_sha256=identity.data_json_sha256,
            hyperparameter_digest=identity.hyperparameter_digest,
        )

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
            tree, samples = self._inputs.tree, self._inputs.test_samples
            try:
                # By the weights that are handed off.
                with self._average.in_place():
                    metrics = evaluate_step(
                        self._model.refiner(self.step), samples, tree, self.step, lpips=self._inputs.lpips
                    )
            except InvalidFile as error:
                raise at_step(error, self.step) from error
            for where in (tree, tree.averaged):
                checkpoints.add_metrics(where, self.step, metrics)
            weights = ", averaged weights" if self._flags.ema_decay else ""
            self._report.event(
                "eval",
                f"{who_is_scored(samples, self._flags.validation_groups)}{weights}",
                metrics,
                tree.eval_contact_sheet(self.step),
            )
            write_curves(tree)
        self._accelerator.wait_for_everyone()


@dataclass(frozen=True)
class StepResult:
    """`losses`: each part's mean over the step's samples, of all processes. `metrics`: what else becomes a curve."""

    losses: dict[str, float]
    learning_rate: float
    metrics: dict[str, float]

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
        self._skipped = 0
        self._forward, self._optimizer = accelerator.prepare(model.network, optimizer)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs of the optimizer."""
        state = {"optimizer": self._model.optimizer_to_file(self._optimizer.state_dict())}
        if self._accelerator.scaler is not None:
            state["scaler"] = self._accelerator.scaler.state_dict()
        return state

    def load_state(self, state: Mapping[str, Any], path: Path) -> None:
        """Go on as the optimizer of the checkpoint at `path` was.

        Raises:
            InvalidFile: it is no optimizer's state of these weights.
        """
        try:
            saved = self._model.optimizer_from_file(state["optimizer"])
            wrong = self._unusable(saved["state"])
            if wrong is None:
                # Another's file has other settings of the optimizer than this run.
                own = [
                    {name: value for name, value in group.items() if name != "params"}
                    for group in self._optimizer.param_groups
                ]
                groups = [{**group, **mine} for group, mine in zip(saved["param_groups"], own, strict=True)]
                self._optimizer.load_state_dict({**saved, "param_groups": groups})
                if self._accelerator.scaler is not None and "scaler" in state:
                    self._accelerator.scaler.load_state_dict(state["scaler"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong is not None:
            raise InvalidFile(
                "the optimizer's state cannot be gone on from",
                file=path,
                key="optimizer",
                found=wrong,
                wanted="the step and two finite moments of each weight that was trained, of its shape",
                remedy="name another checkpoint; or start from these weights under another run name",
            )

    def _unusable(self, moments: Mapping[int, Mapping[str, Any]]) -> str | None:
        """What is wrong with an optimizer's moments, by the number of the weight: torch would begin anew without a word, or crash.

        A weight that never had a gradient has none.
        """
        if not moments:
            return "no moments"
        for number, of_weight in moments.items():
            shape = self._parameters[number].shape
            if not math.isfinite(float(of_weight["step"])):
                return f"step of weight {number} is not finite"
            for name in ("exp_avg", "exp_avg_sq"):
                moment = of_weight[name]
                if moment.shape != shape or not bool(moment.isfinite().all()):
                    what = (
                        "not finite" if moment.shape == shape else f"of shape {tuple(moment.shape)}, not {tuple(shape)}"
                    )
                    return f"{name} of weight {number} is {what}"
        return None

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
                if self._accelerator.sync_gradients:
                    # Without clipping by a limit that no gradient reaches: its norm is told all the same.
                    norm = self._accelerator.clip_grad_norm_(self._parameters, self._flags.max_grad_norm or math.inf)
                self._optimizer.step()
                self._optimizer.zero_grad()
            losses.append({name: part.detach() for name, part in parts.items()})
        sample_ids = [name for micro_batch in micro_batches for batch in micro_batch for name in batch.sample_ids]
        self._skipped += bool(self._optimizer.step_was_skipped)
        means, gradient = self._means(losses, norm, step, sample_ids)
        metrics = {"skipped_steps": float(self._skipped), "peak_memory_gb": peak_memory(self._accelerator.device) / 1e9}
        return StepResult(means, rate, metrics | ({"gradient_norm": gradient} if np.isfinite(gradient) else {}))

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
        device, layout = self._accelerator.device, memory_layout(self._flags)
        parts = [self._model.losses(self._forward, batch.to(device, layout), step) for batch in micro_batch]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _means(
        self, losses: list[dict[str, Tensor]], norm: Tensor | None, step: int, sample_ids: list[str]
    ) -> tuple[dict[str, float], float]:
        """Means of the step, over all processes, and the gradient's norm; looked at once a step, since each look waits for the GPU."""
        names = list(losses[0])
        each = torch.stack([torch.cat([one[name] for one in losses]) for name in names])
        watched = norm if norm is not None else each.new_zeros(())
        per_sample = each.sum(dim=0)
        *values, gradient = torch.cat([per_sample, watched.reshape(1)]).tolist()
        # Before anybody gives up: the others would wait for the means in vain.
        means = self._accelerator.reduce(each.mean(dim=1), reduction="mean").tolist()
        bad = [name for name, value in zip(sample_ids, values, strict=True) if not np.isfinite(value)]
        if bad:
            raise not_finite("loss", step, bad)
        if not np.isfinite(means).all() and self._accelerator.num_processes > 1:
            raise AnotherProcessFailed(f"the loss of another process is not finite at step {step}")
        # With fp16 an overflow is part of the game: the gradient scaler skips the step and lowers its scale.
        may_overflow = self._accelerator.scaler is not None or not self._flags.max_grad_norm
        if not ((may_overflow or np.isfinite(gradient)) and np.isfinite(means).all()):
            raise not_finite("gradient", step, sample_ids)
        return dict(zip(names, means, strict=True)), gradient


class AveragedWeights:
    """The exponential moving average of trained parameters, where they are. A decay of 0: there is none, and nothing is done.

    The decay rises with the steps, (1 + step) / (10 + step) up to its own value: early weights are soon forgotten.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self._values: list[Tensor] = []
        self.begin()

    def begin(self) -> None:
        """Start from the weights as they are."""
        self._values = [one.detach().clone() for one in self._parameters] if self._decay else []

    def update(self, step: int) -> None:
        """Take in the weights after `step`."""
        if self._values:
            weight = 1 - min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._values, [one.detach() for one in self._parameters], weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averaged weights while the block runs."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for place, (parameter, value) in enumerate(zip(self._parameters, self._values, strict=bool(self._values))):
            self._values[place], parameter.data = parameter.data, value


def memory_layout(flags: TrainerFlags) -> torch.memory_format:
    """How images and weights of four dimensions lie in memory."""
    return torch.channels_last if flags.channels_last else torch.contiguous_format


def peak_memory(device: torch.device) -> float:
    """Bytes that this process has had on its device at most."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")  # `ru_maxrss` of a process begins with what the one that started it had
    own = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    if own is not None:
        return float(own[1]) * 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


WAIT = timedelta(hours=6)
"""How long processes wait for the first one, which evaluates and saves; torch's own 10 minutes are too short for a large test set."""


def make_accelerator(flags: TrainerFlags, tree: TuningRunTree, tracker: str) -> Accelerator:
    """The accelerator that the launch's environment and the flags describe.

    Raises:
        InvalidExperiment: other processes were started than asked for, or the precision cannot be had here.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = flags.allow_tf32
    try:
        accelerator = Accelerator(
            gradient_accumulation_steps=flags.gradient_accumulation_steps,
            mixed_precision=flags.mixed_precision,
            log_with=tracker if tracker != "none" else None,
            project_dir=str(tree.logs_dir),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=WAIT),
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
    except ValueError as error:
        raise InvalidExperiment(
            "accelerate cannot train like this here",
            key="mixed_precision",
            found=f"{flags.mixed_precision}: {error}",
            remedy="set mixed_precision: no",
        ) from error
    if flags.num_processes not in (None, accelerator.num_processes):
        raise InvalidExperiment(
            "the training was started with another number of processes than it was asked for",
            key="num_processes",
            found=accelerator.num_processes,
            wanted=flags.num_processes,
            remedy="on a CPU start it by torchrun with ACCELERATE_USE_CPU=true (`accelerate launch --cpu` runs one process, "
            "whatever it is told); on GPUs by `accelerate launch --multi_gpu --num_processes`",
        )
    return accelerator


def refuse_emulated_bf16(accelerator: Accelerator) -> None:
    """Refuse bf16 on a GPU of the Volta generation.

    Raises:
        InvalidExperiment: with the lines to write into the run.
    """
    if accelerator.mixed_precision == "bf16" and accelerator.device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(accelerator.device)
        if (major, minor) in ((7, 0), (7, 2)):
            raise no_bf16(f"{torch.cuda.get_device_name(accelerator.device)} (sm_{major}{minor})")


def precision_notes(accelerator: Accelerator, network: torch.nn.Module) -> list[str]:
    """Lines about a precision that is not what it seems, after keeping what is trained in full precision."""
    notes = []
    cuda = accelerator.device.type == "cuda"
    if accelerator.mixed_precision == "bf16" and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        notes.append("mixed_precision = bf16: this GPU only emulates it; no or fp16 is faster")
    low = {parameter.dtype for parameter in trained_parameters(network) if parameter.dtype != torch.float32}
    if low:
        for parameter in trained_parameters(network):
            parameter.data = parameter.data.float()
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in low))
        notes.append(
            f"trained parameters came in {names}: they are kept in float32 (the gradient scaler fails on float16, and small "
            "updates are lost in either)"
        )
    return notes


def trained_parameters(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Those with gradients, in the network's order."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


Answer = TypeVar("Answer")


def from_first(accelerator: Accelerator, ask: Callable[[], Answer]) -> Answer:
    """The first process's answer, in every process."""
    answers = [ask() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(answers)
    return answers[0]  # type: ignore[return-value]


def all_or_none(accelerator: Accelerator, wanted: bool) -> bool:
    """True in every process where it is true in any: a signal may reach one of them a step before the others."""
    if accelerator.num_processes == 1:
        return wanted
    mark = torch.tensor(float(wanted), device=accelerator.device)
    return bool(accelerator.reduce(mark, reduction="sum") > 0)


def capture_random_state() -> dict[str, Tensor]:
    """By device: `cpu`, and `cuda:<n>` for each GPU. Byte tensors."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Put the generators back. A device that is not here is passed over: the run goes on, no longer equal to the bit."""
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state.cpu())
        elif torch.cuda.is_available() and int(device.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state.cpu(), device)


POLYNOMIAL_END = 1e-7
"""The rate that `polynomial` ends at, as in the published trainer's library."""


def learning_rate(
    peak: float, schedule: str, *, step: int, warmup_steps: int, max_steps: int, cycles: int = 1, power: float = 1.0
) -> float:
    """The rate that the update to `step` (counted from 1) is made with.

    All but `constant` rise linearly over the first `warmup_steps`; `linear`, `cosine` and `polynomial` then fall to nought (the
    last to `POLYNOMIAL_END`) at the end, `cosine_with_restarts` does so `cycles` times.
    """
    if schedule == "constant":
        return peak
    if step <= warmup_steps:
        return peak * step / warmup_steps
    passed = (step - 1 - warmup_steps) / max(1, max_steps - warmup_steps)
    if schedule == "linear":
        return peak * (1 - passed)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * passed))
    if schedule == "cosine_with_restarts":
        return peak * 0.5 * (1 + math.cos(math.pi * (cycles * passed % 1)))
    if schedule == "polynomial":
        end = min(POLYNOMIAL_END, peak)
        return end + (peak - end) * float((1 - passed) ** power)
    return peak
