"""The check page: what is to be mended first, with the command that does it; a matrix partition x check; what passed, folded.

Belongs here: how rows are grouped. Does not belong here: where they come from (`graph.check_history`), markup (`templates/check_page.html.j2`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thesis_assets.reports.page import render_page
from thesis_assets.schemas.checks import CheckRow

STATUSES = ("failed", "warning", "running", "passed")
WHOLE = "all"
"""What stands for the partition of an asset without partitions."""


@dataclass(frozen=True)
class CheckGroup:
    """One check with one status, in every partition where it has that."""

    asset: str
    check: str
    status: str
    rows: list[CheckRow]


@dataclass(frozen=True)
class Matrix:
    """The partitions of one kind in one experiment, a line each, and the checks that they have, a column each."""

    columns: list[tuple[str, str]]
    found: dict[tuple[str, str, str], CheckRow] = field(repr=False)

    @property
    def cells(self) -> list[str]:
        return sorted({cell for cell, _, _ in self.found})

    def begins_asset(self, place: int) -> bool:
        """Whether a column is the first of its asset, which stands a little apart."""
        return place == 0 or self.columns[place - 1][0] != self.columns[place][0]


@dataclass(frozen=True)
class CheckedExperiment:
    """All rows of one experiment; `name` is empty for assets without partitions."""

    name: str
    rows: list[CheckRow]

    def count(self, status: str) -> int:
        return sum(row.status == status for row in self.rows)

    @property
    def passed(self) -> list[CheckRow]:
        return [row for row in self.rows if row.status == "passed"]

    @property
    def matrices(self) -> list[Matrix]:
        kinds: dict[int, list[CheckRow]] = {}
        for row in self.rows:
            kinds.setdefault(row.cell.count("|"), []).append(row)
        return [
            Matrix(
                columns=list(dict.fromkeys((row.asset, row.check) for row in rows)),
                found={(row.cell, row.asset, row.check): row for row in rows},
            )
            for _, rows in sorted(kinds.items())
        ]


def render_check_page(
    rows: list[CheckRow], *, not_made: Sequence[Mapping[str, str]] = (), ui_url: str = "", made_at: str = ""
) -> str:
    """The page as HTML text. Checks stand in the order in which `rows` first have them.

    Args:
        not_made: the cells that are not made, in the graph's order: `asset`, `cell`, `state`, `why`, `mend`.
        ui_url: where the web UI is, for the links to runs; empty: their ids are shown without one.
    """
    names = sorted({experiment_of(row) for row in rows})
    return render_page(
        "check_page",
        "Checks",
        made_at=made_at,
        ui_url=ui_url.rstrip("/"),
        n_cells=len({row.cell for row in rows}),
        rows=rows,
        not_made=not_made,
        counts={status: sum(row.status == status for row in rows) for status in STATUSES},
        blocking=sum(row.status == "failed" and row.blocking for row in rows),
        groups=_groups(rows),
        experiments=[CheckedExperiment(name, [row for row in rows if experiment_of(row) == name]) for name in names],
        runs=sorted({part_of(row) for row in rows} - {""}),
        checks=sorted({f"{row.asset}.{row.check}" for row in rows}),
        statuses=STATUSES,
        experiment_of=experiment_of,
        part_of=part_of,
        anchor_of=anchor_of,
    )


def _groups(rows: Sequence[CheckRow]) -> list[CheckGroup]:
    """What has not passed, a group a check: failures first."""
    groups: dict[tuple[str, str, str], list[CheckRow]] = {}
    for row in rows:
        if row.status != "passed":
            groups.setdefault((row.status, row.asset, row.check), []).append(row)
    every = [CheckGroup(asset, check, status, found) for (status, asset, check), found in groups.items()]
    return sorted(every, key=lambda group: STATUSES.index(group.status))


def experiment_of(row: CheckRow) -> str:
    """The experiment of a row's partition; empty for an asset without partitions."""
    return "" if row.cell == WHOLE else row.cell.split("|")[0]


def part_of(row: CheckRow) -> str:
    """The second part of a partition: a run, or a scene."""
    return row.cell.partition("|")[2]


def anchor_of(row: CheckRow) -> str:
    """Names of partitions and checks have letters, digits, `.`, `_`, `-` and `|` alone; of anything else, without its spaces."""
    return f"{row.cell}/{row.asset}.{row.check}".replace(" ", "_")
