"""The resources of runs, by the names that assets and jobs ask for them. Does not belong here: what the platform holds (`graph.platform`).

Concept: https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Callable

import dagster as dg

from thesis_assets.graph.platform import Platform
from thesis_assets.graph.run_processes import say_who_makes

PLATFORM = "platform"
IO_MANAGER = "trees"
ASSET_GRAPH = "asset_graph"
"""All assets of the code location: a backfill over several of them is planned by it."""


def platform_resource(platform: Platform) -> dg.ResourceDefinition:
    """The one platform; a run that gets it says which process makes it, before its first step. Sensors are no runs."""

    def handed(context: dg.InitResourceContext) -> Platform:
        if context.instance is not None and context.run is not None:
            say_who_makes(context.instance, context.run)
        return platform

    return dg.ResourceDefinition(handed, description="Settings, experiment files and trees.")


def asset_graph_resource(definitions: Callable[[], dg.Definitions]) -> dg.ResourceDefinition:
    """The asset graph of definitions that this resource itself is one of."""
    return dg.ResourceDefinition(lambda _: definitions().resolve_asset_graph(), description="All assets.")
