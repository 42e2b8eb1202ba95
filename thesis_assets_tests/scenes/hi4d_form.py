"""Actions in the form that Hi4D is distributed in, of a few small images, from known geometry: two discs, each around a known point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets import storage
from thesis_assets.images.codecs import encode_jpeg, encode_png
from thesis_assets.scenes.camera import Camera

Array = np.ndarray[Any, np.dtype[Any]]

HEIGHT, WIDTH = 48, 36
N_PEOPLE = 2
START = 3
GENDERS = ("female", "male")
COLOURS = ((255, 0, 0), (0, 255, 0))
"""Of each person in the masks of `all`."""
NO_LENS = (0.0, 0.0, 0.0, 0.0, 0.0)
LENS = (-0.6, 0.3, 0.02, -0.01, 0.05)
"""Moves the corners of these images by some eleven pixels, the people by two."""
RADIUS = 0.14
"""Of a person's disc, in units of the image plane at distance 1."""


def rig(cam_ids: Sequence[int] = (4, 16), size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[Camera]:
    """Cameras in a row, a little turned, that all see the people."""
    height, width = size
    intrinsics = np.array([[1.1 * width, 0, width / 2 + 0.5], [0, 1.1 * width, height / 2 - 0.25], [0, 0, 1]])
    cameras = []
    for place, cam_id in enumerate(cam_ids):
        turn = 0.06 * place
        rotation = [[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]]
        extrinsics = np.column_stack([rotation, [0.1 * place, 0.05, 3.0]])
        cameras.append(Camera(cam_id, intrinsics, extrinsics, height, width))
    return cameras


def people_at(frame: int) -> Array:
    """(P, 3) metres: where the people are."""
    return np.array([[-0.75, -1.0 + 0.02 * frame, 0.0], [0.8, 1.0 - 0.03 * frame, 0.1]])


def rays(camera: Camera, lens: Sequence[float] = NO_LENS) -> Array:
    """(H, W, 2): for each pixel the place in the image plane at distance 1 whose light falls on it, through the lens."""
    return _rays(camera.intrinsics.tobytes(), camera.height, camera.width, tuple(lens))


@cache
def _rays(intrinsics: bytes, height: int, width: int, lens: tuple[float, ...]) -> Array:
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    matrix = np.frombuffer(intrinsics).reshape(3, 3)
    seen = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(matrix).T
    k1, k2, p1, p2, k3 = lens
    x, y = seen[..., 0], seen[..., 1]
    for _ in range(50):  # the lens is inverted by going on to where it does not move any more
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        x, y = (
            (seen[..., 0] - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / radial,
            (seen[..., 1] - p1 * (r2 + 2 * y * y) - 2 * p2 * x * y) / radial,
        )
    return np.stack([x, y], axis=-1)


def marked(camera: Camera, frame: int, lens: Sequence[float] = NO_LENS) -> Array:
    """(P, H, W) bool: the discs of the people."""
    seen = rays(camera, lens)
    local = people_at(frame) @ camera.rotation.T + camera.translation
    return np.stack([np.linalg.norm(seen - (point[:2] / point[2]), axis=-1) < RADIUS for point in local])


def picture(camera: Camera, frame: int, lens: Sequence[float] = NO_LENS) -> Array:
    """(H, W, 3) uint8: waves that are smooth in the image plane, people darker."""
    seen = rays(camera, lens)
    waves = np.stack([seen[..., 0] * 5, seen[..., 1] * 5, seen.sum(axis=-1) * 4 + 0.1 * frame], axis=-1)
    colours = 150 + 60 * np.sin(waves)
    return np.where(marked(camera, frame, lens).any(axis=0)[..., None], colours - 30, colours).round().astype(np.uint8)


def bodies_at(frame: int) -> dict[str, Array]:
    """The arrays of a file of `smpl/`, by the names and shapes of the dataset's page but for the number of vertices."""
    rng = np.random.default_rng(frame)
    at = people_at(frame)[:, None]
    return {
        "betas": rng.normal(size=(N_PEOPLE, 10)),
        "body_pose": rng.normal(scale=0.1, size=(N_PEOPLE, 69)),
        "global_orient": rng.normal(scale=0.1, size=(N_PEOPLE, 3)),
        "transl": people_at(frame),
        "joints_3d": at + rng.normal(scale=0.1, size=(N_PEOPLE, 24, 3)),
        "verts": at + rng.normal(scale=0.1, size=(N_PEOPLE, 12, 3)),
        "contact": rng.integers(0, 12, (N_PEOPLE, 12)),
    }


@dataclass(frozen=True, eq=False)
class Hi4DForm:
    """One action on disk, and what is known of it."""

    folder: Path
    cameras: list[Camera]
    frames: range

    def change(self, file: str, **arrays: object) -> None:
        """Write arrays of an `.npz` anew; None takes one out."""
        with np.load(self.folder / file) as found:
            kept = {**found, **arrays}
        np.savez(self.folder / file, **{key: np.asarray(value) for key, value in kept.items() if value is not None})  # type: ignore[arg-type]


def write_action(
    folder: Path,
    cameras: Sequence[Camera] | None = None,
    *,
    n_frames: int = 2,
    start: int = START,
    lens: Sequence[float] = NO_LENS,
    jpeg: Callable[[Camera, int], bytes] | None = None,
) -> Hi4DForm:
    """Write an action.

    Args:
        folder: its own, such as `<root>/pair15/fight15`.
        lens: of every camera, as OpenCV has it.
        jpeg: photographs by other means than `picture`.
    """
    cameras, frames = list(cameras or rig()), range(start, start + n_frames)
    for camera in cameras:
        for frame in frames:
            content = encode_jpeg(picture(camera, frame, lens), 95) if jpeg is None else jpeg(camera, frame)
            storage.write_bytes(folder / "images" / str(camera.cam_id) / f"{frame:06d}.jpg", content)
            masks = marked(camera, frame, lens)
            colours = np.zeros((*masks.shape[1:], 3), np.uint8)
            for person, mask in enumerate(masks):
                colours[mask] = COLOURS[person]
            shown = {**{str(number): mask * np.uint8(255) for number, mask in enumerate(masks)}, "all": colours}
            for person_name, pixels in shown.items():
                path = folder / "seg" / "img_seg_mask" / str(camera.cam_id) / person_name / f"{frame:06d}.png"
                storage.write_bytes(path, encode_png(pixels, "pillow"))
    for frame in frames:
        _savez(folder / "smpl" / f"{frame:06d}.npz", **bodies_at(frame))
        vertices = people_at(frame)[0] + np.vstack([np.zeros(3), 0.1 * np.eye(3)])
        rows = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + ["f 1 2 3", "f 1 3 4"]
        storage.write_text(folder / "frames" / f"mesh-f{frame:05d}.obj", "\n".join([*rows, ""]))
    _savez(
        folder / "cameras" / "rgb_cameras.npz",
        ids=np.array([camera.cam_id for camera in cameras]),
        intrinsics=np.stack([camera.intrinsics for camera in cameras]),
        extrinsics=np.stack([camera.extrinsics for camera in cameras]),
        dist_coeffs=np.array([lens] * len(cameras)),
    )
    _savez(
        folder / "meta.npz",
        start=np.array(frames[0]),
        end=np.array(frames[-1]),
        num_persons=np.array(N_PEOPLE),
        genders=np.array(GENDERS),
        contact_ids=np.array(frames[:1]),
        mono_cam=np.array(cameras[-1].cam_id),
    )
    return Hi4DForm(folder, cameras, frames)


def _savez(path: Path, **arrays: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]
