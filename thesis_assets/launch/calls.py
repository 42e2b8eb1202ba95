"""Calls: one function over several items, each a piece of work that may run elsewhere, in any order, and be found again.

    outcomes = launcher.run_calls(export_told_shard, [Call(scene, work, digest, tree.job(f"shard-{scene}")) for ...])

The function is importable by name, the items are picklable, and calling it twice for one item does no harm: what is done is kept.
It says how far it is by `telling.tell`. Does not belong here: where calls run (`local_jobs`, `slurm_calls`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from thesis_assets.launch.jobs import Following, Launcher, Resources
from thesis_assets.layout import JobTree

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Call(Generic[Item]):
    """One item.

    Attributes:
        name: shown in the cluster's queue and in messages.
        digest: of what the answer depends on. A job that an earlier caller left is followed where its digest is this one.
        place: where its record, its answer and what it tells lie; no other call has it.
    """

    name: str
    item: Item
    digest: str
    place: JobTree


@dataclass(frozen=True)
class Calling(Generic[Item, Result]):
    """How calls are made.

    Attributes:
        workers: calls at once on this host. A cluster has a cap of its own.
        resources: of each call.
        on_done: called in this process as each call ends, in the order they end.
        on_line: called in this process with what the calls tell.
    """

    workers: int = 1
    resources: Resources = field(default_factory=Resources)
    on_done: Callable[[Item, Result | Exception], None] | None = None
    on_line: Callable[[str], None] | None = None
    following: Following = field(default_factory=Following)


class CallLauncher(Launcher, Protocol):
    """Where calls run, besides jobs."""

    def run_calls(
        self,
        function: Callable[[Item], Result],
        calls: Sequence[Call[Item]],
        calling: Calling[Item, Result] = ...,
    ) -> list[Result | Exception]:
        """Call `function` on every item; return its results, or the exception an item raised, in the order of `calls`.

        An interrupt ends the calls, unless `calling.following.leave_running` says otherwise and they run elsewhere.

        Raises:
            ThesisAssetsError: the place cannot give what the calls need.
        """
        ...
