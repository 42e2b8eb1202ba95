"""What `input_data.rrd` must hold, from the files under `input_data/` alone."""

from __future__ import annotations

import re
from pathlib import Path

from thesis_assets.evaluation.qualitative.expected_content import (
    CAMERA,
    DEPTH,
    FRAME,
    IMAGE,
    IMAGE_FILE,
    MASK,
    ExpectedContent,
    Rules,
    apply_rules,
    expect_bodies,
    expect_camera,
    filled_files,
)
from thesis_assets.layout import EvaluationTree

_INPUT_RULES: Rules = (
    (rf"(?P<split>train|test)/images/{CAMERA}/{IMAGE_FILE}", "/input_data/{split}/cameras/cam_{cam}/image", IMAGE),
    (
        rf"(?P<split>train|test)/seg/img_seg_mask/{CAMERA}/(?:all|\d+)/{FRAME}\.png",
        "/input_data/{split}/cameras/cam_{cam}/mask",
        MASK,
    ),
    (rf"(?P<split>train|test)/depths/{CAMERA}/{FRAME}\.npy", "/input_data/{split}/cameras/cam_{cam}/depth", DEPTH),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{CAMERA}/{IMAGE_FILE}",
        "/input_data/train/misc/nv_generation/{kind}/cam_{cam}",
        IMAGE,
    ),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{CAMERA}/{FRAME}\.npy",
        "/input_data/train/misc/nv_generation/{kind}/cam_{cam}",
        DEPTH,
    ),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{IMAGE_FILE}",
        "/input_data/train/misc/nv_generation/{kind}",
        IMAGE,
    ),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{FRAME}\.npy",
        "/input_data/train/misc/nv_generation/{kind}",
        DEPTH,
    ),
)
_INPUT_CAMERA = re.compile(rf"(?P<split>train|test)/all_cameras/{CAMERA}/{FRAME}\.npz", re.ASCII)
_INPUT_BODY = re.compile(rf"(?P<split>train|test)/(?P<model>smplx|smpl)/{FRAME}\.npz", re.ASCII)
_INPUT_UNRECORDED = re.compile(
    r"input_data\.json|(train|test)/(skip_frames\.csv|meta\.npz|meshes/.*|gaussians/.*|canon_3dgs_lhm/.*"
    r"|misc/(?!nv_generation/).*)"
)
"""Files of the scene contract that the recordings' page gives no entity."""


def expected_input_data(tree: EvaluationTree, max_frames: int = 0) -> ExpectedContent:
    """What `input_data.rrd` must hold, from the files under `input_data/`."""
    expected = ExpectedContent(max_frames)
    base = tree.input_data_dir
    cameras: dict[str, dict[int, Path]] = {}
    with_smplx = {split for split in ("train", "test") if any((base / split / "smplx").glob("*.npz"))}
    for path in filled_files(base):
        place = path.relative_to(base).as_posix()
        source = path.relative_to(tree.base).as_posix()
        expected.n_files += 1
        if match := _INPUT_CAMERA.fullmatch(place):
            entity = f"/input_data/{match['split']}/cameras/cam_{match['cam']}"
            cameras.setdefault(entity, {})[int(match["frame"])] = path
        elif match := _INPUT_BODY.fullmatch(place):
            suffix = "/smpl" if match["model"] == "smpl" and match["split"] in with_smplx else ""
            expect_bodies(expected, path, f"/input_data/{match['split']}/people", suffix, match, source, meshes=True)
        elif not apply_rules(_INPUT_RULES, place, expected, source, {}) and not _INPUT_UNRECORDED.fullmatch(place):
            expected.unknown.append(source)
    for entity, files in cameras.items():
        expect_camera(expected, entity, files, tree)
    expected.limit()
    return expected
