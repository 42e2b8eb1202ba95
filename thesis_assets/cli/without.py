"""`run --without exclude.csv`: runs trained once more without some samples, in a fork, and what that did on held-out people.

A fork has the same samples as links, manifests and a data.json of its own, and every check of an experiment: nothing that is frozen
changes, and nothing new has to be guarded. Does not belong here: making the cells (`run`), pairing (`reports`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.cli.console import print_table
from thesis_assets.cli.samples import refuse_unknown
from thesis_assets.errors import InvalidFile, ThesisAssetsError, first_names
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.schemas.evaluation import DifferenceRow

if TYPE_CHECKING:
    from thesis_assets.reports.leaderboard import Leaderboard

UNTIL = "evaluation_manifest"


@dataclass(frozen=True)
class Without:
    """An experiment, some of its runs, and the fork that is without some of its samples.

    Attributes:
        table: the samples that are left out.
        fork: the fork's name: `<exp>-without-<name of the table>`.
    """

    platform: Platform
    exp: str
    runs: Sequence[str]
    table: Path

    @property
    def fork(self) -> str:
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", self.table.name.split(".")[0]).strip("-")
        return f"{self.exp}-without-{name}"

    def declare(self) -> None:
        """Write the fork's files where they are not there yet.

        Raises:
            ThesisAssetsError: a sample is not the experiment's, or the fork is of another table or of other settings.
        """
        from thesis_assets.experiments.writing import fork_experiment
        from thesis_assets.splits.exclusions import as_option, read_exclusions, with_added, write_exclusions

        if not self.table.is_file():
            raise InvalidFile("the file is missing", file=self.table)
        named = read_exclusions(self.table)
        if not named:
            raise InvalidFile("no sample is named", file=self.table, wanted="a line a sample")
        refuse_unknown(self.platform, self.exp, {each.sample_id for each in named})
        folder = self.platform.experiments
        wanted = with_added(self.platform.exclusions(Cell(self.exp)), named)
        if not folder.path(self.fork).is_file():
            fork_experiment(folder.path(self.exp), self.fork)
        if not self.platform.difix(Cell(self.fork)).base.is_dir():
            write_exclusions(folder.exclusions(self.fork), wanted)
        elif as_option(self.platform.exclusions(Cell(self.fork))) != as_option(wanted):
            raise self._another("was made without other samples", folder.exclusions(self.fork))
        spec, of_fork = folder.read(self.exp), folder.read(self.fork)
        same = (spec.generation, spec.split, spec.evaluation) == (of_fork.generation, of_fork.split, of_fork.evaluation)
        if not same or any(spec.runs[name] != of_fork.runs.get(name) for name in self.runs):
            raise self._another("has other settings now", folder.path(self.fork))

    def _another(self, problem: str, file: Path) -> ThesisAssetsError:
        return ThesisAssetsError(
            f"the fork {self.fork} {problem}, and would not answer what is asked",
            file=file,
            wanted=f"{self.exp} as it is, without the samples of {self.table}",
            remedy=f"give the table another name, or lay that fork aside (`thesis-assets archive --exp {self.fork}`) and the table another name",
        )

    def answer(self) -> list[DifferenceRow]:
        """The paired differences of the fork's runs to the experiment's, at the last epoch; those over seeds where there are several."""
        return [row for row in self._board().differences if row.exp_name == self.fork]

    def _board(self) -> Leaderboard:
        """Of both, without differences to the unrefined render."""
        from thesis_assets.graph.scene_facts import baselines_of
        from thesis_assets.operations.report_pages import leaderboard_of
        from thesis_assets.reports.leaderboard import UNREFINED

        pairs = {(self.fork, name): (self.exp, name) for name in self.runs}
        baselines = replace(baselines_of(self.platform), of=pairs, controls={})
        board = leaderboard_of(self.platform, lambda run: run in pairs or run in pairs.values(), baselines).shown()
        paired = [row for row in board.differences if row.exp_name == self.fork and row.against != UNREFINED]
        last = max((row.epoch for row in paired), default=0)
        return replace(board, differences=[row for row in paired if row.epoch == last])

    def say(self) -> None:
        """Print the answer: what was left out, and the differences with their intervals."""
        from thesis_assets.reports.leaderboard_pages import difference_lines
        from thesis_assets.reports.leaderboard_tables import reasons_for_nothing, same_tables

        board = self._board()
        for table, _ in same_tables(board):
            header, *lines = difference_lines(board, table)
            if lines:
                print_table(f"{table.title}: {self.fork} against {self.exp}", header, lines)
            for reason in reasons_for_nothing(board, table):
                print(f"no difference: {reason}")
        for row in self.answer():
            if (row.task, row.metric) == ("nvs", "psnr") and row.difference is not None:
                print(f"{row.run_name}: {self.left_out}: {row.difference:+.3f} dB PSNR{_how_sure(row)}")

    @property
    def left_out(self) -> str:
        """`without 2 of 40 training samples`."""
        from thesis_assets.samples.sample_rows import read_rows

        before, after = (len(read_rows(self.platform.difix(Cell(name)).split_train)) for name in (self.exp, self.fork))
        return f"without {before - after} of {before} training samples"

    def to_json(self) -> dict[str, object]:
        return {
            "exp_name": self.exp,
            "fork": self.fork,
            "left_out": self.left_out,
            "differences": [row.model_dump(mode="json") for row in self.answer()],
        }


def _how_sure(row: DifferenceRow) -> str:
    if row.interval is None:
        return f", {row.n_seeds} of {row.of_seeds} seeds: no interval below three" if row.by_seed is not None else ""
    low, high = row.interval
    over = f"{row.interval_over}, {first_names([*row.by_seed], 5)}" if row.by_seed else row.interval_over
    no_seeds = "" if row.by_seed is not None else "; what another seed does is not known: sweep `seed`"
    return f" (95 % interval {low:+.3f} to {high:+.3f} over {over}{no_seeds})"
