"""The graph as a table: each asset's cells, what is upstream, what else shapes it, and where its outputs lie.

Belongs here: the facts that assets, the planner of `thesis-assets run` and the status table share, and the digest that says
whether a cell is current. Does not belong here: any asset's body.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from thesis_assets.defs.compare_pages import ComparePages
from thesis_assets.defs.partitions import Cell, CellKind
from thesis_assets.defs.platform import Platform
from thesis_assets.layout import POSE_TASKS
from thesis_assets.storage import directory_stamp, sha256_value

INPUT_DIGEST = "input_digest"
OUTPUT_DIGEST = "output_digest"
CODE_VERSION = "1"
"""Raised where a change of code makes older outputs wrong; every cell of every asset is then stale."""


@dataclass(frozen=True)
class Node:
    """One asset of the graph.

    Args:
        own: what shapes the asset besides its upstream: parts of the experiment file, stamps of files on disk.
        outputs: files that must be there for the cell to be current.
    """

    name: str
    group: str
    kind: CellKind
    upstream: tuple[str, ...]
    own: Callable[[Platform, Cell], object]
    outputs: Callable[[Platform, Cell], list[Path]]


def _scene_samples(platform: Platform, cell: Cell) -> object:
    from thesis_assets.samples.generation_config import generation_digest
    from thesis_assets.scenes.groups import group_id

    spec = platform.spec(cell)
    stamp = platform.scene(cell.scene_name).scene_stamp(spec.generation.renders.source)
    return [generation_digest(spec.generation), stamp, group_id(cell.scene_name, spec.split.group_rules)]


def _tuned_checkpoint(platform: Platform, cell: Cell) -> object:
    return platform.run_spec(cell).model_dump(mode="json", exclude={"selection", "preset"})


def _selected_checkpoint(platform: Platform, cell: Cell) -> object:
    groups = sorted(platform.evaluation_groups(platform.spec(cell)))
    return [platform.run_spec(cell).selection.model_dump(mode="json"), groups]


def _evaluated_scenes(platform: Platform, cell: Cell) -> object:
    stamps = {}
    for name in platform.evaluation_scenes(platform.spec(cell)):
        tree = platform.scene(name).tree
        stamps[name] = [directory_stamp(tree.ground_truth.base), directory_stamp(tree.estimated.base)]
    return stamps


def _predictions(platform: Platform, cell: Cell) -> object:
    from thesis_assets.samples.generation_config import generation_digest

    spec = platform.spec(cell)
    evaluation = spec.evaluation.model_dump(mode="json", exclude={"tasks", "nvs", "pose"})
    own = [evaluation, generation_digest(spec.generation), _evaluated_scenes(platform, cell)]
    if spec.evaluation.predictions.source == "existing":
        from thesis_assets.evaluation.source_trees import source_tree

        trees = [source_tree(each) for each in platform.evaluation_cells(cell)]
        own.append([directory_stamp(tree.evaluation_dir) if tree else None for tree in trees])
    return own


def _nvs(platform: Platform, cell: Cell) -> object:
    evaluation = platform.spec(cell).evaluation
    return [evaluation.nvs.model_dump(mode="json"), "nvs" in evaluation.tasks]


def _pose(platform: Platform, cell: Cell) -> object:
    evaluation = platform.spec(cell).evaluation
    steps = evaluation.epoch_steps(platform.run_spec(cell))
    models = platform.settings.body_models
    stamp = directory_stamp(models) if models is not None and models.is_dir() else None
    tasks = sorted(set(evaluation.tasks) & set(POSE_TASKS))
    return [evaluation.pose.model_dump(mode="json"), tasks, sorted(steps), stamp]


def _evaluation_outputs(task: str) -> Callable[[Platform, Cell], list[Path]]:
    def outputs(platform: Platform, cell: Cell) -> list[Path]:
        spec = platform.spec(cell)
        if task not in spec.evaluation.tasks:
            return []
        epochs = spec.evaluation.epoch_steps(platform.run_spec(cell))
        trees = platform.evaluation_trees(cell).values()
        # A scene whose task is absent has no folder of that task; where there is one, it must be whole.
        tasks = [tree.task(epoch, task) for tree in trees for epoch in epochs]
        return [file for each in tasks if each.base.exists() for file in (*each.required_files, each.protocol)]

    return outputs


def _prediction_outputs(platform: Platform, cell: Cell) -> list[Path]:
    epochs = platform.spec(cell).evaluation.epoch_steps(platform.run_spec(cell))
    trees = platform.evaluation_trees(cell).values()
    tasks = [tree.task(epoch, "nvs") for tree in trees for epoch in epochs]
    return [task.prediction_record for task in tasks if task.base.exists()]


def _recording_outputs(platform: Platform, cell: Cell) -> list[Path]:
    epochs = platform.spec(cell).evaluation.epoch_steps(platform.run_spec(cell))
    trees = platform.evaluation_trees(cell).values()
    return [tree.evaluation_recording(epoch) for tree in trees for epoch in epochs]


def _published_recordings(platform: Platform, cell: Cell) -> object:
    repo_id = platform.settings.hf_rerun_repo_id
    if repo_id is None:
        return None
    return [repo_id, {name: entry.model_dump() for name, entry in platform.spec(cell).datasets.items()}]


def _nothing_more(platform: Platform, cell: Cell) -> object:
    del platform, cell
    return None


def _checkpoints(platform: Platform, cell: Cell) -> list[Path]:
    from thesis_assets.tuning.checkpoints import kept_steps

    run = platform.difix(cell).tuning_run(cell.run_name)
    return [run.train_config, *map(run.checkpoint, kept_steps(run, platform.run_spec(cell).saved_steps()))]


PREDICTED_FROM: dict[str, set[str]] = {
    "refine": {"tuned_checkpoint"},
    "command": {"selected_checkpoint"},
    "existing": set(),
}
"""Which checkpoints of the run the predictions are made from, by `evaluation.predictions.source`."""

NODES: dict[str, Node] = {
    node.name: node
    for node in (
        Node(
            "scene_catalog",
            "scenes",
            "none",
            (),
            lambda platform, _: str(platform.settings.canonical_gt_root),
            lambda _, __: [],
        ),
        Node(
            "scene_samples",
            "difix_data",
            "exp_by_scene",
            (),
            _scene_samples,
            lambda platform, cell: [platform.difix(cell).scene_run(cell.scene_name).run_stats],
        ),
        Node(
            "sample_set",
            "difix_data",
            "exp",
            ("scene_samples",),
            lambda platform, cell: platform.scene_names(platform.spec(cell)),
            lambda platform, cell: [platform.difix(cell).all_samples, platform.difix(cell).dropped_samples],
        ),
        Node(
            "split_manifests",
            "difix_data",
            "exp",
            ("sample_set",),
            lambda platform, cell: platform.spec(cell).split.model_dump(mode="json"),
            lambda platform, cell: [
                platform.difix(cell).split_train,
                platform.difix(cell).split_test,
                platform.difix(cell).split_summary,
                platform.difix(cell).generation_stats,
            ],
        ),
        Node(
            "difix_data",
            "difix_data",
            "exp",
            ("split_manifests",),
            lambda platform, cell: [platform.spec(cell).generation.export.prompt, str(platform.difix(cell).base)],
            lambda platform, cell: [platform.difix(cell).data_json],
        ),
        Node("tuned_checkpoint", "tuning", "exp_by_run", ("difix_data",), _tuned_checkpoint, _checkpoints),
        Node(
            "selected_checkpoint",
            "tuning",
            "exp_by_run",
            ("tuned_checkpoint",),
            _selected_checkpoint,
            lambda platform, cell: [platform.difix(cell).tuning_run(cell.run_name).selected_checkpoint],
        ),
        Node(
            "input_data",
            "evaluation",
            "exp_by_run",
            ("difix_data",),
            _evaluated_scenes,
            lambda platform, cell: [tree.input_data_record for tree in platform.evaluation_trees(cell).values()],
        ),
        Node(
            "predictions",
            "evaluation",
            "exp_by_run",
            # Of the two, the one that counts is `PREDICTED_FROM`; the order holds for both.
            ("tuned_checkpoint", "selected_checkpoint", "input_data"),
            _predictions,
            _prediction_outputs,
        ),
        Node("nvs", "evaluation", "exp_by_run", ("predictions",), _nvs, _evaluation_outputs("nvs")),
        Node("pose_smplx", "evaluation", "exp_by_run", ("predictions",), _pose, _evaluation_outputs("pose_smplx")),
        Node("pose_smpl", "evaluation", "exp_by_run", ("predictions",), _pose, _evaluation_outputs("pose_smpl")),
        Node(
            "evaluation_manifest",
            "evaluation",
            "exp_by_run",
            ("nvs", "pose_smplx", "pose_smpl"),
            _nothing_more,
            lambda platform, cell: [tree.manifest for tree in platform.evaluation_trees(cell).values()],
        ),
        Node(
            "triplet_recording",
            "recordings",
            "exp_by_run",
            ("tuned_checkpoint",),
            _nothing_more,
            lambda platform, cell: [platform.difix(cell).tuning_run(cell.run_name).triplet_recording],
        ),
        Node(
            "input_data_recording",
            "recordings",
            "exp_by_run",
            ("input_data",),
            _nothing_more,
            lambda platform, cell: [tree.input_data_recording for tree in platform.evaluation_trees(cell).values()],
        ),
        Node(
            "evaluation_recordings",
            "recordings",
            "exp_by_run",
            # After the input data's recording: the checks here hold all files of a tree's rerun/ against it.
            ("evaluation_manifest", "input_data_recording"),
            _nothing_more,
            _recording_outputs,
        ),
        Node(
            "published_recordings",
            "recordings",
            "exp_by_run",
            ("triplet_recording", "input_data_recording", "evaluation_recordings"),
            _published_recordings,
            lambda platform, cell: (
                [platform.difix(cell).tuning_run(cell.run_name).publication]
                if platform.settings.hf_rerun_repo_id
                else []
            ),
        ),
        Node(
            "leaderboard",
            "reports",
            "none",
            ("evaluation_manifest",),
            lambda platform, _: [platform.settings.compare_mb, platform.settings.compare_seconds],
            lambda platform, _: [
                platform.settings.reports.leaderboard_markdown,
                platform.settings.reports.leaderboard_csv,
                platform.settings.reports.leaderboard_differences,
                platform.settings.reports.leaderboard_latex,
                platform.settings.reports.leaderboard_plot,
                *ComparePages(platform, platform.echo).files(),
            ],
        ),
        Node(
            "check_report",
            "reports",
            "none",
            (),
            _nothing_more,
            lambda platform, _: [platform.settings.reports.checks, platform.settings.reports.index],
        ),
    )
}


def upstream_cells(platform: Platform, node: Node, cell: Cell) -> list[tuple[str, Cell]]:
    """The declared (asset, cell)s that one cell is made from."""
    pairs: list[tuple[str, Cell]] = []
    counted = node.upstream
    if node.name == "predictions":
        unread = {"tuned_checkpoint", "selected_checkpoint"} - PREDICTED_FROM[
            platform.spec(cell).evaluation.predictions.source
        ]
        counted = tuple(name for name in node.upstream if name not in unread)
    for name in counted:
        kind = NODES[name].kind
        if kind == "exp_by_scene":
            scenes = platform.scene_names(platform.spec(cell))
            pairs += [(name, Cell(cell.exp_name, scene_name=scene)) for scene in scenes]
        elif kind == "exp":
            pairs.append((name, Cell(cell.exp_name)))
        elif node.kind == "none":
            pairs += [(name, each) for each in platform.run_cells()]
        else:
            pairs.append((name, cell))
    return pairs


def latest_metadata(instance: dg.DagsterInstance, asset: str, cell: Cell) -> dict[str, object] | None:
    """The metadata of a cell's newest materialization, as plain values; None where there is none."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(asset), asset_partitions=[cell.key] if cell.key is not None else None
        ),
        limit=1,
    ).records
    if not records or records[0].asset_materialization is None:
        return None
    return {name: value.value for name, value in records[0].asset_materialization.metadata.items()}


def input_digest(platform: Platform, instance: dg.DagsterInstance, asset: str, cell: Cell) -> str:
    """What a cell would be made from now: its own part of the file, stamps on disk, and what is upstream.

    An upstream cell that was never materialized counts as such, so that its first materialization makes this one stale.
    """
    node = NODES[asset]
    upstream = {}
    for name, upstream_cell in upstream_cells(platform, node, cell):
        metadata = latest_metadata(instance, name, upstream_cell) or {}
        upstream[f"{name}/{upstream_cell}"] = metadata.get(OUTPUT_DIGEST)
    return sha256_value([asset, CODE_VERSION, node.own(platform, cell), upstream])


def _is_of_the_section(platform: Platform, cell: Cell) -> bool:
    """Whether a shard was made by the generation section that the experiment's file has now."""
    from thesis_assets.samples.generation_config import generation_digest
    from thesis_assets.samples.shard_files import read_shard

    made_by = read_shard(platform.difix(cell), cell.scene_name).stats.generation_digest
    return made_by == generation_digest(platform.spec(cell).generation)


def is_current(platform: Platform, instance: dg.DagsterInstance, asset: str, cell: Cell) -> bool:
    """Whether a cell's newest materialization was made from what is there now, and its outputs are still there.

    A scene that is gone makes its samples not stale: only making them anew needs it.
    """
    metadata = latest_metadata(instance, asset, cell)
    if metadata is None or not all(path.is_file() for path in NODES[asset].outputs(platform, cell)):
        return False
    if cell.scene_name and not platform.roots.tree(cell.scene_name).ground_truth.base.is_dir():
        return _is_of_the_section(platform, cell)
    return metadata.get(INPUT_DIGEST) == input_digest(platform, instance, asset, cell)
