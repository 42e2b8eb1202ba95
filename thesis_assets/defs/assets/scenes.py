"""The scenes on disk, observed: the catalog of all, and a version a scene.

The catalog is no dependency of other assets: a new scene must not mark every experiment stale.
"""

from collections.abc import Iterator

import dagster as dg

from thesis_assets.defs.assets.declaration import graph_asset
from thesis_assets.graph.cells import SCENE_NAMES
from thesis_assets.graph.nodes import SCENE_FILES
from thesis_assets.graph.platform import PlatformParam
from thesis_assets.operations.data_versions import moved_scenes
from thesis_assets.operations.metadata import table


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


@dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]
    specs=[
        dg.AssetSpec(
            SCENE_FILES,
            description="The files of a scene, by content: what its shards are made from. Observed by each export, and every night.",
            kinds={"files"},
            group_name="scenes",
            skippable=True,  # a scene that did not change gives no event
        )
    ],
    partitions_def=SCENE_NAMES,
)
def scene_files(context: dg.AssetExecutionContext, platform: PlatformParam) -> Iterator[dg.ObserveResult]:
    """Look at every exported scene, and observe those that changed; the run's own partition, if it has one, is no limit."""
    n_moved = 0
    for observation in moved_scenes(platform, context.instance, context.log.warning):
        context.log_event(observation)
        n_moved += 1
    context.log.info(f"{n_moved} scenes changed")
    yield from ()
