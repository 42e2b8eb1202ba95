"""What a trainer start looks at first: the snapshot's files belong together, share no people, and are all there.

Cheap by design (digests, rows, one stat a file), because a failed check in one run does not stop a trainer in another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, Leak, SnapshotChanged
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Place, Unit, Wanted, examine
from thesis_assets.samples.integrity import absent_sample_files
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SampleRow, SplitSummary
from thesis_assets.splits.data_json import (
    DataContent,
    content_of_file,
    content_of_rows,
    former_folders,
    prompt_of,
    renew_paths,
)
from thesis_assets.splits.hold_out import group_finder, reserved_groups
from thesis_assets.splits.leakage import (
    check_group_non_leakage,
    check_not_empty,
    check_partition,
    check_reserved_scenes,
)
from thesis_assets.splits.recorded_images import refuse_other_images


@dataclass(frozen=True)
class SnapshotState:
    """A snapshot as it is on disk, found consistent. `data_json_sha256`: of what data.json says, wherever the snapshot lies."""

    train: list[SampleRow]
    test: list[SampleRow]
    manifest_sha256: dict[str, str]
    data_json_sha256: str


def guard_snapshot(tree: DifixTree, split: SplitSpec, rules: Mapping[str, str]) -> SnapshotState:
    """Refuse to start on a snapshot that leaks, was changed, or lacks files. Paths of a place that it was moved from are renewed.

    Args:
        rules: `split.group_rules` of the experiment: groups are found anew from the scenes' names, not taken from the rows.

    Raises:
        SnapshotChanged: manifests and data.json do not belong together, or differ from what was frozen; or an image is not
            the one that was exported.
        Leak: a group stands in both splits, or reserved people are in training.
        InvalidFile: a file of the snapshot, or of one of its samples, is missing or cannot be read.
    """
    renew_paths(tree)
    _refuse_damaged(tree)
    state = read_snapshot(tree)
    group_of = group_finder(rules)
    whole = check_not_empty(state.train, state.test, train_only=split.train_only)
    if not whole.passed:
        raise _changed(tree, whole.message, "; ".join(whole.offenders))
    _raise_leak(tree, check_group_non_leakage(state.train, state.test, group_of), "group_non_leakage")
    _raise_leak(
        tree, check_reserved_scenes(state.train, reserved_groups(split, group_of)), "reserved_scenes_not_in_train"
    )
    partition = check_partition(read_rows(tree.all_samples), state.train, state.test)
    if not partition.passed:
        raise _changed(tree, partition.message, "; ".join(partition.offenders[:5]))
    rows = [*state.train, *state.test]
    _refuse_absent_files(tree, rows)
    refuse_other_images(tree, rows)
    return state


def read_snapshot(tree: DifixTree) -> SnapshotState:
    """Read the split and verify every digest on the way.

    Raises:
        SnapshotChanged: a manifest is not the one the summary speaks of, data.json is not made of the manifests, or they differ
            from what was frozen.
        InvalidFile: a file is missing or cannot be read.
    """
    summary = storage.read_json(tree.split_summary, SplitSummary)
    for path in (tree.all_samples, tree.split_train, tree.split_test):
        found = _sha256(path)
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


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise InvalidFile("the file is missing", file=path, remedy="materialize split_manifests, then difix_data")
    return storage.sha256_file(path)


def _changed(tree: DifixTree, problem: str, found: str) -> SnapshotChanged:
    return SnapshotChanged(
        problem,
        file=tree.base,
        found=found,
        wanted="manifests and data.json of one making",
        remedy=f"materialize sample_set, split_manifests and difix_data of {tree.exp_name} again",
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
            remedy="correct split.test_groups, split.reserved_scenes or split.group_rules in the experiment, "
            "then materialize split_manifests and difix_data",
        )


def _refuse_absent_files(tree: DifixTree, rows: Sequence[SampleRow]) -> None:
    absent = list(islice(absent_sample_files(tree, rows), 5))
    if absent:
        raise InvalidFile(
            "a sample is not complete",
            file=tree.samples_dir / absent[0],
            found="missing or empty: " + ", ".join(absent),
            wanted="four files with content a sample",
            remedy=f"materialize scene_samples of {tree.exp_name} again: what is missing is exported",
        )
