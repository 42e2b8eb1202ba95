"""The preset `layout: thesis`: scripts of the thesis find in our trees what they look for, as further names of the same files."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.checks import check_input_data_clean, check_layout_version, recomputed
from thesis_assets.evaluation.measured_tasks import task_state
from thesis_assets.evaluation.scene_steps import units_of
from thesis_assets.evaluation.units import task_unit
from thesis_assets.layout import TASKS, EvaluationTree, evaluation_tree
from thesis_assets.provenance import Contents
from thesis_assets.recordings.contract import check_recording_contract
from thesis_assets.recordings.exports import TreeExports
from thesis_assets.recordings.recording import identity_of
from thesis_assets_tests.evaluation.test_checks import failing
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, SCENE, TARGETS, evaluate, open_cell

EPOCHS = (0, 15, 30)


def under_the_preset(folder: Path, **evaluation: object) -> EvaluationCell:
    cell = open_cell(folder, **evaluation)
    names = {"exp_name": "demo", "run_name": "tiny_a", "scene_name": SCENE}
    return replace(cell, tree=evaluation_tree("thesis", results_root=folder / "thesis", **names))


@pytest.fixture(scope="module")
def thesis_folder(evaluated_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene of the room with debug pictures of novel-view generation, evaluated under the preset."""
    folder = Path(shutil.copytree(evaluated_folder, tmp_path_factory.mktemp("thesis") / "scene"))
    cell = under_the_preset(folder)
    debug = cell.scene.tree.estimated.nv_generation_debug("images") / "4" / f"{FRAMES[0]}.png"
    debug.parent.mkdir(parents=True)
    shutil.copyfile(cell.scene.tree.ground_truth.image(4, FRAMES[0], ".png"), debug)
    evaluate(cell)
    return folder


@pytest.fixture
def own_thesis(thesis_folder: Path, tmp_path: Path) -> EvaluationCell:
    # With its hard links, as it was published.
    subprocess.run(["cp", "-a", str(thesis_folder), str(tmp_path / "own")], check=True)
    return under_the_preset(tmp_path / "own")


def names_of(cell: EvaluationCell) -> Iterator[tuple[Path, Path]]:
    """Each name of the preset, with the file of the document's tree that it is of."""
    tree = cell.tree
    test, train = tree.input_data("test"), tree.input_data("train")
    for epoch in EPOCHS:
        task = tree.task(epoch, "nvs")
        for cam_id in TARGETS:
            for fname in FRAMES:
                yield task.metric_picture("pred", cam_id, fname), task.pred_image(cam_id, fname)
                yield task.metric_picture("gt_inputs", cam_id, fname), task.gt_image(cam_id, fname)
                yield task.viz_camera(cam_id, fname), task.input_camera(cam_id, fname)
                yield task.viz_photograph(cam_id, fname, ".png"), test.image(cam_id, fname, ".png")
    for fname in FRAMES:
        yield tree.pose_state_dir / f"{fname}.npz", train.body("smplx", fname)
    debug = train.nv_generation_debug("images") / "4" / f"{FRAMES[0]}.png"
    yield tree.nv_generation_dir / debug.parent.parent.name / "4" / debug.name, debug


def test_every_name_is_the_same_file_as_the_documents(thesis_folder: Path) -> None:
    cell = under_the_preset(thesis_folder)
    assert cell.tree.base == thesis_folder / "thesis" / SCENE / "demo__tiny_a"
    for name, file in names_of(cell):
        assert name.samefile(file), name


def test_names_are_recorded_and_neither_foreign_nor_damage_to_any_check(thesis_folder: Path) -> None:
    cell = under_the_preset(thesis_folder)
    assert failing(cell) == {}
    units = [
        unit for asset in ("input_data", "predictions", *TASKS, "evaluation_manifest") for unit in units_of(asset, cell)
    ]
    assert {unit.look().in_words for unit in units} == {"made"}
    records = [(unit.place.base, record) for unit in units if (record := unit.look().record) is not None]
    recorded = {base / name for base, record in records for name in record.outputs}
    assert {name for name, _ in names_of(cell)} <= recorded
    for epoch in EPOCHS:
        assert recomputed((cell, epoch, "nvs")).faults == []


def test_a_name_that_is_lost_or_spoilt_is_seen_and_comes_back(own_thesis: EvaluationCell) -> None:
    task, state = own_thesis.tree.task(15, "nvs"), own_thesis.tree.pose_state_dir / f"{FRAMES[1]}.npz"
    lost, spoilt = task.metric_picture("pred", 4, FRAMES[0]), task.viz_camera(28, FRAMES[2])
    before = task.nvs_per_frame.stat().st_mtime_ns
    lost.unlink()
    state.unlink()
    spoilt.unlink()
    spoilt.write_bytes(b"other")
    verdict = task_unit(own_thesis, 15, "nvs").look()
    assert task_state(own_thesis, 15, "nvs", Contents()).damaged == "", "the numbers stand"
    assert (verdict.missing, verdict.damaged) == (
        ("pred/cam_4/metrics_input/000000.png",),
        ("viz/all_cameras/28/000002.npz",),
    )
    assert set(failing(own_thesis)) == {"nvs_required_files", "input_data_clean"}
    assert f"nv_generation/pose_state/{state.name}: the file is missing" in check_input_data_clean(own_thesis).offenders

    evaluate(own_thesis)

    assert failing(own_thesis) == {}
    assert lost.read_bytes() == task.pred_image(4, FRAMES[0]).read_bytes()
    assert task.nvs_per_frame.stat().st_mtime_ns == before, "only what was lost was put back"


def test_recordings_pass_over_them(own_thesis: EvaluationCell) -> None:
    exports = TreeExports(own_thesis.tree, run_name="tiny_a", scene_name=SCENE)
    exports.export_input_data()
    exports.export_epoch(15, tasks=["nvs"])

    assert check_recording_contract(own_thesis.tree, epochs=[15], tasks=["nvs"]).offenders == []


def test_a_recording_that_is_made_by_the_trees_folder_is_the_platforms(thesis_folder: Path) -> None:
    tree = under_the_preset(thesis_folder).tree
    by_folder = identity_of(EvaluationTree(tree.output_dir, tree.base.name), "evaluation", epoch=15)
    assert by_folder == identity_of(tree, "evaluation", epoch=15, run_name="tiny_a", scene_name=SCENE)
    assert by_folder.exp_name == "demo"


def test_in_a_tree_of_another_layout_there_are_none_and_a_folder_of_that_name_is_foreign(own: EvaluationCell) -> None:
    assert not list(own.tree.base.rglob("metrics_input"))
    assert not own.tree.task(15, "nvs").viz_camera(4, FRAMES[0]).parent.parent.exists()
    own.tree.nv_generation_dir.mkdir()
    assert check_layout_version(own).offenders == ["nv_generation: no entry of the layout"]


def test_a_tree_that_is_taken_over_has_them_too(own_folder: Path) -> None:
    older = Path(shutil.move(open_cell(own_folder).tree.base, own_folder / "older"))
    cell = under_the_preset(own_folder, predictions={"source": "existing", "tree": str(older)})
    evaluate(cell)
    for name, file in names_of(cell):
        if "est_" not in str(name):
            assert name.samefile(file), name
    assert failing(cell) == {}


# --- scripts of the form that the thesis has --------------------------------------------------------------------------

UPLOADER = """
import pathlib, sys
for scene in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    for exp in sorted(scene.iterdir()):
        for path in sorted((exp / "evaluation").rglob("*")):
            if path.is_file():
                print(f"{scene.name}/{exp.name}/{path.relative_to(exp)}")
"""
AGGREGATOR = """
import csv, glob, sys
for path in sorted(glob.glob(f"{sys.argv[1]}/*/*/evaluation/epoch_*/nvs/metrics/metrics_avg_per_camera.csv")):
    scene, exp, _, epoch = path.split("/")[-7:-3]
    for row in csv.DictReader(open(path)):
        print(scene, exp, int(epoch.removeprefix("epoch_")), row["camera_id"], float(row["psnr"]), float(row["ssim"]))
"""
RESUME = """
import pathlib, sys
done = [p.parents[2].name for p in pathlib.Path(sys.argv[1]).glob("*/*/evaluation/epoch_*/nvs/metrics/novel_view_results.txt")]
print(max(int(name.removeprefix("epoch_")) for name in done))
"""
EXPORTER = """
import pathlib, sys
(base,) = pathlib.Path(sys.argv[1]).glob("*/*")
task = max(base.glob("evaluation/epoch_*")) / "nvs"
for camera in sorted((task / "viz" / "all_cameras").iterdir()):
    for file in sorted(camera.glob("*.npz")):
        (image,) = (task / "viz" / "images" / camera.name).glob(f"{file.stem}.*")
        sides = [list((task / side / f"cam_{camera.name}" / "metrics_input").glob(f"{file.stem}.*")) for side in ("pred", "gt_inputs")]
        state = base / "nv_generation" / "pose_state" / file.name
        print(camera.name, file.stem, *map(len, sides), state.is_file())
"""


def said_by(script: str, results: Path) -> list[str]:
    """What a script prints that knows the standard library alone."""
    words = [sys.executable, "-S", "-E", "-c", script, str(results)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_an_uploader_an_aggregator_and_a_resume_of_the_thesis_work_on_our_trees(thesis_folder: Path) -> None:
    cell, results = under_the_preset(thesis_folder), thesis_folder / "thesis"
    uploaded = said_by(UPLOADER, results)
    n_files = sum(len(names) for _, _, names in os.walk(cell.tree.evaluation_dir))
    assert len(uploaded) == n_files > 100
    assert f"{SCENE}/demo__tiny_a/evaluation/epoch_0030/nvs/metrics/novel_view_results.txt" in uploaded
    rows = [line.split() for line in said_by(AGGREGATOR, results)]
    assert {(row[0], row[1]) for row in rows} == {(SCENE, "demo__tiny_a")}
    assert [(int(row[2]), int(row[3])) for row in rows] == [(epoch, cam) for epoch in EPOCHS for cam in TARGETS]
    assert said_by(RESUME, results) == ["30"]


def test_an_exporter_of_the_thesis_finds_pictures_cameras_and_poses(thesis_folder: Path) -> None:
    found = said_by(EXPORTER, thesis_folder / "thesis")
    assert found == [f"{cam_id} {fname} 1 1 True" for cam_id in (28, 4) for fname in FRAMES]
