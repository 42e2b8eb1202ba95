"""What the UI shows of recordings: a picture small enough for the event log, or why there is none."""

from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.graph.platform import Platform
from thesis_assets.layout import EvaluationTree
from thesis_assets.operations.shown_results import recording_pictures
from thesis_assets.recordings.exports import export_recordings
from thesis_assets.settings import Settings
from thesis_assets_tests.recordings.small_tree import make_tree
from thesis_assets_tests.services.graphics import require_graphics


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> EvaluationTree:
    tree = make_tree(tmp_path_factory.mktemp("pictures"), epochs=(30,))
    export_recordings(tree)
    return tree


def shown(tree: EvaluationTree, home: Path, **settings: str) -> dict[str, dg.MetadataValue]:
    platform = Platform(Settings(_env_file=None, data_home=home, device="cpu", **settings))
    return recording_pictures(platform, lambda line: None, [tree.evaluation_recording(30)])


def test_the_asset_shows_a_picture_below_100_kilobytes(tree: EvaluationTree, tmp_path: Path) -> None:
    require_graphics()
    metadata = shown(tree, tmp_path, recording_previews="auto")
    text = str(metadata["previews"].value)
    assert text.startswith("![](data:image/")
    assert len(text) < 100_000
    assert set(metadata) == {"previews"}


def test_without_a_driver_the_asset_says_why_and_does_not_fail(
    tree: EvaluationTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thesis_assets.recordings import previews
    from thesis_assets.recordings.previews import NoGraphics

    def nothing_to_draw_with(*_: object, **__: object) -> None:
        raise NoGraphics("the viewer finds nothing to draw with", remedy="apt-get install mesa-vulkan-drivers")

    monkeypatch.setattr(previews, "make_previews", nothing_to_draw_with)
    said = str(shown(tree, tmp_path, recording_previews="auto")["previews"].value)
    assert said.startswith("skipped: the viewer finds nothing to draw with")
    assert "mesa-vulkan-drivers" in said


def test_previews_can_be_switched_off(tree: EvaluationTree, tmp_path: Path) -> None:
    assert str(shown(tree, tmp_path, recording_previews="off")["previews"].value).startswith("off")
