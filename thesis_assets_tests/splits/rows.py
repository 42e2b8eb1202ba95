"""Rows for tests, without anything on disk."""

from collections.abc import Sequence

from thesis_assets.layout import SampleId, frame_name
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.schemas.samples import SampleRow


def scene_rows(scene_name: str, group_id: str, n: int = 2) -> list[SampleRow]:
    """`n` rows of one scene, sorted."""
    return [row_of(SampleId(scene_name, 16, 4, frame_name(i), frame_name(i)), group_id) for i in range(n)]


def pair_rows(*pairs: str, n: int = 2, dataset: str = "hi4d") -> list[SampleRow]:
    """Rows of one scene a pair, sorted by sample id."""
    rows = [row for pair in pairs for row in scene_rows(f"{dataset}_{pair}_dance", pair, n)]
    return sorted(rows, key=lambda row: row.sample_id)


def group_of(scene_name: str) -> tuple[str, str]:
    dataset, pair, _ = scene_name.split("_")
    return dataset, pair


def ids(rows: Sequence[SampleRow]) -> list[str]:
    return [row.sample_id for row in rows]
