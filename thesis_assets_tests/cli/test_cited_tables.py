"""A cited table is printed for ever as it was; what moved since is said beside it."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from thesis_assets.storage import sha256_value, write_json
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.reports.compared_trees import write_run
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World, read_json

SCENE = "studio_pair03_dance"
RUNS = ("retrained", "remeasured", "removed", "untouched")
FORMS = ("table", "markdown", "scenes", "csv", "latex")
A, B = "a" * 64, "b" * 64


def experiment(*runs: str) -> dict[str, object]:
    declared = {name: copy.deepcopy(TINY_RUN) for name in runs}  # YAML without aliases
    return SMALL | {"exp_name": "demo", "runs": declared, "evaluation": {"scenes": [SCENE], "epochs": [30]}}


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    made = new_world(experiment(*RUNS))
    for place, name in enumerate(RUNS):
        write_run(made.settings.results_root, name, {SCENE: 20.0 - place}, checkpoint=A)
    return made


def test_a_cited_table_outlives_a_retraining_a_changed_protocol_and_a_removed_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(form: str, *more: str) -> str:
        done = invoke(monkeypatch, world, "leaderboard", *more, "--cite", "chapter4", "--format", form)
        assert done.exit_code == 0, (done.output, done.exception)
        return str(done.stdout)

    before = {form: printed(form, "--exp", "demo") for form in FORMS}
    assert all("retrained" in text and "removed" in text for text in before.values())
    path = world.settings.reports.cited("chapter4")
    kept = path.read_bytes()
    nothing = invoke(monkeypatch, world, "leaderboard", "--diff", "chapter4")
    assert "nothing moved" in nothing.stdout, nothing.stdout

    root = world.settings.results_root
    write_run(root, "retrained", {SCENE: 15.0}, checkpoint=B)
    write_run(root, "remeasured", {SCENE: 19.0}, checkpoint=A, region="mask")
    world.write(experiment("retrained", "remeasured", "untouched"))

    assert {form: printed(form) for form in FORMS} == before
    assert printed("latex", "--exp", "demo") == before["latex"], "a name that exists is printed, never overwritten"
    assert path.read_bytes() == kept
    lines = json.loads(invoke(monkeypatch, world, "leaderboard", "--diff", "chapter4", "--json").stdout)["moved"]
    assert "demo/removed: the run is gone: no experiment declares it any more" in lines
    of = {name: [line for line in lines if line.startswith(f"demo/{name}")] for name in RUNS}
    assert any(f"other weights: checkpoint {A[:12]}, now {B[:12]}" in line for line in of["retrained"])
    assert any("psnr was " in line for line in of["retrained"])
    assert any("another protocol: region was full_frame, is mask" in line for line in of["remeasured"])
    assert not any("weights" in line or "psnr" in line for line in of["remeasured"])
    assert of["untouched"] == []


def test_a_table_of_which_something_is_stale_says_so_in_the_difference(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke(monkeypatch, world, "leaderboard", "--exp", "demo", "--cite", "now")
    table = world.settings.results_root / "untouched" / SCENE / "demo/evaluation/epoch_0030/nvs/metrics"
    (path,) = table.glob("metrics_all_cams_per_frame.csv")
    path.write_text(path.read_text().replace("camera_id", "camera_ids", 1))
    said = invoke(monkeypatch, world, "leaderboard", "--diff", "now").stdout
    assert "demo/untouched" in said
    assert "damaged: `metrics/metrics_all_cams_per_frame.csv` (other bytes than were recorded)" in said


def test_a_table_that_an_older_version_kept_is_printed_though_its_rows_have_fewer_columns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = invoke(monkeypatch, world, "leaderboard", "--exp", "demo", "--cite", "old").stdout
    path = world.settings.reports.cited("old")
    value = read_json(path)
    for row in [*value["rows"], *value["differences"]]:
        del row["leaked"]
    value["sha256"] = sha256_value({key: each for key, each in value.items() if key != "sha256"})
    write_json(path, value)
    again = invoke(monkeypatch, world, "leaderboard", "--cite", "old")
    assert (again.exit_code, again.stdout) == (0, before), again.exception
    assert "nothing moved" in invoke(monkeypatch, world, "leaderboard", "--diff", "old").stdout


@pytest.mark.soak
def test_a_cited_table_outlives_real_trainings(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(runs: Sequence[str], *, seed: int = 42, background: str = "black") -> dict[str, object]:
        declared = {name: copy.deepcopy(TINY_RUN) for name in runs}
        declared["retrained"]["seed"] = seed
        evaluation = {**SMALL["evaluation"], "nvs": {"background": background}}
        return {**SMALL, "runs": declared, "evaluation": evaluation}

    def made(*words: str) -> str:
        done = invoke(monkeypatch, world, *words)
        assert done.exit_code == 0, (done.output, done.exception)
        return str(done.stdout)

    world = new_world(small(["retrained", "kept", "removed"]))
    made("run", "--exp", "small")
    before = {form: made("leaderboard", "--exp", "small", "--cite", "chapter4", "--format", form) for form in FORMS}
    kept = world.settings.reports.cited("chapter4").read_bytes()
    assert "nothing moved" in made("leaderboard", "--diff", "chapter4")

    world.write(small(["retrained", "kept", "removed"], seed=7))
    made("run", "--exp", "small", "--run", "retrained", "--force", "tuned_checkpoint")
    of_weights = made("leaderboard", "--diff", "chapter4")
    assert "small/retrained, studio_pair03_dance, epoch 1, nvs: other weights: checkpoint " in of_weights
    assert "small/kept" not in of_weights
    world.write(small(["retrained", "kept"], seed=7, background="white"))
    made("run", "--exp", "small")

    assert {form: made("leaderboard", "--cite", "chapter4", "--format", form) for form in FORMS} == before
    assert world.settings.reports.cited("chapter4").read_bytes() == kept
    moved = made("leaderboard", "--diff", "chapter4")
    assert "small/retrained, studio_pair03_dance, epoch 1, nvs: other weights: checkpoint " in moved
    assert "small/kept, studio_pair03_dance, epoch 1, nvs: another protocol: background was black, is white" in moved
    assert "small/removed: the run is gone: no experiment declares it any more" in moved
    assert "small/kept, studio_pair03_dance, epoch 1, nvs: other weights" not in moved


def test_names_that_cannot_be_kept_or_are_not_kept_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(monkeypatch, world, "leaderboard", "--cite", "chapter4").exit_code == 2
    assert not world.settings.reports.cited("chapter4").exists()
    unknown = invoke(monkeypatch, world, "leaderboard", "--diff", "chapter5")
    assert unknown.exit_code != 0
    assert "no table is cited under this name" in str(unknown.exception)
    invoke(monkeypatch, world, "leaderboard", "--exp", "demo", "--cite", "chapter4")
    path = world.settings.reports.cited("chapter4")
    path.write_text(path.read_text().replace('"value": 2', '"value": 3', 1))
    changed = invoke(monkeypatch, world, "leaderboard", "--cite", "chapter4")
    assert changed.exit_code != 0
    assert "the cited table was changed since it was kept" in str(changed.exception)


def test_what_is_only_printed_says_nothing_of_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: Path = world.settings.reports.base
    done = invoke(monkeypatch, world, "leaderboard", "--exp", "demo")
    assert "pages:" not in done.stdout
    assert not (reports / "leaderboard.csv").exists()
    done = invoke(monkeypatch, world, "leaderboard")
    assert str(world.settings.reports.leaderboard_csv) in done.stdout.replace("\n", "")
    assert (reports / "leaderboard.csv").is_file()
