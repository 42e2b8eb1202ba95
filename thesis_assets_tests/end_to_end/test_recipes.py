"""An experiment with recipes from its renders to the leaderboard."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import latest_metadata
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.operations.report_pages import leaderboard_of
from thesis_assets.recordings.triplets import _title, chosen_samples
from thesis_assets.scenes.scene import open_scene
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.storage import read_json, write_bytes
from thesis_assets_tests.worlds import SCENES, SMALL, World

RECIPES = [
    {"name": "cross", "share": 0.5},
    {"name": "underfit", "share": 0.5, "schedule": [0.5, 1.0], "iterations": 100},
]
DARKER = {"cross": 2, "underfit-0.5": 4, "underfit-1": 3}
EXPERIMENT: dict[str, Any] = {
    **SMALL,
    "generation": {
        **SMALL["generation"],
        "renders": {"source": "precomputed"},
        "filtering": {"apply_mask": False},
        "recipes": RECIPES,
    },
}


def write_renders(world: World) -> None:
    """Of each recipe the photographs, darker."""
    where = world.platform.roots
    for name in SCENES:
        scene = open_scene(where, name)
        for folder, by in DARKER.items():
            for cam_id in scene.camera_ids():
                for fname, path in scene.image_files(cam_id).paths.items():
                    write_bytes(where.tree(name, folder).render(cam_id, fname), encode_png(read_rgb(path) // by))


def test_a_recipe_that_is_off_its_share_is_told_when_samples_are_collected(new_world: Callable[..., World]) -> None:
    recipes = [{"name": "cross", "share": 0.1}, {**RECIPES[1], "share": 0.9, "every": 2}]
    world = new_world({**EXPERIMENT, "generation": {**EXPERIMENT["generation"], "recipes": recipes}})
    write_renders(world)
    assert world.run(until="sample_set").exit_code == 0
    told = [line.strip() for line in world.lines if "asked for" in line]
    # Of three frames one is free of training.
    assert [line.partition(" of ")[0] for line in told] == ["recipe cross: 66.7%", "recipe underfit: 33.3%"]
    with world.instance() as instance:
        metadata = latest_metadata(instance, "sample_set", Cell("small"))
    assert metadata is not None
    assert metadata["recipes off their share"] == "; ".join(told)


@pytest.mark.long
def test_recipes_stand_in_the_split_the_recording_and_the_leaderboard(new_world: Callable[..., World]) -> None:
    world = new_world(EXPERIMENT)
    write_renders(world)
    report = world.run()
    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    tree = world.platform.difix(world.cell())
    summary = read_json(tree.split_summary, SplitSummary)
    assert set(summary.recipes) == {"cross", "underfit"}
    assert sum(counts.n_test for counts in summary.recipes.values()) == summary.n_test
    page = world.settings.reports.leaderboard_markdown.read_text()
    assert "## Test samples by recipe" in page
    scores = {score.recipe: score for score in leaderboard_of(world.platform).by_recipe}
    assert all(score.n_samples for score in scores.values())
    renders = {name: score.psnr_render for name, score in scores.items()}
    assert renders["cross"] is not None
    assert renders["underfit"] is not None
    assert renders["cross"] > renders["underfit"], "less dark is nearer"
    titles = [_title(sample) for sample in chosen_samples(tree)]
    assert {title.rpartition(", ")[2] for title in titles} == {"cross", "underfit"}
    # The evaluation takes the renders of the first recipe, whatever the scene's samples are of.
    evaluated = world.platform.tree(world.cell(), "studio_pair03_dance")
    scene = open_scene(world.platform.roots, "studio_pair03_dance", recipe="cross")
    taken = list(evaluated.task(0, "nvs").inputs_dir.glob("cam_*/render/*.png"))
    assert taken
    for path in taken:
        own = scene.tree.render(int(path.parents[1].name.removeprefix("cam_")), path.stem)
        assert np.array_equal(read_rgb(path), read_rgb(own))
    assert world.run().outcomes == []
