"""A scene's shard: its files, what it is made from, equal ones of other experiments; and all shards collected as the sample set.

By its unit a shard is made, missing, stale or damaged, and a finished sample is kept. Does not belong here: making it (export.py).
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey, SnapshotChanged, command_for
from thesis_assets.experiments.command_template import placeholders
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.layout import DifixTree, SceneRunTree
from thesis_assets.provenance import (
    CODE_VERSIONS,
    Contents,
    FilesToFind,
    MadeFrom,
    Making,
    Older,
    Output,
    Place,
    Unit,
    Wanted,
    begin,
    versions_of,
)
from thesis_assets.rendering.gaussian_renderer import GSPLAT, rasteriser_on, revision_of
from thesis_assets.rendering.torch_rasteriser import TORCH_RASTERISER
from thesis_assets.samples.integrity import IMAGE_FILES
from thesis_assets.samples.sample_rows import read_rows, unique_rows, write_rows
from thesis_assets.samples.snapshot import (
    given_section,
    other_sections,
    read_generation_config,
    require_same_manifest,
    shaping,
    shard_place,
)
from thesis_assets.scenes.listing import SceneRoots, scene_files
from thesis_assets.schemas.samples import (
    DROPPED_COLUMNS,
    SAMPLE_FILES,
    DroppedSample,
    SampleMeta,
    SampleRow,
    ShardStats,
)


@dataclass(frozen=True)
class Shard:
    """The finished samples of one scene, sorted by sample id."""

    stats: ShardStats
    rows: list[SampleRow]
    dropped: list[DroppedSample]


def write_shard(shard_tree: SceneRunTree, shard: Shard) -> None:
    """Write the shard's files; `run_stats.json` last: a shard without it is not finished."""
    write_rows(shard_tree.all_samples, shard.rows)
    write_dropped(shard_tree.dropped_samples, shard.dropped)
    storage.write_json(shard_tree.run_stats, shard.stats)


def read_shard(tree: DifixTree, scene_name: str) -> Shard:
    """Read a finished shard.

    Raises:
        InvalidFile: the shard is not there, not finished, or its rows are not those that `run_stats.json` speaks of.
    """
    shard_tree = tree.scene_run(scene_name)
    remedy = f"`{command_for('scene_samples', tree.exp_name)}` exports it"
    if not shard_tree.run_stats.exists():
        raise InvalidFile(f"the scene `{scene_name}` has no finished shard", file=shard_tree.run_stats, remedy=remedy)
    stats = storage.read_json(shard_tree.run_stats, ShardStats)
    found = storage.sha256_file(shard_tree.all_samples) if shard_tree.all_samples.exists() else "no such file"
    if found != stats.rows_sha256:
        raise InvalidFile(
            "the shard's rows are not those that its statistics speak of",
            file=shard_tree.all_samples,
            key="rows_sha256",
            found=found,
            wanted=stats.rows_sha256,
            remedy=remedy,
        )
    return Shard(stats, read_rows(shard_tree.all_samples), read_dropped(shard_tree.dropped_samples))


def write_dropped(path: Path, dropped: Iterable[DroppedSample]) -> None:
    """Write the table of dropped samples, in the given order; with no row it has its header."""
    storage.write_bytes(path, dropped_bytes(dropped))


def dropped_bytes(dropped: Iterable[DroppedSample]) -> bytes:
    """The table as CSV, `\\n` line ends."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(DROPPED_COLUMNS)
    for row in dropped:
        writer.writerow([getattr(row, column) for column in DROPPED_COLUMNS])
    return text.getvalue().encode("utf-8")


def read_dropped(path: Path) -> list[DroppedSample]:
    """Read a table of dropped samples.

    Raises:
        InvalidFile: it is missing, or a line is not a row of it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path) from error
    except UnicodeDecodeError as error:
        raise InvalidFile("the file is not UTF-8 text", file=path, found=str(error)[:200]) from error
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    if tuple(header) != DROPPED_COLUMNS:
        raise InvalidFile(
            "the table has other columns", file=path, found=",".join(header)[:200], wanted=",".join(DROPPED_COLUMNS)
        )
    rows = []
    for cells in lines:
        try:
            rows.append(DroppedSample.model_validate(dict(zip(DROPPED_COLUMNS, cells, strict=True))))
        except (ValidationError, ValueError) as error:
            raise InvalidFile(
                "a line is not a dropped sample",
                file=path,
                key=f"line {lines.line_num}",
                found=ascii(",".join(cells))[:200],
                wanted=",".join(DROPPED_COLUMNS),
            ) from error
    return rows


def sorted_dropped(dropped: Sequence[DroppedSample]) -> list[DroppedSample]:
    """By scene, then sample id: one order whatever order they were dropped in."""
    return sorted(dropped, key=lambda row: (row.scene_name, row.sample_id, row.reason))


ADOPTED_FROM = "adopted from"
"""The renderer of samples that other scripts made begins so: what they were made from is not known."""


def shard_unit(
    tree: DifixTree,
    roots: SceneRoots,
    scene_name: str,
    generation: GenerationSpec,
    group_id: str,
    *,
    device: str | None = None,
) -> Unit:
    """The shard of a scene, which may be gone: the files that generation reads from it are listed when they are asked for, and none is read.

    Args:
        device: where Gaussians would be drawn; None: the rasteriser that drew what is there, else the CPU's.
    """
    source, stats = generation.renders.source, _statistics(tree, scene_name)
    recipes = [renders.folder for renders in generation.recipe_renders()] or [""]
    adopted = stats is not None and stats.renderer.startswith(ADOPTED_FROM)
    rasteriser = _rasteriser(stats) if device is None else rasteriser_on(device)
    wanted = Wanted(
        step="scene_samples",
        code_version=CODE_VERSIONS["scene_samples"],
        options=_options(tree, generation, shaping(generation.model_dump(mode="json")), group_id),
        given=_options(tree, generation, shaping(given_section(generation)), group_id),
        tools=_tools(rasteriser) if source == "gaussians" and not adopted else {},
        files={} if adopted else FilesToFind(lambda: scene_files(roots.tree(scene_name), roots, source, recipes)),
        of_outputs=source == "command",
    )
    older = partial(_older, tree, scene_name, generation)
    return Unit(f"scene_samples of {scene_name}", shard_place(tree, scene_name), wanted, older)


def in_other_experiment(unit: Unit, tree: DifixTree, scene_name: str) -> Unit:
    """The shard that another experiment has in place of this one, as if this one lay there: equal only where all options are."""
    wanted = replace(unit.wanted, given=None)
    if wanted.tools:
        wanted = replace(wanted, tools=_tools(_rasteriser(_statistics(tree, scene_name))))
    return Unit(unit.name, shard_place(tree, scene_name), wanted)


def _options(tree: DifixTree, generation: GenerationSpec, section: Mapping[str, Any], group_id: str) -> dict[str, Any]:
    """As they stand in the experiment's file. Its name counts only where the command that renders is told it."""
    options: dict[str, Any] = {"generation": section, "split": {"group_id": group_id}}
    command = generation.renders.command
    if command is not None and "exp_name" in placeholders(command):
        options["exp_name"] = tree.exp_name
    return options


def _tools(rasteriser: str) -> dict[str, str]:
    revision = revision_of(rasteriser)
    return {} if revision is None else {rasteriser: revision}


def _rasteriser(stats: ShardStats | None) -> str:
    """That drew a shard; the CPU's where nothing is drawn yet."""
    return GSPLAT if stats is not None and stats.renderer.startswith(GSPLAT) else TORCH_RASTERISER


def _statistics(tree: DifixTree, scene_name: str) -> ShardStats | None:
    try:
        return storage.read_json(tree.scene_run(scene_name).run_stats, ShardStats)
    except InvalidFile:
        return None


def _older(tree: DifixTree, scene_name: str, generation: GenerationSpec) -> Older | None:
    """A finished shard of a version that wrote no records, and a digest of sizes and times into its statistics; or an adopted one.

    Statistics without that were left by an export that ended before its record.
    """
    shard, stats = tree.scene_run(scene_name), _statistics(tree, scene_name)
    if stats is None:
        return None
    adopted = stats.renderer.startswith(ADOPTED_FROM)
    if not adopted and "scene_digest" not in storage.read_json_value(shard.run_stats):
        return None
    try:
        rows = read_rows(shard.all_samples)
        section = shaping(read_generation_config(tree.generation_config).resolved)
    except InvalidFile:
        return None
    samples = [tree.samples_dir / row.sample_id / name for row in rows for name in SAMPLE_FILES]
    # `torch rasteriser 1, torch 2.9.0`; a library's version is no part of what was made.
    name, _, revision = stats.renderer.split(",")[0].rpartition(" ")
    return Older(
        files=[shard.run_stats, shard.all_samples, shard.dropped_samples, *samples],
        options=_options(tree, generation, section, stats.group_id),
        tools={name: revision} if name in (TORCH_RASTERISER, GSPLAT) else {},
    )


def finished_samples(
    tree: DifixTree, rows: Iterable[SampleRow], identity: str, contents: Contents
) -> dict[str, dict[str, Output]]:
    """Samples on disk that are whole and of this identity, which an interrupted export need not make again: by id, outputs by file."""
    found = {row.sample_id: _outputs(tree, row, identity) for row in rows}
    asked = {sample_id: outputs for sample_id, outputs in found.items() if outputs is not None}
    paths = [tree.samples_dir / sample_id / name for sample_id in asked for name in IMAGE_FILES]
    digests = iter(contents.sha256_of(paths))
    return {
        sample_id: outputs
        for sample_id, outputs in asked.items()
        if [next(digests) for _ in IMAGE_FILES] == [outputs[name].sha256 for name in IMAGE_FILES]
    }


def _outputs(tree: DifixTree, row: SampleRow, identity: str) -> dict[str, Output] | None:
    """What a sample's `meta.json` says of its files; None where it is not there, damaged, or of another making."""
    folder = tree.samples_dir / row.sample_id
    try:
        content = (folder / "meta.json").read_bytes()
        meta = SampleMeta.model_validate_json(content)
        images = {
            name: Output(
                (folder / name).stat().st_size,
                meta.provenance.images[name],
                meta.provenance.pixels if name == "image.png" else None,
            )
            for name in IMAGE_FILES
        }
    except (OSError, ValueError, KeyError):
        return None
    if meta.provenance.identity != identity or meta.row() != row:
        return None
    return {**images, "meta.json": Output(len(content), storage.sha256_bytes(content))}


@dataclass(frozen=True)
class LinkedShard:
    """A shard whose samples were taken over, what its record says of their files, and the record in the making, by the tools of then."""

    shard: Shard
    outputs: dict[str, Output]
    noted: Mapping[str, Any]
    making: Making


def link_equal_shard(
    tree: DifixTree, unit: Unit, link_mode: Literal["auto", "copy"], contents: Contents
) -> LinkedShard | None:
    """Take over the samples of an equal shard of another experiment under the same root: made from the same, by today's tools.

    Each sample's folder appears by one rename; the shard's files are the caller's to write. None where no experiment has one.
    """
    for source, theirs in _siblings(tree, unit):
        record = _equal_record(theirs, contents)
        if record is None:
            continue
        started = time.monotonic()
        try:
            shard = read_shard(source, theirs.place.record.parent.name)
            for row in shard.rows:
                _link_sample(source, tree, row.sample_id, link_mode)
        except (FileNotFoundError, InvalidFile):
            continue  # it was exported anew while we looked
        making = begin(replace(theirs, place=unit.place), contents)
        if _equal_record(theirs, contents) != record:
            continue  # An export anew takes the statistics away first: what was linked may be of two makings.
        for name, sha256 in record.inputs.items():  # ours too: they were compared just now
            contents.saw(unit.wanted.files[name], sha256)
        taken = shard.stats.model_copy(update={"seconds": round(time.monotonic() - started, 3), "bytes_written": 0})
        outputs = {name: Output(*each) for name, each in record.outputs.items() if name.startswith("samples/")}
        return LinkedShard(Shard(taken, shard.rows, shard.dropped), outputs, record.noted, making)
    return None


def has_equal_shard(tree: DifixTree, unit: Unit) -> bool:
    """Whether the experiment itself or another one under the same root has a whole shard that is equal to this one."""
    contents = Contents()
    return unit.look(contents).is_made or any(_equal_record(theirs, contents) for _, theirs in _siblings(tree, unit))


def _equal_record(theirs: Unit, contents: Contents) -> MadeFrom | None:
    """The record of a shard that is whole and what one would make now: by this version and these tools, from all that is here."""
    verdict = theirs.look(contents)
    record = verdict.record
    if record is None or not verdict.is_made or verdict.notes:
        return None
    return record if record.inputs.keys() == theirs.wanted.files.keys() else None


def _siblings(tree: DifixTree, unit: Unit) -> Iterator[tuple[DifixTree, Unit]]:
    """Experiments under the same root that have a record of the scene's shard, by name, each with that shard."""
    name = unit.place.name(unit.place.record)
    for record in sorted(tree.root.glob(f"*/{name}")):
        try:
            sibling = DifixTree(tree.root, record.parents[2].name)
        except InvalidKey:
            continue  # no experiment of ours
        if sibling.exp_name != tree.exp_name:
            yield sibling, in_other_experiment(unit, sibling, record.parent.name)


def _link_sample(source: DifixTree, tree: DifixTree, sample_id: str, link_mode: Literal["auto", "copy"]) -> None:
    with storage.atomic_directory(tree.samples_dir / sample_id) as folder:
        for name in SAMPLE_FILES:
            storage.link_or_copy(source.samples_dir / sample_id / name, folder / name, link_mode=link_mode)


@dataclass(frozen=True)
class SampleSet:
    """Rows sorted by sample id, drops by scene and sample id, one `ShardStats` a scene, by name."""

    rows: list[SampleRow]
    dropped: list[DroppedSample]
    shards: list[ShardStats]


def collect_sample_set(tree: DifixTree, scene_names: Sequence[str]) -> SampleSet:
    """Read the shards of the named scenes, and no other: one that the experiment no longer names is left out.

    Raises:
        InvalidFile: a shard is missing, unfinished or damaged; or two rows have one sample id and other content.
        SnapshotChanged: the shards were made by different generation sections.
    """
    shards = [read_shard(tree, scene_name) for scene_name in sorted(set(scene_names))]
    others = other_sections(tree, sorted(set(scene_names)))
    if others:
        raise SnapshotChanged(
            "the shards were made by different generation sections",
            file=tree.scene_runs_dir,
            key="generation",
            found="; ".join(others[:20]),
            wanted="one generation section for all scenes of a snapshot",
            remedy=f"`thesis-assets run --exp {tree.exp_name} --force scene_samples` exports all of them anew",
        )
    return SampleSet(
        rows=unique_rows([row for shard in shards for row in shard.rows], tree.scene_runs_dir),
        dropped=sorted_dropped([row for shard in shards for row in shard.dropped]),
        shards=[shard.stats for shard in shards],
    )


def sample_set_unit(tree: DifixTree, scene_names: Sequence[str]) -> Unit:
    """The sample set of these scenes, made from their shards as they are now."""
    scenes = sorted(set(scene_names))
    made = versions_of({f"scene_runs/{name}": shard_place(tree, name) for name in scenes})
    wanted = Wanted("sample_set", CODE_VERSIONS["sample_set"], options={"scenes": scenes}, made=made)
    return Unit("sample_set", Place(tree.base, tree.made_from("sample_set")), wanted, lambda: _older_set(tree))


def _older_set(tree: DifixTree) -> Older | None:
    """A set that a version without records left. One that nothing was made of was perhaps not finished."""
    files = [tree.all_samples, tree.dropped_samples]
    return Older(files) if all(path.is_file() for path in [*files, tree.generation_stats]) else None


def write_sample_set(tree: DifixTree, sample_set: SampleSet) -> None:
    """Write `manifests/all_samples.jsonl` and `meta/dropped_samples.csv`.

    Raises:
        SnapshotChanged: the snapshot is frozen and its rows would change.
    """
    require_same_manifest(tree, tree.all_samples, sample_set.rows)
    making = begin(sample_set_unit(tree, [stats.scene_name for stats in sample_set.shards]))
    write_rows(tree.all_samples, sample_set.rows)
    write_dropped(tree.dropped_samples, sample_set.dropped)
    making.finish([tree.all_samples, tree.dropped_samples])
