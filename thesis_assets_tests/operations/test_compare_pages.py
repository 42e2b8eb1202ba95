"""Compare pages that are made by themselves: which there are to be, which are renewed, and what the budget leaves out."""

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.compare_units import Comparison
from thesis_assets.graph.nodes import NODES, look_at
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import Plan
from thesis_assets.operations.compare_pages import ComparePages
from thesis_assets.provenance import take_over
from thesis_assets.schemas.evaluation import ComparisonRecord
from thesis_assets.storage import read_json
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.reports.compared_trees import write_run
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World

SCENE = "studio_pair03_dance"


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    """A tuned run and the experiment's baseline, which trains nothing; both measured unrefined and at the end."""
    pretrained = {"backend": "pretrained", "model": "nvidia/difix_ref"}
    runs = {"tuned": copy.deepcopy(TINY_RUN), "baseline": pretrained}
    made = new_world(SMALL | {"exp_name": "demo", "runs": runs, "evaluation": {"scenes": [SCENE], "epochs": [0, 30]}})
    for run, sigma in (("tuned", 18.0), ("baseline", 20.0)):
        write_run(made.settings.results_root, run, {SCENE: 22.0}, epoch=0, step=None)
        write_run(made.settings.results_root, run, {SCENE: sigma})
    return made


def renewed(world: World, **settings: object) -> list[ComparisonRecord]:
    """What a leaderboard does, under other settings."""
    platform = Platform(world.settings.model_copy(update=settings))
    return ComparePages(platform, world.lines.append).renew()


def page(world: World, against: str, run_name: str = "tuned") -> Path:
    return world.settings.reports.comparison("demo", run_name, against)


def test_each_run_has_a_page_against_its_renders_and_one_against_the_baseline(world: World) -> None:
    made = renewed(world)
    assert [(each.run_name, each.against) for each in made] == [
        ("tuned", "unrefined"),
        ("tuned", "baseline"),
        ("baseline", "unrefined"),
    ]
    assert [each.reason for each in made] == [None] * 3
    assert all(page(world, each.against, each.run_name).is_file() for each in made)
    records = [read_json(path, ComparisonRecord) for path in world.settings.reports.comparison_records()]
    assert sorted(records, key=str) == sorted(made, key=str)
    assert made[1].headline.startswith("epoch 30: PSNR +")


def test_only_pages_whose_numbers_moved_or_that_are_gone_are_made_anew(world: World) -> None:
    renewed(world)
    before = {name: page(world, name).stat().st_mtime_ns for name in ("unrefined", "baseline")}
    renewed(world)
    assert before == {name: page(world, name).stat().st_mtime_ns for name in before}
    write_run(world.settings.results_root, "baseline", {SCENE: 21.0})
    page(world, "unrefined", "baseline").unlink()
    renewed(world)
    assert page(world, "unrefined").stat().st_mtime_ns == before["unrefined"]
    assert page(world, "baseline").stat().st_mtime_ns > before["baseline"]
    assert page(world, "unrefined", "baseline").is_file()


def test_a_page_is_made_anew_by_content_not_by_time_and_one_that_was_cut_too(world: World) -> None:
    renewed(world)
    before = {name: page(world, name).read_bytes() for name in ("unrefined", "baseline")}
    times = {name: page(world, name).stat().st_mtime_ns for name in before}
    for table in world.settings.results_root.rglob("*.csv"):
        os.utime(table)
    renewed(world)
    assert times == {name: page(world, name).stat().st_mtime_ns for name in before}
    page(world, "baseline").write_bytes(before["baseline"][:100])
    renewed(world)
    assert page(world, "baseline").stat().st_size > 100
    assert page(world, "unrefined").read_bytes() == before["unrefined"]


def test_a_page_of_a_version_without_records_stays_and_is_taken_over(world: World) -> None:
    renewed(world)
    before = page(world, "baseline").stat().st_mtime_ns
    record = world.settings.reports.comparison_record("demo", "tuned", "baseline")
    storage.write_json(record, {**storage.read_json_value(record), "input_digest": "of a version without records"})
    pages = ComparePages(world.platform, world.lines.append)
    unit = next(pages.unit(each) for each in pages.wanted() if each.against == "baseline")
    unit.place.record.unlink()
    assert unit.look().in_words == "made (not verified yet)"
    renewed(world)
    assert page(world, "baseline").stat().st_mtime_ns == before
    assert take_over(unit) is not None
    assert unit.look().in_words == "made"


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"compare_mb": 0}, "THESIS_COMPARE_MB"), ({"compare_seconds": 0}, "THESIS_COMPARE_SECONDS")],
)
def test_what_does_not_fit_the_budget_is_said_with_its_command(
    world: World, settings: dict[str, int], why: str
) -> None:
    made = renewed(world, **settings)
    assert not page(world, "baseline").exists()
    assert [(each.page, why in (each.reason or "")) for each in made] == [(None, True)] * 3
    assert made[1].command == "thesis-assets compare --exp demo --run tuned --against baseline"
    assert sum(made[1].command in line for line in world.lines) == 1


def test_an_older_page_that_cannot_be_renewed_stays_and_is_called_stale(world: World) -> None:
    renewed(world)
    text = page(world, "baseline").read_text()
    write_run(world.settings.results_root, "baseline", {SCENE: 21.0})
    stale = renewed(world, compare_seconds=0)[1]
    assert (stale.page, stale.reason) == (page(world, "baseline").name, "THESIS_COMPARE_SECONDS=0 were used up")
    assert page(world, "baseline").read_text() == text
    assert renewed(world)[1].reason is None


def test_the_megabytes_are_of_all_pages_together(world: World) -> None:
    other = world.settings.reports.comparison("another", "run", "unrefined")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x" * 950_000)
    assert {each.reason for each in renewed(world, compare_mb=1)} == {
        "the other compare pages take 1 MB of THESIS_COMPARE_MB=1"
    }
    other.unlink()
    assert renewed(world, compare_mb=1)[0].reason is None


def test_runs_that_cannot_be_compared_get_the_reason_and_do_not_stop_the_others(world: World) -> None:
    write_run(world.settings.results_root, "baseline", {SCENE: 20.0}, cameras=(4,))
    made = renewed(world)
    assert "nothing to compare" in (made[1].reason or "")
    assert made[0].reason is None


def test_a_page_of_images_that_may_not_be_passed_on_says_so_at_its_top(world: World) -> None:
    experiment = SMALL | {"exp_name": "demo", "runs": {"tuned": copy.deepcopy(TINY_RUN)}}
    datasets = {"studio": {"redistribution": False, "licence": "Ask <us> first"}}
    world.write(experiment | {"evaluation": {"scenes": [SCENE], "epochs": [0, 30]}, "datasets": datasets})
    made = renewed(world)
    assert made[0].not_for_sharing == ["studio"]
    head = page(world, "unrefined").read_text().split("<section")[0]
    assert "Not to be passed on" in head
    assert "Ask &lt;us&gt; first" in head


def test_an_experiment_whose_scenes_are_gone_is_left_out_and_said_once(world: World) -> None:
    gone = SMALL | {"exp_name": "gone", "evaluation": {"scenes": ["hi4d_pair15_fight"], "epochs": [0, 30]}}
    world.write(gone)
    platform = world.platform
    platform.evaluated_trees()
    assert len(ComparePages(platform, world.lines.append).renew()) == 3
    assert sum("gone is left out" in line for line in world.lines) == 1


def pages_are_there(world: World) -> bool:
    """As the leaderboard is asked whether it is current."""
    _, *pages = NODES["leaderboard"].units(world.platform, Cell())
    return all(each.look().is_made for each in pages)


def test_a_leaderboard_is_not_current_without_the_pages_that_it_makes(world: World) -> None:
    assert not pages_are_there(world)
    renewed(world)
    assert pages_are_there(world)
    page(world, "baseline").unlink()
    assert not pages_are_there(world)
    renewed(world, compare_mb=0)
    assert pages_are_there(world), "with a budget of nothing, the reason is all that there is to be"
    shutil.rmtree(page(world, "baseline").parent)
    assert not pages_are_there(world)


def test_a_fault_in_one_page_is_its_reason_with_kind_and_place_and_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = ComparePages.make

    def fails(pages: ComparePages, comparison: Comparison, **options: int) -> object:
        if comparison.other is not None:
            raise ValueError("of no use")
        return make(pages, comparison, **options)

    monkeypatch.setattr(ComparePages, "make", fails)
    made = renewed(world)
    assert f"ValueError: of no use ({__file__}:" in (made[1].reason or "")
    assert [made[0].reason, made[2].reason] == [None, None]


def test_the_command_makes_the_pages_that_are_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, world, "leaderboard")
    assert done.exit_code == 0, done.output
    assert pages_are_there(world)
    assert page(world, "baseline").is_file()
    assert f"compare/{page(world, 'baseline').name}" in world.settings.reports.index.read_text()


def test_a_run_makes_the_leaderboard_again_where_its_pages_are_gone(finished_world: World, tmp_path: Path) -> None:
    folder = finished_world.settings.reports.comparison("small", "r1", "unrefined").parent
    with finished_world.instance() as instance:
        assert look_at(finished_world.platform, "leaderboard", Cell()).in_words == "made"
        aside = shutil.move(folder, tmp_path / "compare")
        try:
            assert Plan(finished_world.platform, instance).state("leaderboard", Cell()).state != "made"
        finally:
            shutil.move(aside, folder)
