"""Freezing a snapshot: from now on nothing may change what tuning runs depend on."""

import time

from thesis_assets import storage
from thesis_assets.layout import DifixTree
from thesis_assets.samples.snapshot import frozen_snapshot
from thesis_assets.schemas.samples import FrozenSnapshot
from thesis_assets.splits.snapshot_guard import read_snapshot


def freeze(tree: DifixTree, reason: str) -> FrozenSnapshot:
    """Write `meta/frozen.json`, or return the one that is there where it still holds.

    Args:
        reason: who depends on the snapshot, such as `tuning run lr2e5`.

    Raises:
        SnapshotChanged: the files do not belong together, or are not those that were frozen.
        InvalidFile: the snapshot is not finished.
    """
    state = read_snapshot(tree)
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
