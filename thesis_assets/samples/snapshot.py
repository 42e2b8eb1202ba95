"""The snapshot as a whole: frozen or open, by which generation section its samples were made, scenes that are no longer named.

`exp_name` identifies one data snapshot. It is open until a tuning run depends on it; then `meta/frozen.json` holds its digests.
Nothing of a scene that is no longer named is merged into the manifests, and nothing is thrown away: on request its folders go to
`set_aside/`, under their names.
"""

import contextlib
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidKey, SnapshotChanged
from thesis_assets.experiments.reading import read_yaml, to_yaml
from thesis_assets.experiments.spec import NOT_OF_A_SAMPLE, GenerationSpec
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, SampleId, TuningRunTree, check_key
from thesis_assets.provenance import MadeFrom, Place, kept_options, read_record
from thesis_assets.provenance.options import differences
from thesis_assets.samples.sample_rows import read_rows, rows_sha256
from thesis_assets.schemas.base import FileModel
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import FrozenSnapshot, SampleRow, SplitSummary
from thesis_assets.schemas.tuning import TrainConfig


def is_frozen(tree: DifixTree) -> bool:
    """Whether the snapshot may not change any more, also where `meta/frozen.json` is lost: a training depends on it."""
    return tree.frozen.exists() or bool(_trainings(tree))


def frozen_snapshot(tree: DifixTree) -> FrozenSnapshot | None:
    """The digests of a frozen snapshot; None while it is open. Where `meta/frozen.json` is lost, those that a training names.

    Raises:
        InvalidFile: `meta/frozen.json` cannot be read, and no training's `train_config.json` either.
    """
    if not is_frozen(tree):
        return None
    try:
        return storage.read_json(tree.frozen, FrozenSnapshot)
    except InvalidFile as error:
        for path in _trainings(tree):
            with contextlib.suppress(InvalidFile):
                return _frozen_by(storage.read_json(path, TrainConfig))
        trained = (
            "no train_config.json below tuning_runs/ can be read that would tell what it says: restore it from a copy"
        )
        open_again = "no training depends on the snapshot: remove the file"
        raise InvalidFile(
            error.problem,
            file=tree.frozen,
            key=error.key,
            found=error.found,
            remedy=trained if _trainings(tree) else open_again,
        ) from error


def freeze_fault(tree: DifixTree) -> str | None:
    """What is wrong with `meta/frozen.json`, in words; None where it is whole, or the snapshot open."""
    if not is_frozen(tree):
        return None
    try:
        storage.read_json(tree.frozen, FrozenSnapshot)
    except InvalidFile as error:
        trained = ", ".join(path.parent.name for path in _trainings(tree))
        return f"`meta/{tree.frozen.name}`: {error.problem}" + (f"; trained on this data: {trained}" if trained else "")
    return None


def mend_freeze(tree: DifixTree) -> None:
    """Write a lost `meta/frozen.json` again, from what a training on the snapshot names.

    Raises:
        InvalidFile: none tells it.
    """
    if freeze_fault(tree) is not None and (frozen := frozen_snapshot(tree)) is not None:
        storage.write_json(tree.frozen, frozen)


def _trainings(tree: DifixTree) -> list[Path]:
    """The configurations of what was trained on the snapshot. One is written only after the snapshot was frozen."""
    folders = sorted(tree.tuning_runs_dir.iterdir()) if tree.tuning_runs_dir.is_dir() else []
    return [path for folder in folders if (path := TuningRunTree(folder).train_config).is_file()]


def _frozen_by(config: TrainConfig) -> FrozenSnapshot:
    return FrozenSnapshot(
        exp_name=config.exp_name,
        frozen_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        reason=f"tuning run {config.run_name}, whose train_config.json names this data",
        data_json_sha256=config.data_json_sha256,
        manifest_sha256=config.manifest_sha256,
        n_train=config.n_train_samples,
        n_test=config.n_test_samples,
    )


def frozen_scenes(tree: DifixTree) -> frozenset[str] | None:
    """The scenes of a frozen snapshot; None while it is open. Where its split_summary.json is lost or damaged: those with a shard."""
    if not is_frozen(tree):
        return None
    try:
        return frozenset(storage.read_json(tree.split_summary, SplitSummary).scene_runs)
    except InvalidFile:  # a look says so, and the split is made again: for that the scenes must be known
        return frozenset(path.parent.name for path in tree.scene_runs_dir.glob("*/run_stats.json"))


def refuse_change(tree: DifixTree, problem: str, *, key: str, found: object, wanted: object) -> SnapshotChanged:
    """The error for a change to a frozen snapshot, with its remedy."""
    return SnapshotChanged(
        f"the snapshot is frozen, {problem}",
        file=tree.frozen,
        key=key,
        found=found,
        wanted=wanted,
        remedy="tuning runs depend on it: put the experiment file and the scenes back, or fork it under another name "
        f"(`thesis-assets fork --exp {tree.exp_name} --as <new name>`)",
    )


def require_same_manifest(tree: DifixTree, path: Path, rows: Iterable[SampleRow]) -> None:
    """Let a manifest be written only while the snapshot is open, or with the bytes it was frozen with.

    Raises:
        SnapshotChanged: the snapshot is frozen with other bytes.
    """
    frozen = frozen_snapshot(tree)
    if frozen is None:
        return
    wanted, sha256 = frozen.manifest_sha256.get(path.name), rows_sha256(rows)
    if wanted != sha256:
        key = f"manifest_sha256.{path.name}"
        raise refuse_change(tree, f"and {path.name} would change", key=key, found=sha256, wanted=wanted)


_HEADER = """\
# How the samples of this snapshot were made. `generation` is the experiment's section as written; `resolved` has every
# default filled in; the digest is that of the parts that shape a sample.
"""


class GenerationConfig(FileModel):
    """The file's content."""

    generation_digest: str
    generation: dict[str, Any]
    resolved: dict[str, Any]


def shaping(section: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a generation section that shape one scene's samples: not which scenes there are, not the prompt (it stands
    in data.json only), not how a file comes to its place."""
    kept = {key: value for key, value in section.items() if key not in NOT_OF_A_SAMPLE}
    if "export" in kept:
        kept["export"] = {key: value for key, value in kept["export"].items() if key not in ("prompt", "link_mode")}
    return kept


def given_section(generation: GenerationSpec) -> dict[str, Any]:
    """What an experiment's file sets. That it names no recipes is set too: samples of recipes do not stay where the file has none."""
    return {"recipes": None, **generation.model_dump(mode="json", exclude_unset=True)}


def write_generation_config(tree: DifixTree, generation: GenerationSpec, *, replace: bool = False) -> GenerationSpec:
    """Write the generation section, or leave it where it says the same already. Call it before any sample is written.

    A change of the scenes or of the prompt rewrites the file; a change of what shapes a sample needs `replace` once there are
    samples, and every shard is then exported again.

    Returns:
        The section to work by: an option that the experiment's file does not set is as it was when the snapshot was begun.

    Raises:
        SnapshotChanged: the snapshot has samples of another generation section, or it is frozen; the message has the keys.
        InvalidFile: the file that is there cannot be read.
    """
    present = read_generation_config(tree.generation_config) if tree.generation_config.exists() else None
    kept = generation
    if present is not None:
        changes = section_changes(present, generation)
        if changes:
            _refuse_another(tree, changes, replace)
        else:
            kept = _kept(present, generation)
    resolved = kept.model_dump(mode="json")
    wanted = GenerationConfig(
        generation_digest=storage.sha256_value(shaping(resolved)),
        generation=generation.model_dump(mode="json", exclude_unset=True),
        resolved=resolved,
    )
    if present is None or (present.generation, present.resolved) != (wanted.generation, wanted.resolved):
        body = to_yaml(wanted.model_dump())
        storage.write_text(tree.generation_config, _HEADER + body)
    return kept


def section_changes(present: GenerationConfig, generation: GenerationSpec) -> list[str]:
    """In words, each option of the experiment's file that shapes samples and is another one in the snapshot."""
    now = {"generation": shaping(generation.model_dump(mode="json"))}
    given = {"generation": shaping(given_section(generation))}
    return list(differences({"generation": shaping(present.resolved)}, now, given, {}))


def _kept(present: GenerationConfig, generation: GenerationSpec) -> GenerationSpec:
    """With the snapshot's own options where the file sets none."""
    section, given = generation.model_dump(mode="json"), generation.model_dump(mode="json", exclude_unset=True)
    kept = kept_options(shaping(present.resolved), shaping(section), shaping(given))
    kept["export"] = {**section["export"], **kept["export"]}
    changed = {key: value for key, value in kept.items() if value != section[key]}
    return GenerationSpec.model_validate({**given, **changed}) if changed else generation


def _refuse_another(tree: DifixTree, changes: Sequence[str], replace: bool) -> None:
    keys = ", ".join(change.split("`")[1] for change in changes)
    if frozen_snapshot(tree) is not None:
        raise refuse_change(
            tree,
            "and its generation section would change",
            key=keys,
            found="; ".join(changes)[:1000],
            wanted="the section that it was frozen with",
        )
    if replace or not has_samples(tree):
        return
    raise SnapshotChanged(
        f"`{tree.exp_name}` has samples of another generation section",
        file=tree.generation_config,
        key=keys,
        found="; ".join(changes)[:1000],
        wanted="the section that the samples were made by",
        remedy="put the experiment file back; or fork it under another name "
        f"(`thesis-assets fork --exp {tree.exp_name} --as <new name>`); or export every scene of it again: "
        f"`thesis-assets run --exp {tree.exp_name} --force scene_samples`",
    )


def has_samples(tree: DifixTree) -> bool:
    """Whether a snapshot holds anything that its generation section made."""
    return any(folder.is_dir() and any(folder.iterdir()) for folder in (tree.scene_runs_dir, tree.samples_dir))


def read_generation_config(path: Path) -> GenerationConfig:
    """Read the file.

    Raises:
        InvalidFile: it is missing, or is not a generation section.
    """
    remedy = "remove the file; it is written again with the next export"
    try:
        return GenerationConfig.model_validate(read_yaml(path)[0])
    except InvalidExperiment as error:
        raise InvalidFile(error.problem, file=error.file, found=error.found, remedy=remedy) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidFile(
            f"the file is not a generation section: {first['msg']}",
            file=path,
            key=".".join(str(part) for part in first["loc"]) or None,
            found=ascii(first.get("input"))[:200],
            remedy=remedy,
        ) from error


def check_generation_config(tree: DifixTree, generation: GenerationSpec, scene_names: Sequence[str]) -> CheckOutcome:
    """The file on disk, the experiment and every shard were made by one generation section."""
    if not scene_names:
        return CheckOutcome.of_nothing("the list of shards")
    offenders = []
    try:
        present = read_generation_config(tree.generation_config)
        offenders += [f"generation_config.yaml: {change}" for change in section_changes(present, generation)]
    except InvalidFile as error:
        offenders.append(f"generation_config.yaml: {error.problem}")
    offenders += other_sections(tree, scene_names)
    return CheckOutcome.of(
        offenders,
        message="one generation section made all shards" if not offenders else "the generation section changed",
        counts={"shards": len(scene_names)},
    )


def other_sections(tree: DifixTree, scene_names: Sequence[str]) -> list[str]:
    """In words, each shard that another section made than the one in the snapshot's file; none where there is no file.

    Raises:
        InvalidFile: the file or a shard's record cannot be read.
    """
    if not tree.generation_config.exists():
        return []
    present = read_generation_config(tree.generation_config)
    found = []
    for scene_name in scene_names:
        record = read_record(shard_place(tree, scene_name))
        if record is not None:
            found += [f"the shard of {scene_name}: {change}" for change in shard_changes(present, record)]
    return found


def shard_changes(present: GenerationConfig, record: MadeFrom) -> Iterable[str]:
    """In words, each option of the snapshot's file other than a shard was made by; of options that came later it may say anything."""
    made_by = {"generation": record.options.get("generation", {})}
    return differences(made_by, {"generation": shaping(present.resolved)}, made_by, {})


def shard_place(tree: DifixTree, scene_name: str) -> Place:
    """Where a scene's shard and its record lie."""
    return Place(tree.base, tree.scene_run(scene_name).made_from)


def unnamed_samples(tree: DifixTree, scene_names: Iterable[str]) -> dict[str, list[str]]:
    """Samples that do not belong to the snapshot, by scene, sorted: all of a scene that is not in `scene_names` (which may have a
    shard and no sample), and of the others those that no row of the finished shard names."""
    named = set(scene_names)
    found: dict[str, list[str]] = {}
    if tree.scene_runs_dir.is_dir():
        for folder in tree.scene_runs_dir.iterdir():
            if folder.is_dir() and folder.name not in named:
                found[folder.name] = []
    of_scene: dict[str, list[str]] = {}
    if tree.samples_dir.is_dir():
        for folder in tree.samples_dir.iterdir():
            if folder.name.startswith(TEMPORARY_PREFIX):
                continue
            with contextlib.suppress(InvalidKey):  # not a sample's name: `manifest_matches_disk` speaks of it
                of_scene.setdefault(SampleId.parse(folder.name).scene_name, []).append(folder.name)
    for scene_name, sample_ids in of_scene.items():
        kept = _of_shard(tree, scene_name, sample_ids) if scene_name in named else set()
        if strays := sorted(set(sample_ids) - kept):
            found[scene_name] = strays
    return {scene_name: found[scene_name] for scene_name in sorted(found)}


def _of_shard(tree: DifixTree, scene_name: str, sample_ids: Iterable[str]) -> set[str]:
    """The samples that a shard names; all of them where it is not finished or cannot be read: nobody knows then."""
    shard = tree.scene_run(scene_name)
    with contextlib.suppress(InvalidFile):
        if shard.run_stats.is_file():
            return {row.sample_id for row in read_rows(shard.all_samples)}
    return set(sample_ids)


def set_aside(tree: DifixTree, scene_names: Iterable[str]) -> dict[str, int]:
    """Move `unnamed_samples`, and the shards of scenes that are not in `scene_names`, out of the way. Returns how many samples, by
    scene.

    Collect, split and write data.json afterwards.

    Raises:
        SnapshotChanged: the snapshot is frozen, and has one of the scenes.
        CellLocked: one of the scenes is being exported.
    """
    named = set(scene_names)
    unnamed = unnamed_samples(tree, named)
    gone = [scene_name for scene_name in unnamed if scene_name not in named]
    if gone and frozen_snapshot(tree) is not None:
        raise refuse_change(
            tree,
            "and samples would be taken out of it",
            key="scenes",
            found=", ".join(gone[:20]),
            wanted="the scenes that were frozen",
        )
    for scene_name, sample_ids in unnamed.items():
        with storage.cell_lock(tree.lock(f"scene-{scene_name}"), f"the scene {scene_name} of {tree.exp_name}"):
            _move(tree, scene_name, sample_ids, shard=scene_name not in named)
    return {scene_name: len(sample_ids) for scene_name, sample_ids in unnamed.items()}


def _move(tree: DifixTree, scene_name: str, sample_ids: list[str], *, shard: bool) -> None:
    place = tree.set_aside_dir / check_key(scene_name, "scene_name")
    places = {tree.samples_dir / sample_id: place / "samples" / sample_id for sample_id in sample_ids}
    if shard:
        of_scene = tree.scene_run(scene_name)
        of_scene.run_stats.unlink(missing_ok=True)  # from here on the shard is unfinished
        places[of_scene.base] = place / "scene_run"
    for source, target in places.items():
        if source.exists():
            if target.exists():
                shutil.rmtree(target)  # set aside earlier, and exported again since
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
