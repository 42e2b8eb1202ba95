"""The check that no photograph stands on both sides of a split, whatever its scene, pair or dataset is called there.

By the digests that the shards' records have anyway: of the photographs of their scenes, and of the samples' own photographs, which are
all that is known of adopted ones. Bytes alone count. Does not belong here: pictures that only look alike (`near_duplicates`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree, SceneFolders
from thesis_assets.provenance import Contents, read_record
from thesis_assets.samples.snapshot import shard_place
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SampleRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.scenes.listing import SceneRoots

MAX_SHOWN = 4
SHOWN_HEIGHT = 128
"""Pairs on the picture of the offenders, and how high each photograph is there, pixels."""
_SHA256_DIGITS = 64
"""Of a file that changed while it was read, or was lost, a record has words in place of these."""


class _Photograph(NamedTuple):
    """A file whose digest a shard's record has.

    Attributes:
        name: as the record has it.
        image: a sample's image that is made of it, as the row has it; None: no sample is.
        original: the scene's file, as the record has it; None where it has none.
    """

    scene_name: str
    name: str
    image: str | None
    original: str | None


def check_photographs(
    tree: DifixTree,
    train: Sequence[SampleRow],
    test: Sequence[SampleRow],
    roots: SceneRoots | None = None,
    sides: tuple[str, str] = ("train", "test"),
) -> CheckOutcome:
    """No photograph of a training scene is, byte for byte, one of a test scene, where either has a sample made of it.

    Pictures of one colour, such as the black one of a frame without people, show nobody and are not compared. Offenders are pairs of
    scenes, those with the most photographs in common first.

    Args:
        roots: where the photographs may lie still; without, one colour is seen in the samples alone.
        sides: what the rows are called, where they are others than those of the split.

    Raises:
        InvalidFile: a shard's record cannot be read.
    """
    if not train and not test:
        return CheckOutcome.of_nothing("the split")
    is_blank = cache(_is_of_one_colour)
    of_test = _by_digest(tree, _by_scene(test))
    n_train = 0
    common: dict[tuple[str, str], list[tuple[_Photograph, _Photograph]]] = {}
    for scene_name, rows in _by_scene(train).items():
        of_train = _by_digest(tree, {scene_name: rows})
        n_train += len(of_train)
        for other, found in _in_common(tree, of_train, of_test, roots, is_blank).items():
            common[scene_name, other] = found
    pairs = dict(sorted(common.items(), key=lambda item: (-len(item[1]), item[0])))
    outcome = CheckOutcome.of(
        [
            f"{len(found)} of {train_name} ({sides[0]}) and {test_name} ({sides[1]}), such as {found[0][0].name} "
            f"and {found[0][1].name}"
            for (train_name, test_name), found in pairs.items()
        ],
        message=f"the same photographs stand in {' and '.join(sides)}, under two names"
        if pairs
        else "no photograph stands on both sides",
        counts={
            "photographs": n_train + len(of_test),
            "on both sides": sum(len(found) for found in pairs.values()),
        },
    )
    if not pairs:
        return outcome
    shown = {" | ".join(names): found[0] for names, found in list(pairs.items())[:MAX_SHOWN]}
    paths = {title: (_shown(tree, roots, one), _shown(tree, roots, other)) for title, (one, other) in shown.items()}
    return outcome.model_copy(update={"picture": pairs_to_look_at(paths, sides)})


def shared_photograph(
    tree: DifixTree, train: Sequence[SampleRow], test: Sequence[SampleRow], roots: SceneRoots | None = None
) -> str:
    """The first photograph that stands on both sides as `check_photographs` finds it, in words; empty where none does.

    By the shards' records alone: a shard without one is not read. A picture is opened only where its digest is on both sides.

    Raises:
        InvalidFile: a shard's record cannot be read.
    """
    is_blank = cache(_is_of_one_colour)
    of_test = _by_digest(tree, _by_scene(test), by_record=True)
    for scene_name, rows in _by_scene(train).items():
        of_train = _by_digest(tree, {scene_name: rows}, by_record=True)
        for other, found in _in_common(tree, of_train, of_test, roots, is_blank).items():
            return f"{found[0][0].name} of {scene_name} (train) is {found[0][1].name} of {other} (test)"
    return ""


def _in_common(
    tree: DifixTree,
    of_train: Mapping[bytes, _Photograph],
    of_test: Mapping[bytes, _Photograph],
    roots: SceneRoots | None,
    is_blank: Callable[[Path | None], bool],
) -> dict[str, list[tuple[_Photograph, _Photograph]]]:
    """By test scene the photographs that a training scene has too."""
    common: dict[str, list[tuple[_Photograph, _Photograph]]] = {}
    for one, other in sorted((of_train[digest], of_test[digest]) for digest in of_train.keys() & of_test.keys()):
        if other.scene_name in common:  # of two scenes that share one photograph, more are not looked into
            common[other.scene_name].append((one, other))
            continue
        samples = [tree.base / each.image for each in (one, other) if each.image is not None]
        if not all(map(is_blank, samples)) and not is_blank(_original(roots, one)):
            common[other.scene_name] = [(one, other)]
    return common


def _original(roots: SceneRoots | None, photograph: _Photograph) -> Path | None:
    """The photograph itself, where it may lie still."""
    if roots is None or photograph.original is None:
        return None
    return roots.canonical_gt / photograph.original.partition("/")[2]


def _shown(tree: DifixTree, roots: SceneRoots | None, photograph: _Photograph) -> Path | None:
    path = _original(roots, photograph)
    if path is None or not path.is_file():
        return None if photograph.image is None else tree.base / photograph.image
    return path


def _by_scene(rows: Sequence[SampleRow]) -> dict[str, list[SampleRow]]:
    found: dict[str, list[SampleRow]] = {}
    for row in rows:
        found.setdefault(row.scene_name, []).append(row)
    return found


def _by_digest(
    tree: DifixTree, scenes: Mapping[str, Sequence[SampleRow]], *, by_record: bool = False
) -> dict[bytes, _Photograph]:
    """The photographs of some scenes; of equal ones, one that a sample is made of."""
    found: dict[bytes, _Photograph] = {}
    for scene_name, rows in scenes.items():
        for sha256, photograph in _photographs(tree, scene_name, rows, by_record=by_record):
            if sha256 is not None and len(sha256) == _SHA256_DIGITS:
                digest = bytes.fromhex(sha256)
                if photograph.image is not None or digest not in found:
                    found[digest] = photograph
    return found


def _photographs(
    tree: DifixTree, scene_name: str, rows: Sequence[SampleRow], *, by_record: bool
) -> Iterator[tuple[str | None, _Photograph]]:
    """sha256 of the photographs of a scene's samples, then of all photographs of the scene.

    Args:
        by_record: images of a shard without a record are not read.
    """
    record = read_record(shard_place(tree, scene_name))
    views = {row.ref_image_path: f"{row.reference_cam_id}/{row.reference_fname}" for row in rows}
    views |= {row.target_image_path: f"{row.target_cam_id}/{row.target_fname}" for row in rows}
    if record is None and by_record:
        return
    if record is None:  # of a version that wrote none
        for image, sha256 in zip(views, Contents().sha256_of(tree.base / each for each in views), strict=True):
            yield sha256, _Photograph(scene_name, image, image, None)
        return
    folder = SceneFolders(Path("canonical_gt") / scene_name).images_dir.as_posix() + "/"
    files = [(name, name.removeprefix(folder).rpartition(".")[0]) for name in record.inputs if name.startswith(folder)]
    originals = {view: name for name, view in files}
    for image, view in views.items():
        if image in record.outputs:
            yield record.outputs[image][1], _Photograph(scene_name, image, image, originals.get(view))
    made_of = {view: image for image, view in views.items()}
    for name, view in files:
        yield record.inputs[name], _Photograph(scene_name, name, made_of.get(view), name)


def _is_of_one_colour(path: Path | None) -> bool:
    """False where it cannot be read: what is not known to show nobody counts."""
    from thesis_assets.images.codecs import read_rgb

    if path is None:
        return False
    with suppress(InvalidFile):
        image = read_rgb(path)
        return bool((image == image[0, 0]).all())
    return False


def pairs_to_look_at(
    pairs: Mapping[str, tuple[Path | None, Path | None]], sides: tuple[str, str] = ("train", "test")
) -> bytes:
    """Photographs of one side beside those of the other that they are or resemble, as a JPEG: one pair a row, by its title."""
    from thesis_assets.images.codecs import read_reduced
    from thesis_assets.images.contact_sheet import contact_sheet

    def image(path: Path | None) -> NDArray[np.uint8] | None:
        with suppress(InvalidFile):
            return None if path is None else read_reduced(path, SHOWN_HEIGHT)
        return None

    return contact_sheet(
        [[image(path) for path in pair] for pair in pairs.values()],
        row_titles=list(pairs),
        column_titles=sides,
        cell_height=SHOWN_HEIGHT,
    )
