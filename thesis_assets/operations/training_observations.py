"""A running training in the UI: log lines, and observations of the asset whose numbers Dagster plots over time.

Does not belong here: following the trainer's job, or what the finished run's materialization has beyond the same numbers.
"""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dagster as dg

from thesis_assets.graph.cells import Cell
from thesis_assets.layout import TuningRunTree
from thesis_assets.operations.metadata import picture, picture_file, rounded
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.storage import read_json

ASSET = "tuned_checkpoint"
CONTACT_SHEET = "render | refined | target | reference"
LINE_SECONDS = 5.0
"""Between two log lines of single steps: each is a row of the event log."""
OBSERVATION_SECONDS = (5.0, 60.0)
"""Between two observations of single steps, at first and after 20 minutes: a short run has points to plot, and 12 hours are some 750
rows of half a kilobyte."""
LINK_BYTES = 256 * 1024
_WANDB_RUN = re.compile(r"https?://[^\s\"'<>\x1b]+/runs/[\w-]+")


class TrainingWatch:
    """Shows the lines of one trainer as they come."""

    def __init__(
        self,
        log_event: Callable[[dg.AssetObservation], None],
        cell: Cell,
        tree: TuningRunTree,
        report: Callable[[str], None],
    ) -> None:
        self._log_event, self._cell, self._tree, self._report = log_event, cell, tree, report
        self._lines, self._observations = _Intervals(LINE_SECONDS, LINE_SECONDS), _Intervals(*OBSERVATION_SECONDS)
        self._last_step: dict[str, dg.MetadataValue] = {}

    def see(self, line: ProgressLine) -> None:
        """Every event is shown, of the single steps one now and then."""
        if line.event != "step" or self._lines.is_due():
            self._report(f"{self._cell.run_name}: {progress_text(line)}")
        if line.event == "step":
            self._last_step = _numbers(line)
        if line.event in ("start", "eval") or (line.event == "step" and self._observations.is_due()):
            observation = dg.AssetObservation(ASSET, partition=self._cell.key, metadata=self._metadata(line))
            self._log_event(observation)

    def _metadata(self, line: ProgressLine) -> dict[str, dg.MetadataValue]:
        # An evaluation has its last step's numbers too: Dagster breaks a line where an event has no value.
        numbers = {**self._last_step, **_numbers(line)}
        metadata: dict[str, dg.MetadataValue] = {"step": dg.MetadataValue.int(line.step), **numbers}
        if line.event == "start":
            metadata |= {"what": dg.MetadataValue.text(line.message)}
            if self._tree.job.is_file():
                metadata |= job_metadata(self._tree, read_json(self._tree.job, JobRecord))
        if line.event == "eval":
            metadata |= self._pictures(line.step)
        return metadata

    def _pictures(self, step: int) -> dict[str, dg.MetadataValue]:
        from thesis_assets.tuning.progress_file import curves_picture, read_curves

        found: dict[str, dg.MetadataValue] = {"curves": picture(curves_picture(read_curves(self._tree.progress)))}
        if self._tree.eval_contact_sheet(step).is_file():
            found[CONTACT_SHEET] = picture_file(self._tree.eval_contact_sheet(step))
        return found


class _Intervals:
    """Says yes at once, and then once in so many seconds, ever more of them up to a limit."""

    def __init__(self, seconds: float, at_last: float) -> None:
        self._seconds, self._at_last = seconds, at_last
        self._first: float | None = None
        self._last = -math.inf

    def is_due(self) -> bool:
        now = time.monotonic()
        self._first = now if self._first is None else self._first
        if now - self._last < min(self._at_last, max(self._seconds, (now - self._first) / 20)):
            return False
        self._last = now
        return True


def progress_text(line: ProgressLine) -> str:
    """One line as a person reads it."""
    parts = [f"{line.event} {line.step}/{line.max_steps}"]
    if line.loss is not None:
        parts.append(f"loss {line.loss:.5f}")
    if line.learning_rate is not None:
        parts.append(f"lr {line.learning_rate:.2e}")
    if line.samples_per_second is not None:
        parts.append(f"{line.samples_per_second:.1f} samples/s")
    if line.seconds_left is not None:
        parts.append(f"{_duration(line.seconds_left)} left")
    if line.event == "step":  # of its other numbers there are curves
        skipped = line.metrics.get("skipped_steps", 0.0)
        parts += [f"{skipped:.0f} steps skipped"] if skipped else []
    else:
        parts += [f"{name} {value:.3f}" for name, value in line.metrics.items()]
    return ", ".join([*parts, *([line.message] if line.message else [])])


def _duration(seconds: float) -> str:
    """`42 s`, `3 min`, `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _numbers(line: ProgressLine) -> dict[str, dg.MetadataValue]:
    """The line's numbers, by names that the materialization has too, so that a plot goes on to it."""
    values: dict[str, float | None] = {
        "loss": line.loss,
        "learning rate": line.learning_rate,
        "samples/s": line.samples_per_second,
        "minutes left": None if line.seconds_left is None else line.seconds_left / 60,
        **{_title(name): value for name, value in line.metrics.items()},
    }
    return {name: rounded(value) for name, value in values.items() if value is not None}


def final_numbers(curves: Mapping[str, Sequence[float]]) -> dict[str, dg.MetadataValue]:
    """The last finite value of each curve, by the names of the observations; the mean of samples a second."""
    found: dict[str, dg.MetadataValue] = {}
    for name, values in curves.items():
        finite = [value for value in values if math.isfinite(value)]
        if name in ("step", "eval_step") or not finite:
            continue
        value = sum(finite) / len(finite) if name == "samples_per_second" else finite[-1]
        found[_title(name)] = rounded(value)
    if curves.get("step"):
        found["step"] = dg.MetadataValue.int(int(curves["step"][-1]))
    return found


def _title(name: str) -> str:
    return {"learning_rate": "learning rate", "samples_per_second": "samples/s"}.get(name, name.replace("_", " "))


def job_metadata(tree: TuningRunTree, job: JobRecord) -> dict[str, dg.MetadataValue]:
    """Where a run executes, or executed: launcher, host, job, logs; and the page of its curves, where it has one."""
    found: dict[str, dg.MetadataValue] = {
        "launcher": dg.MetadataValue.text(job.launcher),
        "host": dg.MetadataValue.text(job.host),
        "job id": dg.MetadataValue.text(job.scheduler_id or job.job_id or ""),
        "stdout": dg.MetadataValue.path(job.stdout),
        "stderr": dg.MetadataValue.path(job.stderr),
    }
    link = _tracker_page(tree) or _wandb_page(Path(job.stderr)) or _wandb_page(Path(job.stdout))
    return found | ({"tracker": dg.MetadataValue.url(link)} if link else {})


def _tracker_page(tree: TuningRunTree) -> str | None:
    """What our trainers say themselves."""
    from thesis_assets.tuning.progress_file import ProgressReader

    pages = [line.tracker_url for line in ProgressReader(tree.progress).new_lines() if line.tracker_url]
    return pages[-1] if pages else None


def _wandb_page(log: Path) -> str | None:
    """What wandb writes into the log of a script that is not ours."""
    if not log.is_file():
        return None
    with log.open("rb") as handle:
        head = handle.read(LINK_BYTES).decode("utf-8", errors="replace")
    found = _WANDB_RUN.search(head)
    return found[0] if found else None
