"""The frozen state of a snapshot: reading it, and refusing what would change it.

`exp_name` identifies one data snapshot. It is open until a tuning run depends on it; then `meta/frozen.json` holds its digests.
"""

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, SnapshotChanged
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.samples import FrozenSnapshot, SplitSummary


def frozen_snapshot(tree: DifixTree) -> FrozenSnapshot | None:
    """The digests of a frozen snapshot; None while it is open.

    Raises:
        InvalidFile: `meta/frozen.json` is there and cannot be read.
    """
    return storage.read_json(tree.frozen, FrozenSnapshot) if tree.frozen.exists() else None


def frozen_scenes(tree: DifixTree) -> frozenset[str] | None:
    """The scenes of a frozen snapshot; None while it is open. Where its split_summary.json is lost or damaged: those with a shard."""
    if not tree.frozen.exists():
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


def require_same_manifest(tree: DifixTree, file_name: str, sha256: str) -> None:
    """Let a manifest be written only while the snapshot is open, or with the bytes it was frozen with.

    Raises:
        SnapshotChanged: the snapshot is frozen with other bytes.
    """
    frozen = frozen_snapshot(tree)
    if frozen is not None and frozen.manifest_sha256.get(file_name) != sha256:
        raise refuse_change(
            tree,
            f"and {file_name} would change",
            key=f"manifest_sha256.{file_name}",
            found=sha256,
            wanted=frozen.manifest_sha256.get(file_name),
        )
