"""Taking over what a version without made-from records left: read in full once, given records, and nothing made again.

Does not belong here: what is known of such an output (`Unit.older` of its room).
"""

from collections.abc import Callable, Iterable

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import LEVELS, NODES
from thesis_assets.graph.platform import OneLook, Platform
from thesis_assets.graph.states import cells_of_level
from thesis_assets.provenance import take_over


def take_over_experiment(platform: Platform, exp_name: str, report: Callable[[str], None]) -> int:
    """Give records to all outputs of an experiment that have none, in the graph's order. Ended early, it goes on from there.

    Returns:
        How many were taken over.
    """
    count, platform = 0, OneLook.of(platform)
    for level in LEVELS:
        if level.kind == "none":
            continue
        try:
            cells = cells_of_level(platform, level, exp_name, (), ())
        except ThesisAssetsError:
            break  # its patterns match no scene: whoever makes the level says so
        count += take_over_cells(platform, ((asset, cell) for asset in level.assets for cell in cells), report)
    return count


def take_over_cells(platform: Platform, cells: Iterable[tuple[str, Cell]], report: Callable[[str], None]) -> int:
    """The same for some cells, in the order given: what one is made from comes before it."""
    count = 0
    for asset, cell in cells:
        try:
            units = NODES[asset].units(platform, cell)
        except ThesisAssetsError:
            continue  # it cannot be made, and so was not: whoever makes it says why
        for unit in units:
            if take_over(unit, platform.contents) is not None:
                count += 1
                report(f"read in full, as an older version left it without a record: {unit.name}")
    return count
