"""Checks of a split: no group on both sides, no reserved people in training, no near duplicates, train and test make up all.

Each looks at rows as they are on disk, not at how they were made. They return outcomes; `snapshot_guard` raises those of the rows.
Near duplicates are one capture under two groups, by perceptual hashes of the people in the photographs: what a group rule cannot see,
a sequence that was copied, cut in two or recorded under two names. They do not know people: the same pair in another movement looks
no more alike than strangers do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.samples.sample_rows import group_key
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits.manifests import GroupOf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thesis_assets.scenes.listing import SceneRoots
    from thesis_assets.scenes.scene import Scene


def check_group_non_leakage(
    train: Sequence[SampleRow], test: Sequence[SampleRow], group_of: GroupOf | None = None
) -> CheckOutcome:
    """No (dataset, group) stands in both halves.

    Args:
        group_of: finds a scene's group anew by the rules; a row that names another group is an offender, too.
    """
    if not train and not test:
        return CheckOutcome.of_nothing("the split")
    train_groups, test_groups = {group_key(row) for row in train}, {group_key(row) for row in test}
    offenders = []
    for group in sorted(train_groups & test_groups):
        first = [next(row.sample_id for row in half if group_key(row) == group) for half in (train, test)]
        offenders.append(f"{group} stands in both splits: {first[0]} (train), {first[1]} (test)")
    if group_of is not None:
        offenders += _misnamed_groups(
            {row.scene_name: group_key(row) for half in (train, test) for row in half}, group_of
        )
    return CheckOutcome.of(
        offenders,
        message="no group stands in both splits" if not offenders else "the splits share people",
        counts={"train_groups": len(train_groups), "test_groups": len(test_groups)},
    )


def _misnamed_groups(groups: dict[str, str], group_of: GroupOf) -> list[str]:
    offenders = []
    for scene_name, written in sorted(groups.items()):
        by_rule = "/".join(group_of(scene_name))
        if by_rule != written:
            offenders.append(f"{scene_name} is written as group {written}, by the group rules it is {by_rule}")
    return offenders


def check_reserved_scenes(train: Sequence[SampleRow], reserved: set[str]) -> CheckOutcome:
    """No sample of a reserved scene's group is trained on.

    Args:
        reserved: groups, `<dataset>/<group_id>`, as `manifests.reserved_groups` gives them.
    """
    if not train:
        return CheckOutcome.of_nothing("split_train.jsonl")
    offenders = [
        f"{row.sample_id} is of the reserved group {group_key(row)}" for row in train if group_key(row) in reserved
    ]
    return CheckOutcome.of(
        offenders,
        message="no reserved group is in training" if not offenders else "reserved people are in training",
        counts={"reserved_groups": len(reserved), "train_samples": len(train)},
    )


def check_partition(every: Sequence[SampleRow], train: Sequence[SampleRow], test: Sequence[SampleRow]) -> CheckOutcome:
    """Train and test are disjoint, together all, equal row by row, and sorted by sample id."""
    if not every:
        return CheckOutcome.of_nothing("all_samples.jsonl")
    of_train = {row.sample_id: row for row in train}
    of_test = {row.sample_id: row for row in test}
    of_all = {row.sample_id: row for row in every}
    both = of_train.keys() & of_test.keys()
    offenders = [f"{sample_id} stands in train and test" for sample_id in sorted(both)]
    offenders += [f"{key} is in neither split" for key in sorted(of_all.keys() - of_train.keys() - of_test.keys())]
    for name, rows, by_id in (
        ("all_samples", every, of_all),
        ("split_train", train, of_train),
        ("split_test", test, of_test),
    ):
        ids = [row.sample_id for row in rows]
        if len(by_id) != len(ids):
            offenders.append(f"{name}.jsonl holds {len(ids) - len(by_id)} sample ids twice")
        if any(ids[index] > ids[index + 1] for index in range(len(ids) - 1)):
            offenders.append(f"{name}.jsonl is not sorted by sample_id")
        for sample_id, row in by_id.items():
            if sample_id not in of_all:
                offenders.append(f"{sample_id} of {name}.jsonl is not in all_samples.jsonl")
            elif row.__dict__ != of_all[sample_id].__dict__:  # a fifth of the time of comparing the models
                offenders.append(f"{sample_id} of {name}.jsonl differs from its row in all_samples.jsonl")
    return CheckOutcome.of(
        offenders,
        message="train and test make up all samples" if not offenders else "train and test do not make up all samples",
        counts={"all": len(every), "train": len(train), "test": len(test)},
    )


def check_not_empty(train: Sequence[SampleRow], test: Sequence[SampleRow], *, train_only: bool) -> CheckOutcome:
    """There is something to train on and, unless the experiment is `train_only`, something to test on."""
    offenders = [] if train else ["split_train.jsonl is empty"]
    if not test and not train_only:
        offenders.append("split_test.jsonl is empty, and the experiment does not say split.train_only")
    return CheckOutcome.of(
        offenders,
        message="the splits have samples" if not offenders else "a split is empty",
        counts={"train": len(train), "test": len(test)},
    )


HASH_SIDE = 16
MAX_DIFFERING_BITS = 40
MAX_COLOUR_DIFFERENCE = 8.0
"""Both measured on the studio scenes (6 sequences of 4 pairs, 4 cameras, 288 photographs): copies at 0.9 of the size, JPEG quality
80, differ in 22 bits (median; 95 %: 38) and 2 of 255 grey levels; the closest photographs of two pairs in 60 bits and 12 levels, of
two sequences of one pair in 64 bits. Hashed whole, strangers in one room come as close as 20 bits: hence the cut-out."""
MAX_PHOTOGRAPHS = 2000
MAX_FRAMES_A_CAMERA = 12
MAX_SHOWN = 4
SHOWN_HEIGHT = 128
"""Pairs on the picture of the offenders, and how high each photograph is there, pixels."""

_COLOUR_SIDE = 8


@dataclass(frozen=True, order=True)
class Photograph:
    """One unmasked ground-truth image."""

    scene_name: str
    cam_id: int
    fname: str

    def __str__(self) -> str:
        return f"{self.scene_name}/{self.cam_id}/{self.fname}"


@dataclass(frozen=True)
class Fingerprint:
    """`bits`: (256,) bool, the sign of the horizontal brightness gradient. `colours`: (192,) float32 in [0, 255]."""

    bits: NDArray[np.bool_]
    colours: NDArray[np.float32]


def check_near_duplicates(train: Sequence[SampleRow], test: Sequence[SampleRow], roots: SceneRoots) -> CheckOutcome:
    """No photograph of a test group is nearly one of a training group.

    Of each camera some frames are compared, at most `MAX_PHOTOGRAPHS` in all: its first and last, and others that are the same
    for every scene, so that copies meet. Offenders are pairs of scenes, with the closest photographs of each.
    """
    if not train and not test:
        return CheckOutcome.of_nothing("the split")
    sides = [_chosen(_photographs(rows)) for rows in (train, test)]
    (train_photographs, train_prints), (test_photographs, test_prints) = (_read(side, roots) for side in sides)
    closest: dict[tuple[str, str], tuple[int, Photograph, Photograph]] = {}
    n_pairs = 0
    for place, bits in _close_pairs(train_prints, test_prints):
        n_pairs += 1
        one, other = train_photographs[place[0]], test_photographs[place[1]]
        key = (one.scene_name, other.scene_name)
        closest[key] = min(closest.get(key, (bits, one, other)), (bits, one, other))
    offenders = [
        f"{one} (train) and {other} (test) differ in {bits} of {HASH_SIDE**2} bits"
        for bits, one, other in sorted(closest.values())
    ]
    n_read = len(train_photographs) + len(test_photographs)
    outcome = CheckOutcome.of(
        offenders,
        message=(
            "no photograph of a test group is nearly one of a training group"
            if not offenders
            else "photographs of test and training are nearly the same: look whether split.group_rules gives one capture two groups"
        ),
        counts={"photographs": n_read, "unread": sum(map(len, sides)) - n_read, "near duplicates": n_pairs},
    )
    shown = [(one, other) for _, one, other in sorted(closest.values())[:MAX_SHOWN]]
    return outcome.model_copy(update={"picture": _sheet(shown, roots)}) if shown else outcome


def _sheet(pairs: Sequence[tuple[Photograph, Photograph]], roots: SceneRoots) -> bytes:
    """Photographs of training beside those of the test side that they resemble. All were read a moment ago."""
    from thesis_assets.images.codecs import read_reduced
    from thesis_assets.images.contact_sheet import contact_sheet
    from thesis_assets.scenes.scene import open_scene

    def image(photograph: Photograph) -> NDArray[np.uint8] | None:
        path = open_scene(roots, photograph.scene_name).image_path(photograph.cam_id, photograph.fname)
        return None if path is None else read_reduced(path, SHOWN_HEIGHT)

    return contact_sheet(
        [[image(one), image(other)] for one, other in pairs],
        row_titles=[f"{one.scene_name} | {other.scene_name}" for one, other in pairs],
        column_titles=["train", "test"],
        cell_height=SHOWN_HEIGHT,
    )


def _photographs(rows: Sequence[SampleRow]) -> set[Photograph]:
    targets = {Photograph(row.scene_name, row.target_cam_id, row.target_fname) for row in rows}
    return targets | {Photograph(row.scene_name, row.reference_cam_id, row.reference_fname) for row in rows}


def _chosen(photographs: set[Photograph]) -> list[Photograph]:
    """Some frames of each camera: first, last, and those whose names come first by their digest."""
    cameras: dict[tuple[str, int], list[Photograph]] = {}
    for photograph in sorted(photographs):
        cameras.setdefault((photograph.scene_name, photograph.cam_id), []).append(photograph)
    share = max(2, min(MAX_FRAMES_A_CAMERA, MAX_PHOTOGRAPHS // 2 // max(1, len(cameras))))
    chosen = []
    for of_camera in cameras.values():
        of_camera.sort(key=lambda photograph: int(photograph.fname))
        ends = {of_camera[0], of_camera[-1]}
        others = sorted(
            set(of_camera) - ends, key=lambda photograph: hashlib.sha256(photograph.fname.encode()).digest()
        )
        chosen += [*sorted(ends), *others[: share - len(ends)]]
    return chosen


def _read(photographs: Sequence[Photograph], roots: SceneRoots) -> tuple[list[Photograph], list[Fingerprint]]:
    """Fingerprints of the photographs that can be read still: samples outlive the captures they were made of."""
    from thesis_assets.scenes.scene import open_scene

    scenes: dict[str, Scene | None] = {}
    found = []
    for photograph in photographs:
        name = photograph.scene_name
        try:
            if name not in scenes:
                scenes[name] = None
                scenes[name] = open_scene(roots, name)
            scene = scenes[name]
            read = None if scene is None else _fingerprint_of(scene, photograph)
        except (InvalidFile, InvalidScene):
            continue
        if read is not None:
            found.append((photograph, read))
    return [photograph for photograph, _ in found], [read for _, read in found]


def _fingerprint_of(scene: Scene, photograph: Photograph) -> Fingerprint | None:
    from thesis_assets.images.codecs import read_mask, read_rgb

    image = scene.image_path(photograph.cam_id, photograph.fname)
    if image is None:
        return None
    mask = scene.mask_path(photograph.cam_id, photograph.fname)
    return fingerprint(read_rgb(image), read_mask(mask) if mask is not None else None)


def fingerprint(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> Fingerprint:
    """Difference hash and coarse colours of the people's bounding box, or of the whole image where there is no mask.

    The hash is N. Krawetz's ("Kind of Like That", 2013), 16 x 16 in place of 8 x 8. `image`: (H, W, 3); `mask`: (H, W), people.
    """
    from PIL import Image

    if mask is not None and mask.shape == image.shape[:2] and mask.any():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    opened = Image.fromarray(image)
    grey = np.asarray(opened.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX))
    colours = np.asarray(opened.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX), np.float32)
    return Fingerprint((grey[:, 1:] > grey[:, :-1]).ravel(), colours.ravel())


def _close_pairs(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> Iterator[tuple[tuple[int, int], int]]:
    """((index, index), differing bits) of every pair that is a near duplicate."""
    if not second:
        return
    bits = np.stack([one.bits for one in second])
    colours = np.stack([one.colours for one in second])
    for place, one in enumerate(first):
        differing = np.count_nonzero(bits != one.bits, axis=1)
        for other in np.flatnonzero(differing <= MAX_DIFFERING_BITS):
            if np.abs(colours[other] - one.colours).mean() <= MAX_COLOUR_DIFFERENCE:
                yield (place, int(other)), int(differing[other])
