"""How many files and bytes a cell of an asset fills on disk."""

from thesis_assets.defs.graph import records_of
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform


def footprint(platform: Platform, asset: str, cell: Cell) -> tuple[int, int]:
    """Number of files and their bytes, by the records. A hard link counts with its full size, as a listing shows it."""
    sizes = [size for record in records_of(platform, asset, cell) for size, _, _ in record.outputs.values()]
    return len(sizes), sum(sizes)
