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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

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

if TYPE_CHECKING:
    from numpy.typing import NDArray

Number = TypeVar("Number", np.uint8, np.float64)

SCENE_NAME = "middlebury_motorcycle"
FNAME = frame_name(0)
LEFT, RIGHT = 0, 1

FOCAL_PX = 994.978
CENTRE_X_PX, CENTRE_Y_PX = 311.193, 254.877
DOFFS_PX = 31.086
"""How much further right the principal point of the right camera lies."""
BASELINE_M = 0.193001
"""These five: `calib.txt` of the data set divided by 4, which are the values scikit-image states for its 741 x 500 pixels."""

FACTOR = 4
"""The scene is a quarter of the photographs that ship, 185 x 125: 22,000 Gaussians, which one CPU core draws in half a second."""
_SIGMA_PX = 0.5
_OPACITY = 0.95


@dataclass(frozen=True)
class StereoPair:
    """Both photographs, (H, W, 3) uint8, and the disparity of the left one, (H, W) float64 pixels, NaN = not measured.

    The left pixel (x, y) is the right pixel (x - disparity, y).
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    disparity: NDArray[np.float64]


def make_motorcycle(roots: SceneRoots) -> list[str]:
    """Write the scene into the roots. Every making gives the same bytes; a file that has them already is not touched.

    Returns:
        The scene's name, in a list.

    Raises:
        ThesisAssetsError: scikit-image is not installed, or does not bring the photographs.
    """
    pair = read_photographs(photograph_directory())
    small = StereoPair(
        block_mean(pair.left), block_mean(pair.right), block_of_measured(pair.disparity, np.nanmedian) / FACTOR
    )
    left, right = cameras()
    depth = depth_of(small.disparity)
    tree = roots.tree(SCENE_NAME)
    truth = tree.ground_truth
    # The estimate averages the disparity over a block, across the edges of objects too: its edges fly, as a network's do.
    estimate = gaussians_of(small.left, depth_of(block_of_measured(pair.disparity, np.nanmean) / FACTOR), left)
    registry = SceneRegistryEntry(seq_name=SCENE_NAME, cam_id=LEFT)
    files = {
        truth.image(LEFT, FNAME): encode_jpeg(small.left),
        truth.image(RIGHT, FNAME): encode_jpeg(small.right),
        truth.camera(LEFT, FNAME): camera_bytes(left),
        truth.camera(RIGHT, FNAME): camera_bytes(right),
        truth.depth(LEFT, FNAME): array_bytes(np.nan_to_num(depth, nan=0.0).astype(np.float32)),
        tree.estimated.static_gaussians: ply_bytes(estimate),
        tree.estimated.preprocess_info: b"status: success\n",
        tree.registry_entry: storage.to_json_bytes(registry.model_dump(mode="json", exclude_none=True)),
    }
    for path, content in files.items():
        if not (path.is_file() and path.read_bytes() == content):
            storage.write_bytes(path, content)
    return [SCENE_NAME]


def photograph_directory() -> Path:
    """Where the installed scikit-image keeps its images. The package is found, not imported."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ThesisAssetsError(
            f"the scene {SCENE_NAME} is made from photographs that ship with scikit-image, which is not installed",
            wanted="scikit-image, the extra [demo]",
            remedy=f"{pip_install(repr('thesis-assets[demo]'))}, or {pip_install('scikit-image')}",
        )
    return Path(spec.origin).parent / "data"


def read_photographs(directory: Path) -> StereoPair:
    """The pair at the size it ships in, 741 x 500."""
    paths = {name: directory / f"motorcycle_{name}" for name in ("left.png", "right.png", "disp.npz")}
    for path in paths.values():
        if not path.is_file():
            raise ThesisAssetsError(
                "this scikit-image does not bring the stereo photographs in its wheel",
                file=path,
                wanted="a scikit-image that ships motorcycle_left.png, motorcycle_right.png and motorcycle_disp.npz",
                remedy=pip_install("--upgrade 'scikit-image>=0.24'"),
            )
    left, right = read_rgb(paths["left.png"]), read_rgb(paths["right.png"])
    disparity = read_npz(paths["disp.npz"]).get("arr_0")
    if disparity is None or not left.shape == right.shape == (*disparity.shape, 3):
        raise InvalidFile(
            "the photographs and their disparity differ in size",
            file=directory,
            found=(left.shape, right.shape, None if disparity is None else disparity.shape),
        )
    values = np.where(np.isfinite(disparity) & (disparity > 0), disparity, np.nan)
    return StereoPair(left, right, values.astype(np.float64))


def cameras() -> tuple[Camera, Camera]:
    """Left and right camera at the scene's size. The world is the left camera's; the right one looks the same way."""
    height, width = 500 // FACTOR, 741 // FACTOR

    def intrinsics(centre_x: float) -> NDArray[np.float64]:
        full = np.array([[FOCAL_PX, 0, centre_x], [0, FOCAL_PX, CENTRE_Y_PX], [0, 0, 1]])
        return np.asarray(np.diag([1 / FACTOR, 1 / FACTOR, 1]) @ full)

    here, moved = np.eye(3, 4), np.eye(3, 4)
    moved[0, 3] = -BASELINE_M
    return (
        Camera(LEFT, intrinsics(CENTRE_X_PX), here, height, width),
        Camera(RIGHT, intrinsics(CENTRE_X_PX + DOFFS_PX), moved, height, width),
    )


def depth_of(disparity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth in metres of a disparity at the scene's size: Z = baseline f / (d + doffs), by the data set's description."""
    return np.asarray(BASELINE_M * (FOCAL_PX / FACTOR) / (disparity + DOFFS_PX / FACTOR))


def gaussians_of(image: NDArray[np.uint8], depth: NDArray[np.float64], camera: Camera) -> Gaussians:
    """One round Gaussian a pixel of known depth, in the pixel's colour, half a pixel wide as its camera sees it.

    `image`: (H, W, 3) uint8; `depth`: (H, W) metres, NaN = unknown.
    """
    rows, columns = np.nonzero(np.isfinite(depth))
    metres = depth[rows, columns]
    centres = np.stack([columns + 0.5, rows + 0.5], axis=1)
    sigmas = _SIGMA_PX * metres / camera.intrinsics[0, 0]
    return from_colors(camera.unproject(centres, metres), image[rows, columns] / 255.0, sigmas, opacity=_OPACITY)


def block_mean(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) averaged over blocks of `FACTOR` x `FACTOR`; a part of a block at the border is left out."""
    return np.asarray(np.rint(_blocks(image).mean(axis=-1)), dtype=np.uint8)


def block_of_measured(
    disparity: NDArray[np.float64], reduce: Callable[..., NDArray[np.float64]]
) -> NDArray[np.float64]:
    """(H, W) by the mean, or the median, which stays on one surface, of a block's measured pixels; NaN where fewer than half are."""
    blocks = _blocks(disparity)
    known = np.isfinite(blocks).mean(axis=-1) >= 0.5
    filled = np.where(known[..., None], blocks, 0.0)  # numpy warns of a block that is NaN throughout
    return np.where(known, reduce(filled, axis=-1), np.nan)


def _blocks(values: NDArray[Number]) -> NDArray[Number]:
    """(H, W, ...) to (H / FACTOR, W / FACTOR, ..., FACTOR^2)."""
    height, width = values.shape[0] // FACTOR, values.shape[1] // FACTOR
    whole = values[: height * FACTOR, : width * FACTOR]
    split = whole.reshape(height, FACTOR, width, FACTOR, *values.shape[2:])
    blocks = np.moveaxis(split, (1, 3), (-2, -1))
    return blocks.reshape(*blocks.shape[:-2], FACTOR * FACTOR)
