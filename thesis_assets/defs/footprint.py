"""How many files and bytes a cell of an asset fills on disk."""

from collections.abc import Sequence

from thesis_assets.provenance import MadeFrom


def footprint(records: Sequence[MadeFrom]) -> tuple[int, int]:
    """Number of files and their bytes, by a cell's records. A hard link counts with its full size, as a listing shows it."""
    sizes = [size for record in records for size, _, _ in record.outputs.values()]
    return len(sizes), sum(sizes)
