"""The platform as a resource of runs. Does not belong here: what it holds (`platform`)."""

import dagster as dg

from thesis_assets.graph.dead_runs import say_who_makes
from thesis_assets.graph.platform import Platform


def platform_resource(platform: Platform) -> dg.ResourceDefinition:
    """The one platform; a run that gets it says which process makes it, before its first step. Sensors are no runs."""

    def handed(context: dg.InitResourceContext) -> Platform:
        if context.instance is not None and context.run is not None:
            say_who_makes(context.instance, context.run)
        return platform

    return dg.ResourceDefinition(handed, description="Settings, experiment files and trees.")
