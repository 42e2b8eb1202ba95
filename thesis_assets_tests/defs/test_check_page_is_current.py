"""The check page follows the history: under the daemon, in SQLite as it is shipped, and after commands, those that fail too."""

import shutil
import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import check_rows
from thesis_assets.operations.report_pages import CHECK_REPORT
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, experiment, tiny_world
from thesis_assets_tests.worlds import World, thesis_assets


@pytest.fixture(scope="module")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ticks]:
    """A world whose instance has SQLite files, as every installation has; two scenes, data up to `data.json`."""
    world = tiny_world(tmp_path_factory.mktemp("current"))
    world.write(experiment("v1"))
    for name in ("hi4d_pair00_hug", "hi4d_pair01_hug"):
        add_scene(world, name)
    assert world.run("v1", until="difix_data").exit_code == 0
    with world.instance() as instance:
        yield Ticks(world, instance)


@pytest.fixture
def ticks(one_world: Ticks) -> Ticks:
    """At rest: everything is made, the page is current."""
    for _ in range(10):
        if not one_world._tick("cheap_assets"):
            return one_world
    pytest.fail("something is asked for again and again")


def pages_asked(ticks: Ticks) -> int:
    """How often one tick asks for the check page; it is made at once."""
    asked = ticks._tick("cheap_assets")
    return sum(request.asset_selection == [dg.AssetKey(CHECK_REPORT)] for request in asked)


def make(ticks: Ticks, asset: str = "sample_set", *, damaged: bool = True) -> None:
    """Make an asset and its checks once more, as the daemon would; with a sample that lost an image."""
    if damaged:
        sample = sorted(ticks.world.platform.difix(Cell("v1")).samples_dir.iterdir())[0]
        (sample / "ref_image.jpg").unlink(missing_ok=True)
    ticks.definitions.resolve_job_def("prepare_data").execute_in_process(
        instance=ticks.instance,
        partition_key="v1",
        asset_selection=[dg.AssetKey(asset)],
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def test_the_daemon_writes_the_page_anew_once_after_each_run_with_checks_and_it_shows_the_failure(ticks: Ticks) -> None:
    page = ticks.world.settings.reports.checks
    assert "blocking check failed." not in page.read_text()
    make(ticks)
    assert {row.status for row in check_rows(ticks.instance)} >= {"failed"}
    assert pages_asked(ticks) == 1
    assert "1 blocking check failed." in page.read_text()
    assert pages_asked(ticks) <= 1, (
        "the same tick may have asked for what follows from the samples, with checks of its own"
    )
    assert pages_asked(ticks) == 0


def test_what_was_checked_while_the_page_was_written_is_not_lost(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is read, then checks are made, then the page is reported as written."""
    import thesis_assets.defs.assets.reports as reports

    write_pages = reports.write_pages

    def slowly(*given: object) -> object:
        rows = write_pages(*given)  # type: ignore[arg-type]
        monkeypatch.setattr(reports, "write_pages", write_pages)
        time.sleep(0.01)
        make(ticks)
        return rows

    monkeypatch.setattr(reports, "write_pages", slowly)
    make(ticks, damaged=False)
    assert pages_asked(ticks) == 1
    assert pages_asked(ticks) == 1


def test_a_run_that_failed_before_its_checks_renews_the_page_and_a_page_that_failed_is_no_reason_by_itself(
    ticks: Ticks,
) -> None:
    ticks.world.platform.difix(Cell("v1")).all_samples.unlink()
    make(ticks, "split_manifests", damaged=False)  # its input cannot be loaded
    assert pages_asked(ticks) == 1
    assert pages_asked(ticks) == 0
    page = ticks.world.settings.reports.checks
    page.unlink()
    page.mkdir()  # cannot be written
    ticks.definitions.resolve_job_def("report").execute_in_process(
        instance=ticks.instance,
        asset_selection=[dg.AssetKey(CHECK_REPORT)],
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert pages_asked(ticks) == 0


def test_a_command_that_fails_leaves_a_page_that_says_so(new_world: Callable[..., World]) -> None:
    world = new_world()
    assert world.run(until="scene_samples").exit_code == 0
    samples = world.platform.difix(Cell("small")).samples_dir
    shutil.copytree(sorted(samples.iterdir())[0], samples / "studio_pair00_dance__tcam4__rccam16__tf000099__rf000099")
    done = thesis_assets(world, "run", "--exp", "small")
    assert done.returncode == 3, done.stderr
    page = world.settings.reports.checks.read_text()
    assert "1 blocking check failed." in page
    assert "thesis-assets set-aside --exp small --yes</code>" in page
    assert "to mend it: " in done.stderr
    assert "`thesis-assets set-aside --exp small --yes`" in done.stderr
