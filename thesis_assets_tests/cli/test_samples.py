"""Looking at samples and leaving some out from the command line: what is written anew, what is untouched, and the way back."""

from collections.abc import Callable

import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.splits.exclusions import read_exclusions
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets.storage import read_json, read_json_value
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.end_to_end.equal_worlds import stamps
from thesis_assets_tests.worlds import World


@pytest.fixture
def world(data_of_scenes: Callable[[int], World]) -> World:
    return data_of_scenes(3)


def test_two_samples_are_left_out_nothing_is_rendered_and_taken_in_again_all_is_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = world.platform.difix(Cell("v1"))
    train, samples = read_rows(tree.split_train), stamps(tree.samples_dir)
    manifests = {
        path: path.read_bytes() for path in (tree.split_train, tree.split_test, tree.split_summary, tree.data_json)
    }
    ids = [train[0].sample_id, train[1].sample_id]
    words = [word for sample_id in ids for word in ("--sample", sample_id)]
    dry = json_of(invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", *words, "--dry-run", "--json"))
    assert (dry["changed"], dry["n_excluded"]) == (2, 2)
    assert not world.platform.experiments.exclusions("v1").exists()
    said = invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", *words, "--reason", "dark, blurred")
    assert "2 samples are left out" in said.output
    found = read_exclusions(world.platform.experiments.exclusions("v1"))
    assert [each.sample_id for each in found] == sorted(ids)
    assert {each.reason for each in found} == {"dark, blurred"}
    assert all(each.who and each.when for each in found)
    again = json_of(invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", *words, "--json"))
    assert (again["changed"], again["n_excluded"]) == (0, 2)

    plan = json_of(invoke(monkeypatch, world, "run", "--exp", "v1", "--until", "difix_data", "--dry-run", "--json"))
    assert {row["asset"] for row in plan if row["state"] != "made"} == {"split_manifests"}
    report = world.run("v1", until="difix_data")
    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    assert {row.sample_id for row in read_rows(tree.split_train)} == {row.sample_id for row in train} - {*ids}
    assert not {*ids} & {*read_json_value(tree.data_json)["train"]}
    assert read_json(tree.split_summary, SplitSummary).n_excluded == 2
    assert read_exclusions(tree.exclusions) == found
    assert len(read_rows(tree.all_samples)) == len(train) + len(read_rows(tree.split_test))
    assert stamps(tree.samples_dir) == samples
    listed = json_of(invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", "--json"))
    assert [each["sample_id"] for each in listed["excluded"]] == sorted(ids)

    # A fork has them too.
    assert invoke(monkeypatch, world, "fork", "--exp", "v1", "--as", "v2").exit_code == 0
    assert read_exclusions(world.platform.experiments.exclusions("v2")) == found

    assert invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", *words, "--back").exit_code == 0
    assert world.run("v1", until="difix_data").exit_code == 0
    assert {path: path.read_bytes() for path in manifests} == manifests
    assert not tree.exclusions.exists()
    assert stamps(tree.samples_dir) == samples


def test_a_frozen_snapshot_stays_as_it_is_and_a_fork_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = world.platform.difix(Cell("v1"))
    freeze(tree, "a test")
    before, sample_id = stamps(tree.base), read_rows(tree.split_train)[0].sample_id
    refused = invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", "--sample", sample_id)
    assert isinstance(refused.exception, ThesisAssetsError)
    assert "`thesis-assets fork --exp v1 --as v1-fork1`" in str(refused.exception)
    # Nor does a table that somebody writes by hand change anything of it.
    world.platform.experiments.exclusions("v1").write_text(f"sample_id\n{sample_id}\n")
    (unit,) = NODES["split_manifests"].units(world.platform, Cell("v1"))
    assert unit.look().is_made
    assert stamps(tree.base) == before


def test_a_sample_that_is_not_there_is_refused_with_the_nearest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sample_id = read_rows(world.platform.difix(Cell("v1")).split_train)[0].sample_id
    wrong = sample_id.replace("tcam16", "tcam17")
    assert wrong != sample_id
    refused = invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", "--sample", wrong)
    assert "no such sample" in str(refused.exception)
    assert sample_id in str(refused.exception)
    nobody = invoke(monkeypatch, world, "samples", "exclude", "--exp", "v1", "--sample", sample_id, "--back")
    assert nobody.exit_code == 2


def test_the_page_has_the_samples_that_are_asked_for_with_their_halves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = world.platform.difix(Cell("v1"))
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    said = json_of(invoke(monkeypatch, world, "samples", "show", "--exp", "v1", "--json"))
    assert (said["samples"], said["of"]) == (len(train) + len(test), len(train) + len(test))
    page = world.settings.reports.samples("v1")
    assert said["page"] == str(page)
    assert all(row.sample_id in page.read_text() for row in (*train, *test))
    other = world.home / "few.html"
    few = json_of(
        invoke(
            monkeypatch,
            world,
            "samples",
            "show",
            "--exp",
            "v1",
            "--half",
            "test",
            "--limit",
            "1",
            "--output",
            str(other),
            "--json",
        )
    )
    assert (few["samples"], few["of"]) == (1, len(test))
    assert train[0].sample_id not in other.read_text()
    nobody = invoke(monkeypatch, world, "samples", "show", "--exp", "v1", "--scene", "nobody")
    assert "no such sample" in str(nobody.exception)
