"""What a person sees who opens the recordings: drawn by the real viewer, without a screen, and looked at pixel by pixel."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings import previews
from thesis_assets.recordings.exports import TreeExports
from thesis_assets.recordings.previews import HeadlessViewer, NoGraphics, headless_viewer
from thesis_assets.recordings.recording import place_of
from thesis_assets.recordings.tracks import PREDICTION_COLOUR, TRUTH_COLOUR, person_colour
from thesis_assets_tests.recordings.small_tree import HEIGHT, WIDTH, add_nvs
from thesis_assets_tests.services.dagster_server import free_port
from thesis_assets_tests.services.graphics import require_graphics

WINDOW = (960, 640)


@pytest.fixture(scope="module")
def viewer() -> Iterator[HeadlessViewer]:
    require_graphics()
    with headless_viewer(WINDOW) as running:
        yield running


def shown(viewer: HeadlessViewer, recording: Path, page: str, frame: int = 1) -> dict[str, str]:
    """Open a recording at a page and a frame; the names of its visible views to their ids."""
    viewer.open(recording)
    viewer.turn_to(next(one for one in viewer.pages() if one.name == page))
    viewer.set_time("frame", frame)
    viewer.picture()
    return {view.name: view.view_id for view in viewer.views() if view.visible}


def pixels(viewer: HeadlessViewer, view_id: str | None = None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(viewer.picture(view_id))).convert("RGB")).astype(int)


def share_of_hue(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    """Share of the pixels that have this colour, lighter or darker: a lit mesh has many shades of one."""
    lit = picture.max(axis=2) > 60
    normal = picture / np.maximum(picture.max(axis=2, keepdims=True), 1)
    near = np.abs(normal - np.array(colour) / max(colour)).max(axis=2) < 0.13
    return float((near & lit).mean())


def content_of(picture: np.ndarray) -> np.ndarray:
    """A 2D view without its dark surround: the smallest rectangle with everything that is not background."""
    filled = np.abs(picture - picture[0, 0]).max(axis=2) > 12
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_no_view_of_any_page_reports_an_error(viewer: HeadlessViewer, exported: EvaluationTree) -> None:
    looked_at = 0
    for recording in (exported.input_data_recording, exported.evaluation_recording(30)):
        viewer.open(recording)
        for page in viewer.pages():
            viewer.turn_to(page)
            viewer.set_time("frame", 1)
            viewer.picture()
            assert viewer.faults() == []
            looked_at += sum(view.visible for view in viewer.views())
    assert looked_at >= 15
    assert viewer.complaints() == []


def test_people_have_their_colours_in_the_world_of_the_input_data(
    viewer: HeadlessViewer, exported: EvaluationTree
) -> None:
    views = shown(viewer, exported.input_data_recording, "test_cameras")
    world = pixels(viewer, views["test: cameras and people"])
    for person in (0, 1):
        assert share_of_hue(world, person_colour(person)) > 0.0008
    assert share_of_hue(world, person_colour(2)) < 0.0003


@pytest.mark.parametrize("alignment", ["world aligned", "root aligned"])
def test_predictions_are_orange_beside_green_truth(
    viewer: HeadlessViewer, exported: EvaluationTree, alignment: str
) -> None:
    views = shown(viewer, exported.evaluation_recording(30), "pose_smplx")
    world = pixels(viewer, next(view for name, view in views.items() if name.startswith(alignment)))
    assert share_of_hue(world, PREDICTION_COLOUR) > 0.005
    assert share_of_hue(world, TRUTH_COLOUR) > 0.005


def test_a_mask_colours_its_person_and_tints_nothing_else(viewer: HeadlessViewer, exported: EvaluationTree) -> None:
    views = shown(viewer, exported.input_data_recording, "test_cameras")
    seen = content_of(pixels(viewer, views["test cam_4"]))
    photograph = read_rgb(exported.input_data("test").image(4, "000001")).astype(int)
    scale = seen.shape[0] / HEIGHT
    # Middles of 8-pixel squares: the first row of them lies above every mask but for its lower half.
    outside, inside = [(2, 12), (22, 20)], [(12, 8), (12, 20)]
    for y, x in outside:
        assert np.abs(seen[int((y + 0.5) * scale), int((x + 0.5) * scale)] - photograph[y, x]).max() <= 6
    for person, (y, x) in enumerate(inside):
        found = seen[int((y + 0.5) * scale), int((x + 0.5) * scale)]
        before, towards = photograph[y, x], np.array(person_colour(person))
        assert np.abs(found - before).max() > 10
        assert np.abs(found - towards).sum() < np.abs(before - towards).sum()


def test_curves_are_drawn_under_the_pictures(viewer: HeadlessViewer, exported: EvaluationTree) -> None:
    views = shown(viewer, exported.evaluation_recording(30), "nvs")
    assert {"cam_4 prediction", "cam_4 ground truth", "cam_4 difference", "psnr", "ssim", "protocol"} <= set(views)
    plot = pixels(viewer, views["psnr"])
    # Both cameras' curves lie on each other in this tree; the later one covers the earlier.
    line = np.abs(plot - np.array(person_colour(1))).max(axis=2) < 40
    assert line.any(axis=0).mean() > 0.5


def test_a_difference_is_dark_where_the_images_agree(viewer: HeadlessViewer, tree: EvaluationTree) -> None:
    from thesis_assets.images.codecs import encode_png

    task = tree.task(30, "nvs")
    truth = read_rgb(task.gt_image(4, "000001"))
    changed = truth.copy()
    changed[8:16, 8:16] ^= 128
    task.pred_image(4, "000001").write_bytes(encode_png(changed))
    TreeExports(tree).export_epoch(30)
    views = shown(viewer, tree.evaluation_recording(30), "nvs")
    seen = pixels(viewer, views["cam_4 difference"])
    bright = np.argwhere(seen.min(axis=2) > 200)
    assert len(bright) > 100
    height = bright[:, 0].max() - bright[:, 0].min()
    width = bright[:, 1].max() - bright[:, 1].min()
    assert height == pytest.approx(width, rel=0.2)  # one square, and nothing anywhere else


def test_recordings_opened_together_keep_their_own_layouts(viewer: HeadlessViewer, exported: EvaluationTree) -> None:
    recordings = [
        exported.input_data_recording,
        exported.evaluation_recording(0),
        exported.evaluation_recording(30),
    ]
    for recording in recordings:
        viewer.open(recording)
    roots = []
    for recording in recordings:  # each one again: none took over the layout of the one opened last
        viewer.open(recording)
        origins = {view.origin.split("/")[1:3][-1] for view in viewer.views()}
        roots.append(origins)
    assert roots == [{"test", "train"}, {"epoch_0000"}, {"epoch_0030"}]


def preview_files(recording: Path) -> list[Path]:
    """The current pictures of a recording, in the order they were taken; none where they are not current."""
    record = previews.current_previews(recording)
    folder = EvaluationTree.recording_previews(recording)
    return [folder / picture.file for picture in record.pictures] if record else []


def test_previews_are_kept_beside_the_recording_until_it_changes(tree: EvaluationTree, tmp_path: Path) -> None:
    require_graphics()
    recordings = [tree.input_data_recording, tree.evaluation_recording(30)]
    records = previews.make_previews(recordings, window=(640, 400))
    record = records[tree.evaluation_recording(30)]
    assert record.faults == []
    assert [picture.file for picture in record.pictures] == [
        *("nvs_000000.png", "nvs_000001.png", "nvs_000002.png"),
        *("nvs_inputs_000001.png", "pose_smplx_000001.png"),
    ]
    files = preview_files(tree.evaluation_recording(30))
    assert all(read_rgb(file).shape == (400 - 36, 640, 3) for file in files)
    assert len({file.read_bytes() for file in files}) == len(files)
    sheet = previews.preview_sheet(recordings)
    assert sheet is not None
    assert len(sheet) < 100_000

    before = files[0].stat().st_mtime_ns
    assert previews.make_previews(recordings) == records
    assert files[0].stat().st_mtime_ns == before

    add_nvs(tree, 30, frames=(0, 1))
    TreeExports(tree).export_epoch(30)
    assert preview_files(tree.evaluation_recording(30)) == []
    assert preview_files(tree.input_data_recording) != []


def test_without_a_driver_the_reason_and_what_to_do_are_said(
    exported: EvaluationTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent.json")
    monkeypatch.setenv("VK_DRIVER_FILES", "/nonexistent.json")
    with pytest.raises(NoGraphics) as caught:
        previews.make_previews([exported.input_data_recording], force=True)
    assert "mesa-vulkan-drivers" in str(caught.value.remedy)
    assert not EvaluationTree.recording_previews(exported.input_data_recording).exists()


def test_a_viewer_that_answers_and_then_dies_has_nothing_to_draw_with(exported: EvaluationTree) -> None:
    require_graphics()
    others = psutil.Process().children()
    with headless_viewer((320, 200)) as viewer:
        viewer.open(exported.input_data_recording)
        (running,) = (child for child in psutil.Process().children() if child not in others)
        running.kill()
        for ask in (viewer.picture, viewer.pages, viewer.timelines, viewer.complaints):
            with pytest.raises(NoGraphics):
                ask()
        with pytest.raises(NoGraphics):
            viewer.open(exported.input_data_recording)


def test_a_viewer_that_stands_still_is_ended_and_not_waited_for(
    exported: EvaluationTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_graphics()
    others = psutil.Process().children()
    with headless_viewer((320, 200)) as viewer:
        viewer.open(exported.input_data_recording)
        (running,) = (child for child in psutil.Process().children() if child not in others)
        monkeypatch.setattr(previews, "ANSWER_SECONDS", 1.0)
        running.suspend()
        with pytest.raises(NoGraphics):
            viewer.picture()


def test_pictures_that_were_cut_are_taken_again(tree: EvaluationTree) -> None:
    require_graphics()
    recording = tree.input_data_recording
    previews.make_previews([recording], window=(320, 200))
    first = preview_files(recording)[0]
    whole = first.read_bytes()
    first.write_bytes(whole[:200])
    assert previews.preview_sheet([recording]) is None
    previews.make_previews([recording], window=(320, 200))
    assert len(first.read_bytes()) > 200


def test_pictures_of_a_version_without_records_are_kept_while_their_recording_is(tree: EvaluationTree) -> None:
    recording = tree.input_data_recording
    folder, digest = EvaluationTree.recording_previews(recording), "0" * 64
    picture = {"file": "overview_000001.png", "page": "overview", "timeline": "frame", "position": 1}
    storage.write_bytes(folder / picture["file"], encode_png(np.zeros((8, 8, 3), np.uint8)))
    older = {"input_digest": digest, "rerun_sdk": "0.40.0", "pictures": [picture], "faults": []}
    storage.write_json(folder / "previews.json", older)
    facts = {"input_digest": digest, "rerun_sdk": "0.40.0", "bytes": recording.stat().st_size, "absent": []}
    storage.write_json(recording.with_suffix(".inputs.json"), facts)
    place_of(recording).record.unlink()
    assert previews.make_previews([recording])[recording].rerun_sdk == "0.40.0"
    assert previews.previews_unit(recording, folder).look().in_words == "made"
    TreeExports(tree).export_input_data(force=True)
    assert preview_files(recording) == []


def test_a_viewer_that_does_not_know_what_is_asked_is_an_error_of_ours(viewer: HeadlessViewer) -> None:
    with pytest.raises(ThesisAssetsError, match="does not answer as it should"):
        viewer.picture("no such view")


def test_a_viewer_that_never_answers_is_told_by_what_it_said_last(tmp_path: Path) -> None:
    log = tmp_path / "viewer.log"
    log.write_text("No graphics adapter was found\n")
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
        with pytest.raises(NoGraphics) as caught:
            HeadlessViewer(process, log, free_port())
    assert caught.value.found == "No graphics adapter was found"


def test_the_pictures_show_images_at_their_own_size(viewer: HeadlessViewer, exported: EvaluationTree) -> None:
    views = shown(viewer, exported.evaluation_recording(30), "nvs")
    seen = content_of(pixels(viewer, views["cam_16 prediction"]))
    assert seen.shape[1] / seen.shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.05)
