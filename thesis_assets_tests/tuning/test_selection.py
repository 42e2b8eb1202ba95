"""Which checkpoint is handed on, on whose images it was chosen, and what stands in the files."""

import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidExperiment, InvalidFile, Leak, SnapshotChanged
from thesis_assets.experiments.spec import Selection, SplitSpec
from thesis_assets.images.codecs import read_rgb
from thesis_assets.images.perceptual import load_lpips
from thesis_assets.layout import DifixTree
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.samples import GenerationStats, SplitSummary
from thesis_assets.schemas.tuning import CheckpointScore, SelectedCheckpoint, TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning import run_checks, selection
from thesis_assets.tuning.scoring import HeldOutSample, SampleScore, mean_score, stratified
from thesis_assets.tuning.selection import (
    DIRECTORY_KEY,
    best_step,
    check_selection_disjoint,
    hydra_override,
    pipeline_overrides,
    select_checkpoint,
    selection_samples,
)
from thesis_assets_tests.images.lpips_weights import write_lpips_weights
from thesis_assets_tests.tuning.snapshots import make_run, train_run, write_snapshot

EVALUATED = {"studio/pair03"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """A snapshot with the runs `trained` (steps 10 and 20) and `still` (learning rate 0)."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    for run_name, rate in (("trained", 1e-3), ("still", 0)):
        train_run(tree, run_name, learning_rate=rate, eval_freq=100)
    return tree


def select(tree: DifixTree, run_name: str = "trained", **keys: object) -> SelectedCheckpoint:
    run = make_run(max_train_steps=20, checkpointing_steps=10, selection=keys)
    weights = tree.root / "lpips"
    return select_checkpoint(tree, run_name, run, evaluation_groups=EVALUATED, device="cpu", lpips_weights=weights)


def summary(tree: DifixTree) -> SplitSummary:
    return read_json(tree.split_summary, SplitSummary)


def test_the_checkpoint_with_the_highest_psnr_on_people_not_evaluated_is_chosen(tree: DifixTree) -> None:
    selected = select(tree, rule="best_psnr")
    assert selected.step == max(selected.scores, key=lambda score: score.psnr).step
    assert [score.step for score in selected.scores] == [10, 20]
    assert all(score.psnr > score.psnr_render and score.n_samples == 4 for score in selected.scores)
    assert selected.selection_groups == ["studio/pair02"]
    assert len(selected.selection_sample_ids) == 4
    assert all("pair02" in sample_id for sample_id in selected.selection_sample_ids)
    assert read_json(tree.tuning_run("trained").selected_checkpoint, SelectedCheckpoint) == selected
    assert run_checks.improves_over_input(tree, selected).passed
    assert check_selection_disjoint(selected, EVALUATED, summary(tree)).passed


def test_without_training_there_is_no_gain_and_the_earliest_of_equals_is_chosen(tree: DifixTree) -> None:
    selected = select(tree, "still", rule="best_psnr")
    assert selected.step == 10
    assert all(score.psnr == score.psnr_render and score.ssim == score.ssim_render for score in selected.scores)
    assert not run_checks.improves_over_input(tree, selected).passed


def test_a_mean_of_nothing_is_nothing() -> None:
    """Images below 11 pixels have no SSIM: an SSIM of 0 would be the worst there is."""
    score = SampleScore("a", "s/1", 20.0, 21.0, None, None)
    found = mean_score(10, [score, score])
    assert (found.psnr, found.ssim, found.ssim_render, found.lpips) == (21.0, None, None, None)


@pytest.mark.parametrize(("rule", "step"), [({"rule": "last"}, 20), ({"rule": "step", "step": 10}, 10)])
def test_a_named_step_is_chosen_without_a_look_at_anyone(tree: DifixTree, rule: dict[str, object], step: int) -> None:
    selected = select(tree, **rule)
    assert (selected.step, selected.scores, selected.selection_groups) == (step, [], [])
    assert check_selection_disjoint(selected, EVALUATED, summary(tree)).passed


def test_choosing_on_evaluated_people_fails_the_check_which_proposes_a_group(tree: DifixTree) -> None:
    selected = select(tree, rule="best_psnr", groups=["pair03", "studio/pair02"])
    outcome = check_selection_disjoint(selected, EVALUATED, summary(tree))
    assert not outcome.passed
    assert outcome.offenders == ["studio/pair03"]
    assert "name studio/pair02 in runs.trained.selection.groups" in outcome.message
    alone = select(tree, rule="best_psnr", groups=["pair03"])
    assert "name studio/pair02" in check_selection_disjoint(alone, EVALUATED, summary(tree)).message
    both = EVALUATED | {"studio/pair02"}
    assert "hold out studio/pair01 too" in check_selection_disjoint(alone, both, summary(tree)).message
    every = both | {"studio/pair01"}
    assert "add scenes of one more group" in check_selection_disjoint(alone, every, summary(tree)).message


def test_when_every_test_group_is_evaluated_a_training_group_is_proposed(tree: DifixTree) -> None:
    with pytest.raises(Leak, match="hold out studio/pair01"):
        selection_samples(tree, Selection(rule="best_psnr"), {"studio/pair02", "studio/pair03"})


def test_a_group_without_test_samples_is_named(tree: DifixTree) -> None:
    with pytest.raises(InvalidExperiment, match="pair00"):
        selection_samples(tree, Selection(rule="best_psnr", groups=("pair00",)), set())


def test_with_everything_in_training_only_a_named_step_can_be_chosen(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path, split=SplitSpec(train_only=True), scenes=["studio_pair00_dance"])
    with pytest.raises(InvalidExperiment, match="last or step"):
        selection_samples(tree, Selection(rule="best_psnr"), set())


def test_lpips_is_refused_without_its_weights_and_its_score_left_out(tree: DifixTree) -> None:
    with pytest.raises(InvalidFile, match=r"THESIS_LPIPS_WEIGHTS.*rule: best_psnr") as caught:
        select(tree, rule="best_lpips")
    assert "vgg16-397923af.pth" in str(caught.value)
    assert [score.lpips for score in select(tree, rule="best_psnr").scores] == [None, None]


def test_both_scores_are_those_of_the_images_however_many_checkpoints_are_loaded_at_once(
    tree: DifixTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_lpips_weights(tmp_path)
    run = make_run(max_train_steps=20, checkpointing_steps=10, selection={"rule": "best_lpips"})

    def chosen() -> SelectedCheckpoint:
        return select_checkpoint(tree, "trained", run, evaluation_groups=EVALUATED, device="cpu", lpips_weights=weights)

    selected = chosen()
    assert selected.step == min(selected.scores, key=lambda score: score.lpips or 0).step
    lpips = load_lpips(weights)
    rows = {row.sample_id: row for row in read_rows(tree.split_test)}
    drawn = [rows[sample_id] for sample_id in selected.selection_sample_ids]
    unrefined = [
        lpips.distance(read_rgb(tree.base / row.image_path), read_rgb(tree.base / row.target_image_path))
        for row in drawn
    ]
    for score in selected.scores:
        assert score.lpips_render == pytest.approx(sum(value or 0 for value in unrefined) / len(unrefined))
        assert score.lpips is not None
        assert score.lpips != score.lpips_render
    monkeypatch.setattr(selection, "MAX_LOADED_BYTES", 1)
    assert chosen() == selected


def score(step: int, psnr: float, lpips: float | None) -> CheckpointScore:
    return CheckpointScore(step=step, n_samples=1, psnr=psnr, psnr_render=1, ssim=0, ssim_render=0, lpips=lpips)


def test_the_highest_psnr_the_lowest_lpips_and_of_equals_the_earliest_is_best() -> None:
    scores = [score(30, 5, 0.2), score(10, 5, 0.3), score(20, 4, 0.1), score(40, 3, 0.1)]
    assert (best_step("best_psnr", scores), best_step("best_lpips", scores)) == (10, 20)
    with pytest.raises(InvalidExperiment, match="16 pixels"):
        best_step("best_lpips", [score(10, 5, None)])


def test_checkpoints_are_loaded_in_their_order_as_many_as_fit() -> None:
    sizes = {10: 4, 20: 4, 30: 9, 40: 1, 50: 1}
    assert list(selection._loaded_together(sizes, 8)) == [[10, 20], [30], [40, 50]]


def test_a_changed_data_json_is_refused(tree: DifixTree) -> None:
    content = tree.data_json.read_bytes()
    tree.data_json.write_bytes(content + b"\n")
    try:
        with pytest.raises(SnapshotChanged, match="another data"):
            select(tree, rule="last")
        assert not run_checks.checkpoint_belongs_to_data(tree, "trained").passed
    finally:
        tree.data_json.write_bytes(content)


def test_the_overrides_hold_the_planned_key_and_hydras_form(tree: DifixTree) -> None:
    selected = select(tree, rule="last")
    text = tree.tuning_run("trained").pipeline_overrides.read_text()
    assert yaml.safe_load(text) == {"train": {"difix": {"model_checkpoint_path": selected.path}}}
    assert hydra_override(selected) in text
    assert Path(selected.path).is_absolute()
    assert DIRECTORY_KEY not in text, "a tiny network is nothing that key could load"


def test_a_difix_checkpoint_is_handed_on_as_a_directory_too(tree: DifixTree) -> None:
    selected = select(tree, rule="last").model_copy(update={"path": "/data/it's here/model_9.pkl"})
    text = pipeline_overrides(selected, as_directory=True)
    assert yaml.safe_load(text) == {"train": {"difix": {"model_checkpoint_path": selected.path}}}
    (command,) = [line for line in text.splitlines() if "checkpoint convert" in line]
    words = shlex.split(command.removeprefix("#"))
    assert words[-3:] == [selected.path, "--out", "/data/it's here/model_9"]
    (override,) = [line for line in text.splitlines() if DIRECTORY_KEY in line]
    assert shlex.split(override.removeprefix("#")) == ['train.difix.model_id="/data/it\'s here/model_9"']


def test_the_selection_carries_the_lineage_down_to_the_shards(tree: DifixTree) -> None:
    selected = select(tree, rule="last")
    stats = read_json(tree.generation_stats, GenerationStats)
    assert selected.shard_digests == stats.shard_digests
    assert selected.scene_names == stats.scene_runs
    config = read_json(tree.tuning_run("trained").train_config, TrainConfig)
    assert (selected.backend, selected.hyperparameter_digest) == ("tiny", config.hyperparameter_digest)


def test_a_damaged_checkpoint_and_one_without_side_file_fail_their_check(tree: DifixTree) -> None:
    run = tree.tuning_run("still")
    content = run.checkpoint(10).read_bytes()
    side = run.checkpoint_info(20).read_bytes()
    try:
        run.checkpoint(10).write_bytes(content[:-1])
        run.checkpoint_info(20).unlink()
        outcome = run_checks.checkpoint_loads(tree, "still")
    finally:
        run.checkpoint(10).write_bytes(content)
        run.checkpoint_info(20).write_bytes(side)
    assert not outcome.passed
    assert [offender.split(":")[0] for offender in outcome.offenders] == ["model_10.pkl", "model_20.pkl"]


def test_a_configuration_changed_by_hand_fails_its_check(tree: DifixTree) -> None:
    path = tree.tuning_run("still").train_config
    content = path.read_text()
    try:
        path.write_text(content.replace('"train_batch_size": 2', '"train_batch_size": 4'))
        assert not run_checks.train_config_complete(tree, "still").passed
        path.unlink()
        assert not run_checks.train_config_complete(tree, "still").passed
        assert not run_checks.checkpoint_belongs_to_data(tree, "still").passed
    finally:
        path.write_text(content)


def sample(group: int, camera: int, number: int) -> HeldOutSample:
    name = f"g{group}c{camera}n{number}"
    return HeldOutSample(name, f"studio/{group}", camera, Path(name), Path(name), Path(name))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)), unique=True, max_size=40),
    st.integers(1, 45),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_drawn_samples_are_even_over_groups_and_cameras_whatever_their_order(
    keys: list[tuple[int, int, int]], limit: int, seed: int, shuffler: object
) -> None:
    samples = [sample(*key) for key in keys]
    drawn = stratified(samples, limit, seed)
    shuffler.shuffle(samples)  # type: ignore[attr-defined]
    assert stratified(samples, limit, seed) == drawn
    assert len(drawn) == min(limit, len(samples))
    assert len({one.sample_id for one in drawn}) == len(drawn)
    sizes = {(group, camera): 0 for group, camera, _ in keys}
    whole = dict(sizes)
    for group, camera, _ in keys:
        whole[group, camera] += 1
    for one in drawn:
        sizes[int(one.group[-1]), one.camera or 0] += 1
    for stratum, size in sizes.items():
        # No stratum has two more than another that still has samples left.
        assert all(size <= other + 1 for key, other in sizes.items() if other < whole[key]), (stratum, sizes)
