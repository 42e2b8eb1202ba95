"""Evaluation shared out to workers: the same files whoever works, and a scene that fails leaves the others."""

import functools
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation import nvs, refined_predictions
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.nvs import measure_part, measure_views
from thesis_assets.evaluation.pose import measure_poses
from thesis_assets.evaluation.scene_steps import predict_views
from thesis_assets.evaluation.shared_work import split_by_camera, split_by_frame
from thesis_assets.evaluation.views import View
from thesis_assets.layout import EvaluationTree, TaskTree
from thesis_assets.scenes.scene import open_scene
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, SCENE, compare, open_cell, predict, worked_off
from thesis_assets_tests.images.lpips_weights import write_lpips_weights

OTHER_SCENE = "studio_pair03_other"


def results(cell: EvaluationCell) -> dict[str, bytes]:
    """Every file of the tasks but the records and their caches: a video is not the same bytes twice."""
    return {
        cell.tree.relative(path): path.read_bytes()
        for path in sorted(cell.tree.evaluation_dir.rglob("*"))
        if path.is_file() and not path.name.startswith("made_from.")
    }


def elsewhere(cell: EvaluationCell, folder: Path) -> EvaluationCell:
    return replace(cell, tree=EvaluationTree(folder / SCENE, "demo"))


def test_any_number_of_workers_gives_the_same_files(
    evaluated: EvaluationCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, lines = elsewhere(evaluated, tmp_path), []
    monkeypatch.setattr(nvs, "VIEWS_A_WORKER", 1)
    monkeypatch.setattr(refined_predictions, "VIEWS_A_WORKER", 1)
    poses = [functools.partial(measure_poses, task) for task in ("pose_smplx", "pose_smpl")]
    for outcomes in (worked_off(step, [cell], 2, lines.append) for step in (predict_views, measure_views, *poses)):
        outcomes.raise_failures()
        assert sorted(outcomes.records) == [(SCENE, 0), (SCENE, 15), (SCENE, 30)]
    found, wanted = results(cell), results(evaluated)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name] and not name.endswith(".mp4")] == []
    truths = [cell.tree.task(epoch, "nvs").gt_image(28, FRAMES[3]) for epoch in (0, 15, 30)]
    assert truths[0].samefile(truths[1])
    assert truths[0].samefile(truths[2])
    assert any("epoch_0030 nvs: 8 views, PSNR" in line for line in lines)
    assert any("pose_smpl: 4 frames" in line for line in lines)  # Told by a worker.


def test_a_scene_that_fails_is_named_and_leaves_the_others(own_folder: Path) -> None:
    cell = open_cell(own_folder)
    for root in ("gt", "estimated", "renders"):
        shutil.copytree(own_folder / root / SCENE, own_folder / root / OTHER_SCENE)
    entry = cell.scene.tree.registry_entry
    entry.with_name(f"{OTHER_SCENE}.json").write_text(entry.read_text().replace(SCENE, OTHER_SCENE))
    broken = own_folder / "gt" / OTHER_SCENE / "images" / "28" / f"{FRAMES[2]}.png"
    broken.write_bytes(broken.read_bytes()[:100])
    other = replace(
        cell,
        scene=open_scene(cell.scene.roots, OTHER_SCENE),
        tree=EvaluationTree(own_folder / "results" / OTHER_SCENE, "demo"),
    )
    fresh = elsewhere(cell, own_folder / "fresh")
    assert predict([other, fresh]).failed == {}
    outcomes = compare([other, fresh])
    assert sorted(outcomes.records) == [(SCENE, 0), (SCENE, 15), (SCENE, 30)]
    assert f"28/{FRAMES[2]}.png" in outcomes.failed[OTHER_SCENE][0]
    with pytest.raises(ThesisAssetsError, match="the others are in place") as caught:
        outcomes.raise_failures()
    assert OTHER_SCENE in str(caught.value)
    assert not list(own_folder.rglob(".tmp-*"))


def test_an_epoch_that_fails_leaves_those_after_it(own_folder: Path) -> None:
    """A job of a cluster has all epochs of a scene."""
    cell = elsewhere(open_cell(own_folder), own_folder / "fresh")
    cell.tuning_run.checkpoint(10).write_bytes(b"no checkpoint")
    predicted = predict([cell])
    assert sorted(predicted.records) == [(SCENE, 0), (SCENE, 30)]
    assert "model_10" in predicted.failed[SCENE][0]
    measured = compare([cell])
    assert sorted(measured.records) == [(SCENE, 0), (SCENE, 30)]
    assert list(measured.failed) == [SCENE]


@pytest.mark.long
def test_the_views_of_a_killed_worker_are_made_by_another_with_the_same_bytes(
    evaluated: EvaluationCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = elsewhere(evaluated, tmp_path)
    monkeypatch.setattr(nvs, "VIEWS_A_WORKER", 1)
    monkeypatch.setattr(refined_predictions, "VIEWS_A_WORKER", 1)
    for step in (predict_views, measure_views):
        killed = threading.Thread(target=kill_a_worker, args=(cell.tree.base,))
        killed.start()
        worked_off(step, [cell], 2).raise_failures()
        killed.join()
    found, wanted = results(cell), results(evaluated)
    measured = [name for name in wanted if "/nvs/" in name]
    assert [name for name in found if name not in measured] == []
    assert [name for name in measured if found.get(name) != wanted[name] and not name.endswith(".mp4")] == []
    assert not list(tmp_path.rglob(".tmp-*"))


def kill_a_worker(folder: Path) -> None:
    """The first one that has written a picture, or at least begun to."""
    deadline = time.monotonic() + 60
    while not list(folder.rglob(".tmp-*/**/*.png")) and time.monotonic() < deadline:
        time.sleep(0.005)
    workers = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
    workers[0].kill()


def test_only_stale_epochs_are_shared_out(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, seen = open_cell(own_folder), []

    def counting(cell: EvaluationCell, task: TaskTree, *rest: Any) -> Any:
        seen.append(task)
        return measure_part(cell, task, *rest)

    monkeypatch.setattr(nvs, "measure_part", counting)
    compare([cell])
    assert seen == []
    cell.tree.task(15, "nvs").pred_image(4, FRAMES[0]).unlink()
    compare([cell])
    assert seen == [cell.tree.task(15, "nvs")]


@pytest.mark.parametrize(("n_shares", "cameras"), [(1, [[4, 28, 40]]), (2, [[4, 28], [40]]), (9, [[4], [28], [40]])])
def test_a_cameras_views_stay_in_one_share(n_shares: int, cameras: list[list[int]]) -> None:
    views = [View(cam_id, fname) for cam_id in (4, 28, 40) for fname in FRAMES]
    shares = split_by_camera(views, n_shares)
    assert [sorted({view.cam_id for view in share}) for share in shares] == cameras
    assert [view for share in shares for view in share] == views


@pytest.mark.parametrize(("n_shares", "sizes"), [(1, [4]), (3, [2, 1, 1]), (9, [1, 1, 1, 1])])
def test_a_frames_views_stay_in_one_share(n_shares: int, sizes: list[int]) -> None:
    """They are one batch: an image refined in another batch may come out by a level other."""
    views = [View(cam_id, fname) for cam_id in (4, 28, 40) for fname in FRAMES]
    shares = split_by_frame(views, n_shares)
    assert [len({view.fname for view in share}) for share in shares] == sizes
    assert [len(share) for share in shares] == [3 * size for size in sizes]
    assert {view for share in shares for view in share} == set(views)


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_sums_on_one_core_whatever_it_may_use(
    own_folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Split over two cores a sum has other last bits, and a pixel now and then another level: 1 of 255, 5e-5 dB."""
    import torch

    from thesis_assets.evaluation import nvs_metrics
    from thesis_assets.tuning.trained_model import Refiner

    write_lpips_weights(own_folder / "lpips")
    cell, seen = elsewhere(open_cell(own_folder), own_folder / "fresh"), set()

    def watched(function: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            seen.add((function.__name__, torch.get_num_threads()))
            return function(*args, **more)

        return call

    monkeypatch.setattr(Refiner, "refine", watched(Refiner.refine))
    monkeypatch.setattr("thesis_assets.evaluation.nvs.view_metrics", watched(nvs_metrics.view_metrics))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        predict([cell]).raise_failures()
        compare([cell]).raise_failures()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == {("refine", 1), ("view_metrics", 1)}
