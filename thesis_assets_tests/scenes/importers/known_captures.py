"""A capture with known cameras and points, written by pycolmap, and the same as a nerfstudio listing and as an action of Hi4D."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from thesis_assets.images.codecs import JPEG_QUALITY, encode_jpeg, read_rgb
from thesis_assets.scenes.camera import Camera
from thesis_assets_tests.scenes.hi4d_form import write_action
from thesis_assets_tests.scenes.importers.small_captures import HEIGHT, WIDTH, photograph

NAMES = ("view_1.png", "view_2.png", "view_10.png")
POINTS = np.array([[0.1, -0.2, 0.3], [0.5, 0.4, -0.1], [-0.3, 0.1, 0.2], [0.0, 0.0, 0.0]])
"""(N, 3) in the capture's world, before every camera."""
CAMERAS = {"PINHOLE": (40.25, 30.5, 15.125, 13.75), "SIMPLE_PINHOLE": (35.5, 16.5, 11.25)}
"""Parameters by model, pixels."""


@dataclass(frozen=True)
class KnownCapture:
    """A folder with `images/`, and what is known of it.

    Attributes:
        model: the reconstruction as pycolmap holds it.
        pixels: image name -> (N, 2), where pycolmap sees `POINTS`.
    """

    folder: Path
    model: Any
    pixels: dict[str, np.ndarray]

    def write_colmap(self, form: str) -> Path:
        """The sparse model as pycolmap writes it, `text` or `binary`."""
        sparse = self.folder / "sparse" / "0"
        sparse.mkdir(parents=True)
        (self.model.write_text if form == "text" else self.model.write_binary)(str(sparse))
        return self.folder

    def write_nerfstudio(self) -> Path:
        """The same cameras as camera-to-world matrices with OpenGL axes."""
        frames = []
        for image in self.model.images.values():
            pose = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
            intrinsics = image.camera.calibration_matrix()
            frames.append(
                {
                    "file_path": f"images/{image.name}",
                    "transform_matrix": (np.linalg.inv(pose) @ np.diag([1.0, -1, -1, 1])).tolist(),
                    **{"fl_x": intrinsics[0, 0], "fl_y": intrinsics[1, 1]},
                    **{"cx": intrinsics[0, 2], "cy": intrinsics[1, 2], "w": WIDTH, "h": HEIGHT},
                }
            )
        (self.folder / "transforms.json").write_text(json.dumps({"frames": frames}))
        return self.folder

    def write_hi4d(self) -> Path:
        """The same cameras, numbered in the order of `NAMES`, at frame 0 of an action."""
        images = [self.model.find_image_with_name(name) for name in NAMES]
        cameras = [
            Camera(number, image.camera.calibration_matrix(), image.cam_from_world().matrix(), HEIGHT, WIDTH)
            for number, image in enumerate(images)
        ]

        def jpeg(camera: Camera, frame: int) -> bytes:
            return encode_jpeg(read_rgb(self.folder / "images" / NAMES[camera.cam_id]), JPEG_QUALITY)

        return write_action(self.folder / "pair01" / "bench01", cameras, n_frames=1, start=0, jpeg=jpeg).folder


def known_capture(folder: Path) -> KnownCapture:
    """Three photographs by two cameras, turned and moved each, that all see four points."""
    model = pycolmap.Reconstruction()
    for number, (name, parameters) in enumerate(CAMERAS.items(), start=1):
        camera = pycolmap.Camera(model=name, width=WIDTH, height=HEIGHT, params=parameters, camera_id=number)
        model.add_camera_with_trivial_rig(camera)
    rng = np.random.default_rng(0)
    pixels = {}
    for number, name in enumerate(NAMES, start=1):
        photograph(folder / "images" / name)
        quaternion = np.array([*rng.normal(scale=0.3, size=3), 1.0])  # w last, as pycolmap takes it
        turn = pycolmap.Rotation3d(quaternion / np.linalg.norm(quaternion))
        pose = pycolmap.Rigid3d(turn, np.array([*rng.normal(scale=0.3, size=2), 4.0 + number]))
        camera_id = 1 + number % 2
        seen = [model.cameras[camera_id].img_from_cam(pose * point) for point in POINTS]
        image = pycolmap.Image(name=name, camera_id=camera_id, image_id=number, keypoints=np.array(seen))
        model.add_image_with_trivial_frame(image, pose)
        pixels[name] = np.array(seen)
    for number, point in enumerate(POINTS):
        track = pycolmap.Track([pycolmap.TrackElement(image_id, number) for image_id in model.images])
        model.add_point3D(point, track, np.array([90, 60, 30], np.uint8))
    return KnownCapture(folder, model, pixels)
