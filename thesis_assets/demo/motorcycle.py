"""The scene `middlebury_motorcycle`: two real photographs of a calibrated stereo rig and the measured disparity between them.

Source: "Motorcycle" of the Middlebury 2014 stereo data (D. Scharstein, H. Hirschmüller, Y. Kitajima, G. Krathwohl, N. Nešić,
X. Wang, P. Westling, "High-resolution stereo datasets with subpixel-accurate ground truth", GCPR 2014;
https://vision.middlebury.edu/stereo/data/scenes2014/), down-sampled by 4, as scikit-image ships it (`skimage/data/motorcycle_*`).
Neither the package nor its documentation names a licence for these three files; who publishes pictures of them cites the paper.
This project holds no copy: the files are read from the installed package, never from the network.
Does not belong here: the synthetic studio scenes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError, pip_install
from thesis_assets.images.codecs import encode_jpeg, read_rgb
from thesis_assets.layout import frame_name
from thesis_assets.rendering.gaussians import Gaussians, from_colors, ply_bytes
from thesis_assets.scenes.bounded_files import array_bytes, read_npz
from thesis_assets.scenes.camera import Camera, camera_bytes
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.scenes import SceneRegistryEntry

SCENE_NAME = "middlebury_motorcycle"
FNAME = frame_name(0)
LEFT, RIGHT = 0, 1

_FACTOR = 4
"""The scene is a quarter of the photographs that ship, 185 x 125: 22,000 Gaussians, which one CPU core draws in half a second."""
HEIGHT, WIDTH = 500 // _FACTOR, 741 // _FACTOR
_FOCAL_PX, _BASELINE_M = 994.978, 0.193001
_CENTRE_Y_PX, _CENTRES_X_PX = 254.877, {LEFT: 311.193, RIGHT: 311.193 + 31.086}
"""`calib.txt` of the data set divided by 4, which are the values scikit-image states for its 741 x 500 pixels."""
_SIGMA_PX, _OPACITY = 0.5, 0.95


def make_motorcycle(roots: SceneRoots) -> list[str]:
    """Write the scene into the roots. Every making gives the same bytes; a file that has them already is not touched.

    Returns:
        The scene's name, in a list.

    Raises:
        ThesisAssetsError: scikit-image is not installed, or does not bring the photographs.
    """
    left, right, disparity = read_photographs(_photograph_directory())
    photographs = {LEFT: _block_mean(left), RIGHT: _block_mean(right)}
    cameras = {cam_id: _camera(cam_id) for cam_id in (LEFT, RIGHT)}
    depth = _depth_of_measured(disparity, np.nanmedian)
    # The estimate averages the disparity over a block, across the edges of objects too: its edges fly, as a network's do.
    estimate = _gaussians(photographs[LEFT], _depth_of_measured(disparity, np.nanmean), cameras[LEFT])
    tree = roots.tree(SCENE_NAME)
    truth, registry = tree.ground_truth, SceneRegistryEntry(seq_name=SCENE_NAME, cam_id=LEFT)
    files = {
        **{truth.image(cam_id, FNAME): encode_jpeg(image) for cam_id, image in photographs.items()},
        **{truth.camera(cam_id, FNAME): camera_bytes(camera) for cam_id, camera in cameras.items()},
        truth.depth(LEFT, FNAME): array_bytes(np.nan_to_num(depth, nan=0.0).astype(np.float32)),
        tree.estimated.static_gaussians: ply_bytes(estimate),
        tree.estimated.preprocess_info: b"status: success\n",
        tree.registry_entry: storage.to_json_bytes(registry.model_dump(mode="json", exclude_none=True)),
    }
    for path, content in files.items():
        if not (path.is_file() and path.read_bytes() == content):
            storage.write_bytes(path, content)
    return [SCENE_NAME]


def _photograph_directory() -> Path:
    """Where the installed scikit-image keeps its images. The package is found, not imported."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ThesisAssetsError(
            f"the scene {SCENE_NAME} is made from photographs that ship with scikit-image, which is not installed",
            wanted="scikit-image, the extra [demo]",
            remedy=f"{pip_install(repr('thesis-assets[demo]'))}, or {pip_install('scikit-image')}",
        )
    return Path(spec.origin).parent / "data"


def read_photographs(directory: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left and right (H, W, 3) uint8, 741 x 500, and the left one's disparity (H, W) in pixels, NaN = not measured.

    The left pixel (x, y) is the right pixel (x - disparity, y).
    """
    paths = [directory / f"motorcycle_{name}" for name in ("left.png", "right.png", "disp.npz")]
    for path in paths:
        if not path.is_file():
            raise ThesisAssetsError(
                "this scikit-image does not bring the stereo photographs in its wheel",
                file=path,
                wanted="a scikit-image that ships motorcycle_left.png, motorcycle_right.png and motorcycle_disp.npz",
                remedy=pip_install("--upgrade 'scikit-image>=0.24'"),
            )
    left, right, disparity = read_rgb(paths[0]), read_rgb(paths[1]), read_npz(paths[2]).get("arr_0", np.empty(0))
    if not left.shape == right.shape == (*disparity.shape, 3):
        found = (left.shape, right.shape, disparity.shape)
        raise InvalidFile("the photographs and their disparity differ in size", file=directory, found=found)
    return left, right, np.where(np.isfinite(disparity) & (disparity > 0), disparity, np.nan).astype(np.float64)


def _camera(cam_id: int) -> Camera:
    """At the scene's size. The world is the left camera's; the right one looks the same way."""
    full = np.array([[_FOCAL_PX, 0, _CENTRES_X_PX[cam_id]], [0, _FOCAL_PX, _CENTRE_Y_PX], [0, 0, 1]])
    extrinsics = np.eye(3, 4)
    extrinsics[0, 3] = -_BASELINE_M if cam_id == RIGHT else 0.0
    return Camera(cam_id, np.diag([1 / _FACTOR, 1 / _FACTOR, 1]) @ full, extrinsics, HEIGHT, WIDTH)


def _depth_of_measured(disparity: np.ndarray, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """(HEIGHT, WIDTH) metres, NaN where fewer than half of a block's pixels are measured.

    `reduce`: the mean of their disparity, or the median, which stays on one surface. By the data set's description
    Z = baseline f / (d + the distance of the principal points).
    """
    blocks = _blocks(disparity)
    known = np.isfinite(blocks).mean(axis=-1) >= 0.5
    filled = np.where(known[..., None], blocks, 0.0)  # numpy warns of a block that is NaN throughout
    values = np.where(known, reduce(filled, axis=-1), np.nan) / _FACTOR
    between = (_CENTRES_X_PX[RIGHT] - _CENTRES_X_PX[LEFT]) / _FACTOR
    return np.asarray(_BASELINE_M * (_FOCAL_PX / _FACTOR) / (values + between))


def _gaussians(image: np.ndarray, depth: np.ndarray, camera: Camera) -> Gaussians:
    """One round Gaussian a pixel of known depth, in the pixel's colour, half a pixel wide as its camera sees it."""
    rows, columns = np.nonzero(np.isfinite(depth))
    metres = depth[rows, columns]
    points = camera.unproject(np.stack([columns + 0.5, rows + 0.5], axis=1), metres)
    return from_colors(points, image[rows, columns] / 255.0, _SIGMA_PX * metres / camera.intrinsics[0, 0], _OPACITY)


def _block_mean(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) averaged over blocks."""
    return np.asarray(np.rint(_blocks(image).mean(axis=-1)), dtype=np.uint8)


def _blocks(values: np.ndarray) -> np.ndarray:
    """(H, W, ...) to (HEIGHT, WIDTH, ..., _FACTOR^2); a part of a block at the border is left out."""
    whole = values[: HEIGHT * _FACTOR, : WIDTH * _FACTOR]
    split = whole.reshape(HEIGHT, _FACTOR, WIDTH, _FACTOR, *values.shape[2:])
    return np.moveaxis(split, (1, 3), (-2, -1)).reshape(HEIGHT, WIDTH, *values.shape[2:], _FACTOR * _FACTOR)
