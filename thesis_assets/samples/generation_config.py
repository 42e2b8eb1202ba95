"""`meta/generation_config.yaml`: the generation section that a snapshot's samples were made by, and refusing another one."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidFile, SnapshotChanged
from thesis_assets.experiments.generation import GenerationSpec
from thesis_assets.experiments.reading import read_yaml
from thesis_assets.layout import DifixTree
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change
from thesis_assets.schemas.base import FileModel
from thesis_assets.schemas.checks import CheckOutcome

SAMPLE_FORMAT = 1
"""Raised when the same spec and scene would give other pixels or other rows: then every shard is stale."""

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


def write_generation_config(tree: DifixTree, generation: GenerationSpec, *, replace: bool = False) -> None:
    """Write the generation section, or leave it where it says the same already. Call it before any sample is written.

    A change of the scenes or of the prompt rewrites the file; a change of what shapes a sample needs `replace` once there are
    samples, and every shard is then exported again.

    Raises:
        SnapshotChanged: the snapshot has samples of another generation section, or it is frozen; the message has the keys.
        InvalidFile: the file that is there cannot be read.
    """
    wanted = GenerationConfig(
        generation=generation.model_dump(mode="json", exclude_unset=True),
        resolved=generation.model_dump(mode="json"),
        generation_digest=generation_digest(generation),
    )
    if tree.generation_config.exists():
        present = read_generation_config(tree.generation_config)
        if present == wanted:
            return
        _refuse_another(tree, present, wanted, replace)
    body = yaml.safe_dump(wanted.model_dump(), sort_keys=False, allow_unicode=True)
    storage.write_text(tree.generation_config, _HEADER + body)


def _refuse_another(tree: DifixTree, present: GenerationConfig, wanted: GenerationConfig, replace: bool) -> None:
    changes = _changes(present.resolved, wanted.resolved)
    if frozen_snapshot(tree) is not None and present.generation_digest != wanted.generation_digest:
        raise refuse_change(
            tree,
            "and its generation section would change",
            key=", ".join(f"generation.{key}" for key in changes) or "generation_digest",
            found=_differences(changes),
            wanted=present.generation_digest,
        )
    if replace or present.generation_digest == wanted.generation_digest or not _has_samples(tree):
        return
    raise SnapshotChanged(
        f"`{tree.exp_name}` has samples of another generation section",
        file=tree.generation_config,
        key=", ".join(f"generation.{key}" for key in changes) or "generation_digest",
        found=_differences(changes) or "the same keys, read by another version of the platform",
        wanted="the section that the samples were made by",
        remedy="put the experiment file back; or fork it under another name "
        f"(`thesis-assets fork --exp {tree.exp_name} --as <new name>`); or say `--replace` (`replace: true` in the run's configuration), "
        "which exports every scene of it again",
    )


def _has_samples(tree: DifixTree) -> bool:
    return any(folder.is_dir() and any(folder.iterdir()) for folder in (tree.scene_runs_dir, tree.samples_dir))


def _changes(present: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key to (present, wanted), for the values that differ."""
    changes: dict[str, tuple[Any, Any]] = {}
    for key in sorted(present.keys() | wanted.keys()):
        old, new = present.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changes |= _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            changes[prefix + key] = (old, new)
    return changes


def _differences(changes: dict[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{key}: {old!r} on disk, {new!r} in the experiment" for key, (old, new) in changes.items())[:1000]


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


def check_generation_config(tree: DifixTree, generation: GenerationSpec, shard_digests: dict[str, str]) -> CheckOutcome:
    """The file on disk, the experiment and every shard were made by one generation section.

    Args:
        shard_digests: `generation_digest` of each shard, by scene name.
    """
    if not shard_digests:
        return CheckOutcome.of_nothing("the list of shards")
    wanted = generation_digest(generation)
    offenders = []
    try:
        present = read_generation_config(tree.generation_config).generation_digest
        if present != wanted:
            offenders.append(f"generation_config.yaml has digest {present[:12]}, the experiment {wanted[:12]}")
    except InvalidFile as error:
        offenders.append(f"generation_config.yaml: {error.problem}")
    offenders += [
        f"the shard of {scene_name} was made by {digest[:12]}, the experiment says {wanted[:12]}"
        for scene_name, digest in sorted(shard_digests.items())
        if digest != wanted
    ]
    return CheckOutcome.of(
        offenders,
        message="one generation section made all shards" if not offenders else "the generation section changed",
        counts={"shards": len(shard_digests)},
    )
