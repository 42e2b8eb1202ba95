"""What the index page gathers: the experiments with their states, gains, pictures, links; and what is not there is said, not missed."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.operations.compare_pages import ComparePages
from thesis_assets.operations.index_content import index_content
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.operations.report_pages import renew_pages, write_pages
from thesis_assets.publishing.licences import KNOWN_LICENCES, DatasetLicence
from thesis_assets.reports.index_page import IndexContent, render_index
from thesis_assets.schemas.evaluation import ComparisonRecord
from thesis_assets.storage import write_json
from thesis_assets_tests.reports.compared_trees import write_run
from thesis_assets_tests.reports.test_check_page import row
from thesis_assets_tests.worlds import SMALL, World


def test_a_finished_experiment_stands_on_the_page_with_all_that_belongs_to_it(finished_world: World) -> None:
    reports = finished_world.settings.reports
    assert reports.index.is_file(), "`run` writes it"
    with finished_world.instance() as instance:
        content = index_content(finished_world.platform, instance, write_pages(finished_world.platform, instance))
    (part,) = content.experiments
    (run,) = part.runs
    assert part.state[0] == "4 scenes"
    assert "frozen" in part.state
    assert run.state[1:] == ["evaluated on 1 scene"]
    assert run.state[0].startswith("tuned, step ")
    assert run.gain.endswith(" dB")
    assert run.certainty == "one scene: it says nothing of others"
    assert part.curves.startswith("<svg")
    assert run.n_recordings == 4  # input data, two epochs, triplets
    assert [[label for label, _ in each.pictures] for each in part.triplets] == [
        ["render", "refined, epoch 1", "target"],
        *[["render", "target"]] * 3,
    ]
    assert len({each.group for each in part.triplets}) == 4
    page = reports.index.read_text()
    for target in re.findall(r'href="([^"#:]+)["#]', page):
        assert (reports.base / target).is_file(), target
    assert content.notes == []


def test_compare_pages_are_linked_with_their_headline_or_named_with_why_there_is_none(finished_world: World) -> None:
    reports = finished_world.settings.reports
    record = ComparisonRecord(
        exp_name="small",
        run_name="r1",
        against="unrefined",
        epoch=1,
        page=reports.comparison("small", "r1", "unrefined").name,
        headline="PSNR +0.123 dB, SSIM -0.0010",
        not_for_sharing=["hi4d"],
        command="thesis-assets compare --exp small --run r1",
    )
    none = record.model_copy(
        update={"against": "other", "page": None, "reason": "over the budget", "not_for_sharing": []}
    )
    kept = reports.comparison_record("small", "r1", "unrefined")
    before = kept.read_bytes() if kept.is_file() else None
    write_json(kept, record)
    write_json(reports.comparison_record("small", "r1", "other"), none)
    try:
        with finished_world.instance() as instance:
            page = render_index(index_content(finished_world.platform, instance, []))
    finally:
        reports.comparison_record("small", "r1", "other").unlink()
        kept.unlink() if before is None else kept.write_bytes(before)
    assert 'href="compare/small__r1__against__unrefined.html">compared with the unrefined render</a>' in page
    assert "PSNR +0.123 dB, SSIM -0.0010; not to be passed on: hi4d" in page
    assert "over the budget" in page
    assert "thesis-assets compare --exp small --run r1</code>" in page


def test_failed_checks_are_named_up_to_a_number_and_lead_into_the_check_page(finished_world: World) -> None:
    rows = [row(cell=f"small|r{n}", asset="nvs", check="nvs_required_files") for n in range(20)]
    with finished_world.instance() as instance:
        content = index_content(finished_world.platform, instance, rows)
    assert content.counts["failed"] == 20
    assert len(content.failed) + content.more_failed == 20
    assert content.failed[0].href == "checks.html#small%7Cr0/nvs.nvs_required_files"


def test_pictures_of_a_dataset_that_may_not_be_passed_on_are_told(
    finished_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden = {**KNOWN_LICENCES, "studio": replace(KNOWN_LICENCES["studio"], redistribution=False)}
    monkeypatch.setattr("thesis_assets.publishing.licences.KNOWN_LICENCES", forbidden)
    assert isinstance(forbidden["studio"], DatasetLicence)
    with finished_world.instance() as instance:
        assert index_content(finished_world.platform, instance, []).not_for_sharing == ["studio"]


def test_before_anything_is_made_the_experiment_waits_with_its_first_command(new_world: Callable[..., World]) -> None:
    world = new_world()
    (world.settings.experiments_dir / "wrong.yaml").write_text("exp_name: wrong\nruns: 3\n")
    with dg.DagsterInstance.ephemeral() as instance:
        write_pages(world.platform, instance)
        content = index_content(world.platform, instance, [])
    (waiting,) = content.waiting
    assert content.notes[0].startswith("wrong is left out: ")
    assert waiting.command == "thesis-assets run --exp small"
    assert "Nothing is made yet" in world.settings.reports.index.read_text()


def test_a_table_or_a_picture_that_cannot_be_read_is_told_and_takes_nothing_else_away(
    finished_world: World, tmp_path: Path
) -> None:
    settings = finished_world.settings
    shutil.copytree(settings.reports.base, tmp_path / "reports")
    moved = Platform(settings.model_copy(update={"reports_root": tmp_path / "reports"}))
    moved.settings.reports.leaderboard_differences.write_text("of,another,version\n1,2,3\n")
    with finished_world.instance() as instance:
        content = index_content(moved, instance, [])
    assert "the table of differences cannot be read" in content.notes[0]
    assert content.experiments[0].curves == ""
    assert content.experiments[0].triplets


SCENE = "studio_pair03_dance"


@pytest.fixture
def evaluated(new_world: Callable[..., World]) -> World:
    """An experiment `demo` with one evaluated run, and `other` with one that is not."""
    both = SMALL | {"evaluation": {"scenes": [SCENE], "epochs": [0, 30]}}
    world = new_world(*(copy.deepcopy(both | {"exp_name": name}) for name in ("demo", "other")))
    write_run(world.settings.results_root, "r1", {SCENE: 22.0}, epoch=0, step=None)
    write_run(world.settings.results_root, "r1", {SCENE: 18.0})
    return world


def renewed(world: World) -> IndexContent:
    """The page is written, and nothing is said that keeps it from that."""
    world.settings.reports.index.unlink(missing_ok=True)
    said: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        renew_pages(Platform(world.settings, said.append), instance)
        assert said == []
        assert world.settings.reports.index.is_file()
        return index_content(world.platform, instance, [])


@pytest.mark.parametrize("line", ["{}", "[]", '{"sample_id": null}', '{"sample_id": "../../x"}', "not JSON"])
def test_a_sample_row_that_cannot_be_read_leaves_its_pictures_out_and_names_its_file(
    evaluated: World, line: str
) -> None:
    rows = evaluated.platform.difix(Cell("demo")).scene_run("studio_pair00_dance").all_samples
    rows.parent.mkdir(parents=True)
    rows.write_text(line + "\n")
    content = renewed(evaluated)
    (note,) = content.notes
    assert note.startswith("No pictures of studio/pair00: ")
    assert str(rows) in note
    assert content.experiments[0].triplets


@pytest.mark.parametrize(("epochs", "told"), [([], False), (["epoch_xx"], True), (None, True)])
def test_a_manifest_without_epochs_has_no_pictures_and_one_that_cannot_be_read_is_named(
    evaluated: World, epochs: list[str] | None, told: bool
) -> None:
    path = evaluated.platform.tree(Cell("demo", run_name="r1"), SCENE).manifest
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eval_epochs": epochs}))
    content = renewed(evaluated)
    assert [str(path) in note for note in content.notes] == [True] * told
    assert content.experiments[0].triplets == []


def test_a_split_that_cannot_be_read_is_named_and_every_experiment_stays(evaluated: World) -> None:
    evaluated.write(SMALL | {"exp_name": "other"})
    tree = evaluated.platform.difix(Cell("other"))
    for path, value in ((tree.frozen, {}), (tree.split_summary, {"a": 1})):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    content = renewed(evaluated)
    (note,) = content.notes
    assert note.startswith("The split of other is not shown: the file is not a SplitSummary")
    assert str(tree.split_summary) in note
    assert [part.name for part in [*content.experiments, *content.waiting]] == ["demo", "other"]


@pytest.mark.parametrize("line", ["{}", "[]", '{"scene_name": null}'])
def test_a_test_manifest_that_cannot_be_read_takes_no_other_numbers_away(evaluated: World, line: str) -> None:
    evaluated.write(SMALL | {"exp_name": "other", "evaluation": {"epochs": [0, 30]}})
    path = evaluated.platform.difix(Cell("other")).split_test
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert [tree.exp_name for _, tree in evaluated.platform.evaluated_trees()] == ["demo"]
    assert sum("other is left out" in said and str(path) in said for said in evaluated.lines) == 1
    with dg.DagsterInstance.ephemeral() as instance:
        content = index_content(evaluated.platform, instance, [])
    (note,) = content.notes
    assert note.startswith("Which scenes of other are evaluated is not known: ")
    assert str(path) in note
    assert [part.name for part in content.experiments] == ["demo"]


def test_a_split_that_cannot_be_read_is_named_and_the_rest_of_its_experiment_stays(evaluated: World) -> None:
    path = evaluated.platform.difix(Cell("demo")).split_summary
    path.parent.mkdir(parents=True)
    path.write_text('{"a": 1}')
    content = renewed(evaluated)
    (note,) = content.notes
    assert note.startswith("The split of demo is not shown: the file is not a SplitSummary")
    assert str(path) in note
    assert content.experiments[0].triplets


def test_a_fault_of_a_page_is_told_with_its_kind_and_place_and_ends_nothing(
    evaluated: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise ValueError("max() of nothing")

    monkeypatch.setattr("thesis_assets.reports.index_page.render_index", fault)
    with dg.DagsterInstance.ephemeral() as instance:
        renew_pages(evaluated.platform, instance)
    (said,) = evaluated.lines
    assert "not renewed" in said
    assert f"ValueError: max() of nothing ({__file__}:" in said


def test_a_run_whose_experiment_file_is_gone_is_named_with_its_data_and_its_pages(evaluated: World) -> None:
    evaluated.platform.difix(Cell("demo")).base.mkdir(parents=True)
    reports, file = evaluated.settings.reports, evaluated.platform.experiments.path("demo")
    with dg.DagsterInstance.ephemeral() as instance:
        register(instance, plan_registration(evaluated.platform, instance))
        ComparePages(evaluated.platform, evaluated.lines.append).renew()
        assert index_content(evaluated.platform, instance, []).notes == []
        text = file.read_text()
        file.unlink()
        data, pages = index_content(evaluated.platform, instance, []).notes
        file.write_text("exp_name: demo\nruns: 3\n")
        (refused,) = index_content(evaluated.platform, instance, []).notes
        file.write_text(text.replace("r1:", "r2:"))
        (left,) = index_content(evaluated.platform, instance, []).notes
    assert data.startswith("demo: its data is in ")
    assert str(file) in data
    assert f"1 compare page of it stays: compare/{reports.comparison('demo', 'r1', 'unrefined').name}" in pages
    assert refused.startswith("demo is left out: "), "its file is there, and may declare the run"
    assert left == pages
