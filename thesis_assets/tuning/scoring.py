"""Scoring refiners on test samples: PSNR, SSIM and, where asked for, LPIPS of the refined beside those of the unrefined render, at native size."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile
from thesis_assets.schemas.tuning import EVAL_COLUMNS, CheckpointScore
from thesis_assets.storage import write_text
from thesis_assets.tuning.held_out_samples import HeldOutSample
from thesis_assets.tuning.refine import RefinesImages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.perceptual import Lpips, Target

    Image = NDArray[np.uint8]

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
    from thesis_assets.tuning.triplets import read_image

    render, target, reference = (
        read_image(sample.sample_id, path, sha256) for path, sha256 in zip(sample.images, sample.recorded, strict=True)
    )
    if render.shape != target.shape:
        raise InvalidFile(
            f"sample {sample.sample_id}: render and target differ in size",
            file=sample.render,
            found=f"{render.shape[:2]} and {target.shape[:2]}",
        )
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
    """Means over the samples; SSIM and LPIPS over those that have one. Where none has: SSIM 0, LPIPS None."""
    return CheckpointScore(
        step=step,
        n_samples=len(scores),
        psnr=statistics.fmean(score.psnr_refined for score in scores),
        psnr_render=statistics.fmean(score.psnr_render for score in scores),
        ssim=_mean([score.ssim_refined for score in scores]),
        ssim_render=_mean([score.ssim_render for score in scores]),
        lpips=_mean_or_none([score.lpips_refined for score in scores]),
        lpips_render=_mean_or_none([score.lpips_render for score in scores]),
    )


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present else None


def _mean(values: Sequence[float | None]) -> float:
    return _mean_or_none(values) or 0.0


def write_score_table(path: Path, scores: Sequence[SampleScore]) -> None:
    """`eval/metrics_<step>.csv`: a row a sample; an absent SSIM is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EVAL_COLUMNS)
    for score in scores:
        numbers = (score.psnr_render, score.psnr_refined, score.ssim_render, score.ssim_refined)
        writer.writerow([score.sample_id, score.group, *("" if n is None else f"{n:.6f}" for n in numbers)])
    write_text(path, text.getvalue())
