"""What holds for every asset, mapped over all of them once: owners, tags, code versions and references, freshness, what follows by
itself."""

import functools
import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from thesis_assets.defs.automation import conditions
from thesis_assets.defs.jobs import OBSERVE_JOB
from thesis_assets.graph.nodes import GPU_ASSETS, LEVELS, SCENE_FILES
from thesis_assets.graph.platform import Platform
from thesis_assets.provenance import CODE_VERSIONS

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


def with_policy(assets: Sequence[Any], platform: Platform) -> list[dg.AssetsDefinition]:
    """The assets with the house's policy."""
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
    page = Path(__file__).parents[2] / "docs" / DOCS[spec.group_name or "reports"]
    if page.is_file():
        references.append(dg.LocalFileCodeReference(file_path=str(page), line_number=1, label=f"docs/{page.name}"))
    return dg.CodeReferencesMetadataValue(code_references=references)
