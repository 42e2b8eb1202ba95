"""A small picture of some triplets, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from thesis_assets.layout import DifixTree
from thesis_assets.samples.integrity import IMAGE_FILES
from thesis_assets.schemas.samples import SampleRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_SHOWN = 4
CELL_HEIGHT = 96
"""Of each image on the sheet, pixels."""

Item = TypeVar("Item")


def shown_of(items: Sequence[Item]) -> list[Item]:
    """`N_SHOWN` of the items, spread over them."""
    n = min(N_SHOWN, len(items))
    return [items[index * len(items) // n] for index in range(n)]


def shard_sheet(tree: DifixTree, scene_name: str) -> bytes | None:
    """`triplet_sheet` of a finished shard, all read back from disk.

    Raises:
        InvalidFile: the shard is not whole.
    """
    from thesis_assets.samples.shards import read_shard

    return triplet_sheet(tree, read_shard(tree, scene_name).rows)


def triplet_sheet(
    tree: DifixTree, rows: Sequence[SampleRow], at_hand: Mapping[str, Sequence[NDArray[np.uint8]]] | None = None
) -> bytes | None:
    """A JPEG with some triplets of `rows`: render | target | reference. None without a row.

    Args:
        at_hand: small images of a sample by its id; those of others are read back from disk.
    """
    from thesis_assets.images.codecs import read_reduced
    from thesis_assets.images.contact_sheet import contact_sheet

    if not rows:
        return None
    shown = shown_of(rows)
    return contact_sheet(
        [
            (at_hand or {}).get(row.sample_id)
            or [read_reduced(tree.samples_dir / row.sample_id / name, CELL_HEIGHT) for name in IMAGE_FILES]
            for row in shown
        ],
        row_titles=[f"cam {row.target_cam_id}  {row.target_fname}" for row in shown],
        column_titles=["render", "target", "reference"],
        cell_height=CELL_HEIGHT,
    )
