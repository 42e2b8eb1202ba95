"""`thesis-assets leaderboard` and `compare` over evaluated trees, as a person gives them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets_tests.reports.compared_trees import write_run
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World, thesis_assets

SCENE = "studio_pair03_dance"


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    """Two evaluated runs of one scene; the tuned one is better, but for one frame."""
    runs = {name: copy.deepcopy(TINY_RUN) for name in ("tuned", "baseline")}  # YAML without aliases
    made = new_world(SMALL | {"exp_name": "demo", "runs": runs, "evaluation": {"scenes": [SCENE], "epochs": [30]}})
    write_run(made.settings.results_root, "baseline", {SCENE: 20.0})
    write_run(made.settings.results_root, "tuned", {SCENE: 18.0}, hurt=[(SCENE, 28, "000001")])
    return made


def test_the_leaderboard_is_printed_in_every_form_and_written(world: World) -> None:
    table = thesis_assets(world, "leaderboard")
    assert table.returncode == 0, table.stderr
    assert "tuned" in table.stdout
    for path in (world.settings.reports.leaderboard_markdown, world.settings.reports.leaderboard_latex):
        assert "tuned" in path.read_text()
    compared = json.loads(thesis_assets(world, "leaderboard", "--against", "baseline", "--json").stdout)
    (found,) = [row for row in compared["differences"] if (row["against"], row["metric"]) == ("demo/baseline", "psnr")]
    assert (found["run_name"], found["n_scenes"], found["interval_over"]) == ("tuned", 1, None)
    latex = thesis_assets(world, "leaderboard", "--format", "latex", "--against", "demo/baseline").stdout
    assert r"\toprule" in latex
    assert r"to demo/baseline [95" in latex
    unknown = thesis_assets(world, "leaderboard", "--against", "nobody")
    assert unknown.returncode == 2
    assert "demo/baseline" in unknown.stderr


def test_compare_writes_one_page_and_says_why_where_it_cannot(world: World) -> None:
    done = thesis_assets(world, "compare", "--exp", "demo", "--run", "tuned", "--against", "baseline", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["frames"], said["frames_with_pictures"]) == (6, 6)
    page = Path(said["page"]).read_text()
    assert f"{SCENE}" in page
    assert "The chain breaks" in page  # the checkpoint of this made-up run is not there, and the page says so
    shown = thesis_assets(world, "compare", "--exp", "demo", "--run", "tuned", "--against", "baseline")
    assert "no difference: no frame has a value of lpips on both sides" in shown.stdout
    alone = thesis_assets(world, "compare", "--exp", "demo", "--run", "tuned")
    assert alone.returncode == 1  # there is no unrefined epoch
    assert "there is nothing to compare" in alone.stderr
    itself = thesis_assets(world, "compare", "--exp", "demo", "--run", "tuned", "--against", "tuned")
    assert itself.returncode == 2
