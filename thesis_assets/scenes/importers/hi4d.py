"""One action of Hi4D, as it is distributed (https://hi4d.ait.ethz.ch), as a capture.

Source: `dataset.md` of https://github.com/yifeiyin04/Hi4D, which describes `meta.npz`, `cameras/rgb_cameras.npz`, `images/`, `seg/`,
`smpl/` and `frames/` of an action. No file of the dataset was at hand: what differs from that page is refused, with what was found.
Beyond the page, from code that is public: every value of a mask but 0 is a person, `all` is in colours; `dist_coeffs` are those of the
photographs as they lie; there is a photograph of every frame from `start` to `end`.
Frames keep their numbers, cameras their ids, the world is Hi4D's (metres).
Does not belong here: which actions there are, and what becomes of them (hi4d_actions.py).
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets.errors import InvalidFile, first_names
from thesis_assets.layout import MAX_FRAME, SceneFolders, check_camera, frame_name
from thesis_assets.scenes.bodies import body_bytes, check_bodies
from thesis_assets.scenes.bounded_files import read_npz
from thesis_assets.scenes.camera import Camera, camera_bytes, check_calibration
from thesis_assets.scenes.importers.capture import (
    MAX_PHOTOGRAPHS,
    NEGLIGIBLE_DISTORTION,
    Arrangement,
    Capture,
    OtherFile,
    Photograph,
    compile_pattern,
    frames_from,
    photograph_size,
)
from thesis_assets.scenes.importers.lens import share_seen
from thesis_assets.scenes.listing import list_numbers
from thesis_assets.schemas.scenes import SMPL_ARRAYS

Array = np.ndarray[Any, np.dtype[Any]]

PARTS = ("meta.npz", "cameras", "images", "seg", "smpl", "frames")
OPTIONAL_PARTS = ("seg", "smpl", "frames")
"""What an import can do without, where that is asked for."""
CAMERAS_FILE = "cameras/rgb_cameras.npz"
META_FILE = "meta.npz"
MASKS = "seg/img_seg_mask"

_IMAGE_PLACE = compile_pattern(r"^images/(?P<cam>\d+)/(?P<frame>\d+)\.")
_IMAGE, _MASK, _BODY = (re.compile(rf"([0-9]{{6}})\.{suffix}") for suffix in ("jpe?g", "png", "npz"))
_MESH = re.compile(r"(?:mesh-f)?([0-9]{5,6})\.obj")
_CAMERA_KEYS = ("ids", "intrinsics", "extrinsics", "dist_coeffs")
_SMPL_KEYS = (*SMPL_ARRAYS, "joints_3d", "verts", "contact")
_N_JOINTS = (24, 45)
_LEAST_SEEN = 0.5


def read_hi4d(folder: Path, *, without: Collection[str] = ()) -> Capture:
    """Read one action; photographs are `images/<camera>/<frame>.jpg`.

    Args:
        without: of `OPTIONAL_PARTS`, what is left out.

    Raises:
        InvalidFile: a part, a camera, a frame, a key or a shape is not as the dataset's page has it.
    """
    for part in PARTS:
        if part not in without and not (folder / part).exists():
            raise _part_missing(folder, part)
    meta = _read_meta(folder / META_FILE)
    cameras = _read_cameras(folder / CAMERAS_FILE, folder)
    action = _Action(folder, meta, cameras)
    action.read_images(masks="seg" not in without)
    if "smpl" not in without:
        action.read_bodies()
    if "frames" not in without:
        action.read_meshes()
    others = [name for name in _entries(folder) if name not in PARTS]
    action.not_taken("", others)
    action.not_taken("cameras", [name for name in _entries(folder / "cameras") if name != Path(CAMERAS_FILE).name])
    if "seg" not in without:
        action.not_taken("seg", [name for name in _entries(folder / "seg") if name != Path(MASKS).name])
    return Capture(
        format="hi4d",
        source=folder,
        source_files=(folder / CAMERAS_FILE, folder / META_FILE),
        photographs=tuple(action.photographs),
        notes=tuple(action.notes),
        others=(OtherFile(attrgetter("meta"), folder / META_FILE), *action.others),
        source_camera=meta.mono_cam,
        left_out=tuple(sorted(without)),
    )


def arranged(capture: Capture) -> Arrangement:
    """Every photograph at the camera and the frame of its name.

    Raises:
        InvalidScene: the photographs of a camera differ in size, or two are of one frame.
    """
    return frames_from(capture, _IMAGE_PLACE, key="images")


@dataclass(frozen=True)
class _Meta:
    frames: range
    n_people: int
    mono_cam: int | None


def _read_meta(path: Path) -> _Meta:
    arrays = read_npz(path)
    genders = _present(arrays, "genders", path, "text, such as ['female', 'male']")
    if genders.dtype.kind not in "US" or genders.ndim != 1 or not genders.size:
        raise _misshapen(genders, "genders", path, "text, one gender a person")
    _numbers(arrays, "contact_ids", path, (None,), "fiu")
    start, end = (int(_numbers(arrays, key, path, (), "iu").item()) for key in ("start", "end"))
    if not 0 <= start <= end <= MAX_FRAME or end - start >= MAX_PHOTOGRAPHS:
        raise InvalidFile(
            "start and end are not the first and last frame",
            file=path,
            key="start",
            found=f"{start} to {end}",
            wanted=f"0 <= start <= end, at most {MAX_PHOTOGRAPHS} frames",
        )
    mono_cam = int(_numbers(arrays, "mono_cam", path, (), "iu").item()) if "mono_cam" in arrays else None
    return _Meta(range(start, end + 1), len(genders), mono_cam)


@dataclass(frozen=True, eq=False)
class _Cameras:
    """`lenses`: (5,) a camera, None where it is none to speak of. `others`: keys that are not read."""

    path: Path
    cameras: tuple[Camera, ...]
    lenses: tuple[Array | None, ...]
    others: tuple[str, ...]

    @property
    def ids(self) -> list[int]:
        return [camera.cam_id for camera in self.cameras]


def _read_cameras(path: Path, folder: Path) -> _Cameras:
    """The calibrations; images are not opened yet: sizes are 1 x 1."""
    if not path.is_file():
        raise _part_missing(folder, CAMERAS_FILE)
    arrays = read_npz(path)
    ids = _numbers(arrays, "ids", path, (None,), "iu").tolist()
    intrinsics = _numbers(arrays, "intrinsics", path, (len(ids), 3, 3), "fiu").astype(np.float64)
    extrinsics = _numbers(arrays, "extrinsics", path, (len(ids), 3, 4), "fiu").astype(np.float64)
    lenses = _numbers(arrays, "dist_coeffs", path, (len(ids), 5), "fiu").astype(np.float64)
    if not ids or len(set(ids)) != len(ids) or min(ids) < 0:
        wanted = "distinct numbers from 0, one a camera"
        raise InvalidFile("the cameras' ids are not distinct", file=path, key="ids", found=ids[:20], wanted=wanted)
    cameras = tuple(
        Camera(check_camera(cam_id), inner, outer, 1, 1)
        for cam_id, inner, outer in zip(ids, intrinsics, extrinsics, strict=True)
    )
    for number, camera in enumerate(cameras):
        check_calibration(camera, path, f"[{number}]")
    bent = [lens if np.abs(lens).max() >= NEGLIGIBLE_DISTORTION else None for lens in lenses]
    return _Cameras(path, cameras, tuple(bent), tuple(sorted(set(arrays) - set(_CAMERA_KEYS))))


@dataclass
class _Action:
    """What is gathered of an action, folder by folder."""

    folder: Path
    meta: _Meta
    cameras: _Cameras
    photographs: list[Photograph] = field(default_factory=list)
    others: list[OtherFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        bent = [
            str(cam_id) for cam_id, lens in zip(self.cameras.ids, self.cameras.lenses, strict=True) if lens is not None
        ]
        if bent:
            self.notes.append(
                f"undistorted, not linked: images and masks of the cameras {', '.join(bent)} (dist_coeffs of {CAMERAS_FILE})"
            )
        self.not_taken(CAMERAS_FILE, self.cameras.others, "keys")

    def not_taken(self, place: str, names: Sequence[str], what: str = "") -> None:
        """Note what lies at a place and is not used: few by name, many by suffix and number."""
        if len(names) > 6:
            counts = Counter(Path(name).suffix or name for name in names)
            names = [f"{count} {suffix}" for suffix, count in sorted(counts.items())]
        if names:
            at = f" of {place}" if place else ""
            self.notes.append(f"not taken over: {what + ' ' if what else ''}{', '.join(names)}{at}"[:300])

    def read_images(self, *, masks: bool) -> None:
        images = self.folder / "images"
        self._same_cameras(images)
        if masks:
            self._same_cameras(self.folder / MASKS)
        if len(self.cameras.ids) * len(self.meta.frames) > MAX_PHOTOGRAPHS:
            found = f"{len(self.cameras.ids)} cameras, {len(self.meta.frames)} frames"
            raise InvalidFile("too many images", file=images, found=found, wanted=f"<= {MAX_PHOTOGRAPHS}")
        for camera, lens in zip(self.cameras.cameras, self.cameras.lenses, strict=True):
            people = self._masks(camera.cam_id) if masks else {}
            files, empty = self._files(f"images/{camera.cam_id}", _IMAGE)
            calibration = camera_bytes(camera)
            for fname in empty:  # a calibration stands at every frame
                place = partial(SceneFolders.camera, cam_id=camera.cam_id, fname=fname)
                self.others.append(OtherFile(place, self.cameras.path, partial(_constant, calibration)))
                self._carry_empty(partial(SceneFolders.image, cam_id=camera.cam_id, fname=fname), empty[fname])
            for fname, path in files.items():
                name = f"images/{camera.cam_id}/{path.name}"
                height, width = photograph_size(path, listing=self.cameras.path, key=str(camera.cam_id))
                if lens is not None and path == next(iter(files.values())):
                    self._check_lens(replace(camera, height=height, width=width), lens)
                marked = {person: paths[fname] for person, paths in people.items() if fname in paths}
                whole = f"{MASKS}/{camera.cam_id}/all/{marked['all'].name}" if "all" in marked else None
                self.photographs.append(
                    Photograph(
                        *(name, path, height, width, camera.intrinsics, camera.extrinsics),
                        mask_name=whole,
                        people=marked,
                        lens=lens,
                    )
                )

    def _check_lens(self, camera: Camera, lens: Array) -> None:
        if share_seen(camera.height, camera.width, camera.intrinsics, lens) < _LEAST_SEEN:
            raise InvalidFile(
                "a lens bends most of the image out of it",
                file=self.cameras.path,
                key="dist_coeffs",
                found=f"camera {camera.cam_id}: {lens.tolist()}",
                wanted="k1 k2 p1 p2 k3 of OpenCV, with the intrinsics of these images",
            )

    def read_bodies(self) -> None:
        files, empty = self._files("smpl", _BODY)
        convert = partial(_smpl_bytes, self.meta.n_people)
        for fname, path in files.items():
            self.others.append(OtherFile(partial(SceneFolders.body, model="smpl", fname=fname), path, convert))
        for fname, path in empty.items():
            self._carry_empty(partial(SceneFolders.body, model="smpl", fname=fname), path)
        for path in list(files.values())[:1]:
            self.not_taken(f"smpl/{path.name}", sorted(set(read_npz(path)) - set(_SMPL_KEYS)), "keys")

    def read_meshes(self) -> None:
        files, empty = self._files("frames", _MESH)
        for fname, path in (files | empty).items():
            self.others.append(OtherFile(partial(SceneFolders.mesh, fname=fname), path))

    def _masks(self, cam_id: int) -> dict[str, dict[str, Path]]:
        """A person, or `all` -> frame to the file of its mask."""
        place = f"{MASKS}/{cam_id}"
        found, wanted = list_numbers(self.folder / place), list(range(self.meta.n_people))
        if found != wanted:
            raise InvalidFile(
                "masks are of other people than meta.npz has genders",
                file=self.folder / place,
                found=f"folders {', '.join(map(str, found)) or 'none'}",
                wanted=f"{', '.join(map(str, wanted))} and all",
            )
        people: dict[str, dict[str, Path]] = {}
        for person in (*map(str, wanted), "all"):
            people[person], empty = self._files(f"{place}/{person}", _MASK)
            for fname, path in empty.items():
                self._carry_empty(partial(SceneFolders.mask, cam_id=cam_id, fname=fname, person=person), path)
        self.not_taken(place, [name for name in _entries(self.folder / place) if name not in people])
        return people

    def _same_cameras(self, folder: Path) -> None:
        """Refuse other cameras in a folder than those with a calibration."""
        if not folder.is_dir():
            raise _part_missing(self.folder, str(folder.relative_to(self.folder)))
        found, wanted = list_numbers(folder), sorted(self.cameras.ids)
        if found != wanted:
            raise InvalidFile(
                f"the cameras of a folder are not those of {CAMERAS_FILE}",
                file=folder,
                key="ids",
                found=f"folders {', '.join(map(str, found)) or 'none'}",
                wanted=", ".join(map(str, wanted)),
                remedy=_UNPACK,
            )
        self.not_taken(folder.name, [name for name in _entries(folder) if name not in map(str, wanted)])

    def _files(self, place: str, pattern: re.Pattern[str]) -> tuple[dict[str, Path], dict[str, Path]]:
        """The files of every frame from start to end, by frame: those with content, and the empty ones."""
        folder = self.folder / place
        if not folder.is_dir():
            raise _part_missing(self.folder, place)
        files: dict[str, Path] = {}
        empty: dict[str, Path] = {}
        others = []
        for name in _entries(folder):
            match = pattern.fullmatch(name)
            status = _status(folder / name) if match else None
            if match is None or status is None:
                others.append(name)
                continue
            fname = frame_name(int(match[1]))
            if int(fname) not in self.meta.frames or fname in files or fname in empty:
                raise InvalidFile(
                    "a file is of no frame of the action, or of one that has another file",
                    file=folder / name,
                    found=int(fname),
                    wanted=f"one a frame from {self.meta.frames[0]} to {self.meta.frames[-1]}, as {META_FILE} has start and end",
                )
            (files if status.st_size else empty)[fname] = folder / name
        there = files.keys() | empty.keys()
        absent = [number for number in self.meta.frames if frame_name(number) not in there]
        if absent or not files:
            shown = (
                "every file is empty" if not absent else f"{len(absent)} are missing, the first of frame {absent[0]}"
            )
            raise InvalidFile(
                "frames have no file",
                file=folder,
                found=shown + (f"; there are {first_names(others)}" if others else ""),
                wanted=f"{len(self.meta.frames)} files {pattern.pattern}, frames {self.meta.frames[0]} to {self.meta.frames[-1]}",
                remedy=_UNPACK + _or_without(place),
            )
        if empty:
            self.notes.append(f"{place}: {len(empty)} empty files (failed upstream), the first of frame {min(empty)}")
        self.not_taken(place, others)
        return files, empty

    def _carry_empty(self, place: Callable[[SceneFolders], Path], path: Path) -> None:
        """An empty file says in the scene, too, that its frame failed upstream."""
        self.others.append(OtherFile(place, path))


def _constant(content: bytes, source: Path) -> bytes:
    return content


def _smpl_bytes(n_people: int, path: Path) -> bytes:
    """A file of `smpl/` in the scene's form: body poses (P, 69) as (P, 23, 3), joints and vertices by their names here."""
    arrays = read_npz(path)
    for key in _SMPL_KEYS:
        _present(arrays, key, path, "one array each of " + ", ".join(_SMPL_KEYS))
    pose = arrays["body_pose"]
    if pose.ndim == 2 and pose.shape[1] == 69:
        arrays["body_pose"] = pose.reshape(-1, 23, 3)
    bodies = check_bodies({key: arrays[key] for key in _SMPL_KEYS}, "smpl", path)
    if bodies.n_people != n_people:
        wanted = f"{n_people}, as many as {META_FILE} has genders"
        raise InvalidFile(
            "the people of a frame are others", file=path, key="betas", found=bodies.n_people, wanted=wanted
        )
    if arrays["joints_3d"].shape[1] not in _N_JOINTS:
        raise _misshapen(arrays["joints_3d"], "joints_3d", path, f"({n_people}, 24 or 45, 3)")
    return body_bytes(bodies)


_UNPACK = "unpack all archives of the pair whole"


def _or_without(place: str) -> str:
    part = place.partition("/")[0]
    return f", or leave the part out: --without {part}" if part in OPTIONAL_PARTS else ""


def _part_missing(folder: Path, part: str) -> InvalidFile:
    return InvalidFile(
        "a part of the action is missing",
        file=folder / part,
        found=first_names(_entries(folder), 12) or "nothing",
        wanted=", ".join(PARTS),
        remedy=_UNPACK + _or_without(part),
    )


def _entries(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith("."))


def _status(path: Path) -> os.stat_result | None:
    """None where it is no file, or a link that leads nowhere."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _present(arrays: dict[str, Array], key: str, path: Path, wanted: str) -> Array:
    if key not in arrays:
        found = ", ".join(sorted(arrays)) or "no array"
        raise InvalidFile("the file lacks an array", file=path, key=key, found=found, wanted=wanted)
    return arrays[key]


def _numbers(arrays: dict[str, Array], key: str, path: Path, shape: tuple[int | None, ...], kinds: str) -> Array:
    """An array of finite numbers of a shape (None: any length) and of dtype kinds."""
    wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
    wanted = f"{'integers' if 'f' not in kinds else 'finite numbers'}, shape {wanted}"
    array = _present(arrays, key, path, wanted)
    if array.size == 1 and shape == ():
        array = array.reshape(())
    fits = array.ndim == len(shape) and all(size in (None, real) for size, real in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in kinds or not np.isfinite(array).all():
        raise _misshapen(array, key, path, wanted)
    return array


def _misshapen(array: Array, key: str, path: Path, wanted: str) -> InvalidFile:
    return InvalidFile(
        "an array is not as the dataset's page has it",
        file=path,
        key=key,
        found=f"{array.shape} {array.dtype}",
        wanted=wanted,
    )
