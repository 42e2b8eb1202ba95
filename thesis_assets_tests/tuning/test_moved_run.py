"""A finished run after a move, as a version before left it, and with images that are not the exported ones."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets.errors import InvalidFile, SnapshotChanged
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Unit, Wanted, examine, take_over
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.lineage import LineageLink
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.splits.data_json import content_of_file, data_json_unit, renew_paths
from thesis_assets.splits.manifests import split_unit
from thesis_assets.splits.snapshot_guard import shard_place
from thesis_assets.storage import read_json, sha256_file, write_json
from thesis_assets.tuning import run_checks, tuning_run
from thesis_assets.tuning.lineage import selected_lineage
from thesis_assets.tuning.progress_file import last_progress
from thesis_assets.tuning.run_record import checkpoint_unit, prune, record_run
from thesis_assets.tuning.selection import renew_hand_off, renew_places, select_checkpoint, selection_unit
from thesis_assets.tuning.tuning_run import TuningResult, tune
from thesis_assets_tests.splits.snapshots import as_older, contents_of, copied_without_times, moved, record_shards
from thesis_assets_tests.tuning.snapshots import SPLIT, arguments, make_run, same_state, train, write_snapshot

Move = Callable[[DifixTree, Path], DifixTree]
NAME = "lr1.0e-3"
EVALUATED = {"studio/pair03"}
RUN = make_run(selection={"rule": "best_psnr"})


def start(tree: DifixTree, run: RunSpec = RUN) -> TuningResult:
    return tune(tree, NAME, run, split=SPLIT, device="cpu", launcher=LocalLauncher())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """Trained by a real launch, and its checkpoint chosen. Only to be copied."""
    tree = write_snapshot(tmp_path_factory.mktemp("trained") / "data")
    record_shards(tree)
    start(tree)
    select_checkpoint(tree, NAME, RUN, evaluation_groups=EVALUATED, device="cpu")
    return tree


@pytest.fixture
def tree(trained: DifixTree, tmp_path: Path) -> DifixTree:
    """At another place than it was trained in: its paths are renewed once."""
    copy = copied_without_times(trained, tmp_path / "data")
    renew_places(copy)
    return copy


@pytest.fixture
def no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    def launched(*_: object, **__: object) -> int:
        raise AssertionError("a trainer was launched")

    monkeypatch.setattr(tuning_run, "run_job", launched)


def states(tree: DifixTree, run: RunSpec = RUN) -> list[str]:
    units = [checkpoint_unit(tree, NAME, run), selection_unit(tree, NAME, run, EVALUATED)]
    return [unit.look().in_words for unit in units]


def test_a_finished_run_is_made_and_its_record_names_what_shaped_it(trained: DifixTree) -> None:
    assert states(trained) == ["made", "made"]
    verdict = examine(checkpoint_unit(trained, NAME, RUN))
    assert verdict.is_made
    assert verdict.record is not None
    assert {"train_config.json", "checkpoints/model_3.pkl", "checkpoints/model_6.json", "eval/metrics_6.csv"} <= set(
        verdict.record.outputs
    )
    assert "difix_data" in verdict.record.inputs
    assert verdict.record.data_version != verdict.record.identity


@pytest.mark.parametrize("move", [moved, copied_without_times])
def test_a_moved_run_changes_nothing_but_the_files_that_hold_paths(
    tree: DifixTree, tmp_path: Path, move: Move, no_launch: None
) -> None:
    before = contents_of(tree.base)
    there = move(tree, tmp_path / "elsewhere")
    assert states(there) == ["made", "made"]
    assert start(there).steps == [3, 6]
    assert renew_hand_off(there, NAME)
    assert not renew_places(there)
    after = contents_of(there.base)
    run = f"tuning_runs/{NAME}"
    assert {name for name in after if after[name] != before.get(name) and "locks" not in name} == {
        "difix/data.json",
        "meta/difix_data.made_from.json",
        f"{run}/selected_checkpoint.json",
        f"{run}/pipeline_overrides.yaml",
        f"{run}/selected_checkpoint.made_from.json",
    }
    assert str(tree.root).encode() not in after[f"{run}/pipeline_overrides.yaml"]
    assert states(there) == ["made", "made"]
    assert run_checks.checkpoint_belongs_to_data(there, NAME).passed


def test_a_moved_run_that_a_version_before_trained_is_given_its_record(
    tree: DifixTree, tmp_path: Path, no_launch: None
) -> None:
    as_trained_before(tree)
    assert states(tree) == ["made (not verified yet)"] * 2
    there = moved(tree, tmp_path / "elsewhere")
    assert start(there).steps == [3, 6]
    assert run_checks.checkpoint_belongs_to_data(there, NAME).passed
    select_checkpoint(there, NAME, RUN, evaluation_groups=EVALUATED, device="cpu")
    assert states(there) == ["made", "made"]


def as_trained_before(tree: DifixTree) -> None:
    """As the version before would have left the run, had it been trained at this place."""
    config = read_json(tree.tuning_run(NAME).train_config, TrainConfig)
    write_json(tree.tuning_run(NAME).train_config, config.model_copy(update={"data_json": str(tree.data_json)}))
    as_older(tree)
    assert read_json(tree.tuning_run(NAME).train_config, TrainConfig).data_json_sha256 == sha256_file(tree.data_json)


@pytest.mark.parametrize("older", [False, True])
def test_a_moved_run_goes_on_from_where_it_stood(tree: DifixTree, tmp_path: Path, older: bool) -> None:
    if older:
        as_trained_before(tree)
    there = moved(tree, tmp_path / "elsewhere")
    run = there.tuning_run(NAME)
    good = run.checkpoint(6).read_bytes()
    for path in (run.checkpoint(6), run.checkpoint_info(6), run.eval_metrics(6)):
        path.unlink()
    run.made_from("tuned_checkpoint").unlink(missing_ok=True)  # it comes last: who has one came to its end
    said = run.progress.read_bytes().splitlines(keepends=True)
    run.progress.write_bytes(b"".join(line for line in said if b'"done"' not in line))
    assert start(there).steps == [3, 6]
    assert run.checkpoint(6).read_bytes() == good
    assert states(there)[0] == "made"
    line = last_progress(run.progress)
    assert line is not None
    assert line.event == "done"


def test_a_recorded_training_that_lost_its_last_checkpoint_is_not_trained_by_its_step(
    tree: DifixTree, no_launch: None
) -> None:
    """Whoever asks for the step: the web UI has no other word for it."""
    run = tree.tuning_run(NAME)
    run.checkpoint(6).unlink()
    with pytest.raises(InvalidFile) as caught:
        start(tree)
    assert f"--run {NAME} --until tuned_checkpoint --force tuned_checkpoint" in str(caught.value.remedy)
    assert run.checkpoint(3).is_file()


def test_other_data_is_refused_after_a_move_too(tree: DifixTree, tmp_path: Path, no_launch: None) -> None:
    there = moved(tree, tmp_path / "elsewhere")
    content = there.data_json.read_bytes()
    there.data_json.write_bytes(content.replace(b"remove degradation", b"remove everything"))
    with pytest.raises(SnapshotChanged):
        start(there)


def test_an_edited_table_and_a_cut_checkpoint_are_damaged_and_not_taken_for_the_run(
    tree: DifixTree, no_launch: None
) -> None:
    run = tree.tuning_run(NAME)
    run.eval_metrics(3).write_text("edited")
    assert states(tree)[0].startswith("damaged: `eval/metrics_3.csv` (6 bytes")
    with pytest.raises(InvalidFile, match="not those that were recorded"):
        start(tree)
    run.checkpoint(3).write_bytes(b"")
    assert states(tree)[0].startswith("damaged: `checkpoints/model_3.pkl` (0 bytes")


def test_a_pruned_checkpoint_is_not_missing_and_the_version_stays(tree: DifixTree, no_launch: None) -> None:
    version = checkpoint_unit(tree, NAME, RUN).look().data_version
    select_checkpoint(tree, NAME, make_run(), evaluation_groups=EVALUATED, device="cpu")
    prune(tree, NAME, RUN, epoch_steps={})
    assert not tree.tuning_run(NAME).checkpoint(3).exists()
    verdict = checkpoint_unit(tree, NAME, RUN).look()
    assert (verdict.state, verdict.data_version) == ("made", version)
    assert start(tree).steps == [6]


def test_an_option_that_the_file_sets_is_stale_in_words_and_refused(tree: DifixTree, no_launch: None) -> None:
    other = make_run(learning_rate=5e-4)
    assert states(tree, other)[0] == "stale: `runs.lr1_0e-3.learning_rate` was 0.001, is 0.0005"
    with pytest.raises(SnapshotChanged, match="learning_rate"):
        start(tree, other)


def test_a_default_that_changed_makes_nothing_stale_and_refuses_no_resume(tree: DifixTree, no_launch: None) -> None:
    values = RUN.model_dump(exclude_unset=True)
    # As if the steps, and the seed, were other defaults today: neither stands in the file.
    given = {name: value for name, value in values.items() if name not in ("max_train_steps", "resolution")}
    today = RunSpec.model_construct(
        _fields_set=set(given), **{**RUN.__dict__, "max_train_steps": 40, "resolution": 64, "seed": 7}
    )
    assert states(tree, today)[0] == "made"
    assert start(tree, today).steps == [3, 6]
    tree.tuning_run(NAME).made_from("tuned_checkpoint").unlink()
    assert start(tree, today).steps == [3, 6]
    assert states(tree, RUN)[0] == "made"


def test_a_setting_that_came_later_means_what_was_done_before_it(tree: DifixTree, no_launch: None) -> None:
    path = tree.tuning_run(NAME).train_config
    config = read_json(path, TrainConfig)
    flags = {name: value for name, value in config.flags.items() if name != "adam_beta1"}
    write_json(path, config.model_copy(update={"flags": flags}))
    tree.tuning_run(NAME).made_from("tuned_checkpoint").unlink()
    assert start(tree).steps == [3, 6]
    with pytest.raises(SnapshotChanged, match="adam_beta1"):
        start(tree, make_run(extra_args=["--adam_beta1", "0.8"]))


def test_a_run_without_its_last_save_is_not_taken_over_and_one_that_was_killed_before_its_record_is(
    tree: DifixTree,
) -> None:
    run = tree.tuning_run(NAME)
    recorded = checkpoint_unit(tree, NAME, RUN).look().record
    run.made_from("tuned_checkpoint").unlink()
    again = take_over(checkpoint_unit(tree, NAME, RUN))
    assert recorded is not None
    assert again is not None
    assert (again.identity, again.outputs) == (recorded.identity, recorded.outputs)
    run.made_from("tuned_checkpoint").unlink()
    run.checkpoint(6).unlink()
    assert states(tree)[0] == "missing: it was not made yet"


def test_a_run_on_data_without_a_record_stays_made_when_the_data_is_given_one(tree: DifixTree, no_launch: None) -> None:
    as_trained_before(tree)
    start(tree)
    for take in (lambda: split_unit(tree, SPLIT), lambda: data_json_unit(tree, "remove degradation")):
        assert take_over(take()) is not None
    assert states(tree)[0] == "made"


def test_what_a_kill_left_of_a_renewal_is_renewed(
    tree: DifixTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = moved(tree, tmp_path / "elsewhere")

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("thesis_assets.tuning.selection.write_bytes", killed)
        patch.setattr("thesis_assets.splits.data_json._write", killed)
        for renew in (lambda: renew_paths(there), lambda: renew_hand_off(there, NAME)):
            with pytest.raises(KeyboardInterrupt):
                renew()
    assert renew_places(there)
    assert states(there) == ["made", "made"]
    assert data_json_unit(there, "remove degradation").look().in_words == "made"


def test_a_checkpoint_that_is_not_the_one_of_its_side_file_is_taken_over_as_damaged(tree: DifixTree) -> None:
    unit = checkpoint_unit(tree, NAME, RUN)
    unit.place.record.unlink()
    path = tree.tuning_run(NAME).checkpoint(6)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert take_over(unit) is not None
    assert unit.look().damaged == (unit.place.name(path),)
    path.write_bytes(content)
    assert unit.look().state == "made"


def test_a_choice_that_was_edited_before_a_move_is_damaged_after_it(tree: DifixTree, tmp_path: Path) -> None:
    chosen = tree.tuning_run(NAME).selected_checkpoint
    chosen.write_bytes(chosen.read_bytes().replace(b"best_psnr", b"best_lpips"))
    there = moved(tree, tmp_path / "elsewhere")
    assert not renew_hand_off(there, NAME)
    assert states(there)[1].startswith("damaged")


def test_a_second_training_has_another_data_version_under_the_same_identity(tree: DifixTree) -> None:
    first = checkpoint_unit(tree, NAME, RUN).look().record
    tree.tuning_run(NAME).eval_metrics(3).write_text("other numbers")
    second = record_run(tree, NAME, RUN)
    assert first is not None
    assert first.identity == second.identity
    assert first.data_version != second.data_version
    assert states(tree)[1] == "stale: `tuned_checkpoint`: made anew"


def test_other_reported_people_make_a_choice_that_names_no_groups_stale_and_no_other(tree: DifixTree) -> None:
    others = {"studio/pair02"}
    assert selection_unit(tree, NAME, RUN, others).look().state == "stale"
    last = make_run()
    select_checkpoint(tree, NAME, last, evaluation_groups=EVALUATED, device="cpu")
    assert selection_unit(tree, NAME, last, others).look().state == "made"
    words = selection_unit(tree, NAME, RUN, EVALUATED).look().in_words
    assert "`runs.lr1_0e-3.selection.rule` was last, is best_psnr" in words


# Images that are not the exported ones ---------------------------------------------------------------------------


def overwrite(tree: DifixTree) -> None:
    """A train sample's images by those of a test sample, with the times and sizes that they had."""
    train_row, test_row = read_rows(tree.split_train)[0], read_rows(tree.split_test)[0]
    for name in ("image_path", "target_image_path", "ref_image_path"):
        path, other = tree.base / getattr(train_row, name), tree.base / getattr(test_row, name)
        times, size = path.stat(), path.stat().st_size
        content = other.read_bytes()
        # Bytes after a picture's end change nothing of it.
        path.write_bytes(content[:size] + bytes(size - len(content[:size])))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_trainer_refuses_overwritten_images_in_its_first_second(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    record_shards(tree)
    row, other = read_rows(tree.split_train)[0], read_rows(tree.split_test)[0]
    (tree.base / row.image_path).write_bytes((tree.base / other.image_path).read_bytes())
    assert train(arguments(tree, "r")) == 1
    line = last_progress(tree.tuning_run("r").progress)
    assert line is not None
    assert (line.event, line.step) == ("failed", 0)
    assert "not the ones that were exported" in line.message
    assert row.sample_id in line.message


def test_what_kept_its_size_and_time_is_found_when_it_is_read(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    record_shards(tree)
    settle(tree)
    overwrite(tree)
    assert train(arguments(tree, "r")) == 1
    line = last_progress(tree.tuning_run("r").progress)
    assert line is not None
    assert "not the one that was exported" in line.message
    row = read_rows(tree.split_train)[0]
    assert row.sample_id in line.message
    found = Unit("", shard_place(tree, row.scene_name), Wanted("scene_samples", "", given={})).look()
    assert row.image_path in found.damaged, "a later look knows, so that its export mends it"


def settle(tree: DifixTree) -> None:
    """As if the export lay some time back: what was written a moment ago is always read."""
    for path in tree.samples_dir.rglob("*.*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    record_shards(tree)


def test_a_choice_is_not_made_on_other_images(tree: DifixTree) -> None:
    row = next(row for row in read_rows(tree.split_test) if "pair02" in row.sample_id)
    (tree.base / row.image_path).write_bytes((tree.base / row.target_image_path).read_bytes())
    with pytest.raises(SnapshotChanged, match="not the ones that were exported"):
        select_checkpoint(tree, NAME, RUN, evaluation_groups=EVALUATED, device="cpu")


def test_a_trainer_that_is_started_by_hand_after_a_move_renews_its_paths(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path / "data")
    assert train(arguments(tree, "whole")) == 0
    assert train(arguments(tree, "moved")) == 0
    there = moved(tree, tmp_path / "elsewhere")
    run = there.tuning_run("moved")
    for path in (run.checkpoint(6), run.checkpoint_info(6), run.eval_metrics(6)):
        path.unlink()
    assert train(arguments(there, "moved")) == 0
    assert same_state(there.tuning_run("whole"), run, 6)
    assert read_json(run.train_config, TrainConfig).data_json_sha256 == content_of_file(there.data_json).sha256


def links(link: LineageLink) -> list[tuple[str, str]]:
    return [(link.kind, link.state), *(each for below in link.made_from for each in links(below))]


@pytest.mark.parametrize("older", [False, True])
def test_lineage_of_a_moved_run_holds_and_ticks_what_has_a_record(tree: DifixTree, tmp_path: Path, older: bool) -> None:
    if older:
        as_trained_before(tree)
    there = moved(tree, tmp_path / "elsewhere")
    renew_places(there)
    roots = SceneRoots(*(tmp_path / name for name in ("gt", "estimated", "registry", "renders")))
    link = selected_lineage(there, NAME, roots)
    assert list(link.breaks()) == []
    state = "recorded" if older else "verified"
    found = links(link)
    assert found[:4] == [
        ("selection", state),
        ("checkpoint", "verified"),
        ("configuration", state),
        ("data", "verified"),
    ]


def test_an_edited_configuration_breaks_its_lineage(tree: DifixTree, tmp_path: Path) -> None:
    path = tree.tuning_run(NAME).train_config
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    roots = SceneRoots(*(tmp_path / name for name in ("gt", "estimated", "registry", "renders")))
    broken = next(selected_lineage(tree, NAME, roots).breaks())
    assert (broken.kind, "made_from.json names" in broken.note) == ("configuration", True)
