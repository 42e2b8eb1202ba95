"""The web UI as a person uses it: one partition, its pictures, a failed check, a backfill of new scenes, the check page.

The tests follow one another over one server, as a person's morning does. Screenshots of each step: `test_artifacts/screenshots/`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from thesis_assets_tests.services.browser import SCREENSHOTS, chromium, opened
from thesis_assets_tests.services.dagster_server import DagsterServer, prepare_home
from thesis_assets_tests.worlds import SCENES, SMALL, World, thesis_assets

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.service

PAGE_S = 120
WORK_S = 240
FIRST, NEW = SCENES[:2], SCENES[2:]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> World:
    """Two of its four scenes are exported; the others are new."""
    made = World(tmp_path_factory.mktemp("ui") / "home", scene_home)
    made.write(SMALL)
    prepare_home(made)
    options = [word for scene in FIRST for word in ("--scenes", scene)]
    done = thesis_assets(made, "run", "--exp", "small", "--until", "scene_samples", *options)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[DagsterServer]:
    running = DagsterServer(world, world.home / "server.log")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def page(server: DagsterServer) -> Iterator["Page"]:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        # The first visit's dialog has been answered.
        context.add_init_script("localStorage.setItem('communityNux', '1')")
        page = context.new_page()
        page.set_default_timeout(PAGE_S * 1000)
        yield page
        context.close()


def visit(page: "Page", server: DagsterServer, path: str, text: str) -> None:
    """Open a page of the UI, and wait until it shows a text and has loaded."""
    page.goto(f"http://127.0.0.1:{server.port}{path}", wait_until="domcontentloaded")
    page.get_by_text(text, exact=True).first.wait_for()
    until(lambda: page.get_by_text("Loading", exact=False).count() == 0, "the page still loads")


def until(holds: Callable[[], bool], otherwise: str, seconds: float = PAGE_S) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.5)


def keep(page: "Page", name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"ui_{name}.png")


def newest_run(server: DagsterServer) -> tuple[str, str]:
    """Id and status."""
    answer = server.graphql("query { runsOrError(limit: 1) { ... on Runs { results { runId status } } } }")
    (run,) = answer["runsOrError"]["results"]
    return run["runId"], run["status"]


def button(page: "Page", text: str) -> "Locator":
    return page.get_by_role("button", name=text).last


def test_one_partition_is_materialized_from_its_assets_page_and_shows_pictures_and_plots(
    page: "Page", server: DagsterServer
) -> None:
    cell = f"small%7C{FIRST[0]}"
    visit(page, server, f"/assets/scene_samples?view=partitions&partition={cell}", "Metadata")
    page.get_by_text("Materialize…").first.click()
    button(page, "Launch 1 run").click()
    page.get_by_text("View", exact=True).first.click()
    page.wait_for_url("**/runs/*")
    keep(page, "run_begun")
    until(lambda: page.get_by_text("Success", exact=True).count() > 0, server.log_tail(), WORK_S)
    keep(page, "run_done")

    visit(page, server, f"/assets/scene_samples?view=partitions&partition={cell}", "samples per second")
    page.get_by_text("Show Markdown").first.click()
    picture = page.locator("img[src^='data:image']").first
    picture.wait_for()
    until(lambda: bool(picture.evaluate("image => image.naturalWidth > 100")), "the contact sheet is no picture")
    keep(page, "contact_sheet")

    visit(page, server, "/assets/scene_samples?view=overview", "samples per second")
    page.get_by_text("Plots", exact=True).first.click()
    page.locator("canvas").first.wait_for()
    keep(page, "plots")


def test_a_backfill_of_two_new_scenes_goes_over_two_levels(page: "Page", server: DagsterServer, world: World) -> None:
    visit(page, server, "/asset-groups", "Global asset lineage")
    search = page.locator(".CodeMirror").first
    search.click()
    page.keyboard.type('key:"scene_samples" or key:"sample_set"')
    page.keyboard.press("Enter")
    page.get_by_text("sample_set", exact=True).first.wait_for()
    keep(page, "two_levels")
    page.get_by_text("Materialize all").first.click()
    page.get_by_text("Launch runs to materialize 2 assets").wait_for()
    dialog = page.get_by_role("dialog").last
    chosen = dialog.get_by_text("small", exact=True).filter(visible=True)

    def choose_all() -> bool:  # the keys come a moment after the dialog
        dialog.get_by_text("All", exact=True).first.click()
        page.wait_for_timeout(500)
        return chosen.count() > 0

    until(choose_all, "the experiment cannot be chosen")
    dialog.get_by_text("Select a partition or create one").last.click()
    for scene in NEW:
        page.get_by_text(scene, exact=True).filter(visible=True).last.click()
    page.get_by_text("Launch runs to materialize 2 assets").click()
    keep(page, "backfill_dialog")
    button(page, "Launch backfill").click()
    tree = world.platform.difix(world.cell())
    until(tree.all_samples.is_file, server.log_tail(), WORK_S)
    assert all(tree.scene_run(scene).run_stats.is_file() for scene in SCENES)
    visit(page, server, "/runs", "Runs")
    until(lambda: page.get_by_text("Success", exact=True).count() >= 2, "the runs page shows no finished runs")
    keep(page, "backfill")


def test_a_failed_check_shows_its_offenders(page: "Page", server: DagsterServer, world: World) -> None:
    samples = world.platform.difix(world.cell()).samples_dir
    spoiled = sorted(samples.iterdir())[0]
    image = (spoiled / "image.png").read_bytes()
    (spoiled / "image.png").unlink()
    try:
        visit(page, server, "/assets/sample_set?view=partitions&partition=small", "Metadata")
        page.get_by_text("Materialize…").first.click()
        button(page, "Launch 1 run").click()
        until(lambda: newest_run(server)[1] == "FAILURE", server.log_tail(), WORK_S)
        visit(page, server, f"/runs/{newest_run(server)[0]}", "Failure")
        keep(page, "failed_run")
    finally:
        (spoiled / "image.png").write_bytes(image)

    visit(page, server, "/assets/sample_set?view=checks&checkDetail=every_sample_complete", "Latest execution")
    page.get_by_text(spoiled.name, exact=False).first.wait_for()
    keep(page, "failed_check")


def test_the_check_page_of_the_reports_opens_from_its_file(page: "Page", world: World) -> None:
    done = thesis_assets(world, "checks", "report")
    assert done.returncode in (0, 3), done.stderr
    browser = page.context.browser
    assert browser is not None
    with opened(browser, world.settings.reports.checks) as watched:
        assert watched.page.get_by_text("every_sample_complete").filter(visible=True).count() > 0
        watched.screenshot("ui_check_page")
