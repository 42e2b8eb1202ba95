"""The check that no photograph of a test group looks like one of training: one capture under two names, encoded anew or changed.

What a group rule cannot see, and bytes do not tell: a sequence that was cut in two, mirrored, cropped, brightened, or given other
masks. Two pictures of the people are compared, each with its mirror: cut out by their mask, and as what moves before the camera's median
background, which needs no mask. It does not know people: the same pair in another movement looks no more alike than strangers do.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.images.codecs import read_reduced
from thesis_assets.scenes.scene import Scene, open_scene
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits.photographs import MAX_SHOWN, pairs_to_look_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thesis_assets.scenes.listing import SceneRoots

Item = TypeVar("Item")

LEAST_ALIKE = {"cut out": 0.85, "moving": 0.91}
"""Correlations from which on two pictures are near duplicates. Measured on 26 studio scenes of 24 pairs, 1248 photographs of four
cameras in one room, three pairs each in the very same dance: strangers come to 0.73 cut out and 0.87 moving; copies that are mirrored,
brighter by 40, of gamma 0.7 or 1.5, at 0.6 of the size or JPEG quality 40 have 0.96 or more (median; 95 %: 0.88), a tenth cropped away
0.97 (0.78). Masks that grew by a ninth of the height, or are gone: 1.00 moving."""
MAX_PHOTOGRAPHS = 6000
MAX_FRAMES_A_CAMERA, MIN_FRAMES_A_CAMERA = 12, 6
"""Where there are too many photographs, fewer frames of a camera are compared first, then fewer cameras of a scene."""

_HEIGHT = 64
_SIDE = 24
"""Photographs are brought to so many rows, and what is compared of them to a square of so many pixels."""
_SPREAD = 2.2
"""The square reaches so many standard deviations of the people's place from their centre."""
_LEAST_SHARE = 0.002
"""People, or movement, on less of the picture than this are not compared."""
_AT_ONCE = 512


@dataclass(frozen=True, order=True)
class Photograph:
    """One unmasked ground-truth image."""

    scene_name: str
    cam_id: int
    fname: str

    def __str__(self) -> str:
        return f"{self.scene_name}/{self.cam_id}/{self.fname}"


@dataclass(frozen=True)
class _Side:
    """Photographs of one side that could be read, and by kind (N, _SIDE, _SIDE, 3) float32 of norm 1; 0 where there is nothing."""

    photographs: list[Photograph]
    pictures: dict[str, NDArray[np.float32]]
    n_unread: int


@dataclass(frozen=True, order=True)
class _Likeness:
    correlation: float
    kind: str
    one: Photograph
    other: Photograph

    def __str__(self) -> str:
        return f"{self.one} (train) and {self.other} (test) correlate by {self.correlation:.2f}, {self.kind}"


def check_near_duplicates(train: Sequence[SampleRow], test: Sequence[SampleRow], roots: SceneRoots) -> CheckOutcome:
    """No photograph of a test group looks like one of a training group.

    Of each camera some frames are compared, about `MAX_PHOTOGRAPHS` in all: half of them evenly from its first to its last, so that
    copies with other frame numbers meet, half by their names, the same in every scene. Offenders are pairs of scenes, with the most
    alike photographs of each.

    A video that was cut in two is seen where its people moved little between the two frames at the cut: in 12 frames of a whole
    studio scene, 19 of 132 neighbours are alike; of four times as many frames 104, of eight times, about a video's rate, 123.
    """
    if not train and not test:
        return CheckOutcome.of_nothing("the split")
    sides = [_read(_chosen(_photographs(rows)), roots) for rows in (train, test)]
    closest: dict[tuple[str, str], _Likeness] = {}
    n_pairs = 0
    for n_found, found in _near(*sides):
        n_pairs += n_found
        names = (found.one.scene_name, found.other.scene_name)
        closest[names] = max(closest.get(names, found), found)
    offenders = sorted(closest.values(), reverse=True)
    outcome = CheckOutcome.of(
        [str(found) for found in offenders],
        message="photographs of test and training are nearly the same: look whether one capture has two names"
        if offenders
        else "no photograph of a test group looks like one of a training group",
        counts={
            "photographs": sum(len(side.photographs) for side in sides),
            "unread": sum(side.n_unread for side in sides),
            "near duplicates": n_pairs,
        },
    )
    if not offenders:
        return outcome
    shown = {
        f"{found.one.scene_name} | {found.other.scene_name}": (_path(roots, found.one), _path(roots, found.other))
        for found in offenders[:MAX_SHOWN]
    }
    return outcome.model_copy(update={"picture": pairs_to_look_at(shown)})


def _path(roots: SceneRoots, photograph: Photograph) -> Path | None:
    return open_scene(roots, photograph.scene_name).image_path(photograph.cam_id, photograph.fname)


def _photographs(rows: Sequence[SampleRow]) -> set[Photograph]:
    targets = {Photograph(row.scene_name, row.target_cam_id, row.target_fname) for row in rows}
    return targets | {Photograph(row.scene_name, row.reference_cam_id, row.reference_fname) for row in rows}


def _chosen(photographs: set[Photograph]) -> list[list[Photograph]]:
    """Some frames of some cameras of each scene, by camera: evenly spread, and those whose names come first by their digest."""
    scenes = [
        [sorted(frames, key=lambda each: int(each.fname)) for _, frames in groupby(of_scene, lambda each: each.cam_id)]
        for _, of_scene in groupby(sorted(photographs), lambda each: each.scene_name)
    ]
    share = MAX_PHOTOGRAPHS // 2
    n_frames = share // max(1, sum(map(len, scenes)))
    n_frames = min(MAX_FRAMES_A_CAMERA, max(MIN_FRAMES_A_CAMERA, n_frames))
    n_cameras = max(1, share // (n_frames * max(1, len(scenes))))
    return [_spread_frames(camera, n_frames) for cameras in scenes for camera in _spread(cameras, n_cameras)]


def _spread(items: Sequence[Item], n: int) -> list[Item]:
    """At most `n` items from the first to the last, as evenly as can be."""
    if n >= len(items):
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, n)]


def _spread_frames(camera: list[Photograph], n: int) -> list[Photograph]:
    evenly = _spread(camera, n - n // 2)
    others = sorted(set(camera) - set(evenly), key=lambda each: hashlib.sha256(each.fname.encode()).digest())
    return [*evenly, *others[: n - len(evenly)]]


def _read(cameras: Sequence[Sequence[Photograph]], roots: SceneRoots) -> _Side:
    """What can be read still: samples outlive the captures they were made of."""
    scenes: dict[str, Scene] = {}
    for name in {camera[0].scene_name for camera in cameras}:
        try:
            scenes[name] = open_scene(roots, name)
        except (InvalidFile, InvalidScene):
            continue
    there = [camera for camera in cameras if camera[0].scene_name in scenes]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda camera: _of_camera(scenes[camera[0].scene_name], camera), there))
    photographs = [each for of_camera, _ in found for each in of_camera]
    empty = np.zeros((0, _SIDE, _SIDE, 3), np.float32)
    pictures = {kind: np.concatenate([empty, *(each[kind] for _, each in found)]) for kind in LEAST_ALIKE}
    return _Side(photographs, pictures, sum(map(len, cameras)) - len(photographs))


def _of_camera(scene: Scene, camera: Sequence[Photograph]) -> tuple[list[Photograph], dict[str, NDArray[np.float32]]]:
    """The frames that can be read, and their pictures by kind."""
    images: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.float32] | None] = []
    found: list[Photograph] = []
    for photograph in camera:
        try:
            image = scene.image_path(photograph.cam_id, photograph.fname)
            mask = scene.mask_path(photograph.cam_id, photograph.fname)
            if image is None:
                continue
            small = _small(image, images[0].shape[1] if images else None)
            of_mask = None if mask is None else _small(mask, small.shape[1])[..., 0] / np.float32(255)
        except (InvalidFile, InvalidScene):
            continue
        images.append(small)
        masks.append(of_mask)
        found.append(photograph)
    return found, pictures_of(images, masks)


def _small(path: Path, width: int | None) -> NDArray[np.float32]:
    from PIL import Image

    image = Image.fromarray(read_reduced(path, _HEIGHT))
    size = (width or max(1, round(_HEIGHT * image.width / image.height)), _HEIGHT)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)


def pictures_of(
    images: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.float32] | None]
) -> dict[str, NDArray[np.float32]]:
    """What is compared of the frames of one camera, by kind: (N, side, side, 3) of norm 1, and 0 where there is nothing to compare.

    Args:
        images: (H, W, 3) in [0, 255], of one size.
        masks: (H, W) in [0, 1], where people are; None without one.
    """
    if not images:
        return {kind: np.zeros((0, _SIDE, _SIDE, 3), np.float32) for kind in LEAST_ALIKE}
    moving = _movement(np.stack(images))
    return {
        "cut out": np.stack([_picture(image, mask) for image, mask in zip(images, masks, strict=True)]),
        "moving": np.stack([_picture(image, weight) for image, weight in zip(images, moving, strict=True)]),
    }


def _movement(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each pixel of each frame (N, H, W, 3) is off the frames' median, smoothed, in [0, 1]."""
    from scipy.ndimage import gaussian_filter

    off = np.abs(images - np.median(images, axis=0)).sum(axis=-1)
    off = gaussian_filter(off, (0, 1, 1))
    most = np.maximum(30.0, 0.3 * np.percentile(off, 99, axis=(1, 2), keepdims=True))
    # Cubed: noise over the whole background together counts no more than a few pixels of people.
    return np.asarray(np.clip(off / most, 0, 1) ** 3, np.float32)


def _picture(image: NDArray[np.float32], weight: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The weighted part of an image less its mean colour, in a square about its centre that its spread gives the size, of norm 1."""
    from PIL import Image

    total = 0.0 if weight is None else float(weight.sum())
    if weight is None or total < _LEAST_SHARE * weight.size:
        return np.zeros((_SIDE, _SIDE, 3), np.float32)
    left, right = _reach(weight.sum(axis=0) / total)
    top, bottom = _reach(weight.sum(axis=1) / total)
    mean = (image * weight[..., None]).sum(axis=(0, 1)) / total
    part = np.clip((image - mean) * weight[..., None] / 2 + 128, 0, 255).round().astype(np.uint8)
    (height, width), margin = weight.shape, max(weight.shape)
    padded = Image.new("RGB", (width + 2 * margin, height + 2 * margin), (128, 128, 128))
    padded.paste(Image.fromarray(part), (margin, margin))
    box = (left + margin, top + margin, right + margin, bottom + margin)
    square = np.asarray(padded.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=box), np.float32) - 128
    return np.asarray(square / max(float(np.linalg.norm(square)), 1e-6), np.float32)


def _reach(shares: NDArray[np.float32]) -> tuple[float, float]:
    """From where to where people stand along an axis, pixels; `shares`: of their weight, by place."""
    places = np.arange(len(shares)) + 0.5
    centre = float(shares @ places)
    reach = _SPREAD * (float(shares @ (places - centre) ** 2) ** 0.5 + 0.5)
    return centre - reach, centre + reach


def _near(train: _Side, test: _Side) -> Iterator[tuple[int, _Likeness]]:
    """How many pairs of photographs are near duplicates, and the most alike, of two scenes: by kind and part of the training side."""
    scenes = [
        np.unique([each.scene_name for each in side.photographs], return_inverse=True)[1] for side in (train, test)
    ]
    for kind, least in LEAST_ALIKE.items():
        others = test.pictures[kind].reshape(-1, _SIDE**2 * 3)
        for start in range(0, len(train.photographs), _AT_ONCE):
            pictures = train.pictures[kind][start : start + _AT_ONCE]
            as_they_are, mirrored = (
                each.reshape(-1, _SIDE**2 * 3) @ others.T for each in (pictures, pictures[:, :, ::-1])
            )
            likeness = np.maximum(as_they_are, mirrored)
            ones, its = np.nonzero(likeness >= least)
            order = np.argsort(-likeness[ones, its], kind="stable")
            ones, its = ones[order], its[order]
            names = np.stack([scenes[0][start + ones], scenes[1][its]], axis=1)
            _, firsts, counts = np.unique(names, axis=0, return_index=True, return_counts=True)
            for one, other, n_pairs in zip(ones[firsts], its[firsts], counts, strict=True):
                is_mirrored = mirrored[one, other] > as_they_are[one, other]
                yield (
                    int(n_pairs),
                    _Likeness(
                        float(likeness[one, other]),
                        f"{kind}, mirrored" if is_mirrored else kind,
                        train.photographs[start + one],
                        test.photographs[other],
                    ),
                )
