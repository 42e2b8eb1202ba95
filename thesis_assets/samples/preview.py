"""A small picture of a shard: some of its triplets, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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


def triplet_sheet(
    tree: DifixTree,
    rows: Sequence[SampleRow],
    *,
    renders: Mapping[str, NDArray[np.uint8]] | None = None,
    threads: int = 1,
) -> bytes | None:
    """A JPEG with some triplets of `rows`: render | target | reference. None without a row.

    Args:
        renders: small ones that are at hand, by sample id; everything else is read back from disk, by `threads`.
    """
    from thesis_assets.images.codecs import read_reduced
    from thesis_assets.images.contact_sheet import contact_sheet

    if not rows:
        return None

    def image(row: SampleRow, name: str) -> NDArray[np.uint8]:
        at_hand = renders.get(row.sample_id) if renders and name == IMAGE_FILES[0] else None
        return read_reduced(tree.samples_dir / row.sample_id / name, CELL_HEIGHT) if at_hand is None else at_hand

    shown = shown_of(rows)
    with ThreadPoolExecutor(threads) as pool:
        cells = [[pool.submit(image, row, name) for name in IMAGE_FILES] for row in shown]
        return contact_sheet(
            [[cell.result() for cell in of_row] for of_row in cells],
            row_titles=[f"cam {row.target_cam_id}  {row.target_fname}" for row in shown],
            column_titles=["render", "target", "reference"],
            cell_height=CELL_HEIGHT,
        )
