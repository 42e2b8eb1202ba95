"""Ways to bring people of the test side into training whose photographs keep their bytes: none of them trains."""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.adoption.planned import plan
from thesis_assets.adoption.scan import scan
from thesis_assets.adoption.writing import adopt_snapshot
from thesis_assets.errors import Leak
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.images.codecs import encode_jpeg, encode_png, image_kind
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import AdoptedTrees, DifixTree, frame_name
from thesis_assets.samples.export import ShardRecord, export_shard
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.samples.shards import collect_sample_set, write_sample_set
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits.data_json import write_data_json
from thesis_assets.splits.manifests import group_finder, split_rows, write_split_manifests
from thesis_assets.splits.photographs import check_photographs
from thesis_assets.splits.snapshot_guard import freeze, guard_snapshot, leak_of
from thesis_assets.tuning.checkpoints import list_checkpoints
from thesis_assets.tuning.tuning_run import tune
from thesis_assets_tests.samples.tiny_scenes import SIZE, roots, work, write_scene
from thesis_assets_tests.splits import test_near_duplicates as near
from thesis_assets_tests.splits.snapshots import as_older
from thesis_assets_tests.tuning.snapshots import arguments, make_run, train

TRAIN, TEST, COPY = "hi4d_pair00_dance", "hi4d_pair01_dance", "hi4d_pair05_dance"
SPLIT: dict[str, Any] = {"test_groups": {"hi4d": ("pair01",)}}


def write_people(where: SceneRoots, name: str, seed: int, **options: Any) -> None:
    """A scene whose photographs no other scene has."""
    write_scene(where, name, **options)
    random = np.random.default_rng(seed)
    for path in sorted(where.tree(name).ground_truth.images_dir.rglob("*.jpg")):
        storage.write_bytes(path, encode_jpeg(random.integers(0, 255, (SIZE, SIZE, 3), np.uint8)))


@pytest.fixture
def where(tmp_path: Path) -> SceneRoots:
    places = roots(tmp_path)
    for seed, name in enumerate((TRAIN, TEST)):
        write_people(places, name, seed, masks=True, frames=range(3))
    return places


def make_snapshot(
    where: SceneRoots, split: Mapping[str, Any], *, exp: str = "v1", **generation: Any
) -> tuple[DifixTree, SplitSpec, list[ShardRecord]]:
    """Export what is there, split it, write data.json."""
    spec = SplitSpec.model_validate(split)
    group_of = group_finder(spec.group_rules)
    names = sorted(path.name for path in where.canonical_gt.iterdir())
    base = where.canonical_gt.parent
    works = [work(base, name, exp=exp, group=group_of(name)[1], **generation) for name in names]
    records = [export_shard(each) for each in works]
    tree = works[0].tree
    found = collect_sample_set(tree, names)
    write_sample_set(tree, found)
    halves = split_rows(found.rows, spec, group_of)
    write_split_manifests(tree, found.rows, halves, spec, found.dropped, found.shards)
    write_data_json(tree, halves.train, halves.test, "remove degradation")
    return tree, spec, records


def refused(tree: DifixTree, spec: SplitSpec) -> Leak:
    """What a trainer's start says; nothing was written for it."""
    with pytest.raises(Leak) as caught:
        tune(tree, "r1", make_run(), split=spec, device="cpu", launcher=LocalLauncher())
    assert not tree.tuning_run("r1").base.exists()
    return caught.value


def copied(where: SceneRoots, source: str = TEST, target: str = COPY) -> Path:
    """A scene under another name. Returns its images."""
    of_source, of_target = where.tree(source), where.tree(target)
    shutil.copytree(of_source.ground_truth.base, of_target.ground_truth.base)
    shutil.copytree(of_source.renders_dir, of_target.renders_dir)
    storage.write_json(of_target.registry_entry, {"seq_name": target, "cam_id": 4})
    return of_target.ground_truth.images_dir


def another_pair(where: SceneRoots) -> dict[str, Any]:
    copied(where)
    return {}


def another_dataset(where: SceneRoots) -> dict[str, Any]:
    copied(where, target="thesis_couple_dance")
    return {"group_rules": {"thesis": "scene_name"}}


def without_masks(where: SceneRoots) -> dict[str, Any]:
    shutil.rmtree(copied(where, target="thesis_couple_dance").parent / "seg")
    return {"group_rules": {"thesis": "scene_name"}}


def grown_masks(where: SceneRoots) -> dict[str, Any]:
    images = copied(where)
    grown = np.zeros((SIZE, SIZE), np.uint8)
    grown[:, : SIZE - 2] = 255
    for path in (images.parent / "seg").rglob("*.png"):
        storage.write_bytes(path, encode_png(grown))
    return {}


def linked_folder(where: SceneRoots) -> dict[str, Any]:
    copied(where)
    shutil.rmtree(where.canonical_gt / COPY)
    (where.canonical_gt / COPY).symlink_to(where.canonical_gt / TEST)
    return {}


def linked_photographs(where: SceneRoots) -> dict[str, Any]:
    images = copied(where)
    for path in sorted(images.rglob("*.jpg")):
        original = where.tree(TEST).ground_truth.images_dir / path.relative_to(images)
        path.unlink()
        path.symlink_to(original)
    return {}


def hard_links(where: SceneRoots) -> dict[str, Any]:
    images = copied(where)
    for path in sorted(images.rglob("*.jpg")):
        path.unlink()
        path.hardlink_to(where.tree(TEST).ground_truth.images_dir / path.relative_to(images))
    return {}


def other_frame_numbers(where: SceneRoots) -> dict[str, Any]:
    copied(where)
    for folder in (where.tree(COPY).ground_truth.base, where.tree(COPY).renders_dir):
        for path in sorted(folder.rglob("00000?.*")):
            path.rename(path.with_stem(frame_name(int(path.stem) + 100)))
    return {}


def other_cameras(where: SceneRoots) -> dict[str, Any]:
    copied(where)
    for folder in (where.tree(COPY).ground_truth.base, where.tree(COPY).renders_dir):
        for path in sorted(folder.rglob("16")):
            path.rename(path.with_name("52"))
    return {}


def one_photograph(where: SceneRoots) -> dict[str, Any]:
    copied(where)
    write_people(where, COPY, 7)
    shutil.copy(where.tree(TEST).ground_truth.image(16, "000001"), where.tree(COPY).ground_truth.image(16, "000000"))
    return {}


def names_that_differ_by_case(where: SceneRoots) -> dict[str, Any]:
    write_people(where, "HI4D_Pair01_hug", 7)
    return {"group_rules": {"HI4D": r"^HI4D_(Pair\d+)_"}}


def a_rule_that_parts_a_pair(where: SceneRoots) -> dict[str, Any]:
    write_people(where, "hi4d_pair01_hug", 7)
    return {"test_groups": {"hi4d": ("pair01_dance",)}, "group_rules": {"hi4d": r"^hi4d_(pair\d+_\w+)$"}}


def a_copy_under_a_rule_that_is_meant(where: SceneRoots) -> dict[str, Any]:
    split = a_rule_that_parts_a_pair(where)
    copied(where, target="hi4d_pair01_again")
    return {**split, "override_builtin_rule": True}


PHOTOGRAPHS = "photographs_across_splits"
WAYS: dict[Callable[[SceneRoots], dict[str, Any]], str] = {
    another_pair: PHOTOGRAPHS,
    another_dataset: PHOTOGRAPHS,
    without_masks: PHOTOGRAPHS,
    grown_masks: PHOTOGRAPHS,
    linked_folder: PHOTOGRAPHS,
    linked_photographs: PHOTOGRAPHS,
    hard_links: PHOTOGRAPHS,
    other_frame_numbers: PHOTOGRAPHS,
    other_cameras: PHOTOGRAPHS,
    one_photograph: PHOTOGRAPHS,
    names_that_differ_by_case: "group_non_leakage",
    a_rule_that_parts_a_pair: "group_rule_splits_people",
    a_copy_under_a_rule_that_is_meant: PHOTOGRAPHS,
}


def test_other_people_train(where: SceneRoots) -> None:
    tree, spec, _ = make_snapshot(where, SPLIT)
    guard_snapshot(tree, spec)
    assert leak_of(tree, spec) == ""
    outcome = check_photographs(tree, *halves(tree))
    assert outcome.passed
    assert outcome.counts["photographs"] > 12


def halves(tree: DifixTree) -> tuple[list[SampleRow], list[SampleRow]]:
    return read_rows(tree.split_train), read_rows(tree.split_test)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_photographs_of_a_test_person_do_not_train(where: SceneRoots, way: Callable[..., dict[str, Any]]) -> None:
    tree, spec, _ = make_snapshot(where, {**SPLIT, **way(where)})
    said = refused(tree, spec)
    assert said.key == WAYS[way]
    assert leak_of(tree, spec).startswith(f"{WAYS[way]}: "), "a run that was trained all the same is marked"
    assert f"`thesis-assets checks run --exp v1 {WAYS[way]}`" in said.remedy
    if said.key == PHOTOGRAPHS:
        outcome = check_photographs(tree, *halves(tree))
        assert f"and {TEST} (test), such as canonical_gt/" in outcome.offenders[0]
        assert outcome.picture is not None
        assert image_kind(outcome.picture) == "jpeg"


@pytest.mark.parametrize("way", [another_pair, names_that_differ_by_case], ids=lambda way: way.__name__)
def test_a_trainer_that_is_started_by_hand_refuses_them_too(
    where: SceneRoots, way: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    tree, _, _ = make_snapshot(where, {**SPLIT, **way(where)})
    assert train(arguments(tree, "by_hand")) != 0
    assert WAYS[way] in capsys.readouterr().err
    assert list_checkpoints(tree.tuning_run("by_hand")) == []


def test_a_trainer_that_is_started_by_hand_trains_on_other_people(where: SceneRoots) -> None:
    tree, _, _ = make_snapshot(where, SPLIT)
    assert train(arguments(tree, "by_hand", max_train_steps=1, checkpointing_steps=1)) == 0


@pytest.mark.parametrize("strategy", ["same_time_source", "mixed"])
def test_a_reference_camera_that_alone_filmed_test_people_does_not_train(where: SceneRoots, strategy: str) -> None:
    copied(where)
    for path in where.tree(COPY).ground_truth.images_dir.glob("16/*.jpg"):
        storage.write_bytes(path, encode_jpeg(np.full((SIZE, SIZE, 3), int(path.stem), np.uint8)))
    mixed = {"strategy": "mixed", "offset": 1, "weights": {"same_time_source": 1, "temporal_offset": 1}}
    reference = mixed if strategy == "mixed" else {"strategy": strategy}
    tree, spec, _ = make_snapshot(where, SPLIT, reference=reference)
    assert refused(tree, spec).key == PHOTOGRAPHS


def test_a_fork_that_trains_on_what_was_held_out_with_its_copy_shares_the_shards_and_does_not_train(
    where: SceneRoots,
) -> None:
    copied(where)
    both = {"test_groups": {"hi4d": ("pair01", "pair05")}}
    first, of_both, _ = make_snapshot(where, both)
    guard_snapshot(first, of_both)
    freeze(first, "a run")
    fork, spec, records = make_snapshot(where, SPLIT, exp="v2")
    assert all(record.linked for record in records)
    assert refused(fork, spec).key == PHOTOGRAPHS


def test_shards_that_are_shared_under_a_rule_that_parts_a_pair_do_not_train(where: SceneRoots) -> None:
    write_people(where, "hi4d_pair01_hug", 7)
    first, whole, _ = make_snapshot(where, SPLIT)
    guard_snapshot(first, whole)
    parting = {
        "test_groups": {"hi4d": ("pair01",)},
        "group_rules": {"hi4d": r"^hi4d_(pair01(?=_dance)|pair\d+_hug|pair00)"},
    }
    fork, spec, records = make_snapshot(where, parting, exp="v2")
    assert any(record.linked for record in records)
    assert refused(fork, spec).key == "group_rule_splits_people"
    meant = spec.model_copy(update={"override_builtin_rule": True})
    guard_snapshot(fork, meant)


def test_an_adopted_tree_with_a_copy_in_training_does_not_train(where: SceneRoots, tmp_path: Path) -> None:
    shutil.rmtree(copied(where).parent / "seg")
    shutil.rmtree(where.tree(TEST).ground_truth.seg_dir)
    old, _, _ = make_snapshot(where, SPLIT)
    findings = scan(old.root)
    (planned,) = plan(findings, AdoptedTrees(tmp_path / "adopted"), {})
    assert planned.snapshot is not None
    spec = ExperimentSpec.model_validate({"exp_name": "v0", **planned.value})
    tree = DifixTree(tmp_path / "data", "v0")
    adopt_snapshot(planned.snapshot, planned.rows, spec, tree, where, lambda _: None)
    assert refused(tree, spec.split).key == PHOTOGRAPHS


def test_a_snapshot_of_a_version_without_records_does_not_train_either(where: SceneRoots) -> None:
    shutil.rmtree(copied(where).parent / "seg")
    shutil.rmtree(where.tree(TEST).ground_truth.seg_dir)
    tree, spec, _ = make_snapshot(where, SPLIT)
    as_older(tree)
    assert refused(tree, spec).key == PHOTOGRAPHS


def test_a_snapshot_frozen_before_says_that_a_fork_mends_it(where: SceneRoots) -> None:
    copied(where)
    tree, spec, _ = make_snapshot(where, SPLIT)
    freeze(tree, "a run that was trained before this was looked at")
    assert "in a fork: this snapshot is frozen" in refused(tree, spec).remedy


def test_pictures_of_one_colour_are_not_compared(where: SceneRoots) -> None:
    for name in (TRAIN, TEST):
        truth = where.tree(name).ground_truth
        storage.write_bytes(truth.image(16, "000001"), encode_jpeg(np.full((SIZE, SIZE, 3), 90, np.uint8)))
        storage.write_bytes(truth.mask(16, "000002"), encode_png(np.zeros((SIZE, SIZE), np.uint8)))
    tree, spec, _ = make_snapshot(where, SPLIT)
    blank = [sorted(tree.samples_dir.glob(f"{name}*/target_image.jpg"))[2].read_bytes() for name in (TRAIN, TEST)]
    assert blank[0] == blank[1], "of the empty masks, and equal as files"
    guard_snapshot(tree, spec, where)
    assert leak_of(tree, spec, where) == ""


def test_a_photograph_that_lies_unused_on_both_sides_is_none_of_the_data(where: SceneRoots) -> None:
    for name in (TRAIN, TEST):
        image = where.tree(name).ground_truth.image(99, "000000")
        storage.write_bytes(image, encode_jpeg(np.full((SIZE, SIZE, 3), (9, 99, 199), np.uint8)))
    cameras = {"mode": "explicit", "ids": [16]}
    tree, spec, _ = make_snapshot(where, SPLIT, target_cameras=cameras)
    guard_snapshot(tree, spec)


BLOCKS, WARNS, UNSEEN = "blocks: `{}`", "warns: `near_duplicates_across_splits`", "is not seen"
IN_THE_DOCS: dict[str, tuple[str, list[Any]]] = {
    "their scene, copied under another pair's name": (BLOCKS, [another_pair]),
    "their scene under another dataset's name": (BLOCKS, [another_dataset]),
    "the same without masks": (BLOCKS, [without_masks]),
    "the same with grown masks": (BLOCKS, [grown_masks]),
    "a link to their scene's folder": (BLOCKS, [linked_folder]),
    "links to their photographs, soft or hard": (BLOCKS, [linked_photographs, hard_links]),
    "their photographs under other frame numbers or cameras": (BLOCKS, [other_frame_numbers, other_cameras]),
    "one photograph among others": (BLOCKS, [one_photograph]),
    "the reference camera alone, by a `mixed` strategy too": (
        BLOCKS.format(PHOTOGRAPHS),
        [test_a_reference_camera_that_alone_filmed_test_people_does_not_train],
    ),
    "a tree that other scripts left, taken in by `thesis-assets adopt`": (
        BLOCKS.format(PHOTOGRAPHS),
        [test_an_adopted_tree_with_a_copy_in_training_does_not_train],
    ),
    "a fork that trains on what was held out with its copy, by shared shards": (
        BLOCKS.format(PHOTOGRAPHS),
        [test_a_fork_that_trains_on_what_was_held_out_with_its_copy_shares_the_shards_and_does_not_train],
    ),
    "a dataset or group whose name differs by case alone": (BLOCKS, [names_that_differ_by_case]),
    "another sequence of the pair, by a group rule that parts them": (BLOCKS, [a_rule_that_parts_a_pair]),
    "their photographs encoded anew": (WARNS, ["encoded anew"]),
    "mirrored": (WARNS, ["mirrored"]),
    "brighter, darker, or by another gamma": (WARNS, ["brighter", "darker", "gamma"]),
    "at another size": (WARNS, ["smaller"]),
    "a margin cropped away": (WARNS, ["cropped"]),
    "mirrored and brighter, without masks or with grown ones": (
        WARNS,
        ["grown masks", "without masks", "mirrored, brighter, without masks"],
    ),
    "the next frame of a slow movement": (
        WARNS,
        [near.test_a_video_that_is_cut_in_two_where_people_move_slowly_is_seen_by_its_neighbouring_frames],
    ),
    "a moving camera without masks, encoded anew": (
        WARNS,
        [near.test_a_moving_camera_without_masks_encoded_anew_is_named],
    ),
    "the next frame of a fast movement": (
        f"{UNSEEN}, unless another frame nearby is",
        [near.test_the_next_frame_of_a_fast_movement_is_not_seen_as_the_docs_say],
    ),
    "half of the picture": (UNSEEN, [near.test_half_of_the_picture_is_not_seen_as_the_docs_say]),
    "the same people in another movement, or other clothes": (
        f"{UNSEEN}: only their name tells",
        [near.test_the_same_people_in_another_movement_or_other_clothes_are_not_seen_as_the_docs_say],
    ),
}
"""By row of the table in the docs what happens, and what holds it: a way of `WAYS`, one of the near duplicates', or a test."""


def test_the_table_in_the_docs_has_the_rows_that_tests_hold_and_says_what_they_show() -> None:
    page = (Path(__file__).parents[2] / "docs" / "define_an_experiment.md").read_text()
    table = dict(re.findall(r"^\| (.+?) \| ((?:blocks|warns|is not seen).*) \|$", page, re.MULTILINE))
    shown = {}
    for row, (outcome, held_by) in IN_THE_DOCS.items():
        checks = {WAYS[way] for way in held_by if way in WAYS} or {""}
        assert all(way in WAYS or way in near.WAYS or way.__name__.startswith("test_") for way in held_by), row
        (shown[row],) = {outcome.format(check) for check in checks}
    assert table == shown
    held = {way for _, ways in IN_THE_DOCS.values() for way in ways}
    assert near.WAYS.keys() <= held
    assert WAYS.keys() - held == {a_copy_under_a_rule_that_is_meant}, "the first row, under a switch"
