"""The samples' images as their shards' records name them: a snapshot is trained on what was exported, and on nothing else.

A shard that a version without records wrote has nothing to compare with.
"""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from thesis_assets.errors import InvalidKey, SnapshotChanged
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.provenance import Contents, Place, Unit, Wanted, forget_stats, read_record
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits.data_json import renew_paths

NAMED = 5


def look_at_data(tree: DifixTree) -> None:
    """What every program that trains does in its first second: renew the paths after a move, refuse other images.

    Raises:
        SnapshotChanged: as `refuse_other_images`.
        InvalidFile: a manifest cannot be read.
    """
    renew_paths(tree)
    refuse_other_images(tree, split_rows_of(tree))


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
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise SnapshotChanged(
            "images of samples are not the ones that were exported",
            file=tree.base / found[0],
            found=f"other bytes in {', '.join(found[:NAMED])}{more}",
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


def shard_place(tree: DifixTree, scene_name: str) -> Place:
    """Where a scene's shard and its record lie."""
    return Place(tree.base, tree.scene_run(scene_name).made_from)
