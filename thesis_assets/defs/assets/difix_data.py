"""From scenes to the trainer's data: one shard a scene, the collected set, the hold-out, data.json."""

from collections import Counter
from typing import Any

import dagster as dg
from pydantic import Field

from thesis_assets.defs.assets.declaration import declared_cells, graph_asset
from thesis_assets.defs.io_manager import AdapterTable, SplitRows, SplitTables
from thesis_assets.defs.step_work import GPU, Described, described_calls, job_cores, only
from thesis_assets.errors import first_names
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import PlatformParam
from thesis_assets.layout import dataset_of
from thesis_assets.operations.metadata import Metadata, counts_table, picture
from thesis_assets.schemas.samples import DataJsonEntry, SampleRow


class ExportConfig(dg.Config):
    """What a person may say with one export."""

    force: bool = Field(
        default=False,
        description="Export the scenes anew, also where the samples were made by another generation section of the file.",
    )


@graph_asset(
    "scene_samples",
    description="The triplets of one scene: imperfect render, target and reference, with provenance; one shard a scene.",
    kinds={"files", "pytorch"},
    pool="render",
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def scene_samples(context: dg.AssetExecutionContext, platform: PlatformParam, config: ExportConfig) -> Described:
    """Describe the shards of the step's scenes; a failed scene is named and leaves the others in place."""
    from thesis_assets.samples.export import ShardRecord, ShardWork, export_shard
    from thesis_assets.samples.snapshot import write_generation_config
    from thesis_assets.samples.triplet_sheet import shard_sheet
    from thesis_assets.scenes.matching import group_id

    cells = declared_cells(context, platform, "exp_by_scene")
    report = platform.reporter(context)
    calls = {}
    for cell in cells:
        spec = platform.spec(cell)
        tree = platform.difix(cell)
        write_generation_config(tree, spec.generation, replace=config.force)
        work = ShardWork(
            tree=tree,
            roots=platform.roots,
            scene_name=cell.scene_name,
            generation=spec.generation,
            group_id=group_id(cell.scene_name, spec.split.group_rules),
            device=platform.device,
            threads=job_cores(platform, GPU) or (1 if len(cells) > 1 else platform.workers),
            anew=config.force,
        )
        calls[cell] = described_calls(platform, "scene_samples", cell, {"": work})

    finished = 0

    def on_done(work: ShardWork, result: object) -> None:
        nonlocal finished
        finished += 1
        outcome = f"failed: {result}" if isinstance(result, Exception) else "done"
        report(f"[{finished}/{len(calls)}] {work.scene_name} {outcome}")

    def show(cell: Cell, answers: list[Any]) -> Metadata:
        record: ShardRecord = only(answers)
        stats = record.stats
        # A shard that was current made no picture; whoever materializes its cell again wants to look at it all the same.
        preview = record.preview or shard_sheet(platform.difix(cell), cell.scene_name)
        return {
            **({"render | target | reference": picture(preview)} if preview else {}),
            "dagster/row_count": stats.n_saved,
            "candidates": stats.n_total_candidates,
            "dropped": stats.n_dropped,
            "exported": record.exported,
            "linked from another experiment": record.linked,
            "samples per second": round(stats.n_saved / max(stats.seconds, 1e-6), 2),
            "path": dg.MetadataValue.path(platform.difix(cell).scene_run(cell.scene_name).base),
        }

    workers = min(platform.workers, len(calls)) if platform.device == "cpu" else 1
    remedy = "mend the scene, or leave it out (`generation.exclude`), and give the same command again"
    return Described(export_shard, calls, GPU, show, workers, on_done, remedy)


@graph_asset(
    "sample_set",
    description="All samples of an experiment, collected from its shards: all_samples.jsonl and dropped_samples.csv.",
    kinds={"jsonl"},
    columns=SampleRow,
)
def sample_set(context: dg.AssetExecutionContext, platform: PlatformParam) -> object:
    """Collect the shards of the declared scenes."""
    from thesis_assets.samples.recipes import off_share
    from thesis_assets.samples.shards import collect_sample_set

    cell = Cell(context.partition_key)
    spec = platform.spec(cell)
    collected = collect_sample_set(platform.difix(cell), platform.scene_names(spec))
    groups: Counter[str] = Counter()
    for shard in collected.shards:
        groups[f"{shard.dataset}/{shard.group_id}"] += shard.n_saved
    seconds = sum(shard.seconds for shard in collected.shards)
    recipes: Counter[str] = Counter()
    for shard in collected.shards:
        recipes.update(shard.recipes)
    off = off_share(spec.generation.recipes, recipes)
    for line in off:
        platform.reporter(context)(line)
    context.add_output_metadata(
        {
            **({"samples by recipe": counts_table("recipe", recipes)} if recipes else {}),
            **({"recipes off their share": "; ".join(off)} if off else {}),
            "samples by scene": counts_table("scene", {shard.scene_name: shard.n_saved for shard in collected.shards}),
            "samples by group": counts_table("group", groups),
            "dropped by reason": counts_table("reason", Counter(row.reason for row in collected.dropped)),
            "seconds of all exports": round(seconds, 2),
            "samples per second": round(len(collected.rows) / max(seconds, 1e-6), 2),
        }
    )
    return collected


@graph_asset(
    "split_manifests",
    description="The hold-out by groups: no person of a test or reserved group is in training. Renders nothing.",
    kinds={"jsonl"},
    columns=SampleRow,
)
def split_manifests(
    context: dg.AssetExecutionContext, platform: PlatformParam, sample_set: list[SampleRow]
) -> SplitTables:
    """Split the collected rows by their groups."""
    from thesis_assets.scenes.matching import group_id
    from thesis_assets.splits.manifests import kept_split, split_rows

    cell = Cell(context.partition_key)
    split, exclusions = kept_split(platform.difix(cell), platform.spec(cell).split), platform.exclusions(cell)
    excluded = {each.sample_id for each in exclusions}
    result = split_rows(
        sample_set, split, lambda scene: (dataset_of(scene), group_id(scene, split.group_rules)), excluded
    )
    if unknown := excluded - {row.sample_id for row in sample_set}:
        platform.reporter(context)(
            f"{len(unknown)} of {len(excluded)} exclusions name no sample: {first_names(sorted(unknown))}"
        )
    return SplitTables(rows=sample_set, result=result, split=split, exclusions=exclusions)


@graph_asset(
    "difix_data",
    description="difix/data.json, the one file that the DiFix trainer reads.",
    kinds={"json"},
    columns=DataJsonEntry,
)
def difix_data(context: dg.AssetExecutionContext, platform: PlatformParam, split_manifests: SplitRows) -> AdapterTable:
    """Write both sides of the split as the trainer's adapter."""
    from thesis_assets.splits.data_json import kept_prompt

    train, test = split_manifests.train, split_manifests.test
    cell = Cell(context.partition_key)
    prompt = kept_prompt(platform.difix(cell), platform.spec(cell).generation.export)
    return AdapterTable(train=train, test=test, prompt=prompt)
