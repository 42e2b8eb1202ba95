"""What is done of evaluated scenes, epoch by epoch, and what came of it; how the views of an epoch are shared out to workers.

An epoch that fails leaves the others. Workers write below stagings that the epoch's course made, and publish nothing themselves.
Does not belong here: what is done of an epoch, where workers run (`launch`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.units import absent_tasks
from thesis_assets.evaluation.views import View
from thesis_assets.launch.mapping import Course
from thesis_assets.provenance import Contents

Record = TypeVar("Record")

VIEWS_A_WORKER = 24
"""Are worth the start of one."""


@dataclass(frozen=True)
class SceneEpochs:
    """An evaluated scene and those of its epochs that are worked on: an item of a map."""

    cell: EvaluationCell
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Outcomes(Generic[Record]):
    """What came of the scenes.

    Attributes:
        records: by scene and epoch, also of those that were current already.
        failed: scene to the reasons why it is not whole.
        absent: scene to the reason why it cannot have the task.
    """

    records: dict[tuple[str, int], Record] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def fail(self, scene_name: str, error: object) -> None:
        """Remember a failure, each reason once."""
        reasons = self.failed.setdefault(scene_name, [])
        if str(error) not in reasons:
            reasons.append(str(error))

    @contextlib.contextmanager
    def of_scene(self, cell: EvaluationCell) -> Iterator[None]:
        """What fails meanwhile is a failure of the scene's."""
        try:
            yield
        except ThesisAssetsError as error:
            self.fail(cell.scene.name, error)

    def epochs_with(self, task: str, work: SceneEpochs) -> tuple[int, ...]:
        """The epochs of a scene; none where it cannot have a task, which is entered with the reason."""
        absent = absent_tasks(work.cell)
        if task in absent:
            self.absent[work.cell.scene.name] = absent[task]
            return ()
        return work.epochs

    def raise_failures(self) -> None:
        """Raise where any scene failed.

        Raises:
            ThesisAssetsError: with every failed scene and its reasons.
        """
        if self.failed:
            raise ThesisAssetsError(
                "scenes failed; the others are in place",
                found="\n".join(f"{name}: {'; '.join(reasons)}" for name, reasons in sorted(self.failed.items())),
            )


def joined(parts: Iterable[Outcomes[Any] | Exception]) -> Outcomes[Any]:
    """The outcomes of several scenes and epochs as one.

    Raises:
        Exception: what one of them raised: no failure of a scene.
    """
    whole: Outcomes[Any] = Outcomes()
    for part in parts:
        if isinstance(part, Exception):
            raise part
        whole.records.update(part.records)
        whole.absent.update(part.absent)
        for scene_name, reasons in part.failed.items():
            for reason in reasons:
                whole.fail(scene_name, reason)
    return whole


def each_epoch(
    work: SceneEpochs, task: str, of_epoch: Callable[[EvaluationCell, int, Contents], Course[Record]]
) -> Course[Outcomes[Record]]:
    """Do one thing of every epoch of a scene, where the scene can have a task."""
    outcomes: Outcomes[Record] = Outcomes()
    contents = Contents()
    epochs: tuple[int, ...] = ()
    with outcomes.of_scene(work.cell):
        epochs = outcomes.epochs_with(task, work)
    for epoch in epochs:
        with outcomes.of_scene(work.cell):
            outcomes.records[work.cell.scene.name, epoch] = yield from of_epoch(work.cell, epoch, contents)
    return outcomes


def split_by_camera(views: Sequence[View], n_shares: int) -> list[tuple[View, ...]]:
    """At most `n_shares` parts of about one number of cameras; a camera's views stay together."""
    return _split(views, n_shares, lambda view: view.cam_id)


def split_by_frame(views: Sequence[View], n_shares: int) -> list[tuple[View, ...]]:
    """At most `n_shares` parts of about one number of frames; a frame's views stay together, and so do those of one batch."""
    return _split(views, n_shares, lambda view: int(view.fname))


def _split(views: Sequence[View], n_shares: int, key: Callable[[View], int]) -> list[tuple[View, ...]]:
    keys = sorted({key(view) for view in views})
    count = max(1, min(n_shares, len(keys)))
    part = {each: place * count // len(keys) for place, each in enumerate(keys)}
    return [tuple(view for view in views if part[key(view)] == number) for number in range(count)]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch sum on one core: its last bits, and so a pixel's rounding, depend on the number of cores that share a sum.

    Workers share the cores, not the sums: the same bytes come of any number of them.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
