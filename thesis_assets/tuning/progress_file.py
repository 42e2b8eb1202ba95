"""`logs/progress.jsonl`: written by the trainer line by line, read by who follows it while it grows."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from thesis_assets.schemas.tuning import ProgressLine
from thesis_assets.storage import to_json_bytes


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

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._path = path
        self._offset = path.stat().st_size if from_end and path.is_file() else 0

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
