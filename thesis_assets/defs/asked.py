"""What sensors have asked for: each cell once for the inputs it would be made from, neighbours in one run.

A run that failed is not asked for again until something it is made from has moved: a wrong scene is as wrong the second time.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import dagster as dg

from thesis_assets.defs.history import RANGE_END, RANGE_START
from thesis_assets.defs.jobs import Level
from thesis_assets.defs.levels import contiguous
from thesis_assets.defs.partitions import PARTITIONS, Cell
from thesis_assets.storage import sha256_value

ASKED_BY = "thesis_assets/asked_by"


@dataclass(frozen=True)
class Wish:
    """One cell of a level that a sensor would have made, and the digest of what it would be made from."""

    level: Level
    assets: tuple[str, ...]
    cell: Cell
    digest: str


@dataclass
class Asked:
    """A sensor's memory. It holds cells that are asked for and not made yet, so it stays small."""

    cells: dict[str, str] = field(default_factory=dict)
    """`<job> <cell>` to digest."""
    scenes: dict[str, list[str]] = field(default_factory=dict)
    """See `ready_scenes.ReadyScenes.known`."""
    place: int = 0
    """Where a look at all cells, which takes several ticks, goes on."""

    @classmethod
    def parse(cls, cursor: str | None) -> "Asked":
        """Read a cursor; one that is not ours counts as none."""
        if not cursor:
            return cls()
        try:
            return cls(**json.loads(cursor))
        except (ValueError, TypeError):
            return cls()

    def dump(self) -> str:
        return json.dumps(self.__dict__, separators=(",", ":"))

    def new(self, wishes: Iterable[Wish]) -> list[Wish]:
        """The wishes that were not asked for with the same digest; they count as asked from now on."""
        new = [wish for wish in wishes if self.cells.get(_name(wish)) != wish.digest]
        self.cells |= {_name(wish): wish.digest for wish in new}
        return new

    def forget(self, is_over: Callable[[str, str], bool]) -> None:
        """Drop the cells for which `is_over(job, key)` says so."""
        self.cells = {name: digest for name, digest in self.cells.items() if not is_over(*name.split(" ", 1))}


def _name(wish: Wish) -> str:
    return f"{wish.level.job} {wish.cell}"


def run_requests(instance: dg.DagsterInstance, wishes: Sequence[Wish], *, asked_by: str) -> list[dg.RunRequest]:
    """One run for each contiguous range of an experiment's scenes, and one for each cell of the other levels.

    The run key has the digest of what is made from what: Dagster never runs a key twice.
    """
    by_scene = {wish.cell: wish for wish in wishes if wish.level.kind == "exp_by_scene"}
    groups = [[by_scene[cell] for cell in cells] for cells in contiguous(instance, list(by_scene))]
    groups += [[wish] for wish in wishes if wish.level.kind != "exp_by_scene"]
    return [_request(group, asked_by) for group in groups]


def _request(group: Sequence[Wish], asked_by: str) -> dg.RunRequest:
    first, last = group[0], group[-1]
    digest = sha256_value([[str(wish.cell), wish.digest, wish.assets] for wish in group])[:16]
    name = str(first.cell) if len(group) == 1 else f"{first.cell}..{last.cell}"
    # As tags, not as `partition_key`: Dagster 1.13 cannot look keys of two dynamic dimensions up while it resolves a tick.
    definition = PARTITIONS[first.level.kind]
    assert definition is not None, "only levels with partitions are asked for"
    if len(group) > 1:
        tags = {RANGE_START: str(first.cell.key), RANGE_END: str(last.cell.key)}
    else:
        tags = dict(definition.get_tags_for_partition_key(first.cell.key or ""))
    return dg.RunRequest(
        run_key=f"{first.level.job}:{name}:{digest}",
        job_name=first.level.job,
        asset_selection=[dg.AssetKey(asset) for asset in first.assets] if first.assets != first.level.assets else None,
        tags={**tags, ASKED_BY: asked_by},
    )
