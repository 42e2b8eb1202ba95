"""A small picture of a shard: some of its triplets, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from thesis_assets.layout import DifixTree
from thesis_assets.samples.integrity import IMAGE_FILES
from thesis_assets.schemas.samples import SampleRow


def triplet_sheet(tree: DifixTree, rows: Sequence[SampleRow], *, n: int = 4, cell_height: int = 96) -> bytes | None:
    """A JPEG with `n` triplets spread over `rows`, read back from disk: render | target | reference. None without a row."""
    from thesis_assets.images.codecs import read_rgb
    from thesis_assets.images.contact_sheet import contact_sheet

    if not rows:
        return None
    shown = [rows[index * len(rows) // min(n, len(rows))] for index in range(min(n, len(rows)))]
    return contact_sheet(
        [[read_rgb(tree.samples_dir / row.sample_id / name) for name in IMAGE_FILES] for row in shown],
        row_titles=[f"cam {row.target_cam_id}  {row.target_fname}" for row in shown],
        column_titles=["render", "target", "reference"],
        cell_height=cell_height,
    )
