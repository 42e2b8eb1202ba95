"""Two runs frame by frame: every frame that both measured under one protocol, and pictures of those one wants to see most.

Does not belong here: what stands on the page and how it looks (`compare_page`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.measured_tasks import (
    MeasuredRun,
    MeasuredTask,
    RunKey,
    SceneFacts,
    each_once,
    measured_run,
)
from thesis_assets.evaluation.metric_tables import Row
from thesis_assets.layout import EvaluationTree, frame_name
from thesis_assets.provenance import MadeFrom, Place, forget_stats, recorded
from thesis_assets.reports.leaderboard import UNREFINED, UNREFINED_EPOCH, run_differences, why_not_paired
from thesis_assets.reports.page import data_uri
from thesis_assets.schemas.evaluation import DifferenceRow
from thesis_assets.storage import sha256_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Trees = Mapping[str, EvaluationTree]
"""Scene name to tree."""


@dataclass(frozen=True)
class ComparedFrame:
    """One view: both measurements, the difference of the metric it is sorted by, and its three images on disk."""

    scene_name: str
    cam_id: int
    fname: str
    baseline: Row
    tuned: Row
    difference: float | None
    images: tuple[Path, Path, Path]
    """Baseline, tuned, truth: the 8-bit images that entered the metric."""
    places: tuple[Place, Place, Place]
    """By image whose record names it."""


@dataclass(frozen=True)
class ComparedRuns:
    """A run and what it is compared with, at one epoch.

    Attributes:
        metric: `psnr`, or `psnr_channel_sum` where only that was measured.
        baseline_name: as a person reads it: `baseline`, `v0/baseline`, `unrefined`.
        frames: worst first.
        differences: over scenes, by (task, metric).
        left_out: scene to the reason why it is not compared.
        seen: scenes of people that a run was trained on: marked, and in no mean with the others.
        moved: scene to what moved since its numbers were made.
        leaked: what stands on both sides of the data that a run was trained on; empty: nothing.
    """

    exp_name: str
    run_name: str
    baseline_name: str
    epoch: int
    step: int | None
    metric: str
    frames: list[ComparedFrame]
    differences: list[DifferenceRow]
    scenes: list[str]
    protocol: dict[str, object]
    values: dict[tuple[str, str, str], tuple[float | None, float | None]]
    """By (scene, task, metric): baseline and tuned."""
    left_out: dict[str, str] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    moved: dict[str, str] = field(default_factory=dict)
    leaked: str = ""

    @property
    def counted(self) -> list[str]:
        """The scenes that means are over: those of unseen people, where there are any."""
        return [scene for scene in self.scenes if scene not in self.seen] or self.scenes

    @property
    def counts_seen(self) -> bool:
        """Whether there is nobody to report on but people that a run was trained on."""
        return bool(self.seen) and self.counted == self.scenes


def compare_runs(
    tuned: tuple[RunKey, Trees],
    baseline: tuple[RunKey, Trees] | None,
    epoch: int | None = None,
    facts: Mapping[Path, SceneFacts] | None = None,
    *,
    is_control: bool = False,
) -> ComparedRuns:
    """Pair two runs, or a run with its own unrefined renders.

    Args:
        baseline: None compares with epoch 0 of the run itself.
        epoch: None takes the last one that both have.
        facts: see `measured_run`.
        is_control: the baseline is the run's control.

    Raises:
        InvalidFile: nothing of the two may be compared; the message has the reason of each scene.
    """
    run = measured_run(tuned[0], list(tuned[1].values()), facts)
    other = run if baseline is None else measured_run(baseline[0], list(baseline[1].values()), facts)
    name = _name(tuned[0], None if baseline is None else baseline[0])
    chosen = _epoch(run, other, epoch, itself=baseline is None)
    there = UNREFINED_EPOCH if baseline is None else chosen
    here_tasks, there_tasks = run.tasks.get(("nvs", chosen), {}), other.tasks.get(("nvs", there), {})
    left_out = {
        scene: reason
        for scene in sorted(here_tasks.keys() | there_tasks.keys())
        if (reason := _why_not(here_tasks.get(scene), there_tasks.get(scene))) is not None
    }
    scenes = [scene for scene in sorted(here_tasks) if scene not in left_out]
    if not scenes:
        raise InvalidFile(
            f"there is nothing to compare of {tuned[0][1]} and {name} at epoch {chosen}",
            found="; ".join(f"{scene}: {reason}" for scene, reason in left_out.items()) or "no evaluated scene",
            wanted="one scene at least that both measured over the same cameras and frames under one protocol",
            remedy="evaluate both runs (`thesis-assets run`), or name another run or epoch",
        )
    metric = "psnr" if here_tasks[scenes[0]].stated else "psnr_channel_sum"
    trees = (tuned[1] if baseline is None else baseline[1], tuned[1])
    frames = [
        frame
        for scene in scenes
        for frame in _frames(scene, trees, (there, chosen), there_tasks[scene], here_tasks[scene], metric)
    ]
    ordered = sorted(frames, key=lambda each: (each.difference is None, each.difference or 0.0))
    return ComparedRuns(
        *(*tuned[0], name, chosen, here_tasks[scenes[0]].step, metric, ordered),
        differences=_differences(run, other, chosen, scenes, itself=baseline is None, is_control=is_control),
        scenes=scenes,
        protocol=dict(here_tasks[scenes[0]].of_all_scenes),
        values=dict(_values(run, other, (there, chosen), scenes)),
        left_out=left_out,
        seen=frozenset(scene for scene in scenes if here_tasks[scene].seen or there_tasks[scene].seen),
        moved={
            scene: moved
            for scene in scenes
            if (moved := each_once([here_tasks[scene].moved, there_tasks[scene].moved]))
        },
        leaked=each_once(task.leaked for scene in scenes for task in (here_tasks[scene], there_tasks[scene])),
    )


def _name(tuned: RunKey, baseline: RunKey | None) -> str:
    if baseline is None:
        return UNREFINED
    return baseline[1] if baseline[0] == tuned[0] else "/".join(baseline)


def _epoch(run: MeasuredRun, other: MeasuredRun, epoch: int | None, *, itself: bool) -> int:
    epochs = {at for task, at in run.tasks if task == "nvs"} - ({UNREFINED_EPOCH} if itself else set())
    shared = epochs if itself else epochs & {at for task, at in other.tasks if task == "nvs"}
    if (epoch is None and not shared) or (epoch is not None and epoch not in shared):
        raise InvalidFile(
            "the epoch is not measured on both sides" if epoch is not None else "no epoch is measured on both sides",
            key="epoch",
            found=epoch,
            wanted=", ".join(map(str, sorted(shared))) or "an evaluated epoch of novel views in each",
            remedy="evaluate both runs first (`thesis-assets run`)",
        )
    return max(shared) if epoch is None else epoch


def _why_not(here: MeasuredTask | None, there: MeasuredTask | None) -> str | None:
    if here is None:
        return "this run did not measure it"
    return why_not_paired(here, there)


def _frames(
    scene: str,
    trees: tuple[Trees, Trees],
    epochs: tuple[int, int],
    before: MeasuredTask,
    after: MeasuredTask,
    metric: str,
) -> Iterator[ComparedFrame]:
    tasks = [by_scene[scene].task(epoch, "nvs") for by_scene, epoch in zip(trees, epochs, strict=True)]
    before_at, after_at = (Place(task.base, task.made_from) for task in tasks)
    for name, row in after.rows.items():
        key = (int(row["camera_id"] or 0), frame_name(int(row["frame_id"] or 0)))
        value, was = row[metric], before.rows[name][metric]
        images = (tasks[0].pred_image(*key), tasks[1].pred_image(*key), tasks[1].gt_image(*key))
        difference = None if value is None or was is None else value - was
        yield ComparedFrame(scene, *key, before.rows[name], row, difference, images, (before_at, after_at, after_at))


def _differences(
    run: MeasuredRun, other: MeasuredRun, epoch: int, scenes: Sequence[str], *, itself: bool, is_control: bool
) -> list[DifferenceRow]:
    """Over the compared scenes alone."""

    def shown(each: MeasuredRun) -> MeasuredRun:
        tasks = {
            place: {scene: task for scene, task in of_scene.items() if scene in scenes}
            for place, of_scene in each.tasks.items()
            if place[1] in (epoch, UNREFINED_EPOCH)
        }
        return replace(each, tasks={place: of_scene for place, of_scene in tasks.items() if of_scene})

    rows = run_differences(shown(run), None if itself else shown(other), is_control=is_control)
    return [row for row in rows if row.epoch == epoch and (row.against == UNREFINED) == itself]


def _values(
    run: MeasuredRun, other: MeasuredRun, epochs: tuple[int, int], scenes: Sequence[str]
) -> Iterator[tuple[tuple[str, str, str], tuple[float | None, float | None]]]:
    for (task, epoch), of_scene in run.tasks.items():
        if epoch != epochs[1]:
            continue
        before = other.tasks.get((task, epochs[0]), {})
        for scene in scenes:
            if scene in of_scene and scene in before:
                for metric in of_scene[scene].metrics:
                    yield (scene, task, metric), (before[scene].mean(metric), of_scene[scene].mean(metric))


JPEG_QUALITY = 88
MAX_SIDE = 720
"""Pixels of the longer side: a metric image of a 940 x 1280 photograph, halved, fits as it is."""
EXACT_SIDE = 160
"""Pictures up to this size are shown much enlarged, where one sees what JPEG adds: they are PNG."""


@dataclass(frozen=True)
class Pictures:
    """`by_frame`: place in the list of frames -> baseline, tuned and truth as data addresses.

    `unreadable`: place -> why it has none. `scale`: of the shown to the measured size, below 1 where pictures were made smaller.
    `exact`: all are the very pixels that were measured; else some are JPEG.
    """

    by_frame: dict[int, tuple[str, str, str]]
    n_bytes: int
    scale: float
    unreadable: dict[int, str]
    exact: bool


def picture_order(frames: Sequence[ComparedFrame]) -> list[int]:
    """Places in `frames` (worst first) by how much one wants to see them: each scene's worst, then worst, best and evenly between."""
    first: dict[str, int] = {}
    for place, frame in enumerate(frames):
        first.setdefault(frame.scene_name, place)
    worst = iter(range(len(frames)))
    best = iter(range(len(frames) - 1, -1, -1))
    between = iter(_halving(len(frames)))
    order: dict[int, None] = dict.fromkeys(first.values())
    for _ in range(len(frames)):
        chosen = [next(source, None) for source in (worst, worst, best, between)]
        order |= dict.fromkeys(place for place in chosen if place is not None)
        if len(order) == len(frames):
            break
    return list(order)


def _halving(n: int) -> list[int]:
    """0 .. n-1 so that every beginning of the list is spread evenly: by the bits of the place, reversed."""
    bits = max(1, (n - 1).bit_length())
    return [place for k in range(2**bits) if (place := int(f"{k:0{bits}b}"[::-1], 2)) < n]


def embed_pictures(
    frames: Sequence[ComparedFrame],
    *,
    max_frames: int,
    max_bytes: int,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Pictures:
    """Encode pictures in `picture_order` until either bound is met.

    Args:
        max_bytes: of all pictures as text in the page.
    """
    by_frame: dict[int, tuple[str, str, str]] = {}
    unreadable: dict[int, str] = {}
    total, scale, exact = 0, 1.0, True
    named: dict[Path, MadeFrom | None] = {}
    for place in picture_order(frames):
        if len(by_frame) >= max_frames:
            break
        try:
            _refuse_other_bytes(frames[place], named)
            images, factor = _encoded(frames[place].images)
        except InvalidFile as error:  # a picture to look at: the frame's numbers are shown without it
            unreadable[place] = f"{error.problem}: {error.file}"
            continue
        size = sum(map(len, images))
        if total + size > max_bytes:
            break
        by_frame[place], total, scale = images, total + size, min(scale, factor)
        exact = exact and not any(image.startswith("data:image/jpeg") for image in images)
        if len(by_frame) % 50 == 0:
            on_progress(f"{len(by_frame)} frames have their pictures, {total / 1e6:.0f} MB")
    return Pictures(by_frame, total, scale, unreadable, exact)


def _refuse_other_bytes(frame: ComparedFrame, named: dict[Path, MadeFrom | None]) -> None:
    """`named`: records that were read already, by their files."""
    for path, place in zip(frame.images, frame.places, strict=True):
        if place.record not in named:
            named[place.record] = recorded(place)
        record = named[place.record]
        wanted = None if record is None else record.output(place.name(path))
        if record is not None and path.is_file() and (wanted is None or sha256_file(path) != wanted.sha256):
            forget_stats(place)
            raise InvalidFile("the picture is not the one that was measured", file=path)


def _encoded(paths: tuple[Path, Path, Path]) -> tuple[tuple[str, str, str], float]:
    from thesis_assets.images.codecs import encode_jpeg, encode_png, read_rgb

    texts, factor = [], 1.0
    for path in paths:
        pixels, factor = _fitted(read_rgb(path))
        if max(pixels.shape) <= EXACT_SIDE:
            texts.append(data_uri(encode_png(pixels, "pillow"), "image/png"))
        else:
            texts.append(data_uri(encode_jpeg(pixels, JPEG_QUALITY), "image/jpeg"))
    return (texts[0], texts[1], texts[2]), factor


def _fitted(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    import numpy as np
    from PIL import Image

    height, width = pixels.shape[:2]
    factor = MAX_SIDE / max(height, width)
    if factor >= 1:
        return pixels, 1.0
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)), factor
