"""Files of a scene: registry entry, camera and body-model arrays; and the records of its import and of renders by a command."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from thesis_assets.schemas.base import FileModel, OlderKeys

CAMERA_ARRAYS: dict[str, tuple[int, ...]] = {"intrinsics": (1, 3, 3), "extrinsics": (1, 3, 4)}

SMPLX_ARRAYS: dict[str, tuple[int, ...]] = {
    "betas": (10,),
    "root_pose": (3,),
    "body_pose": (21, 3),
    "jaw_pose": (3,),
    "leye_pose": (3,),
    "reye_pose": (3,),
    "lhand_pose": (15, 3),
    "rhand_pose": (15, 3),
    "trans": (3,),
    "expression": (100,),
}
"""Shape of each array a person; the person axis stands in front."""

SMPL_ARRAYS: dict[str, tuple[int, ...]] = {
    "betas": (10,),
    "global_orient": (3,),
    "body_pose": (23, 3),
    "transl": (3,),
}

BODY_ARRAYS = {"smplx": SMPLX_ARRAYS, "smpl": SMPL_ARRAYS}
OPTIONAL_BODY_ARRAYS = ("joints", "vertices", "faces", "contact")
"""`joints` (P, J, 3) and `vertices` (P, V, 3) metres; `faces` (F, 3) int, shared; `contact` (P, V) int: the other person's
vertex that vertex i touches, 0 = none."""


class IdentityAlignment(BaseModel):
    """Which estimated person is which ground-truth person."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    manual_preproc_to_gt: dict[int, int] | None = None


class SceneRegistryEntry(BaseModel):
    """`<scene_registry_dir>/<scene_name>.json`. Keys of other tools are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    seq_name: str
    cam_id: int = Field(ge=0)
    raw_gt_dir_path: str | None = None
    video_path: str | None = None
    ref_frame_idx: int = 0
    fps: float | None = Field(default=None, gt=0, description="frames a second of the source camera's video")
    identity_alignment: IdentityAlignment | None = None


ImageOrigin = Literal["hard_link", "reflink", "copy", "jpeg_q95", "undistorted_q95"]
"""How an image came into the scene; `jpeg_q95`: decoded and encoded as JPEG of quality 95; `undistorted_q95`: the same with the lens
undone in between, bilinear, and its masks' with the nearest pixel."""


CaptureFormat = Literal["nerfstudio", "colmap", "hi4d"]


class ImportedImage(FileModel):
    """One image: its place in the scene and its name in the source."""

    cam_id: int
    fname: str
    name: str
    origin: ImageOrigin
    mask: str | None = None


class ImportRecord(FileModel):
    """`misc/import_record.json`: from what a scene was imported, and which original image is which camera and frame.

    `sources`: path to SHA-256 of the files that named the images and cameras. `world`: how the source says its world came to be
    (nerfstudio's `applied_transform`, `applied_scale`), not undone. `cameras`: camera id to its name in the source. `left_out`: parts
    of the source that were not wanted.
    """

    format: CaptureFormat
    sources: dict[str, str]
    world: dict[str, object] = {}
    cameras: dict[int, str]
    images: list[ImportedImage]
    left_out: list[str] = []


class RenderRecord(OlderKeys):
    """`command.json` in a scene's folder of renders.

    Attributes:
        identity: of the renders' made-from record that this command is to end with (`rendering.render_command`).
        finished: False while the command runs, and after it failed.
        job: path of the `JobRecord` of its last run.
    """

    older_keys: ClassVar[frozenset[str]] = frozenset({"command_digest", "made"})

    identity: str = ""
    command: list[str]
    exp_name: str
    finished: bool
    job: str
