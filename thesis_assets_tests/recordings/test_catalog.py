"""The local catalog: which recordings it serves, and one call that answers for a metric over epochs and runs."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidKey, ThesisAssetsError
from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.catalog import MetricValue, find_recordings, read_metric, serve_catalog
from thesis_assets.recordings.exports import export_recordings
from thesis_assets.schemas.evaluation import EvaluationManifest
from thesis_assets_tests.recordings.small_tree import EXP, FRAMES, RUN, SCENE


@pytest.fixture(scope="module")
def results_root(exported: EvaluationTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one scene; what is not a recording of a tree lies about."""
    root = tmp_path_factory.mktemp("results")
    for run in (RUN, "tiny_b"):
        shutil.copytree(exported.output_dir, root / run / SCENE)
    other = EvaluationTree(root / "tiny_b" / SCENE, EXP)
    manifest = storage.read_json(other.manifest, EvaluationManifest)
    storage.write_json(other.manifest, manifest.model_copy(update={"notes": {"run_name": "tiny_b"}}))
    table = other.task(30, "nvs").nvs_per_frame
    table.write_text(table.read_text().replace("16,0,23.000000", "16,0,30.500000"))
    export_recordings(other, split_bytes=1000)
    (root / "tiny_b" / "cut.rrd").write_bytes(b"RRF2")
    return root


@pytest.fixture(scope="module")
def url(results_root: Path) -> Iterator[str]:
    with serve_catalog(find_recordings(results_root)) as address:
        yield address


def test_each_recording_is_served_once_and_files_of_tasks_are_not(results_root: Path) -> None:
    found = find_recordings(results_root)
    assert {name: len(paths) for name, paths in found.items()} == {"input_data": 2, "evaluation": 4}


def test_a_copy_and_a_broken_file_are_left_out_and_named(results_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "results"
    shutil.copytree(results_root / RUN, root / "a")
    shutil.copytree(results_root / RUN, root / "b")
    broken = EvaluationTree(root / "b" / SCENE, EXP).input_data_recording
    broken.write_bytes(broken.read_bytes()[:100])
    notes: list[str] = []
    found = find_recordings(root, on_note=notes.append)
    assert {name: len(paths) for name, paths in found.items()} == {"input_data": 1, "evaluation": 2}
    assert len(notes) == 3
    assert sum("the same recording as" in note for note in notes) == 2
    assert any(str(broken) in note for note in notes)


def test_psnr_of_camera_16_over_epochs_and_runs_is_one_call(url: str) -> None:
    values = read_metric(url, "psnr", camera=16)
    assert len(values) == 2 * 2 * len(FRAMES)
    assert {(value.run_name, value.epoch) for value in values} == {
        (run, epoch) for run in (RUN, "tiny_b") for epoch in (0, 30)
    }
    assert values[0] == MetricValue(EXP, RUN, SCENE, 0, 16, 0, 20.0)
    assert [value.value for value in values if (value.run_name, value.epoch) == ("tiny_b", 30)] == [30.5, 24.0, 25.0]


def test_all_cameras_and_pose_metrics_can_be_asked_for(url: str) -> None:
    assert {value.camera for value in read_metric(url, "psnr")} == {4, 16}
    pose = read_metric(url, "rr_mpjpe_mm", task="pose_smplx")
    assert {value.camera for value in pose} == {None}
    assert {value.value for value in pose} == {100.0}
    assert read_metric(url, "lpips", camera=16) == []  # empty in this tree
    assert read_metric(url, "psnr", camera=99) == []


def test_wrong_questions_are_refused(url: str) -> None:
    with pytest.raises(InvalidKey):
        read_metric(url, "psnr", task="sing")
    with pytest.raises(InvalidKey):
        read_metric(url, "rr_mpjpe_mm", camera=16, task="pose_smplx")


def test_it_answers_on_loopback_alone(url: str) -> None:
    assert "//127.0.0.1:" in url


def test_a_taken_port_and_an_empty_root_are_said(results_root: Path, tmp_path: Path) -> None:
    recordings = find_recordings(results_root)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(ThesisAssetsError, match="does not start"),
            serve_catalog(recordings, port=taken.getsockname()[1]),
        ):
            pass
    with pytest.raises(ThesisAssetsError, match="no recording"), serve_catalog(find_recordings(tmp_path)):
        pass


def test_a_catalog_that_is_not_there_is_named() -> None:
    with pytest.raises(ThesisAssetsError, match="cannot be asked"):
        read_metric("rerun+http://127.0.0.1:9", "psnr")
