"""Lineage of a data snapshot: data.json to its manifests, to the shards, to the scenes, each compared with what was recorded.

Does not belong here: what was trained on the snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile, first_names
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.provenance import Contents, MadeFrom, Place, Unit, Wanted, examine, forget_stats, read_record
from thesis_assets.samples.sample_rows import read_rows, rows_sha256
from thesis_assets.samples.snapshot import frozen_snapshot, read_generation_config, shard_changes, shard_place
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.schemas.samples import SAMPLE_FILES, SampleRow, ShardStats, SplitSummary
from thesis_assets.splits.data_json import (
    content_of_file,
    content_of_rows,
    folder_of_configuration,
    former_folders,
    prompt_of,
)
from thesis_assets.splits.manifests import split_place
from thesis_assets.storage import read_json, sha256_file

if TYPE_CHECKING:
    from thesis_assets.scenes.listing import SceneRoots


@dataclass(frozen=True)
class Compared:
    """A file beside its record: its digest (None where there is no file), what is wrong, and whether a record names it."""

    digest: str | None
    faults: list[str]
    verified: bool


def compared(place: Place, path: Path) -> Compared:
    """Compare a file with the record of its place."""
    digest = sha256_file(path) if path.is_file() else None
    if digest is None:
        return Compared(None, ["the file is missing"], verified=False)
    try:
        record = read_record(place)
    except InvalidFile as error:
        return Compared(digest, [error.in_one_line], verified=False)
    named = None if record is None else record.output(place.name(path))
    if named is None:
        return Compared(digest, [], verified=False)
    if named.sha256 == digest:
        return Compared(digest, [], verified=True)
    forget_stats(place)  # also where size and time are as noted: `status` says so too from now on
    return Compared(digest, [f"sha256 {digest}, {place.record.name} names {named.sha256}"], verified=True)


def data_lineage(
    tree: DifixTree,
    roots: SceneRoots,
    *,
    wanted: str | None = None,
    wanted_manifests: Mapping[str, str] | None = None,
    trained_in: str | None = None,
) -> LineageLink:
    """`difix/data.json` and everything below it.

    Args:
        wanted: the digest that a run was trained on; None where nothing was.
        wanted_manifests: the manifests' digests that the run names, by file name.
        trained_in: the path that data.json had for the run.
    """
    faults: list[str] = []
    found: str | None = None
    rows: dict[Path, list[SampleRow]] = {}
    try:
        data = content_of_file(tree.data_json)
        found = data.sha256
        folders = [*former_folders(tree), *([folder_of_configuration(trained_in)] if trained_in else [])]
        if wanted is not None and not data.is_named(wanted, folders):
            faults.append(f"sha256 {found}, trained on {wanted}")
        frozen = frozen_snapshot(tree)
        if frozen is not None and not data.is_named(frozen.data_json_sha256, folders):
            faults.append(f"sha256 {found}, frozen as {frozen.data_json_sha256}")
        rows = {path: read_rows(path) for path in (tree.split_train, tree.split_test, tree.all_samples)}
        of_rows = content_of_rows(rows[tree.split_train], rows[tree.split_test], prompt_of(tree.data_json) or "")
        if found != of_rows.sha256:
            faults.append("it was not made of the manifests beside it")
    except InvalidFile as error:
        faults.append(error.in_one_line)
    if faults:
        forget_stats(Place(tree.base, tree.made_from("difix_data")))
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
    """One sample's files, its shard and its scene."""
    place = shard_place(tree, sample.scene_name)
    files = [compared(place, tree.sample_dir(sample) / name) for name in SAMPLE_FILES]
    return linked(
        "sample",
        str(sample),
        path=tree.sample_meta(sample),
        digest=files[-1].digest,
        faults=[f"{name}: {fault}" for name, each in zip(SAMPLE_FILES, files, strict=True) for fault in each.faults],
        verified=all(each.verified for each in files),
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
    places = {tree.all_samples: Place(tree.base, tree.made_from("sample_set"))}
    who_names = (("split_summary.json", summary.manifest_sha256), ("the run", trained_on))
    links = []
    for path in (tree.split_train, tree.split_test, tree.all_samples):
        found = compared(places.get(path, split_place(tree)), path)
        named = [(who, names[path.name]) for who, names in who_names if path.name in names]
        other = [f"sha256 {found.digest}, {who} names {sha256}" for who, sha256 in named if sha256 != found.digest]
        scenes = summary.scene_runs if path == tree.all_samples else []
        links.append(
            linked(
                "manifest",
                tree.relative(path),
                path=path,
                digest=found.digest,
                faults=found.faults + (other if found.digest is not None else []),
                note=f"{len(rows.get(path, []))} samples",
                verified=found.verified or bool(named),
                made_from=[shard_lineage(tree, name, roots, by_scene.get(name, [])) for name in scenes],
            )
        )
    return links


def shard_lineage(
    tree: DifixTree, scene_name: str, roots: SceneRoots, collected: list[SampleRow] | None = None
) -> LineageLink:
    """One scene's shard: its rows (and those `collected` in `all_samples.jsonl`), every file of its samples, and its scene."""
    shard, place = tree.scene_run(scene_name), shard_place(tree, scene_name)
    verdict = examine(Unit(scene_name, place, Wanted("scene_samples", "", given={})))
    record = verdict.record
    faults = list(verdict.reasons) if record is not None or verdict.damaged else []
    found = sha256_file(shard.all_samples) if shard.all_samples.is_file() else None
    try:
        stats = read_json(shard.run_stats, ShardStats)
    except InvalidFile as error:
        return linked("shard", scene_name, path=shard.run_stats, faults=[*faults, error.in_one_line])
    if found != stats.rows_sha256:
        faults.append(f"sha256 {found}, run_stats.json names {stats.rows_sha256}")
    if collected is not None and rows_sha256(collected) != stats.rows_sha256:
        faults.append("all_samples.jsonl holds other rows of this scene than the shard")
    faults += [] if record is None else _other_section(tree, record)
    read = "not verified yet" if record is None else f"{len(record.outputs)} files read"
    return linked(
        "shard",
        scene_name,
        path=shard.all_samples,
        digest=found,
        faults=faults,
        note=f"{stats.n_saved} samples ({read}), renderer {stats.renderer}",
        verified=record is not None,
        made_from=[_scene(scene_name, roots, record, f"{stats.dataset}, group {stats.group_id}")],
    )


def _other_section(tree: DifixTree, record: MadeFrom) -> list[str]:
    """What generation_config.yaml says other than the shard was made by; of options that came later it may say anything."""
    if not tree.generation_config.is_file():
        return []
    try:
        present = read_generation_config(tree.generation_config)
    except InvalidFile as error:
        return [error.in_one_line]
    return [f"{tree.generation_config.name}: {each}" for each in shard_changes(present, record)]


def _scene(scene_name: str, roots: SceneRoots, record: MadeFrom | None, note: str) -> LineageLink:
    """The scene's files, against those that the shard was made from. One that is gone is known by the record alone."""
    folder = roots.tree(scene_name).ground_truth.base
    if record is None:
        return linked("scene", scene_name, path=folder, note=f"{note}; not verified yet", verified=False)
    paths = _input_paths(roots, record)
    now = dict(zip(paths, Contents().sha256_of(paths.values()), strict=True))
    changed = [name for name, sha256 in now.items() if sha256 not in (None, record.inputs[name])]
    gone = [name for name, sha256 in now.items() if sha256 is None]
    return linked(
        "scene",
        scene_name,
        path=folder,
        digest=record.identity,
        faults=[f"{first_names(changed, 3)} changed since it was exported"] if changed else [],
        note=f"{note}; {len(now) - len(gone)} files read" + (f", {len(gone)} are gone" if gone else ""),
        verified=bool(now) and not gone,
    )


def _input_paths(roots: SceneRoots, record: MadeFrom) -> dict[str, Path]:
    """Where the files lie now that a shard was made from, by their names in its record."""
    folders = {
        "canonical_gt": roots.canonical_gt,
        "preprocessing": roots.preprocessing,
        "registry": roots.registry,
        "renders": roots.renders,
    }
    split = {name: name.partition("/") for name in record.inputs}
    return {name: folders[root] / below for name, (root, _, below) in split.items() if root in folders and below}
