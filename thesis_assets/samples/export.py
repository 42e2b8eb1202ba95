"""Exporting one scene's shard: render, write the triplets, publish the shard's files last.

Whatever is whole and made from the same inputs is kept, so that an interrupted export goes on where it stopped and a repeated
one does nothing. Does not belong here: which triplets there are (plan.py), how files are encoded (the images room).
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.errors import InvalidKey, InvalidScene, SnapshotChanged, first_names
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, SampleId, check_key
from thesis_assets.provenance import (
    LOST,
    Contents,
    MadeFrom,
    Making,
    Output,
    Unit,
    Verdict,
    begin,
    mend,
    take_over,
)
from thesis_assets.samples.plan import ScenePlan, plan_scene
from thesis_assets.samples.sample_rows import row_of, rows_sha256
from thesis_assets.samples.shards import (
    LinkedShard,
    Shard,
    dropped_bytes,
    finished_samples,
    link_equal_shard,
    shard_unit,
    sorted_dropped,
    write_shard,
)
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change, write_generation_config
from thesis_assets.samples.triplet_export import ExportedTriplets, TripletWork, export_triplets
from thesis_assets.samples.triplet_sheet import triplet_sheet
from thesis_assets.schemas.samples import DroppedSample, SampleMeta, SampleRow, ShardStats

if TYPE_CHECKING:
    from thesis_assets.scenes.listing import SceneRoots
    from thesis_assets.scenes.scene import Scene


Say = Callable[[str], None]


@dataclass(frozen=True)
class ShardWork:
    """One scene of one experiment. Picklable: it goes to another process or host.

    Attributes:
        device: where renders are made: `cpu`, or a CUDA device.
        threads: that encode and write.
        anew: also where the shard is as wanted.
    """

    tree: DifixTree
    roots: SceneRoots
    scene_name: str
    generation: GenerationSpec
    group_id: str
    device: str = "cpu"
    threads: int = 1
    anew: bool = False

    def __post_init__(self) -> None:
        check_key(self.scene_name, "scene_name")
        check_key(self.group_id, "group_id")


@dataclass(frozen=True)
class ShardRecord:
    """What became of a shard. Not `exported`: it was as wanted. `linked`: taken over from an equal one. `preview`: a small JPEG."""

    stats: ShardStats
    exported: bool
    preview: bytes | None
    linked: bool = False


def export_shard(work: ShardWork, on_progress: Say = tell) -> ShardRecord:
    """Bring one scene's shard up to date: made anew where it is missing or stale, mended where files of it are lost or damaged.

    One bad frame drops one sample. Same scene, same generation section: same pixels, same rows and drops, byte for byte,
    whatever the number of threads.

    Args:
        on_progress: called with a short line every few seconds; in an item of a map it is told to who started that.

    Raises:
        CellLocked: another process exports the scene.
        DiskFull: no space is left; what is published stays, and the next export goes on from there.
        SnapshotChanged: the snapshot has samples of another generation section, or is frozen and the shard would change.
        InvalidScene: the scene cannot be read as one.
        InvalidExperiment: the generation section does not fit the scene.
        NotBuiltYet: a declared option does not exist in this version.
    """
    from thesis_assets.scenes.scene import open_scene

    tree = work.tree
    with storage.full_disk_explained(tree.base):
        work = replace(work, generation=write_generation_config(tree, work.generation))
    with (
        storage.full_disk_explained(tree.base),
        storage.cell_lock(tree.lock(f"scene-{work.scene_name}"), f"the scene {work.scene_name} of {tree.exp_name}"),
    ):
        unit = shard_unit(tree, work.roots, work.scene_name, work.generation, work.group_id, device=work.device)
        contents = Contents()
        making = begin(unit, contents)  # first: an input that changes while one looks is found at the end
        verdict = unit.look(contents)
        if verdict.record is None and take_over(unit, contents) is not None:
            verdict = unit.look(contents)
        if verdict.record is not None and verdict.record.is_asked_anew:
            work = replace(work, anew=True)  # by a command that was killed before it came to this
        if verdict.is_made and not work.anew:
            stats = storage.read_json(tree.scene_run(work.scene_name).run_stats, ShardStats)
            return ShardRecord(stats, exported=False, preview=None)
        scene = open_scene(work.roots, work.scene_name)
        frozen = frozen_snapshot(tree) is not None
        was_whole = tree.scene_run(scene.name).run_stats.is_file()
        if verdict.record is not None and not verdict.is_stale and (frozen or not work.anew):
            export = _mending(work, scene, unit, verdict, contents, frozen=frozen)
        elif not frozen:
            tree.scene_run(scene.name).run_stats.unlink(missing_ok=True)  # without it the shard is unfinished
            linked = None if work.anew else link_equal_shard(tree, unit, work.generation.export.link_mode, contents)
            if linked is not None:
                return _publish(work, linked)
            export = _making(work, scene, making, contents)
        else:
            refused = refuse_change(
                tree,
                f"and the shard of `{work.scene_name}` would be new, or made from other inputs",
                key=f"scene_runs.{work.scene_name}",
                found=verdict.in_words,
                wanted="the shard that was frozen",
            )
            if verdict.record is not None or not was_whole:
                raise refused
            # Only the record itself is lost: its samples say what they are.
            export = _making(work, scene, making, contents, refused=refused)
        return export.finish(export_triplets(export.triplets, export.plan, on_progress))


@dataclass(frozen=True)
class _Export:
    """Triplets to be made, and what publishes the shard once they are."""

    triplets: TripletWork
    plan: ScenePlan
    finish: Callable[[ExportedTriplets], ShardRecord]


def _publish(work: ShardWork, linked: LinkedShard) -> ShardRecord:
    shard = linked.shard
    _remove_orphans(work.tree, work.scene_name, shard.rows)
    linked.making.finish({**linked.outputs, **_write_shard(work, shard)}, noted=linked.noted)
    return ShardRecord(shard.stats, exported=True, preview=triplet_sheet(work.tree, shard.rows), linked=True)


def _making(
    work: ShardWork, scene: Scene, making: Making, contents: Contents, refused: SnapshotChanged | None = None
) -> _Export:
    """What an interrupted export has not finished. `refused`: raised before any sample would appear."""

    def refuse(*_: object) -> None:
        if refused is not None:
            raise refused

    def finish(made: ExportedTriplets) -> ShardRecord:
        _remove_orphans(tree, scene.name, made.rows)
        shard = _shard(work, scene, plan, made, [*plan.dropped, *made.dropped], started)
        noted = {
            "device": work.device,
            "link_mode": work.generation.export.link_mode,
            "png_encoder": made.png_encoder,
            "renderer": made.renderer,
        }
        making.finish({**made.outputs, **_write_shard(work, shard)}, noted=noted)
        return ShardRecord(shard.stats, exported=True, preview=triplet_sheet(tree, made.rows, made.thumbnails))

    started, tree = time.monotonic(), work.tree
    plan = plan_scene(scene, work.generation, work.group_id)
    rows = [row_of(planned.sample, planned.group_id) for planned in plan.candidates]
    finished = {} if work.anew else finished_samples(tree, rows, making.identity, contents)
    return _Export(_triplets(work, scene, making.identity, finished, contents, refuse), plan, finish)


def _mending(
    work: ShardWork, scene: Scene, unit: Unit, verdict: Verdict, contents: Contents, *, frozen: bool
) -> _Export:
    """Exactly the samples that are lost or damaged. The record's identity stays."""
    assert verdict.record is not None, "what is mended has a record"
    started, tree, record = time.monotonic(), work.tree, verdict.record

    def finish(made: ExportedTriplets) -> ShardRecord:
        damage.require_made_again(tree, scene.name, {row.sample_id for row in made.rows})
        rows = {sample_id: row_of(SampleId.parse(sample_id), work.group_id) for sample_id in damage.kept}
        rows |= {row.sample_id: row for row in made.rows}
        made = replace(made, rows=[rows[sample_id] for sample_id in sorted(rows)])
        _remove_orphans(tree, scene.name, made.rows)
        outputs = made.outputs
        if damage.own_files:
            dropped = [row for row in [*plan.dropped, *made.dropped] if row.sample_id not in rows]
            shard = _shard(work, scene, plan, made, dropped, started)
            if frozen:
                _require_recorded_rows(work, record, shard)
            outputs = {**outputs, **_write_shard(work, shard)}
        mend(unit, outputs)
        stats = storage.read_json(tree.scene_run(scene.name).run_stats, ShardStats)
        return ShardRecord(stats, exported=True, preview=triplet_sheet(tree, made.rows, made.thumbnails))

    damage = shard_damage(record, verdict, everything=work.anew)
    plan = plan_scene(scene, work.generation, work.group_id)
    _require_same_recipes(work, plan, damage.kept)
    if not damage.own_files:  # else why the others were dropped has to be found out again
        plan = replace(plan, candidates=[each for each in plan.candidates if str(each.sample) in damage.samples])
    accept = only_as_recorded(tree, record) if frozen else None
    return _Export(_triplets(work, scene, record.identity, damage.kept, contents, accept), plan, finish)


def _triplets(
    work: ShardWork,
    scene: Scene,
    identity: str,
    finished: Mapping[str, Mapping[str, Output]],
    contents: Contents,
    accept: Callable[[str, Mapping[str, Output]], None] | None,
) -> TripletWork:
    return TripletWork(
        work.tree, scene, work.generation, identity, finished, contents, work.device, work.threads, accept
    )


def _require_same_recipes(work: ShardWork, plan: ScenePlan, kept: Mapping[str, Mapping[str, Output]]) -> None:
    """Which sample has which recipe follows from all of a scene's: where some are gone since, a lost one would get another.

    Raises:
        InvalidScene: a kept sample would have another recipe now.
    """
    for planned in plan.candidates:
        if planned.renders is None or str(planned.sample) not in kept:
            continue
        made = storage.read_json(work.tree.sample_meta(planned.sample), SampleMeta).provenance
        if (made.recipe, made.schedule) != (planned.renders.recipe.name, planned.renders.value):
            raise InvalidScene(
                f"lost samples of `{work.scene_name}` could not be made again of the recipes that they were of",
                file=work.tree.sample_meta(planned.sample),
                key="provenance.recipe",
                found=f"{made.recipe}; by the scene's files as they are now it would be {planned.renders.recipe.name}",
                wanted="all of the scene's files that the samples were shared out by",
                remedy="bring them back; or let the scene's samples be made anew from what is there: "
                f"`thesis-assets run --exp {work.tree.exp_name} --force scene_samples`",
            )


def _require_recorded_rows(work: ShardWork, record: MadeFrom, shard: Shard) -> None:
    """Of a frozen snapshot the table of drops and the rows that are written again must be those it had."""
    shard_tree = work.tree.scene_run(work.scene_name)
    written = {
        shard_tree.all_samples: shard.stats.rows_sha256,
        shard_tree.dropped_samples: storage.sha256_bytes(dropped_bytes(shard.dropped)),
    }
    for path, sha256 in written.items():
        then = record.output(work.tree.relative(path))
        if then is not None and then.sha256 not in (sha256, LOST):
            raise refuse_change(
                work.tree,
                f"and the mended shard of `{work.scene_name}` holds other samples",
                key=work.tree.relative(path),
                found=sha256,
                wanted=then.sha256,
            )


def _write_shard(work: ShardWork, shard: Shard) -> dict[str, Output]:
    shard_tree = work.tree.scene_run(work.scene_name)
    write_shard(shard_tree, shard)
    written = (shard_tree.all_samples, shard_tree.dropped_samples, shard_tree.run_stats)
    return {work.tree.relative(path): Output(path.stat().st_size, storage.sha256_file(path)) for path in written}


def _remove_orphans(tree: DifixTree, scene_name: str, rows: list[SampleRow]) -> None:
    """Take away this scene's sample folders that no row names: of an earlier generation section, or of a killed export."""
    kept = {row.sample_id for row in rows}
    if not tree.samples_dir.is_dir():
        return
    for folder in tree.samples_dir.iterdir():
        if scene_name in folder.name and folder.name not in kept and _sample_of_folder(folder.name, scene_name):
            shutil.rmtree(folder)


def _sample_of_folder(name: str, scene_name: str) -> bool:
    """Whether a folder is a sample of the scene, finished or (`.tmp-<sample_id>.<word>.partial`) on its way."""
    if name.startswith(TEMPORARY_PREFIX):
        name = name.removeprefix(TEMPORARY_PREFIX).rsplit(".", 2)[0]
    try:
        return SampleId.parse(name).scene_name == scene_name
    except InvalidKey:
        return False


def _shard(
    work: ShardWork, scene: Scene, plan: ScenePlan, made: ExportedTriplets, dropped: list[DroppedSample], started: float
) -> Shard:
    height, width = scene.image_size(plan.target_cam_ids[0])
    saved = {row.sample_id for row in made.rows}
    recipes = Counter(
        planned.renders.recipe.name
        for planned in plan.candidates
        if planned.renders is not None and str(planned.sample) in saved
    )
    stats = ShardStats(
        scene_name=scene.name,
        dataset=scene.dataset,
        group_id=work.group_id,
        target_cam_ids=plan.target_cam_ids,
        n_total_candidates=len(made.rows) + len(dropped),
        n_saved=len(made.rows),
        n_dropped=len(dropped),
        rows_sha256=rows_sha256(made.rows),
        image_height=height,
        image_width=width,
        renderer=made.renderer,
        png_encoder=made.png_encoder,
        seconds=round(time.monotonic() - started, 3),
        bytes_written=made.bytes_written,
        recipes={recipe.name: recipes[recipe.name] for recipe in work.generation.recipes},
    )
    return Shard(stats, made.rows, sorted_dropped(dropped))


@dataclass(frozen=True)
class ShardDamage:
    """What a look found of a shard: `samples` to make again, those that are `kept`, and whether its `own_files` are to be written."""

    samples: frozenset[str]
    kept: dict[str, dict[str, Output]]
    own_files: bool

    def require_made_again(self, tree: DifixTree, scene_name: str, made: set[str]) -> None:
        """All lost samples must be there again.

        Raises:
            InvalidScene: some could not be made: what they were made from is gone by now, or cannot be read.
        """
        left = sorted(self.samples - made)
        if left:
            raise InvalidScene(
                f"{len(left)} lost samples of `{scene_name}` could not be made again",
                file=tree.samples_dir,
                found=first_names(left, 5),
                wanted="the scene's files that they were made from",
                remedy="bring them back; or let the scene's samples be made anew from what is there: "
                f"`thesis-assets run --exp {tree.exp_name} --force scene_samples`",
            )


def shard_damage(record: MadeFrom, verdict: Verdict, *, everything: bool = False) -> ShardDamage:
    """See `ShardDamage`. `everything`: all samples are to be made again, whole or not."""
    kept: dict[str, dict[str, Output]] = {}
    for name, output in record.outputs.items():
        folder, _, rest = name.partition("/")
        if folder == "samples":
            sample_id, _, file = rest.partition("/")
            kept.setdefault(sample_id, {})[file] = Output(*output)
    names = [*verdict.missing, *verdict.damaged]
    lost = set(kept) if everything else {name.split("/")[1] for name in names if name.startswith("samples/")}
    return ShardDamage(
        samples=frozenset(lost),
        kept={sample_id: files for sample_id, files in kept.items() if sample_id not in lost},
        own_files=any(not name.startswith("samples/") for name in names),
    )


def only_as_recorded(tree: DifixTree, record: MadeFrom) -> Callable[[str, Mapping[str, Output]], None]:
    """What a frozen snapshot takes in place of a lost sample: the recorded bytes, or, of images that we encode, pixels.

    `meta.json` may say of another renderer; its eleven required keys follow from the sample's id.
    """

    def accept(sample_id: str, files: Mapping[str, Output]) -> None:
        for file, made in files.items():
            then = record.output(f"samples/{sample_id}/{file}")
            if file == "meta.json" or then is None or then.sha256 in (made.sha256, LOST):
                continue
            if then.pixels is None or then.pixels != made.pixels:
                raise refuse_change(
                    tree,
                    "and a sample that is made again would be another one",
                    key=f"samples/{sample_id}/{file}",
                    found=f"sha256 {made.sha256[:12]}, pixels {(made.pixels or 'not known')[:12]}",
                    wanted=f"sha256 {then.sha256[:12]}, pixels {(then.pixels or 'not known')[:12]}",
                )

    return accept
