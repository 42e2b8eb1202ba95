"""What a trainer tells of its run and who reads it, and how it ends before its last step.

`logs/progress.jsonl` has a line a step with time, rate and time left, written by `TrainerReport`, read while the file grows; its
curves become a picture. TensorBoard and Weights & Biases get the same numbers; their credentials and addresses are their own
business (`WANDB_*` reach the trainer as they are), and they never stop a training.
SIGTERM and SIGUSR2 ask for the end: they set a mark that the training loop reads after each step (Slurm sends its warning signal
to every process of a step, and one that is not prepared for it dies of it). Errors of a step name it and its samples.
Light: read before torch is imported.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from thesis_assets.errors import DiskFull, InvalidFile, ThesisAssetsError
from thesis_assets.images.line_charts import Chart, Series, line_charts
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import ProgressLine
from thesis_assets.storage import sha256_value, to_json_bytes, write_text
from thesis_assets.tuning.run_config import TrainerFlags

if TYPE_CHECKING:
    from accelerate import Accelerator


class TrainerReport:
    """Writes the lines of one trainer process; its clock starts with it. Of several processes one speaks, but each tells why
    it failed."""

    def __init__(self, writer: ProgressWriter, max_steps: int, *, speaks: bool = True) -> None:
        self._writer, self._max_steps, self._speaks = writer, max_steps, speaks
        self._started = time.monotonic()
        self._updates = 0
        self._update_seconds = 0.0
        self.tracker: RunTracker | None = None
        self.step = 0
        """The step that is done, for messages that come from elsewhere."""

    def event(
        self, event: str, message: str = "", metrics: Mapping[str, float] | None = None, picture: Path | None = None
    ) -> None:
        """A line without the fields of a step. `picture`: for the tracker."""
        if not self._speaks:
            return
        url = self.tracker.url if self.tracker and event == "start" else None
        self.write(event=event, message=message, metrics=dict(metrics or {}), tracker_url=url)
        if metrics and self.tracker:
            self.tracker.log(metrics, self.step)
        if picture is not None and self.tracker:
            self.tracker.picture(picture.stem.rpartition("_")[0], picture, self.step)

    def failed(self, message: str) -> None:
        """The last line of a process that ends with an error."""
        # A full disk may be what failed; the message stands in stderr too.
        with contextlib.suppress(OSError):
            self.write(event="failed", message=message)

    def close(self) -> None:
        """No line comes after this."""
        self._writer.close()

    def update(
        self,
        step: int,
        *,
        losses: Mapping[str, float],
        learning_rate: float,
        samples: int,
        seconds: float,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """The line of one finished step.

        Args:
            losses: the loss's parts, means over the step's samples; several ones become curves `loss_<name>` of their own.
            samples: how many the step saw, in all processes.
            seconds: how long it took; evaluations and saving are not in it.
            metrics: further curves.
        """
        self.step = step
        if not self._speaks:
            return
        self._updates += 1
        self._update_seconds += seconds
        per_update = self._update_seconds / self._updates
        loss = sum(losses.values())
        parts = {f"loss_{name}": value for name, value in losses.items()} if len(losses) > 1 else {}
        parts |= metrics or {}
        self.write(
            event="step",
            loss=loss,
            metrics=parts,
            learning_rate=learning_rate,
            samples_per_second=samples / max(per_update, 1e-9),
            seconds_left=(self._max_steps - step) * per_update,
        )
        if self.tracker:
            self.tracker.log({"loss": loss, "learning_rate": learning_rate, **parts}, step)

    def write(self, **fields: Any) -> None:
        """A line of these fields of `ProgressLine`, beside those that every line has."""
        seconds = time.monotonic() - self._started
        line = {"step": self.step, "max_steps": self._max_steps, "seconds": round(seconds, 3), **fields}
        self._writer.write(ProgressLine.model_validate(line))


def usable_tracker(kind: str) -> tuple[str, str | None]:
    """`kind`, or `none` with a note where the tracker's package is not installed."""
    if kind != "none" and find_spec(kind) is None:
        return "none", f"tracker {kind}: its package is not installed, so curves stand in logs/progress.jsonl only"
    return kind, None


class RunTracker:
    """The accelerator's tracker under the run's name. Where it fails, it is told once and left alone.

    Args:
        kind: `tensorboard` or `wandb`, one that `usable_tracker` gave.
        step: that the run goes on from: later points of an earlier attempt are replaced.
    """

    def __init__(self, accelerator: Accelerator, flags: TrainerFlags, kind: str, step: int) -> None:
        self._accelerator, self._kind = accelerator, kind
        self.failure: str | None = None
        config = {name: "" if value is None else value for name, value in flags.hyperparameters().items()}
        options = _wandb_options(flags, str(accelerator.project_dir)) if kind == "wandb" else {"purge_step": step + 1}
        self._safely(
            lambda: accelerator.init_trackers(flags.tracker_project_name, config=config, init_kwargs={kind: options})
        )

    @property
    def url(self) -> str | None:
        """Where the run is looked at; None for a tracker without an address."""
        found: list[str] = []
        if self._kind == "wandb" and self._accelerator.is_main_process:
            self._safely(lambda: found.append(self._accelerator.get_tracker("wandb").run.url))
        return found[0] if found else None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves."""
        self._safely(lambda: self._accelerator.log(dict(values), step=step))

    def picture(self, name: str, path: Path, step: int) -> None:
        """An image file."""
        self._safely(lambda: self._log_picture(name, path, step))

    def finish(self) -> None:
        """Send what is left."""
        self._safely(lambda: [tracker.finish() for tracker in self._accelerator.trackers])
        self._accelerator.trackers = []

    def _log_picture(self, name: str, path: Path, step: int) -> None:
        from thesis_assets.images.codecs import read_rgb

        options = {"dataformats": "NHWC"} if self._kind == "tensorboard" else {}
        self._accelerator.get_tracker(self._kind).log_images({name: read_rgb(path)[None]}, step=step, **options)

    def _safely(self, act: Callable[[], Any]) -> None:
        if self.failure is not None:
            return
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever a tracker's service answers, the training goes on
            self.failure = f"tracker {self._kind} failed, so curves stand in logs/progress.jsonl only: {error}"
            self._accelerator.trackers = []
            sys.stderr.write(self.failure + "\n")


def _wandb_options(flags: TrainerFlags, directory: str) -> dict[str, Any]:
    options: dict[str, Any] = {"name": flags.tracker_run_name, "dir": os.environ.get("WANDB_DIR") or directory}
    if "WANDB_RUN_ID" not in os.environ:
        # The same on every attempt: a run that is resumed goes on in its own curves.
        options |= {"id": sha256_value([flags.tracker_run_name, flags.output_dir])[:16], "resume": "allow"}
    if flags.tracker_entity:
        options["entity"] = flags.tracker_entity
    if flags.tracker_tags:
        options["tags"] = flags.tracker_tags.split(",")
    return options


class ProgressWriter:
    """Appends whole lines, each in one write, so that a reader sees at most the last one cut."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        if self._file.seek(0, os.SEEK_END):
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                # A run that was killed in the middle of a line: the next line must not become a part of it.
                self._file.write(b"\n")

    def write(self, line: ProgressLine) -> None:
        self._file.write(to_json_bytes(line, indent=False))

    def close(self) -> None:
        self._file.close()


class ProgressReader:
    """Reads what came since the last call. A line that is not finished yet is left for the next call."""

    def __init__(self, path: Path, *, from_end: bool = False, start: int = 0) -> None:
        self._path = path
        self._offset = path.stat().st_size if from_end and path.is_file() else start

    def new_lines(self) -> Iterator[ProgressLine]:
        """The lines since the last call. One that was cut by a kill is passed over: the trainer itself is long gone."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as handle:
            handle.seek(self._offset)
            for raw in handle:
                if not raw.endswith(b"\n"):
                    return
                self._offset += len(raw)
                with contextlib.suppress(ValidationError):
                    yield ProgressLine.model_validate_json(raw)


def last_progress(path: Path) -> ProgressLine | None:
    """The last line of a run's progress; None where there is none."""
    line = None
    for line in ProgressReader(path).new_lines():  # noqa: B007 - the last one is wanted
        pass
    return line


def read_curves(path: Path) -> dict[str, list[float]]:
    """Series over the steps of a run, also one that was resumed: of a step done twice the later line counts.

    Returns:
        `step`, `loss`, `learning_rate`, `samples_per_second` and the loss's parts, `loss_<name>`, of equal length, and of the
        evaluations `eval_step` with one series a metric.
    """
    steps: dict[int, ProgressLine] = {}
    evaluations: dict[int, ProgressLine] = {}
    for line in ProgressReader(path).new_lines():
        if line.event == "step":
            steps[line.step] = line
        elif line.event == "eval":
            evaluations[line.step] = line
    curves: dict[str, list[float]] = {"step": [float(step) for step in sorted(steps)]}
    for name in ("loss", "learning_rate", "samples_per_second"):
        values = [getattr(steps[step], name) for step in sorted(steps)]
        curves[name] = [float("nan") if value is None else value for value in values]
    for name in sorted({name for line in steps.values() for name in line.metrics}):
        curves[name] = [steps[step].metrics.get(name, float("nan")) for step in sorted(steps)]
    curves["eval_step"] = [float(step) for step in sorted(evaluations)]
    for step in sorted(evaluations):
        for metric, value in evaluations[step].metrics.items():
            curves.setdefault(metric, []).append(value)
    return curves


def write_curves(tree: TuningRunTree) -> None:
    """`logs/curves.csv`: a row a step, a column a curve; what an evaluation measured stands in the row of its step."""
    curves = read_curves(tree.progress)
    steps, evaluated = curves.pop("step"), curves.pop("eval_step")
    columns = {}
    for name, values in curves.items():
        places = steps if len(values) == len(steps) and not name.startswith(("psnr", "ssim", "lpips")) else evaluated
        columns[name] = dict(zip(places, values, strict=False))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *columns])
    for step in sorted({*steps, *evaluated}):
        values = [column.get(step, math.nan) for column in columns.values()]
        writer.writerow([int(step), *("" if math.isnan(value) else f"{value:.9g}" for value in values)])
    write_text(tree.curves, text.getvalue())


Curves = Mapping[str, Sequence[float]]


def curves_picture(curves: Curves) -> bytes:
    """A PNG, below 100 KB. `curves`: as `progress_file.read_curves` gives them."""
    steps, evaluated = curves.get("step", []), curves.get("eval_step", [])
    parts = [name for name in curves if name.startswith("loss_")]
    losses = [_series(steps, curves, "loss", "loss" if not parts else "sum")]
    losses += [_series(steps, curves, name, name.removeprefix("loss_")) for name in parts]
    # One panel a subject; one without a value is left out when they are drawn.
    charts = [
        Chart("loss", losses, log=True),
        Chart("learning rate", [_series(steps, curves, "learning_rate", "learning rate")]),
        Chart("samples a second", [_series(steps, curves, "samples_per_second", "samples/s")]),
        Chart("gradient norm", [_series(steps, curves, "gradient_norm", "gradient norm")], log=True),
        Chart("peak memory, GB", [_series(steps, curves, "peak_memory_gb", "peak memory")]),
        *(
            Chart(
                f"{title} of test samples",
                [
                    _series(evaluated, curves, f"{metric}_refined", "refined", dots=True),
                    _series(evaluated, curves, f"{metric}_render", "unrefined render", dots=True),
                ],
            )
            for metric, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("lpips", "LPIPS"))
        ),
    ]
    return line_charts(charts)


def _series(x: Sequence[float], curves: Curves, name: str, title: str, *, dots: bool = False) -> Series:
    values = curves.get(name, [])
    # An evaluation without this value leaves the series shorter than its steps: which ones they are is not known.
    return Series(title, x, values, dots) if len(values) == len(x) else Series(title, [], [])


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class StopRequest:
    """Which signal asked, if any did."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Listen while the block runs; the earlier handlers are put back."""
    request = StopRequest()
    earlier = {number: signal.signal(number, request._note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class NotFinite(ThesisAssetsError):
    """The loss or a gradient is not a number: nothing after it can be trusted."""


class AnotherProcessFailed(ThesisAssetsError):
    """The cause is another process's to tell."""


def not_finite(what: str, step: int, sample_ids: Sequence[str]) -> NotFinite:
    """The error of a loss or gradient (`what`) that is not a number at `step`."""
    return NotFinite(
        f"the {what} is not finite at step {step}",
        found="samples " + ", ".join(sample_ids[:8]),
        remedy="look at these samples' images; else lower learning_rate or clip gradients (max_grad_norm), under another "
        "run name. The last checkpoint is intact",
    )


class OutOfMemory(ThesisAssetsError):
    """A step does not fit in the memory of its device."""


def out_of_memory(error: BaseException, step: int, flags: TrainerFlags) -> OutOfMemory:
    """The error of a step that found no memory."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    ways = {
        "halve train_batch_size and double gradient_accumulation_steps (the same batch)": flags.train_batch_size > 1,
        "gradient_checkpointing: true": not flags.gradient_checkpointing,
        "lora_rank_unet: 16 (adapters in place of the whole U-Net)": not flags.lora_rank_unet,
        "mixed_precision: bf16": flags.mixed_precision == "no",
        "crop: 512 (windows of the images), or a lower one": True,
        "a lower resolution": True,
    }
    return OutOfMemory(
        f"step {step} does not fit in memory",
        key="train_batch_size, resolution",
        found=f"{flags.train_batch_size} at {flags.resolution}: {said}",
        remedy="under another run name, one of: "
        + "; ".join(way for way, helps in ways.items() if helps)
        + ". The last checkpoint is intact",
    )


Fault = TypeVar("Fault", InvalidFile, DiskFull)


def at_step(error: Fault, step: int) -> Fault:
    """The error of a sample or a file, with the step it was wanted for."""
    return type(error)(
        f"{error.problem} (at step {step})",
        file=error.file,
        key=error.key,
        found=error.found,
        wanted=error.wanted,
        remedy=error.remedy,
    )
