"""A tree of the size of a real scene (8 cameras, three epochs): every recording verifies and holds exactly what is on disk."""

from pathlib import Path

import pytest

from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.checks import check_recordings_current, check_recordings_verify
from thesis_assets.recordings.contract import check_recording_contract
from thesis_assets.recordings.exports import export_recordings
from thesis_assets.recordings.verification import RecordingContent, read_recording
from thesis_assets_tests.recordings.read_back import views_of
from thesis_assets_tests.recordings.small_tree import make_tree

CAMERAS = (4, 16, 28, 40, 52, 64, 76, 88)
EPOCHS = (0, 15, 30)
WHOLE = pytest.param(150, marks=pytest.mark.soak)


@pytest.mark.parametrize("n_frames", [10, WHOLE])
def test_recordings_hold_exactly_what_a_tree_of_eight_cameras_holds(tmp_path: Path, n_frames: int) -> None:
    tree = make_tree(tmp_path, EPOCHS, CAMERAS, range(n_frames))
    written = export_recordings(tree)
    assert len(written) == 1 + len(EPOCHS)
    for outcome in (check_recordings_verify(tree), check_recording_contract(tree), check_recordings_current(tree)):
        assert outcome.passed, outcome.offenders
        assert outcome.counts["recordings"] == 1 + len(EPOCHS)
    _check_input_data(read_recording(tree.input_data_recording), n_frames)
    for epoch in EPOCHS:
        _check_epoch(tree, epoch, n_frames)


def rows(content: RecordingContent, component: str) -> int:
    return sum(entity.row_count.get(component, 0) for entity in content.entities.values())


def _check_input_data(content: RecordingContent, n_frames: int) -> None:
    # Test: all cameras; train: the source camera, and the novel-view debug pictures of one.
    assert rows(content, "EncodedImage:blob") == (len(CAMERAS) + 2) * n_frames
    assert rows(content, "SegmentationImage:buffer") == (len(CAMERAS) + 1) * n_frames
    assert rows(content, "EncodedDepthImage:blob") == n_frames
    assert rows(content, "Mesh3D:vertex_positions") == 2 * 2 * n_frames
    assert {name for entity in content.entities.values() for name in entity.timelines} == {"frame"}
    # Camera 16 moves in this tree; what stands still is there once.
    still = [cam_id for cam_id in CAMERAS if cam_id != 16]
    for cam_id in still:
        camera = content.entities[f"/input_data/test/cameras/cam_{cam_id}"]
        assert {"Pinhole:image_from_camera", "Transform3D:translation"} <= camera.static
        assert camera.rows == {}
    moving = content.entities["/input_data/test/cameras/cam_16"]
    assert "Pinhole:image_from_camera" in moving.static
    assert moving.row_count["Transform3D:translation"] == n_frames
    assert "Mesh3D:triangle_indices" in content.entities["/input_data/test/people/person_0"].static


def _check_epoch(tree: EvaluationTree, epoch: int, n_frames: int) -> None:
    content = read_recording(tree.evaluation_recording(epoch))
    # Render, prediction, truth, difference.
    assert rows(content, "EncodedImage:blob") == 4 * len(CAMERAS) * n_frames
    # Two people, two sides, two alignments.
    assert rows(content, "Mesh3D:vertex_positions") == 2 * 2 * 2 * n_frames
    curves = [name for name in content.entities if "/nvs/metrics/psnr/" in name]
    assert len(curves) == len(CAMERAS)
    for curve in curves:
        assert content.entities[curve].rows["Scalars:scalars"] == {
            *(("frame", frame) for frame in range(n_frames)),
            ("epoch", epoch),
        }
    assert content.application_id == f"thesis_assets_evaluation_epoch_{epoch:04d}"
    assert content.properties["epoch.epoch"] == epoch
    # 8 x (prediction, truth, difference) and renders; psnr, ssim, millimetres, share; world, root, cameras; two pages.
    assert views_of(content) == {"2D": 32, "TimeSeries": 4, "3D": 3, "TextDocument": 2}
