"""`meta/generation_config.yaml`: the generation section that a snapshot's samples were made by, and refusing another one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidFile, SnapshotChanged
from thesis_assets.experiments.reading import read_yaml
from thesis_assets.experiments.spec import NOT_OF_A_SAMPLE, GenerationSpec
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Place, kept_options, read_record
from thesis_assets.provenance.options import differences
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change
from thesis_assets.schemas.base import FileModel
from thesis_assets.schemas.checks import CheckOutcome

SAMPLE_FORMAT = 1
"""The code version of a shard. Raised when the same spec and scene would give other pixels or other rows."""

_HEADER = """\
# How the samples of this snapshot were made. `generation` is the experiment's section as written; `resolved` has every
# default filled in; the digest is that of the parts that shape a sample.
"""


class GenerationConfig(FileModel):
    """The file's content."""

    generation: dict[str, Any]
    resolved: dict[str, Any]
    generation_digest: str


def generation_digest(generation: GenerationSpec) -> str:
    """Digest of what shapes one scene's samples: not the list of scenes, not the prompt, not the experiment's name."""
    return storage.sha256_value({"sample_format": SAMPLE_FORMAT, **generation.sample_shaping()})


def shaping(section: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a generation section that shape one scene's samples: as `GenerationSpec.sample_shaping`, less how a file
    comes to its place."""
    kept = {key: value for key, value in section.items() if key not in NOT_OF_A_SAMPLE}
    if "export" in kept:
        kept["export"] = {key: value for key, value in kept["export"].items() if key not in ("prompt", "link_mode")}
    return kept


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
    wanted = GenerationConfig(
        generation=generation.model_dump(mode="json", exclude_unset=True),
        resolved=kept.model_dump(mode="json"),
        generation_digest=generation_digest(kept),
    )
    if present is None or (present.generation, present.resolved) != (wanted.generation, wanted.resolved):
        body = yaml.safe_dump(wanted.model_dump(), sort_keys=False, allow_unicode=True)
        storage.write_text(tree.generation_config, _HEADER + body)
    return kept


def section_changes(present: GenerationConfig, generation: GenerationSpec) -> list[str]:
    """In words, each option of the experiment's file that shapes samples and is another one in the snapshot."""
    now = {"generation": shaping(generation.model_dump(mode="json"))}
    given = {"generation": shaping(generation.model_dump(mode="json", exclude_unset=True))}
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
    if replace or not _has_samples(tree):
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


def _has_samples(tree: DifixTree) -> bool:
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
    section = {"generation": shaping(read_generation_config(tree.generation_config).resolved)}
    found = []
    for scene_name in scene_names:
        record = read_record(Place(tree.base, tree.scene_run(scene_name).made_from))
        if record is not None:
            made_by = {"generation": record.options.get("generation", {})}
            changes = list(differences(made_by, section, made_by, {}))
            found += [f"the shard of {scene_name}: {change}" for change in changes]
    return found
