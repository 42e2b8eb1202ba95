"""The scenes on disk, observed. No dependency of other assets: a new scene must not mark every experiment stale."""

import dagster as dg

from thesis_assets.defs.assets.declaration import graph_asset
from thesis_assets.defs.metadata import table
from thesis_assets.defs.platform import PlatformParam


@graph_asset(
    "scene_catalog",
    description="Every scene below the ground-truth root: frames, cameras, modalities, and what is missing for which task.",
    kinds={"files"},
)
def scene_catalog(context: dg.AssetExecutionContext, platform: PlatformParam) -> None:
    """List and describe the scenes on disk."""
    from thesis_assets.scenes.catalog import describe_scene, list_scenes, missing_text

    summaries = [describe_scene(platform.roots, name) for name in list_scenes(platform.roots)]
    rows = [
        (summary.name, summary.n_frames, len(summary.cameras), ", ".join(summary.modalities), missing_text(summary))
        for summary in summaries
    ]
    context.add_output_metadata(
        {
            "dagster/row_count": len(summaries),
            "scenes": table(("scene", "frames", "cameras", "modalities", "missing"), rows),
        }
    )
