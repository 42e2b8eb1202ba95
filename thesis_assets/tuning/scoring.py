"""Test samples, and how refiners score on them: PSNR, SSIM and, where asked for, LPIPS beside those of the unrefined render.

Which samples are scored (a fair few over people and cameras), their numbers at native size, and what the evaluation of a step
leaves: `eval/metrics_<step>.csv` and `eval/contact_sheet_<step>.png`.
"""

from __future__ import annotations

import csv
import io
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.images.lpips_files import find_lpips
from thesis_assets.layout import DifixTree, SampleId, TuningRunTree
from thesis_assets.samples.sample_rows import group_key
from thesis_assets.schemas.samples import DataJsonEntry, SampleRow
from thesis_assets.schemas.tuning import EVAL_COLUMNS, CheckpointScore, TrainConfig
from thesis_assets.storage import read_jsonl, write_bytes, write_text
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.progress_file import TrainerReport
from thesis_assets.tuning.refine import load_refiner
from thesis_assets.tuning.trained_model import RefinesImages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.perceptual import Lpips, Target

    Image = NDArray[np.uint8]


@dataclass(frozen=True)
class HeldOutSample:
    """One test sample.

    Attributes:
        group: `<dataset>/<group_id>`; empty where a foreign data.json does not say.
        recorded: sha256 of the three images; None where one has no record.
    """

    sample_id: str
    group: str
    camera: int | None
    render: Path
    target: Path
    reference: Path
    recorded: tuple[str | None, ...] = (None, None, None)

    @property
    def images(self) -> tuple[Path, Path, Path]:
        return self.render, self.target, self.reference


def with_records(samples: Sequence[HeldOutSample], recorded: Mapping[str, str]) -> list[HeldOutSample]:
    """The samples with the digests that their images must have.

    Args:
        recorded: sha256 by path (`splits.snapshot_guard.recorded_images`).
    """
    return [
        replace(sample, recorded=tuple(recorded.get(str(path.absolute())) for path in sample.images))
        for sample in samples
    ]


def from_rows(tree: DifixTree, rows: Sequence[SampleRow]) -> list[HeldOutSample]:
    """The samples of manifest rows."""
    return [
        HeldOutSample(
            sample_id=row.sample_id,
            group=group_key(row),
            camera=row.target_cam_id,
            render=tree.base / row.image_path,
            target=tree.base / row.target_image_path,
            reference=tree.base / row.ref_image_path,
        )
        for row in rows
    ]


def from_data_json(path: Path, entries: Mapping[str, DataJsonEntry]) -> list[HeldOutSample]:
    """The samples of a data.json's test half, or of the other where that is empty. Groups come from the manifest beside it."""
    groups = _groups_beside(path)
    return [
        HeldOutSample(
            sample_id=sample_id,
            group=groups.get(sample_id, ""),
            camera=_camera(sample_id),
            render=Path(entry.image),
            target=Path(entry.target_image),
            reference=Path(str(entry.ref_image)),
        )
        for sample_id, entry in entries.items()
    ]


def stratified(samples: Sequence[HeldOutSample], limit: int, seed: int) -> list[HeldOutSample]:
    """At most `limit` samples, as even as can be over (group, camera), drawn by `seed`; in order of their ids.

    The order of `samples` has no influence.
    """
    strata: dict[tuple[str, int], list[HeldOutSample]] = {}
    for sample in sorted(samples, key=lambda one: one.sample_id):
        strata.setdefault((sample.group, -1 if sample.camera is None else sample.camera), []).append(sample)
    generator = random.Random(seed)  # noqa: S311 - a draw of samples, no secret
    for _, stratum in sorted(strata.items()):
        generator.shuffle(stratum)
    drawn: list[HeldOutSample] = []
    turns = [list(stratum) for _, stratum in sorted(strata.items())]
    while len(drawn) < limit and turns:
        if len(turns) > limit - len(drawn):
            # The last turn does not reach every stratum: which ones it reaches is drawn too.
            turns = generator.sample(turns, limit - len(drawn))
        drawn += [stratum.pop() for stratum in turns]
        turns = [stratum for stratum in turns if stratum]
    return sorted(drawn, key=lambda one: one.sample_id)


def _groups_beside(data_json: Path) -> dict[str, str]:
    if data_json.parent.name != "difix":
        return {}
    tree = DifixTree(data_json.parents[2], data_json.parents[1].name)
    manifests = [path for path in (tree.split_test, tree.split_train) if path.is_file() and path.stat().st_size > 0]
    rows = (SampleRow.model_validate(row) for path in manifests[:1] for row in read_jsonl(path))
    return {row.sample_id: group_key(row) for row in rows}


def _camera(sample_id: str) -> int | None:
    try:
        return SampleId.parse(sample_id, accept_older=True).target_cam_id
    except InvalidKey:
        return None


Numbers = tuple[float, float | None, float | None]
"""PSNR, SSIM and LPIPS of one image."""


@dataclass(frozen=True)
class SampleScore:
    """One sample under one refiner. SSIM is None for an image with a side below its window of 11 pixels; LPIPS below
    16, and where it was not asked for."""

    sample_id: str
    group: str
    psnr_render: float
    psnr_refined: float
    ssim_render: float | None
    ssim_refined: float | None
    lpips_render: float | None = None
    lpips_refined: float | None = None


@dataclass(frozen=True)
class ShownSample:
    """The images of one sample, (H, W, 3) uint8 each, for a contact sheet."""

    sample_id: str
    render: Image
    refined: Image
    target: Image
    reference: Image


def score_samples(
    refiners: Mapping[int, RefinesImages],
    samples: Sequence[HeldOutSample],
    *,
    lpips: Lpips | None = None,
    unrefined: dict[str, Numbers] | None = None,
    on_sample: Callable[[int, dict[int, ShownSample]], None] | None = None,
) -> dict[int, list[SampleScore]]:
    """Score every refiner on every sample, in the samples' order. Each sample is decoded once.

    Refined images are rounded to 8 bit first, as they are when written.

    Args:
        refiners: by step.
        lpips: None leaves LPIPS out.
        unrefined: what is known of renders, by sample; what is found is added, for the next call with the same samples.
        on_sample: called after each sample with its place and its images by step.

    Raises:
        InvalidFile: an image cannot be read; the message has the sample.
    """
    scores: dict[int, list[SampleScore]] = {step: [] for step in refiners}
    known = {} if unrefined is None else unrefined
    for place, sample in enumerate(samples):
        shown = dict(_refined(refiners, sample))
        for step, score in _scores(sample, shown, lpips, known):
            scores[step].append(score)
        if on_sample:
            on_sample(place, shown)
    return scores


def _refined(refiners: Mapping[int, RefinesImages], sample: HeldOutSample) -> Iterator[tuple[int, ShownSample]]:
    import torch

    from thesis_assets.images.quantise import quantise, to_host
    from thesis_assets.tuning.triplets import read_images

    files = list(zip(sample.images, sample.recorded, strict=True))
    render, target, reference = read_images(sample.sample_id, files)
    renders, references = (torch.from_numpy(one).permute(2, 0, 1)[None].float() / 255 for one in (render, reference))
    for step, refiner in refiners.items():
        refined = to_host(quantise(refiner.refine(renders, references)))[0]
        yield step, ShownSample(sample.sample_id, render, refined, target, reference)


def _scores(
    sample: HeldOutSample, shown: Mapping[int, ShownSample], lpips: Lpips | None, known: dict[str, Numbers]
) -> Iterator[tuple[int, SampleScore]]:
    # The target's features serve the render and every refined image.
    target = lpips.against(next(iter(shown.values())).target) if lpips is not None and shown else None
    for step, images in shown.items():
        if sample.sample_id not in known:
            known[sample.sample_id] = _compare(images.render, images.target, target)
        before, after = known[sample.sample_id], _compare(images.refined, images.target, target)
        pairs = (number for both in zip(before, after, strict=True) for number in both)
        yield step, SampleScore(sample.sample_id, sample.group, *pairs)  # type: ignore[arg-type]


def _compare(image: Image, target: Image, features: Target | None) -> Numbers:
    from thesis_assets.images.metrics import psnr, ssim

    value = psnr(image, target)
    assert value is not None  # without a region there always is a pixel
    return value, ssim(image, target), features.distance(image) if features is not None else None


def mean_score(step: int, scores: Sequence[SampleScore]) -> CheckpointScore:
    """Means over the samples; SSIM and LPIPS over those that have one. None where none has."""
    return CheckpointScore(
        step=step,
        n_samples=len(scores),
        psnr=statistics.fmean(score.psnr_refined for score in scores),
        psnr_render=statistics.fmean(score.psnr_render for score in scores),
        ssim=_mean([score.ssim_refined for score in scores]),
        ssim_render=_mean([score.ssim_render for score in scores]),
        lpips=_mean([score.lpips_refined for score in scores]),
        lpips_render=_mean([score.lpips_render for score in scores]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present else None


def _write_score_table(path: Path, scores: Sequence[SampleScore]) -> None:
    """`eval/metrics_<step>.csv`: a row a sample; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EVAL_COLUMNS)
    for score in scores:
        numbers = (
            *(score.psnr_render, score.psnr_refined, score.ssim_render, score.ssim_refined),
            *(score.lpips_render, score.lpips_refined),
        )
        writer.writerow([score.sample_id, score.group, *("" if n is None else f"{n:.6f}" for n in numbers)])
    write_text(path, text.getvalue())


ROWS = 4
"""Samples on a contact sheet."""


def mean_psnr(path: Path) -> float:
    """Of the refined images in a table of an evaluation."""
    with path.open(newline="") as handle:
        return statistics.fmean(float(row["psnr_refined"]) for row in csv.DictReader(handle))


def of_groups(samples: Sequence[HeldOutSample], groups: str | None) -> list[HeldOutSample]:
    """The samples of validation groups, `<dataset>/<group_id>`, comma separated; None: all."""
    return [sample for sample in samples if groups is None or sample.group in groups.split(",")]


def who_is_scored(samples: Sequence[HeldOutSample], groups: str | None) -> str:
    """In words, for the line of an evaluation."""
    whose = f"of {groups}" if groups is not None else "of reported people; nothing may be chosen by it"
    return f"{len(samples)} test samples {whose}"


def lpips_where_it_is(folder: Path | None, device: str) -> Lpips | None:
    """LPIPS on a device; None where its files are not there. `folder`: None looks into torch's hub cache."""
    from thesis_assets.images.perceptual import load_lpips

    try:
        find_lpips(folder)
    except InvalidFile:
        return None
    return load_lpips(folder, device)


def evaluate_step(
    refiner: RefinesImages,
    samples: Sequence[HeldOutSample],
    tree: TuningRunTree,
    step: int,
    *,
    lpips: Lpips | None = None,
) -> dict[str, float]:
    """Score the samples, write both files (the table last: it says that the evaluation is whole), return the means
    that there are.

    Args:
        lpips: None leaves LPIPS out.

    Raises:
        InvalidFile: an image cannot be read; the message has the sample.
    """
    places = {round(i * (len(samples) - 1) / (ROWS - 1)) for i in range(ROWS)}
    shown: list[ShownSample] = []

    def keep(place: int, images: dict[int, ShownSample]) -> None:
        if place in places:
            shown.append(images[step])

    scores = score_samples({step: refiner}, samples, lpips=lpips, on_sample=keep)[step]
    write_bytes(tree.eval_contact_sheet(step), _draw_sheet(shown))
    _write_score_table(tree.eval_metrics(step), scores)
    means = mean_score(step, scores)
    found = {
        "psnr_render": means.psnr_render,
        "psnr_refined": means.psnr,
        "ssim_render": means.ssim_render,
        "ssim_refined": means.ssim,
        "lpips_render": means.lpips_render,
        "lpips_refined": means.lpips,
    }
    return {name: value for name, value in found.items() if value is not None}


def _draw_sheet(shown: Sequence[ShownSample]) -> bytes:
    """Render, refined, target and reference of each sample in a row, as PNG."""
    from thesis_assets.images.contact_sheet import contact_sheet

    rows: list[list[Image | None]] = [
        [images.render, images.refined, images.target, images.reference] for images in shown
    ]
    return contact_sheet(
        rows,
        column_titles=("render", "refined", "target", "reference"),
        cell_height=min(256, max(row[0].shape[0] for row in rows if row[0] is not None)),
        max_bytes=1_000_000,
        encoding="png",
    )


def evaluate_saved(tree: TuningRunTree, config: TrainConfig, step: int, report: TrainerReport) -> None:
    """Score a finished checkpoint on test samples and draw its contact sheet, unless that is done.

    Raises:
        InvalidFile: the checkpoint cannot be run here, or an image cannot be read.
    """
    from thesis_assets.tuning.triplets import read_data_json

    path = tree.snapshot.data_json
    test = read_data_json(path).test
    if not test or tree.eval_metrics(step).is_file():
        return
    assert config.seed is not None, "of an adopted run, which is not evaluated here"
    assert config.device is not None, "of an adopted run"
    groups, folder = (config.flags.get(name) for name in ("validation_groups", "lpips_weights"))
    among = of_groups(from_data_json(path, test), groups)
    samples = stratified(among, int(config.flags["num_samples_eval"]), config.seed)
    metrics = evaluate_step(
        load_refiner(tree.checkpoint(step), config.device),
        samples,
        tree,
        step,
        lpips=lpips_where_it_is(Path(folder) if folder else None, config.device),
    )
    checkpoints.add_metrics(tree, step, metrics)
    report.event("eval", who_is_scored(samples, groups), metrics)
