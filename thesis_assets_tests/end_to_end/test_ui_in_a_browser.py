"""The web UI as a new user uses it: the history of the command line, one partition and its pictures, backfills, checks.

The tests follow one another over one server, as a person's first hour does. Screenshots of each step: `test_artifacts/screenshots/`.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets_tests.services.browser import SCREENSHOTS, chromium, opened
from thesis_assets_tests.services.dagster_server import DagsterServer, prepare_home
from thesis_assets_tests.worlds import SCENES, SMALL, World, thesis_assets

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.long

PAGE_S = 120
WORK_S = 240
DECLARED = (SCENES[0], SCENES[2])
JOBS = "/locations/__repository__@thesis_assets.definitions/jobs"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, finished_world: World) -> World:
    """A finished experiment, whose history a user finds; and another that declares two of the four scenes, and nothing of it made."""
    made = World(tmp_path_factory.mktemp("ui") / "home", finished_world.scene_home)
    shutil.copytree(finished_world.home, made.home)
    with made.instance() as instance:  # of a world that others have planted faults in
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
            instance.delete_run(run.run_id)
    named = {"generation": {"scenes": list(DECLARED)}, "split": {"test_groups": {"studio": ["pair02"]}}, "runs": {}}
    made.write({**SMALL, "exp_name": "other", **named, "evaluation": {}})
    prepare_home(made)
    done = thesis_assets(made, "sync")
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
    return server.newest_runs(1)[0]


def button(page: "Page", text: str) -> "Locator":
    return page.get_by_role("button", name=text).last


def test_a_new_user_lands_on_the_runs_that_the_command_line_made(page: "Page", server: DagsterServer) -> None:
    visit(page, server, "/", "Timeline")
    for job in ("export_scenes", "prepare_data", "tune", "evaluate", "record", "report"):
        page.get_by_text(job, exact=True).first.wait_for()
    keep(page, "overview")
    page.get_by_text("evaluate", exact=True).first.click()
    page.wait_for_url("**/jobs/evaluate**")
    visit(page, server, f"{JOBS}/evaluate/runs", "partition: small|r1")
    assert page.get_by_text("Success", exact=True).count() > 0


def test_one_partition_is_materialized_from_its_assets_page_and_shows_pictures_and_plots(
    page: "Page", server: DagsterServer
) -> None:
    cell = f"small%7C{SCENES[0]}"
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


def test_the_views_numbers_stand_above_their_digests_with_the_gain(page: "Page", server: DagsterServer) -> None:
    visit(page, server, "/assets/nvs?view=partitions&partition=small%7Cr1", "results")
    labels = ["render | truth", "PSNR gain of the last epoch", "results", "not measured", "data version"]
    rows = [page.get_by_text(label, exact=True).filter(visible=True).first.bounding_box() for label in labels]
    heights = [row["y"] for row in rows if row is not None]
    assert len(heights) == len(labels)
    assert heights == sorted(heights)
    assert page.get_by_text("gain dB", exact=True).count() > 0
    assert page.get_by_text("nan", exact=True).count() == 0
    keep(page, "results")


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
    for names in (("other",), DECLARED):
        # One list is filled after the other: the first that is empty is the next.
        unfilled = page.get_by_role("dialog").last.get_by_text("Select a partition or create one").first
        first = page.get_by_text(names[0], exact=True).filter(visible=True)

        def opened(unfilled: "Locator" = unfilled, first: "Locator" = first) -> bool:
            """The dialog closes a list that was opened before its keys came."""
            if not first.count():
                unfilled.click()
                page.wait_for_timeout(500)
            return first.count() > 0

        until(opened, f"{names[0]} cannot be chosen")
        for name in names:
            page.get_by_text(name, exact=True).filter(visible=True).last.click()
        page.get_by_text("Launch runs to materialize 2 assets").click()
    keep(page, "backfill_dialog")
    button(page, "Launch backfill").click()
    tree = world.platform.difix(Cell("other"))
    until(tree.all_samples.is_file, server.log_tail(), WORK_S)
    assert all(tree.scene_run(scene).run_stats.is_file() for scene in DECLARED)


def test_all_missing_only_skips_what_is_not_declared_and_shows_no_failed_run(
    page: "Page", server: DagsterServer
) -> None:
    visit(page, server, "/assets/scene_samples?view=partitions", "Metadata")
    page.get_by_text("Materialize…").first.click()
    dialog = page.get_by_role("dialog").last
    missing = dialog.get_by_text("Backfill only failed and missing partitions within selection")
    missing.wait_for()
    before = len(server.newest_runs(100))

    def choose_all() -> bool:  # the keys come a moment after the dialog
        for place in range(dialog.get_by_text("All", exact=True).count()):
            dialog.get_by_text("All", exact=True).nth(place).click()
        page.wait_for_timeout(500)
        return dialog.get_by_text("other", exact=True).filter(visible=True).count() > 0

    until(choose_all, "the experiments cannot be chosen")
    missing.click()
    button(page, "Launch").click()
    until(
        lambda: (
            len(server.newest_runs(100)) - before >= 2
            and {status for _, status in server.newest_runs(2)} == {"SUCCESS"}
        ),
        server.log_tail(),
        WORK_S,
    )
    said = server.messages(newest_run(server)[0])
    assert any("is skipped: the experiment does not name this scene" in line for line in said), said
    assert "FAILURE" not in {status for _, status in server.newest_runs(100)}
    visit(page, server, "/runs?view=runs", "Success")  # what "Show runs within backfills" does: runs alone
    assert page.get_by_text("Failure", exact=True).count() == 0
    keep(page, "no_failed_run")


def test_a_failed_check_shows_its_offenders_and_their_job_makes_the_checks_of_one_partition_again(
    page: "Page", server: DagsterServer, world: World
) -> None:
    samples = world.platform.difix(Cell("other")).samples_dir
    spoiled = sorted(samples.iterdir())[0]
    image = (spoiled / "image.png").read_bytes()
    (spoiled / "image.png").unlink()
    try:
        visit(page, server, "/assets/sample_set?view=partitions&partition=other", "Metadata")
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

    visit(page, server, f"{JOBS}/sample_set_checks/playground", "No errors")
    page.get_by_placeholder("Partition").click()
    page.get_by_text("other", exact=True).filter(visible=True).last.click()
    keep(page, "checks_job")
    button(page, "Launch Run").click()
    page.wait_for_url("**/runs/*")
    until(lambda: page.get_by_text("Success", exact=True).count() > 0, server.log_tail(), WORK_S)
    keep(page, "checks_run")
    visit(page, server, "/assets/sample_set?view=checks&checkDetail=every_sample_complete", "Latest execution")
    page.get_by_text("Passed", exact=True).first.wait_for()


def test_the_check_page_of_the_reports_opens_from_its_file(page: "Page", world: World) -> None:
    done = thesis_assets(world, "checks", "report")
    assert done.returncode in (0, 3), done.stderr
    browser = page.context.browser
    assert browser is not None
    with opened(browser, world.settings.reports.checks) as watched:
        assert watched.page.get_by_text("every_sample_complete").filter(visible=True).count() > 0
        watched.screenshot("ui_check_page")


def test_a_planted_fault_leads_from_the_index_to_its_row_on_the_check_page_with_the_command_that_mends_it(
    page: "Page", world: World
) -> None:
    browser = page.context.browser
    assert browser is not None
    sample = sorted(world.platform.difix(Cell("small")).samples_dir.iterdir())[0]
    image = (sample / "ref_image.jpg").read_bytes()
    (sample / "ref_image.jpg").unlink()
    try:
        done = thesis_assets(world, "checks", "run", "--exp", "small", "sample_set.every_sample_complete")
        assert done.returncode == 3, done.stderr
        with opened(browser, world.settings.reports.index, size=(390, 900)) as watched:
            watched.page.get_by_text("1 check failed.").wait_for()
            watched.screenshot("ui_index_with_a_fault")
            watched.page.get_by_role("link", name="sample_set.every_sample_complete").click()
            row = watched.page.locator(".outcome:target")
            row.get_by_text(f"{sample.name}/ref_image.jpg").first.wait_for()
            assert row.locator(".command").inner_text() == "thesis-assets run --exp small"
            watched.screenshot("ui_check_page_with_a_fault")
    finally:
        (sample / "ref_image.jpg").write_bytes(image)
    assert thesis_assets(world, "checks", "run", "--exp", "small", "sample_set").returncode == 0
