"""The one `defs`, and `build_defs` that makes a fresh one with parts exchanged.

Policy that holds for all assets stands here once. Loading this module imports nothing heavy.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from thesis_assets.defs.assets import difix_data, evaluation, recordings, reports, scenes, tuning
from thesis_assets.defs.automation import conditions
from thesis_assets.defs.checks import ASSET_CHECKS
from thesis_assets.defs.io_manager import TreeIOManager
from thesis_assets.defs.jobs import JOBS, OBSERVE, OBSERVE_JOB, OPERATION_JOBS, checks_jobs
from thesis_assets.defs.resources import ASSET_GRAPH, IO_MANAGER, PLATFORM, asset_graph_resource, platform_resource
from thesis_assets.defs.schedules import build_schedules
from thesis_assets.defs.sensors import build_sensors
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.nodes import GPU_ASSETS, LEVELS, SCENE_FILES
from thesis_assets.graph.platform import Platform
from thesis_assets.provenance import CODE_VERSIONS
from thesis_assets.settings import Settings

ASSETS = dg.load_assets_from_modules([scenes, difix_data, tuning, evaluation, recordings, reports])
DOCS = {
    "scenes": "your_own_scenes.md",
    "difix_data": "define_an_experiment.md",
    "tuning": "define_an_experiment.md",
    "evaluation": "read_the_results.md",
    "recordings": "share.md",
    "reports": "read_the_results.md",
}
_LEVEL = {SCENE_FILES: OBSERVE_JOB, **{asset: level.job for level in LEVELS for asset in level.assets}}
_FRESHNESS = {
    # Looked at every morning; the other assets are as fresh as what they are made from, which staleness shows.
    "scene_catalog": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)),
}


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
        assets=_with_policy(ASSETS, platform),
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


def _with_policy(assets: Sequence[Any], platform: Platform) -> list[dg.AssetsDefinition]:
    """The assets with what holds for every one: owners, tags, code versions and references, freshness, what follows by itself."""
    owners = platform.settings.owner_names
    following = conditions(platform)

    def applied(spec: dg.AssetSpec, body: Callable[..., object]) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        return spec.replace_attributes(
            owners=owners,
            code_version=CODE_VERSIONS.get(name),
            tags={**spec.tags, "level": _LEVEL[name], "compute": "gpu" if name in GPU_ASSETS else "cpu"},
            automation_condition=following.get(name),
            freshness_policy=_FRESHNESS.get(name),
        ).merge_attributes(metadata={"dagster/code_references": _references(spec, body)})

    return [
        definition.map_asset_specs(functools.partial(applied, body=definition.op.compute_fn.decorated_fn))
        for definition in assets
    ]


def _references(spec: dg.AssetSpec, body: Callable[..., object]) -> dg.CodeReferencesMetadataValue:
    """Where the asset's body stands, and the page that explains its group, where the docs are beside the package.

    Dagster's own function names the file of the wrapper around the body.
    """
    code = inspect.unwrap(body).__code__
    references = [dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno)]
    page = Path(__file__).parents[1] / "docs" / DOCS[spec.group_name or "reports"]
    if page.is_file():
        references.append(dg.LocalFileCodeReference(file_path=str(page), line_number=1, label=f"docs/{page.name}"))
    return dg.CodeReferencesMetadataValue(code_references=references)


defs = build_defs()
