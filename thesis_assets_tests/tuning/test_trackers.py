"""Curves beside the progress file: what TensorBoard is given, and that no tracker stops a training."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from accelerate.utils import LoggerType

from thesis_assets.layout import DifixTree
from thesis_assets.schemas.tuning import ProgressLine
from thesis_assets.tuning.progress_file import ProgressReader, read_curves, usable_tracker
from thesis_assets_tests.tuning.snapshots import arguments, train, write_snapshot


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    return write_snapshot(tmp_path_factory.mktemp("snapshot"))


def start_line(tree: DifixTree, run_name: str) -> ProgressLine:
    return next(iter(ProgressReader(tree.tuning_run(run_name).progress).new_lines()))


def test_tensorboard_gets_the_curves_and_each_evaluations_picture(tree: DifixTree) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard (extra `dev`)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train(arguments(tree, "curves", report_to="tensorboard", tracker_project_name="people")) == 0
    run = tree.tuning_run("curves")
    events = EventAccumulator(str(run.logs_dir / "people"), size_guidance={"images": 10})
    events.Reload()
    curves = read_curves(run.progress)
    points = events.Scalars("loss")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
    assert [point.value for point in points] == pytest.approx(curves["loss"])
    assert [point.value for point in events.Scalars("psnr_refined")] == pytest.approx(curves["psnr_refined"])
    pictures = events.Images("contact_sheet")
    assert [picture.step for picture in pictures] == [3, 6]
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")


def test_a_tracker_that_is_not_installed_is_told_and_does_not_stop_the_run(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thesis_assets.tuning.progress_file.find_spec", lambda name: None)
    assert train(arguments(tree, "untracked", max_train_steps=1, report_to="tensorboard")) == 0
    assert "tensorboard: its package is not installed" in start_line(tree, "untracked").message
    assert usable_tracker("none") == ("none", None)


def put_in_place_of_wandb(patch: pytest.MonkeyPatch, init: Any) -> None:
    module = ModuleType("wandb")
    module.__spec__ = importlib.util.spec_from_loader("wandb", None)
    module.init, module.config, module.Image = init, SimpleNamespace(update=lambda *_, **__: None), lambda image: image  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "wandb", module)
    patch.setattr("accelerate.tracking._available_trackers", [LoggerType.WANDB])
    patch.setattr("thesis_assets.tuning.progress_file.find_spec", lambda name: module.__spec__)


def test_a_service_that_refuses_is_told_and_the_run_goes_on(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("api_key not configured")

    with monkeypatch.context() as patch:
        put_in_place_of_wandb(patch, refuse)
        assert train(arguments(tree, "refused", max_train_steps=1, report_to="wandb")) == 0
    line = start_line(tree, "refused")
    assert "tracker wandb failed" in line.message
    assert "api_key not configured" in line.message
    assert line.tracker_url is None
    assert "api_key not configured" in capsys.readouterr().err


def test_a_run_without_an_address_is_told_and_goes_on(tree: DifixTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> SimpleNamespace:
        return SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)

    with monkeypatch.context() as patch:
        put_in_place_of_wandb(patch, init)
        assert train(arguments(tree, "nowhere", max_train_steps=1, report_to="wandb")) == 0
    assert start_line(tree, "nowhere").tracker_url is None


def test_the_address_of_a_run_is_kept_and_a_resumed_one_goes_on_in_its_curves(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(url="https://wandb.invalid/runs/1", log=lambda *_, **__: None, finish=lambda: None)

    flags = {"tracker_project_name": "people", "tracker_entity": "us", "tracker_tags": "a,b", "report_to": "wandb"}
    with monkeypatch.context() as patch:
        put_in_place_of_wandb(patch, init)
        for _ in range(2):
            assert train(arguments(tree, "linked", max_train_steps=3, **flags)) == 0
        patch.setenv("WANDB_DIR", str(tree.root / "curves"))
        assert train(arguments(tree, "elsewhere", max_train_steps=1, **flags)) == 0
    assert start_line(tree, "linked").tracker_url == "https://wandb.invalid/runs/1"
    assert asked[0] == asked[1]
    assert {key: asked[0][key] for key in ("project", "entity", "tags", "name", "resume")} == {
        "project": "people",
        "entity": "us",
        "tags": ["a", "b"],
        "name": "linked",
        "resume": "allow",
    }
    assert Path(asked[0]["dir"]) == tree.tuning_run("linked").logs_dir
    assert Path(asked[2]["dir"]) == tree.root / "curves"
