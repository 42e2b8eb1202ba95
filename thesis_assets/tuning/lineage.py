"""Lineage of a checkpoint: its file, the configuration it was trained with, and the data below that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.schemas.tuning import CheckpointInfo, SelectedCheckpoint, TrainConfig
from thesis_assets.splits.lineage import compared, data_lineage
from thesis_assets.storage import read_json, sha256_file
from thesis_assets.tuning.checkpoints import handed_off, pruned_steps
from thesis_assets.tuning.run_record import checkpoint_place
from thesis_assets.tuning.selection import selection_place
from thesis_assets.tuning.take_pretrained import find_source

if TYPE_CHECKING:
    from thesis_assets.scenes.listing import SceneRoots


def checkpoint_lineage(
    tree: DifixTree, run_name: str, step: int, roots: SceneRoots | None, *, wanted: str | None = None
) -> LineageLink:
    """`model_<step>.pkl` and everything below it.

    Args:
        roots: of the scenes; None leaves out what is below the checkpoint, which another link tells.
        wanted: the digest that what was made from the checkpoint names.
    """
    run = tree.tuning_run(run_name)
    where = handed_off(run, step)
    path = where.checkpoint(step)
    below = [config_lineage(tree, run_name, roots)] if roots is not None else []
    try:
        info = read_json(where.checkpoint_info(step), CheckpointInfo)
    except InvalidFile as error:
        return linked("checkpoint", path.name, path=path, faults=[error.in_one_line], made_from=below)
    when = pruned_steps(run).get(step)
    there = compared(checkpoint_place(tree, run_name), path)
    found, faults = (there.digest, list(there.faults)) if when is None else (info.sha256, [])
    for who, named in (("its side file", info.sha256), ("what was made from it", wanted)):
        if found is not None and named not in (None, found):
            faults.append(f"sha256 {found}, {who} names {named}")
    config = _config(tree, run_name)
    faults += [
        f"{key} {getattr(info, key)}, train_config.json names {getattr(config, key)}"
        for key in ("data_json_sha256", "hyperparameter_digest")
        if config is not None and getattr(info, key) != getattr(config, key)
    ]
    return linked(
        "checkpoint",
        path.name,
        path=path,
        digest=found,
        faults=faults,
        note=f"step {step} of run {run_name}{', averaged weights (EMA)' if where != run else ''}"
        + ("" if when is None else f"; removed on request (prune, {when})"),
        verified=when is None,
        made_from=below,
    )


def selected_lineage(tree: DifixTree, run_name: str, roots: SceneRoots) -> LineageLink:
    """`selected_checkpoint.json`, its checkpoint and everything below it."""
    path = tree.tuning_run(run_name).selected_checkpoint
    try:
        selected = read_json(path, SelectedCheckpoint)
    except InvalidFile as error:
        return linked("selection", path.name, path=path, faults=[error.in_one_line])
    found = compared(selection_place(tree, run_name), path)
    faults = list(found.faults)
    config = _config(tree, run_name)
    data = config.data_json_sha256 if config is not None else None
    if selected.data_json_sha256 != data:
        faults.append(f"chosen on data {selected.data_json_sha256}, the run's is {data}")
    return linked(
        "selection",
        path.name,
        path=path,
        digest=found.digest,
        faults=faults,
        note=f"rule {selected.rule}, step {selected.step}",
        verified=found.verified,
        made_from=[checkpoint_lineage(tree, run_name, selected.step, roots, wanted=selected.sha256)],
    )


def config_lineage(tree: DifixTree, run_name: str, roots: SceneRoots) -> LineageLink:
    """`train_config.json` and the data it names."""
    path = tree.tuning_run(run_name).train_config
    try:
        config = read_json(path, TrainConfig)
    except InvalidFile as error:
        below = [data_lineage(tree, roots)]
        return linked("configuration", path.name, path=path, faults=[error.in_one_line], made_from=below)
    found = compared(checkpoint_place(tree, run_name), path)
    return linked(
        "configuration",
        path.name,
        path=path,
        digest=found.digest,
        faults=found.faults,
        note=_note(config),
        verified=found.verified,
        made_from=[
            *_weights(config),
            data_lineage(
                tree,
                roots,
                wanted=config.data_json_sha256,
                wanted_manifests=config.manifest_sha256,
                trained_in=config.data_json,
            ),
        ],
    )


def _note(config: TrainConfig) -> str:
    if config.is_adopted:
        known = sum(value is not None for value in config.flags.values())
        return f"adopted: {known} settings are known, {len(config.flags) - known} are not"
    return f"backend {config.backend}, hyperparameters {config.hyperparameter_digest[:12]}"


def _weights(config: TrainConfig) -> list[LineageLink]:
    """What a run that trains nothing took its weights from: a copy, so that the source may be gone or changed since."""
    if config.backend != "pretrained":
        return []
    model, wanted = str(config.flags["model"]), config.flags["model_sha256"]
    try:
        source = find_source(model)
    except InvalidFile as error:
        return [
            linked("weights", model, digest=wanted, note=f"not there any more: {error.in_one_line}", verified=False)
        ]
    if source.checkpoint is None:
        return [linked("weights", model, note="a published model; its digest stands in the checkpoint", verified=False)]
    found = sha256_file(source.checkpoint)
    note = "" if found == wanted else f"there is another one now, {found}"
    return [linked("weights", model, path=source.checkpoint, digest=wanted, note=note, verified=found == wanted)]


def _config(tree: DifixTree, run_name: str) -> TrainConfig | None:
    try:
        return read_json(tree.tuning_run(run_name).train_config, TrainConfig)
    except InvalidFile:  # the configuration's own link says so
        return None
