"""The layouts: which views there are, on which timeline, how they play. Views are counted, bytes never compared."""

from pathlib import Path

from rerun.chunk import RrdReader

from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.exports import TreeExports
from thesis_assets.recordings.verification import read_recording
from thesis_assets_tests.recordings.read_back import views_of


def blueprint_values(path: Path, entity: str, component: str) -> list[object]:
    """Values of a component (lists where there are several) over the blueprint's entities that start with `entity`."""
    reader = RrdReader(path)
    found: list[object] = []
    for blueprint in reader.blueprints():
        for chunk in reader.stream(store=blueprint):
            batch = chunk.to_record_batch()
            if chunk.entity_path.startswith(entity) and component in batch.schema.names:
                found += [row[0] if len(row) == 1 else row for row in batch.column(component).to_pylist() if row]
    return found


def test_input_data_shows_worlds_beside_pictures(exported: EvaluationTree) -> None:
    # 3 cameras with pictures, a depth, a novel view; a world for train and one for test.
    assert views_of(read_recording(exported.input_data_recording)) == {"3D": 2, "2D": 5}


def test_an_epoch_shows_a_row_a_camera_curves_poses_and_pages(exported: EvaluationTree) -> None:
    views = views_of(read_recording(exported.evaluation_recording(30)))
    # 2 x (prediction, truth, difference) + 2 renders; psnr, ssim, mm, share; world and root aligned, input cameras; a page a task.
    assert views == {"2D": 8, "TimeSeries": 4, "3D": 3, "TextDocument": 2}


def test_only_what_is_there_has_a_view(tree: EvaluationTree) -> None:
    TreeExports(tree).export_epoch(30, tasks=("pose_smplx",))
    views = views_of(read_recording(tree.evaluation_recording(30)))
    assert views == {"TimeSeries": 2, "3D": 2, "TextDocument": 1}


def test_a_recording_loops_over_frames_at_20_a_second(exported: EvaluationTree) -> None:
    for path in (exported.input_data_recording, exported.evaluation_recording(0)):
        assert blueprint_values(path, "/time_panel", "TimePanelBlueprint:timeline") == ["frame"]
        assert blueprint_values(path, "/time_panel", "TimePanelBlueprint:fps") == [20.0]
        assert len(blueprint_values(path, "/time_panel", "TimePanelBlueprint:loop_mode")) == 1


def test_depth_and_masks_stay_out_of_the_3d_views(exported: EvaluationTree) -> None:
    queries = blueprint_values(exported.input_data_recording, "/view/", "ViewContents:query")
    worlds = [query for query in queries if "people/**" in str(query)]
    assert len(worlds) == 2
    for query in worlds:
        assert "depth" not in str(query)
        assert "mask" not in str(query)
        assert "/image" in str(query)


def test_smpl_copies_of_smplx_people_stay_out_of_the_3d_view(exported: EvaluationTree) -> None:
    queries = blueprint_values(exported.input_data_recording, "/view/", "ViewContents:query")
    world = next(str(query) for query in queries if "/input_data/test/people/**" in str(query))
    assert "- /input_data/test/people/person_1/smpl" in world
