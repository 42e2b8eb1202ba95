"""`misc/import_record.json`: from what a scene was imported, and which original image is which camera and frame."""

from typing import Literal

from thesis_assets.schemas.base import FileModel

ImageOrigin = Literal["hard_link", "reflink", "copy", "jpeg_q95"]
"""How an image came into the scene; `jpeg_q95`: decoded and encoded as JPEG of quality 95."""


class ImportedImage(FileModel):
    """One image: its place in the scene and its name in the source."""

    cam_id: int
    fname: str
    name: str
    origin: ImageOrigin
    mask: str | None = None


class ImportRecord(FileModel):
    """The origin of an imported scene.

    `sources`: path to SHA-256 of the files that named the images and cameras. `world`: how the source says its world came to be
    (nerfstudio's `applied_transform`, `applied_scale`), not undone. `cameras`: camera id to its name in the source.
    """

    format: Literal["nerfstudio", "colmap"]
    sources: dict[str, str]
    world: dict[str, object] = {}
    cameras: dict[int, str]
    images: list[ImportedImage]
