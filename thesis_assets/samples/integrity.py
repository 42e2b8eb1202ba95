"""Checks of exported samples against the manifest: complete files, the same on disk as in the manifest, few drops."""

import math
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from thesis_assets.errors import InvalidFile, command_for
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree
from thesis_assets.provenance import forget_stats
from thesis_assets.samples.snapshot import shard_place
from thesis_assets.schemas.checks import MAX_OFFENDERS, CheckOutcome
from thesis_assets.schemas.samples import SAMPLE_FILES, DroppedSample, SampleRow

IMAGE_FILES = tuple(name for name in SAMPLE_FILES if name != "meta.json")


def absent_sample_files(tree: DifixTree, rows: Sequence[SampleRow]) -> Iterator[str]:
    """`<sample_id>/<file>` of every file that is missing or empty: one stat a file, nothing is opened."""
    samples_dir = str(tree.samples_dir)
    for row in rows:
        for name in SAMPLE_FILES:
            if not _has_content(f"{samples_dir}/{row.sample_id}/{name}"):
                yield f"{row.sample_id}/{name}"


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0  # noqa: PTH116 - a Path a file costs three times the time of the call
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_samples_complete(
    tree: DifixTree, rows: Sequence[SampleRow], *, decode_share: float = 0.05, seed: int = 0, full: bool = False
) -> CheckOutcome:
    """Every sample has its four files; each image has its header and its end, and all three one size.

    Args:
        decode_share: this share of the samples (at least one), drawn by `seed`, is decoded as well.
        full: decode all.
    """
    if not rows:
        return CheckOutcome.of_nothing(tree.all_samples.name)
    decoded = _drawn(len(rows), 1.0 if full else decode_share, seed)
    samples_dir = str(tree.samples_dir)
    offenders: list[str] = []
    damaged: list[SampleRow] = []
    for index, row in enumerate(rows):
        faults = sample_faults(f"{samples_dir}/{row.sample_id}", row.sample_id, decode=index in decoded)
        offenders += faults
        damaged += [row] if faults else []
    for scene_name in {row.scene_name for row in damaged}:
        forget_stats(shard_place(tree, scene_name))  # the next look reads the bytes, whatever their sizes and times
    return CheckOutcome.of(
        offenders,
        message=(
            "every sample is complete"
            if not offenders
            else f"samples are damaged: `{command_for('scene_samples', tree.exp_name)}` makes exactly these again"
        ),
        counts={"samples": len(rows), "decoded": len(decoded)},
    )


def every_fault(tree: DifixTree, rows: Sequence[SampleRow]) -> Iterator[tuple[str, Path, str]]:
    """Every image decoded: (scene, sample's folder, what is wrong) of what is not whole."""
    for row in rows:
        folder = tree.samples_dir / row.sample_id
        for fault in sample_faults(folder, row.sample_id, decode=True):
            yield row.scene_name, folder, fault


def sample_faults(folder: Path | str, sample_id: str, *, decode: bool = False) -> list[str]:
    """What is wrong with the files of one sample, each with its name; empty where nothing is.

    Runs a million times: paths are text here, as a Path a file costs as much as opening it.
    """
    from thesis_assets.images.codecs import check_complete, read_rgb

    faults = []
    sizes: dict[str, tuple[int, int]] = {}
    for name in IMAGE_FILES:
        try:
            path = f"{folder}/{name}"
            sizes[name] = check_complete(path)
            if decode:
                read_rgb(Path(path))
        except InvalidFile as error:
            faults.append(f"{sample_id}/{name}: {error.problem} ({error.found})")
    if not _has_content(f"{folder}/meta.json"):
        faults.append(f"{sample_id}/meta.json: missing or empty")
    if len(set(sizes.values())) > 1:
        faults.append(f"{sample_id}: sizes differ: " + ", ".join(f"{n} {w}x{h}" for n, (h, w) in sizes.items()))
    return faults


def _drawn(n: int, share: float, seed: int) -> set[int]:
    if n == 0 or share <= 0:
        return set()
    return set(random.Random(seed).sample(range(n), min(n, math.ceil(n * share))))  # noqa: S311 - a sample, no secret


def check_manifest_matches_disk(tree: DifixTree, rows: Sequence[SampleRow]) -> CheckOutcome:
    """Every row has its folder with an equal `meta.json`, and every folder below `samples/` its row."""
    if not rows:
        return CheckOutcome.of_nothing(tree.all_samples.name)
    expected = {row.sample_id for row in rows}
    samples_dir = tree.samples_dir
    offenders = [fault for row in rows for fault in _meta_faults(samples_dir / row.sample_id, row)]
    found = 0
    if samples_dir.is_dir():
        with os.scandir(samples_dir) as entries:
            for name in sorted(entry.name for entry in entries if not entry.name.startswith(TEMPORARY_PREFIX)):
                found += 1
                if name not in expected:
                    offenders.append(
                        f"samples/{name} is in no row: its scene is not in the experiment, no shard names it, or it is no sample"
                    )
    return CheckOutcome.of(
        offenders,
        message="the manifest and samples/ agree" if not offenders else "the manifest and samples/ differ",
        counts={"rows": len(rows), "folders": found},
    )


def _meta_faults(folder: Path, row: SampleRow) -> list[str]:
    try:
        meta: Any = orjson.loads((folder / "meta.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return [f"{row.sample_id}: its meta.json is missing"]
    except orjson.JSONDecodeError:
        return [f"{row.sample_id}: its meta.json is not JSON"]
    if not isinstance(meta, dict):
        return [f"{row.sample_id}: its meta.json holds no mapping"]
    differing = [key for key, value in row.__dict__.items() if meta.get(key) != value]
    unknown = sorted(meta.keys() - row.__dict__.keys() - {"provenance"})
    return (
        [f"{row.sample_id}: meta.json and its row differ in {', '.join(differing + unknown)}"]
        if differing + unknown
        else []
    )


def check_dropped_share(n_saved: int, dropped: Sequence[DroppedSample], *, below: float = 0.05) -> CheckOutcome:
    """Less than the share `below` of all candidates was dropped. Offenders are scenes and reasons, the most frequent first."""
    n_candidates = n_saved + len(dropped)
    if n_candidates == 0:
        return CheckOutcome.of_nothing("the list of candidates")
    share = len(dropped) / n_candidates
    reasons = Counter((row.scene_name, row.reason) for row in dropped).most_common(MAX_OFFENDERS)
    return CheckOutcome(
        passed=share < below,
        message=f"{len(dropped)} of {n_candidates} candidates were dropped ({share:.1%}, wanted below {below:.1%})",
        counts={"saved": n_saved, "dropped": len(dropped), "share": round(share, 6)},
        offenders=[f"{scene_name}: {reason}: {n}" for (scene_name, reason), n in reasons],
    )
