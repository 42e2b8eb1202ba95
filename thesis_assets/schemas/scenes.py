"""Files of the scene contract: registry entry, camera and body-model arrays, skip frames."""

from pydantic import BaseModel, ConfigDict, Field

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
    identity_alignment: IdentityAlignment | None = None
