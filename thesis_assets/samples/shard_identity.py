"""What a shard is made from: the unit by which it is made, missing, stale or damaged, and by which a finished sample is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.command_template import placeholders
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Contents, Older, Output, Place, Unit, Wanted
from thesis_assets.rendering.gaussian_renderer import GSPLAT, rasteriser_on, revision_of
from thesis_assets.rendering.torch_rasteriser import TORCH_RASTERISER
from thesis_assets.samples.generation_config import SAMPLE_FORMAT, read_generation_config, shaping
from thesis_assets.samples.integrity import IMAGE_FILES
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.scenes.listing import SceneRoots, scene_files
from thesis_assets.schemas.samples import SAMPLE_FILES, SampleMeta, SampleRow, ShardStats

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
    """The shard of a scene, which may be gone: lists the files that generation reads from it, and reads none.

    Args:
        device: where Gaussians would be drawn; None: the rasteriser that drew what is there, else the CPU's.
    """
    source, stats = generation.renders.source, _statistics(tree, scene_name)
    adopted = stats is not None and stats.renderer.startswith(ADOPTED_FROM)
    rasteriser = _rasteriser(stats) if device is None else rasteriser_on(device)
    wanted = Wanted(
        step="scene_samples",
        code_version=str(SAMPLE_FORMAT),
        options=_options(tree, generation, shaping(generation.model_dump(mode="json")), group_id),
        given=_options(tree, generation, shaping(generation.model_dump(mode="json", exclude_unset=True)), group_id),
        tools=_tools(rasteriser) if source == "gaussians" and not adopted else {},
        files={} if adopted else scene_files(roots.tree(scene_name), roots, source),
        of_outputs=source == "command",
    )
    place = Place(tree.base, tree.scene_run(scene_name).made_from)
    return Unit(f"scene_samples of {scene_name}", place, wanted, lambda: _older(tree, scene_name, generation))


def in_other_experiment(unit: Unit, tree: DifixTree, scene_name: str) -> Unit:
    """The shard that another experiment has in place of this one, as if this one lay there: equal only where all options are."""
    wanted = replace(unit.wanted, given=None)
    if wanted.tools:
        wanted = replace(wanted, tools=_tools(_rasteriser(_statistics(tree, scene_name))))
    return Unit(unit.name, Place(tree.base, tree.scene_run(scene_name).made_from), wanted)


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
    """Samples on disk that were made from the same things and are whole, with what the record says of their files.

    An interrupted export need not make them again.

    Returns:
        By sample id, outputs by file name.
    """
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
