"""Reading a training's progress from the bar that the script draws with tqdm: step, loss, rate, from the log as it grows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 1024 * 1024
"""Of a log that are read at a time."""

_BAR = re.compile(
    r"(?P<title>[^|\r\n]*?):?\s*(?:\d+%\|[^|]*\|\s*)?(?P<step>\d+)(?:/(?P<total>\d+)|it) \[(?P<inside>\d+:\d\d[^\]]*)\]"
)
_RATE = re.compile(r"(?P<rate>[\d.]+)\s*(?P<unit>it/s|s/it)")
_VALUE = re.compile(r"(?P<name>[A-Za-z_][\w/ ]*?)=(?P<value>[-+]?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?))(?=[,\s\]]|$)", re.I)


@dataclass(frozen=True)
class ToldStep:
    """What one drawing of the bar says. `loss`: the value of that name, else the sum of those that begin so."""

    step: int
    loss: float | None
    learning_rate: float | None
    steps_per_second: float | None


class ProgressBar:
    """Follows a log from its present end.

    Args:
        total: of the training's bar; bars of other lengths (validation, downloads) are passed over.
    """

    def __init__(self, log: Path, total: int) -> None:
        self._log, self._total = log, total
        self._offset = log.stat().st_size if log.is_file() else 0
        self._rest = ""
        self._title: str | None = None

    def new_steps(self) -> Iterator[ToldStep]:
        """The drawings since the last call, whole ones."""
        if not self._log.is_file():
            return
        with self._log.open("rb") as handle:
            handle.seek(self._offset)
            content = handle.read(MAX_BYTES)
        self._offset += len(content)
        *whole, self._rest = re.split(r"[\r\n]", self._rest + content.decode("utf-8", errors="replace"))
        if self._rest.endswith("]"):
            # A bar's last drawing has no end of line.
            whole.append(self._rest)
            self._rest = ""
        for line in whole:
            told = self._read(line)
            if told is not None:
                yield told

    def _read(self, line: str) -> ToldStep | None:
        bar = _BAR.search(line)
        if bar is None:
            return None
        title = bar["title"].strip()
        if bar["total"] is not None and int(bar["total"]) == self._total:
            self._title = title
        elif bar["total"] is not None or title != self._title:
            # Beyond its total a bar has none: it is the training's by its title.
            return None
        values = {found["name"].strip(): float(found["value"]) for found in _VALUE.finditer(bar["inside"])}
        rate = _RATE.search(bar["inside"])
        speed = float(rate["rate"]) if rate else 0.0
        if rate and rate["unit"] == "s/it" and speed:
            speed = 1 / speed
        losses = [value for name, value in values.items() if name.startswith("loss")]
        return ToldStep(
            step=int(bar["step"]),
            loss=values.get("loss", sum(losses) if losses else None),
            learning_rate=values.get("lr", values.get("learning_rate")),
            steps_per_second=speed or None,
        )
