"""Lineage of a data snapshot: data.json to its manifests, to the shards, to the scenes, each digest computed and compared.

Does not belong here: what was trained on the snapshot.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.samples.sample_rows import read_rows, rows_sha256
from thesis_assets.samples.snapshot import frozen_snapshot
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.schemas.samples import SampleMeta, SampleRow, ShardStats, SplitSummary
from thesis_assets.splits.data_json import content_of_file, prompt_of
from thesis_assets.storage import read_json, sha256_file

if TYPE_CHECKING:
    from thesis_assets.samples.shard_identity import ShardIdentity
    from thesis_assets.scenes.scene import SceneRoots

SAMPLES_A_SCENE = 200
"""Records of samples that are read a scene; a seeded draw where there are more."""


def data_lineage(
    tree: DifixTree,
    roots: SceneRoots,
    *,
    wanted: str | None = None,
    wanted_manifests: Mapping[str, str] | None = None,
) -> LineageLink:
    """`difix/data.json` and everything below it.

    Args:
        wanted: the digest that a run was trained on; None where nothing was.
        wanted_manifests: the manifests' digests that the run names, by file name.
    """
    found = _sha256(tree.data_json)
    faults = [] if found is not None else ["the file is missing"]
    if found is not None and wanted is not None and found != wanted:
        faults.append(f"sha256 {found}, trained on {wanted}")
    rows: dict[Path, list[SampleRow]] = {}
    try:
        frozen = frozen_snapshot(tree)
        if frozen is not None and found not in (None, frozen.data_json_sha256):
            faults.append(f"sha256 {found}, frozen as {frozen.data_json_sha256}")
        rows = {path: read_rows(path) for path in (tree.split_train, tree.split_test, tree.all_samples)}
        if found is not None and found != data_json_sha256(
            tree, rows[tree.split_train], rows[tree.split_test], prompt_of(tree.data_json) or ""
        ):
            faults.append("it was not made of the manifests beside it")
    except InvalidFile as error:
        faults.append(error.in_one_line)
    return linked(
        "data",
        tree.relative(tree.data_json),
        path=tree.data_json,
        digest=found,
        faults=faults,
        note=f"{len(rows.get(tree.split_train, []))} training and {len(rows.get(tree.split_test, []))} test samples",
        made_from=_manifests(tree, roots, rows, wanted_manifests or {}),
    )


def sample_lineage(tree: DifixTree, sample: SampleId, roots: SceneRoots) -> LineageLink:
    """One sample's record, its shard and its scene."""
    path = tree.sample_meta(sample)
    try:
        meta = read_json(path, SampleMeta)
        stats = read_json(tree.scene_run(sample.scene_name).run_stats, ShardStats)
        faults = _sample_faults(meta, stats)
    except InvalidFile as error:
        faults = [error.in_one_line]
    return linked(
        "sample",
        str(sample),
        path=path,
        digest=_sha256(path),
        faults=faults,
        made_from=[shard_lineage(tree, sample.scene_name, roots)],
    )


def _manifests(
    tree: DifixTree, roots: SceneRoots, rows: Mapping[Path, list[SampleRow]], trained_on: Mapping[str, str]
) -> list[LineageLink]:
    try:
        summary = read_json(tree.split_summary, SplitSummary)
    except InvalidFile as error:
        return [linked("manifests", tree.split_summary.name, path=tree.split_summary, faults=[error.in_one_line])]
    by_scene: dict[str, list[SampleRow]] = {}
    for row in rows.get(tree.all_samples, []):
        by_scene.setdefault(row.scene_name, []).append(row)
    links = []
    for path in (tree.split_train, tree.split_test, tree.all_samples):
        found = _sha256(path)
        faults = [] if found is not None else ["the file is missing"]
        for who, wanted in (("split_summary.json", summary.manifest_sha256), ("the run", trained_on)):
            if found is not None and wanted.get(path.name, found) != found:
                faults.append(f"sha256 {found}, {who} names {wanted[path.name]}")
        shards = [shard_lineage(tree, name, roots, by_scene.get(name, [])) for name in summary.scene_runs]
        links.append(
            linked(
                "manifest",
                tree.relative(path),
                path=path,
                digest=found,
                faults=faults,
                note=f"{len(rows.get(path, []))} samples",
                made_from=shards if path == tree.all_samples else [],
            )
        )
    return links


def shard_lineage(
    tree: DifixTree, scene_name: str, roots: SceneRoots, collected: list[SampleRow] | None = None
) -> LineageLink:
    """One scene's shard: its rows, its samples' records, and its scene.

    Args:
        collected: the scene's rows of `all_samples.jsonl`; None where they are not in question.
    """
    shard = tree.scene_run(scene_name)
    try:
        stats = read_json(shard.run_stats, ShardStats)
    except InvalidFile as error:
        return linked("shard", scene_name, path=shard.run_stats, faults=[error.in_one_line])
    found = _sha256(shard.all_samples)
    faults = []
    if found != stats.rows_sha256:
        faults.append(f"sha256 {found}, run_stats.json names {stats.rows_sha256}")
    if collected is not None and rows_sha256(collected) != stats.rows_sha256:
        faults.append("all_samples.jsonl holds other rows of this scene than the shard")
    read, wrong = _samples_of(tree, scene_name, collected, stats)
    return linked(
        "shard",
        scene_name,
        path=shard.all_samples,
        digest=found,
        faults=faults + wrong[:3] + ([f"and {len(wrong) - 3} samples more"] if len(wrong) > 3 else []),
        note=f"{stats.n_saved} samples ({read} of their records read), renderer {stats.renderer}",
        made_from=[_scene(tree, scene_name, roots, stats)],
    )


def _samples_of(
    tree: DifixTree, scene_name: str, rows: list[SampleRow] | None, stats: ShardStats
) -> tuple[int, list[str]]:
    """How many records were read, and what is wrong with them."""
    try:
        every = read_rows(tree.scene_run(scene_name).all_samples) if rows is None else rows
    except InvalidFile as error:
        return 0, [error.in_one_line]
    draw = random.Random(0)  # noqa: S311 - a draw of samples, no secret
    drawn = every if len(every) <= SAMPLES_A_SCENE else draw.sample(every, SAMPLES_A_SCENE)
    wrong = []
    for row in drawn:
        try:
            meta = read_json(tree.samples_dir / row.sample_id / "meta.json", SampleMeta)
        except InvalidFile as error:
            wrong.append(f"{row.sample_id}: {error.in_one_line}")
        else:
            wrong += [f"{row.sample_id}: {fault}" for fault in _sample_faults(meta, stats)]
    return len(drawn), wrong


def _sample_faults(meta: SampleMeta, stats: ShardStats) -> list[str]:
    return [
        f"meta.json has {name} {getattr(meta.provenance, name)}, the shard {getattr(stats, name)}"
        for name in ("generation_digest", "scene_digest")
        if getattr(meta.provenance, name) != getattr(stats, name)
    ]


def _scene(tree: DifixTree, scene_name: str, roots: SceneRoots, stats: ShardStats) -> LineageLink:
    try:
        identity = _identity_now(tree, scene_name, roots, stats)
    except ThesisAssetsError as error:
        return linked("scene", scene_name, digest=stats.scene_digest, faults=[error.in_one_line])
    faults = [
        f"{what}: {found} now, exported from {wanted}"
        for what, found, wanted in (
            ("the scene's files (path, size, time)", identity.scene_digest, stats.scene_digest),
            ("generation_config.yaml", identity.generation_digest, stats.generation_digest),
        )
        if found != wanted
    ]
    return linked(
        "scene",
        scene_name,
        path=roots.tree(scene_name).ground_truth.base,
        digest=identity.scene_digest,
        faults=faults,
        note=f"{stats.dataset}, group {stats.group_id}",
    )


def _identity_now(tree: DifixTree, scene_name: str, roots: SceneRoots, stats: ShardStats) -> ShardIdentity:
    from thesis_assets.experiments.generation import GenerationSpec
    from thesis_assets.samples.generation_config import read_generation_config
    from thesis_assets.samples.shard_identity import shard_identity
    from thesis_assets.scenes.scene import open_scene

    generation = GenerationSpec.model_validate(read_generation_config(tree.generation_config).resolved)
    return shard_identity(open_scene(roots, scene_name), generation, stats.group_id, exp_name=tree.exp_name)


def _sha256(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None
