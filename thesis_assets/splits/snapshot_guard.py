"""What a trainer start looks at first: the snapshot's files belong together, share no people, and are all there; then it is frozen.

Cheap by design (digests, rows, one stat a file), because a failed check in one run does not stop a trainer in another. Samples' images
are those that their shards' records name: one trains on what was exported, and on nothing else. A shard that a version without
records wrote has nothing to compare with.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey, Leak, SnapshotChanged, command_for, first_names
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.provenance import Contents, Place, Unit, Wanted, examine, forget_stats, read_record
from thesis_assets.samples.integrity import absent_sample_files
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.samples.snapshot import frozen_snapshot, mend_freeze, refuse_change, shard_place
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import FrozenSnapshot, SampleRow, SplitSummary
from thesis_assets.splits.data_json import (
    DataContent,
    content_of_file,
    content_of_rows,
    former_folders,
    prompt_of,
    renew_paths,
)
from thesis_assets.splits.exclusions import excluded_from
from thesis_assets.splits.leakage import (
    check_group_non_leakage,
    check_group_rules,
    check_not_empty,
    check_partition,
    check_reserved_scenes,
)
from thesis_assets.splits.manifests import group_finder, reserved_groups
from thesis_assets.splits.photographs import check_photographs, shared_photograph

PHOTOGRAPHS = "photographs_across_splits"


@dataclass(frozen=True)
class SnapshotState:
    """A snapshot as it is on disk, found consistent. `data_json_sha256`: of what data.json says, wherever the snapshot lies."""

    train: list[SampleRow]
    test: list[SampleRow]
    manifest_sha256: dict[str, str]
    data_json_sha256: str


def guard_snapshot(tree: DifixTree, split: SplitSpec, roots: SceneRoots | None = None) -> SnapshotState:
    """Refuse to start on a snapshot that leaks, was changed, or lacks files. Paths of a place that it was moved from are renewed.

    Groups are found anew from the scenes' names by the split's rules, not taken from the rows.

    Args:
        roots: where the scenes lie, see `photographs.check_photographs`.

    Raises:
        SnapshotChanged: manifests and data.json do not belong together, or differ from what was frozen; or an image is not
            the one that was exported.
        Leak: a group or a photograph stands in both splits, reserved people are in training, or a group rule parts people.
        InvalidFile: a file of the snapshot, or of one of its samples, is missing or cannot be read.
    """
    renew_paths(tree)
    _refuse_damaged(tree)
    state = read_snapshot(tree)
    rows = [*state.train, *state.test]
    whole = check_not_empty(state.train, state.test, train_only=split.train_only)
    if not whole.passed:
        raise _changed(tree, whole.message, "; ".join(whole.offenders))
    for check, outcome in _checks_by_name(state.train, state.test, split):
        _raise_leak(tree, outcome, check)
    partition = check_partition(read_rows(tree.all_samples), state.train, state.test, excluded_from(tree))
    if not partition.passed:
        raise _changed(tree, partition.message, "; ".join(partition.offenders[:5]))
    _refuse_absent_files(tree, rows)
    refuse_other_images(tree, rows)
    _raise_leak(tree, check_photographs(tree, state.train, state.test, roots), PHOTOGRAPHS)
    return state


def _checks_by_name(
    train: Sequence[SampleRow], test: Sequence[SampleRow], split: SplitSpec
) -> Iterator[tuple[str, CheckOutcome]]:
    """The checks that tell people by the names of their scenes."""
    group_of = group_finder(split.group_rules)
    rows = [*train, *test]
    yield "group_non_leakage", check_group_non_leakage(train, test, group_of)
    reserved = reserved_groups(split, group_of, {row.dataset for row in rows})
    yield "reserved_scenes_not_in_train", check_reserved_scenes(train, reserved)
    yield "group_rule_splits_people", check_group_rules(rows, split)


def leak_of(tree: DifixTree, split: SplitSpec, roots: SceneRoots | None = None) -> str:
    """For which of the leaks that a trainer's start refuses a run is marked that was trained all the same; empty: for none.

    Of the manifests and the shards' records: runs were trained before these were compared, or the rules were changed since.

    Raises:
        InvalidFile: a manifest or a record cannot be read.
        InvalidExperiment: a rule cannot read a scene's name.
    """
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    if not train:
        return ""
    for check, outcome in _checks_by_name(train, test, split):
        if not outcome.passed:
            return f"{check}: {outcome.message}: {outcome.offenders[0]}"
    shared = shared_photograph(tree, train, test, roots)
    return f"{PHOTOGRAPHS}: {shared}" if shared else ""


def read_snapshot(tree: DifixTree) -> SnapshotState:
    """Read the split and verify every digest on the way.

    Raises:
        SnapshotChanged: manifests, summary and data.json do not belong together, or differ from what was frozen.
        InvalidFile: a file is missing or cannot be read.
    """
    summary = storage.read_json(tree.split_summary, SplitSummary)
    for path in (tree.all_samples, tree.split_train, tree.split_test):
        if not path.is_file():
            raise InvalidFile(
                "the file is missing", file=path, remedy=f"`{command_for('difix_data', tree.exp_name)}` writes it"
            )
        found = storage.sha256_file(path)
        if found != summary.manifest_sha256.get(path.name):
            raise _changed(tree, f"{path.name} is not the file that split_summary.json speaks of", found)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    data = content_of_file(tree.data_json)
    if data.sha256 != content_of_rows(train, test, prompt_of(tree.data_json) or "").sha256:
        raise _changed(tree, "data.json was not made of these manifests", data.sha256)
    _refuse_other_than_frozen(tree, summary, data)
    return SnapshotState(train, test, summary.manifest_sha256, data.sha256)


def _refuse_damaged(tree: DifixTree) -> None:
    """Refuse manifests and a data.json with other bytes than recorded, also where their sizes and times are the recorded ones.

    The next look knows of it, and makes them again.
    """
    for asset in ("sample_set", "split_manifests", "difix_data"):
        # What is asked is whether the files are the recorded ones, not what one would make them from now.
        verdict = examine(Unit(asset, Place(tree.base, tree.made_from(asset)), Wanted(asset, "", given={})))
        if verdict.record is not None and verdict.damaged:
            raise SnapshotChanged(
                f"files of {asset} are not the ones that were written",
                file=tree.base / verdict.damaged[0],
                found=f"other bytes in {', '.join(verdict.damaged)}",
                wanted=f"the bytes that {asset}.made_from.json names",
                remedy=f"`thesis-assets run --exp {tree.exp_name}` makes again what is damaged",
            )


def _changed(tree: DifixTree, problem: str, found: str) -> SnapshotChanged:
    return SnapshotChanged(
        problem,
        file=tree.base,
        found=found,
        wanted="manifests and data.json of one making",
        remedy=f"`{command_for('difix_data', tree.exp_name)}` writes them again",
    )


def _refuse_other_than_frozen(tree: DifixTree, summary: SplitSummary, data: DataContent) -> None:
    frozen = frozen_snapshot(tree)
    if frozen is None:
        return
    if not data.is_named(frozen.data_json_sha256, former_folders(tree)):
        raise _other_than_frozen(tree, "data_json_sha256", data.sha256, frozen.data_json_sha256)
    if summary.manifest_sha256 != frozen.manifest_sha256:
        raise _other_than_frozen(tree, "manifest_sha256", summary.manifest_sha256, frozen.manifest_sha256)


def _other_than_frozen(tree: DifixTree, key: str, found: object, wanted: object) -> SnapshotChanged:
    return refuse_change(tree, "and its files differ from what was frozen", key=key, found=found, wanted=wanted)


def _raise_leak(tree: DifixTree, outcome: CheckOutcome, check: str) -> None:
    if not outcome.passed:
        raise Leak(
            outcome.message,
            file=tree.manifests_dir,
            key=check,
            found="; ".join(outcome.offenders[:5]),
            wanted="people of a test or reserved group in no training sample",
            remedy=f"`thesis-assets checks run --exp {tree.exp_name} {check}` names them all, with what mends it: hold both names of "
            "one capture out (split.test_groups), or correct split.reserved_scenes or split.group_rules in the experiment"
            + ("" if frozen_snapshot(tree) is None else ", in a fork: this snapshot is frozen")
            + f"; then `{command_for('difix_data', tree.exp_name)}`",
        )


def _refuse_absent_files(tree: DifixTree, rows: Sequence[SampleRow]) -> None:
    absent = list(islice(absent_sample_files(tree, rows), 5))
    if absent:
        raise InvalidFile(
            "a sample is not complete",
            file=tree.samples_dir / absent[0],
            found="missing or empty: " + ", ".join(absent),
            wanted="four files with content a sample",
            remedy=f"`{command_for('scene_samples', tree.exp_name)}` exports what is missing",
        )


def look_at_data(tree: DifixTree) -> None:
    """What every program that trains does in its first second: renew the paths after a move, refuse other images.

    Raises:
        SnapshotChanged: as `refuse_other_images`.
        InvalidFile: a manifest cannot be read.
    """
    renew_paths(tree)
    refuse_other_images(tree, split_rows_of(tree))


def refuse_leaks(tree: DifixTree) -> None:
    """What a program that trains and was started by hand does: nobody has looked at its snapshot for people on both sides.

    Groups are those that the rows name, as it does not know the experiment's rules.

    Raises:
        Leak: a group or a photograph stands in both splits.
        InvalidFile: a manifest or a shard's record cannot be read.
    """
    if tree.split_train.is_file() and tree.split_test.is_file():
        train, test = read_rows(tree.split_train), read_rows(tree.split_test)
        if train and test:
            _raise_leak(tree, check_group_non_leakage(train, test), "group_non_leakage")
            _raise_leak(tree, check_photographs(tree, train, test), PHOTOGRAPHS)


def split_rows_of(tree: DifixTree) -> list[SampleRow]:
    """The rows of both halves, of those that are there."""
    return [row for path in (tree.split_train, tree.split_test) if path.is_file() for row in read_rows(path)]


def refuse_other_images(tree: DifixTree, rows: Sequence[SampleRow]) -> None:
    """Refuse images that are not the exported ones: by size and time, and where these differ by their bytes.

    Raises:
        SnapshotChanged: an image is another one, or a shard's record cannot be read.
    """
    images = {path for row in rows for path in (row.image_path, row.target_image_path, row.ref_image_path)}
    contents = Contents()
    found = [
        fault for name in sorted({row.scene_name for row in rows}) for fault in _faults(tree, name, images, contents)
    ]
    if found:
        raise SnapshotChanged(
            "images of samples are not the ones that were exported",
            file=tree.base / found[0],
            found=f"other bytes in {first_names(found, 5)}",
            wanted="the bytes that the shards' records name",
            remedy=f"`thesis-assets run --exp {tree.exp_name}` exports again what is damaged",
        )


def _faults(tree: DifixTree, scene_name: str, images: set[str], contents: Contents) -> list[str]:
    # What is asked is whether its files are the recorded ones, not what one would make the shard from now.
    place = shard_place(tree, scene_name)
    verdict = Unit(scene_name, place, Wanted("scene_samples", "", given={})).look(contents)
    if verdict.record is None:
        return [place.name(place.record)] if verdict.damaged else []
    return [name for name in verdict.damaged if name in images]


def recorded_images(tree: DifixTree, scene_names: Iterable[str]) -> dict[str, str]:
    """sha256 by absolute path, of every file of the scenes' samples that has a record.

    Raises:
        InvalidFile: a shard's record cannot be read.
    """
    found: dict[str, str] = {}
    for scene_name in scene_names:
        record = read_record(shard_place(tree, scene_name))
        outputs = {} if record is None else record.outputs
        found |= {f"{tree.base.absolute()}/{name}": each[1] for name, each in outputs.items()}
    return found


def doubt_shard(image: Path) -> None:
    """After an image of a sample was read with other bytes than recorded: the next look at its shard reads all of it."""
    folder = image.absolute().parent
    with contextlib.suppress(InvalidKey):
        tree = DifixTree(folder.parents[2], folder.parents[1].name)
        forget_stats(shard_place(tree, SampleId.parse(folder.name).scene_name))


def freeze(tree: DifixTree, reason: str) -> FrozenSnapshot:
    """Write `meta/frozen.json`, or return the one that is there where it still holds.

    Args:
        reason: who depends on the snapshot, such as `tuning run lr2e5`.

    Raises:
        SnapshotChanged: the files do not belong together, or are not those that were frozen.
        InvalidFile: the snapshot is not finished.
    """
    state = read_snapshot(tree)
    mend_freeze(tree)
    present = frozen_snapshot(tree)
    if present is not None:
        return present
    frozen = FrozenSnapshot(
        exp_name=tree.exp_name,
        frozen_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        reason=reason,
        data_json_sha256=state.data_json_sha256,
        manifest_sha256=state.manifest_sha256,
        n_train=len(state.train),
        n_test=len(state.test),
    )
    storage.write_json(tree.frozen, frozen)
    return frozen
