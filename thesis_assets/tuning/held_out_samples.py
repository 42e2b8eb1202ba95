"""Test samples to score: where their images lie, which people and camera they show, and a fair few of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thesis_assets.errors import InvalidKey
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.samples.sample_rows import group_key
from thesis_assets.schemas.samples import DataJsonEntry, SampleRow
from thesis_assets.storage import read_jsonl


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
