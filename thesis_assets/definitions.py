"""The one `defs`, and `build_defs` that makes a fresh one with parts exchanged.

Policy that holds for all assets stands here once. Loading this module imports nothing heavy.
"""

from collections.abc import Callable
from typing import Any

import dagster as dg

from thesis_assets.defs.assets import difix_data, evaluation, recordings, reports, scenes, tuning
from thesis_assets.defs.checks import ASSET_CHECKS
from thesis_assets.defs.io_manager import TreeIOManager
from thesis_assets.defs.jobs import JOBS, OBSERVE, OPERATION_JOBS, checks_jobs
from thesis_assets.defs.policy import with_policy
from thesis_assets.defs.resources import ASSET_GRAPH, IO_MANAGER, PLATFORM, asset_graph_resource, platform_resource
from thesis_assets.defs.schedules import build_schedules
from thesis_assets.defs.sensors import build_sensors
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.platform import Platform
from thesis_assets.settings import Settings

ASSETS = dg.load_assets_from_modules([scenes, difix_data, tuning, evaluation, recordings, reports])


def build_defs(
    *,
    settings: Settings | None = None,
    echo: Callable[[str], None] | None = None,
    resources: dict[str, Any] | None = None,
) -> dg.Definitions:
    """The whole code location.

    Args:
        settings: in place of those of the environment.
        echo: receives every progress line, besides the run's log.
        resources: take the place of resources of the same name.
    """
    settings = settings or Settings()
    platform = Platform(settings, echo) if echo is not None else Platform(settings)
    definitions = dg.Definitions(
        assets=with_policy(ASSETS, platform),
        asset_checks=ASSET_CHECKS,
        jobs=[*JOBS, OBSERVE, *checks_jobs(CHECKS), *OPERATION_JOBS],
        schedules=build_schedules(settings),
        sensors=build_sensors(settings),
        resources={
            PLATFORM: platform_resource(platform),
            IO_MANAGER: TreeIOManager(platform),
            ASSET_GRAPH: asset_graph_resource(lambda: definitions),
            **(resources or {}),
        },
        executor=dg.in_process_executor,
    )
    return definitions


defs = build_defs()
