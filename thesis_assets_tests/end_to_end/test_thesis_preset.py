"""`THESIS_OUTPUT_DIR=thesis`, through the whole graph: the evaluation lies elsewhere, with further names, and nobody trips over them."""

import json

import pytest

from thesis_assets.settings import Settings
from thesis_assets_tests.worlds import World, thesis_assets

pytestmark = pytest.mark.long


class ThesisWorld(World):
    @property
    def settings(self) -> Settings:
        return super().settings.model_copy(update={"output_dir": "thesis"})

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "THESIS_OUTPUT_DIR": "thesis"}


def test_an_evaluation_under_the_preset_is_whole_verified_and_not_made_twice(finished_world_to_change: World) -> None:
    world = ThesisWorld(finished_world_to_change.home, finished_world_to_change.scene_home)

    report = world.run()

    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    (tree,) = world.platform.evaluation_trees(world.cell()).values()
    assert tree.base == world.settings.results_root / "studio_pair03_dance" / "small__r1"
    frame = tree.task(1, "nvs").metric_picture("pred", 4, "000000")
    assert frame.samefile(tree.task(1, "nvs").pred_image(4, "000000"))
    assert list(tree.pose_state_dir.glob("*.npz"))
    numbers = thesis_assets(world, "checks", "numbers", "--exp", "small")
    assert numbers.returncode == 0, numbers.stdout + numbers.stderr
    board = json.loads(thesis_assets(world, "leaderboard", "--exp", "small", "--json").stdout)
    scores = {row["epoch"]: row["value"] for row in board["rows"] if row["metric"] == "psnr"}
    assert scores.keys() == {0, 1}, board
    assert None not in scores.values(), board
    assert "metrics_input" not in thesis_assets(world, "prune", "--exp", "small").stdout
    assert ".tmp-" not in thesis_assets(world, "clean").stdout
    made = frame.stat().st_mtime_ns
    again = world.run()
    assert again.exit_code == 0
    assert not [line for outcome in again.outcomes for line in outcome.errors]
    assert frame.stat().st_mtime_ns == made
