"""What the split and data.json are made from, and a snapshot that was moved, copied, or written by a version before."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.errors import Leak, SnapshotChanged
from thesis_assets.experiments.spec import Export, SplitSpec
from thesis_assets.launch.telling import told_to
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Place, Unit, Wanted, begin, take_over
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.splits.data_json import (
    check_data_json,
    data_json_unit,
    kept_prompt,
    moved_from,
    renew_paths,
    write_data_json,
)
from thesis_assets.splits.manifests import split_unit
from thesis_assets.splits.snapshot_guard import freeze, guard_snapshot
from thesis_assets_tests.splits.snapshots import (
    PROMPT,
    SPLIT,
    as_older,
    contents_of,
    copied_without_times,
    moved,
    record_shards,
    write_snapshot,
    write_splits,
)

Move = Callable[[DifixTree, Path], DifixTree]


@pytest.fixture
def tree(tmp_path: Path) -> DifixTree:
    return write_snapshot(tmp_path / "data")


def units(tree: DifixTree, split: SplitSpec = SPLIT, prompt: str = PROMPT) -> list[Unit]:
    return [split_unit(tree, split), data_json_unit(tree, prompt)]


def states(tree: DifixTree, split: SplitSpec = SPLIT, prompt: str = PROMPT) -> list[str]:
    return [unit.look().in_words for unit in units(tree, split, prompt)]


def test_what_was_written_is_made_and_before_it_is_missing(tmp_path: Path, tree: DifixTree) -> None:
    assert states(tree) == ["made", "made"]
    assert states(DifixTree(tmp_path, "other")) == ["missing: it was not made yet"] * 2


def test_touched_files_are_as_made(tree: DifixTree) -> None:
    for path in tree.base.rglob("*"):
        path.touch()
    assert states(tree) == ["made", "made"]


def test_an_emptied_manifest_and_a_deleted_data_json_are_found(tree: DifixTree) -> None:
    size = tree.split_train.stat().st_size
    tree.split_train.write_bytes(b"")
    tree.data_json.unlink()
    assert states(tree) == [
        f"damaged: `manifests/split_train.jsonl` (0 bytes, was {size})",
        "missing: `difix/data.json`: missing",
    ]


def test_another_split_or_prompt_is_stale_in_words(tree: DifixTree) -> None:
    split = SplitSpec(test_groups={"hi4d": ("pair01", "pair02")}, reserved_scenes=SPLIT.reserved_scenes)
    assert states(tree, split)[0].startswith("stale: `split.test_groups` was [")
    assert states(tree, prompt="sharper")[1] == (f"stale: `generation.export.prompt` was {PROMPT}, is sharper")


def test_a_dataset_that_is_held_out_no_more_makes_the_split_stale(tree: DifixTree) -> None:
    two = SplitSpec(test_groups={"hi4d": ("pair01",), "studio": ("pair00",)})
    write_splits(tree, read_rows(tree.all_samples), SPLIT)
    making = begin(split_unit(tree, two))
    making.finish([tree.split_train])
    assert split_unit(tree, SplitSpec(test_groups={"hi4d": ("pair01",)})).look().state == "stale"


def test_a_sample_set_that_was_made_anew_makes_the_split_stale_and_it_in_turn_data_json(tree: DifixTree) -> None:
    place = Place(tree.base, tree.made_from("sample_set"))
    begin(Unit("sample_set", place, Wanted("sample_set", "1"))).finish([tree.all_samples])
    assert states(tree) == ["stale: `sample_set`: made anew", "made"]
    write_splits(tree, read_rows(tree.all_samples))
    assert states(tree) == ["made", "stale: `split_manifests`: made anew"]


@pytest.mark.parametrize("move", [moved, copied_without_times])
def test_a_frozen_snapshot_that_was_moved_stays_frozen_and_valid(tmp_path: Path, tree: DifixTree, move: Move) -> None:
    record_shards(tree)
    freeze(tree, "a run")
    before = contents_of(tree.base)
    versions = [unit.look().data_version for unit in units(tree)]
    there = move(tree, tmp_path / "elsewhere")
    assert states(there) == ["made", "made"]
    assert moved_from(there) == (str(tree.base), False)
    told: list[str] = []
    with told_to(told.append):
        guard_snapshot(there, SPLIT)
    assert len(told) == 1
    assert str(tree.base) in told[0]
    assert moved_from(there) == (str(tree.base), True)
    assert not renew_paths(there)
    after = contents_of(there.base)
    assert {name for name in after if after[name] != before.get(name)} == {
        "difix/data.json",
        "meta/difix_data.made_from.json",
    }
    assert str(tree.base).encode() not in after["difix/data.json"]
    assert [unit.look().data_version for unit in units(there)] == versions
    assert states(there) == ["made", "made"]
    train, test = read_rows(there.split_train), read_rows(there.split_test)
    assert check_data_json(there, train, test, PROMPT).passed
    write_data_json(there, train, test, PROMPT)
    with pytest.raises(SnapshotChanged):
        write_data_json(there, train, test, "another prompt")


@pytest.mark.parametrize("move", [moved, copied_without_times])
def test_a_snapshot_that_a_version_before_froze_stays_valid_where_it_is_and_after_a_move(
    tmp_path: Path, tree: DifixTree, move: Move
) -> None:
    freeze(tree, "a run")
    as_older(tree)
    frozen = tree.frozen.read_bytes()
    assert storage.sha256_file(tree.data_json).encode() in frozen
    guard_snapshot(tree, SPLIT)
    assert tree.frozen.read_bytes() == frozen
    there = move(tree, tmp_path / "elsewhere")
    for _ in range(2):
        guard_snapshot(there, SPLIT)
    write_data_json(there, read_rows(there.split_train), read_rows(there.split_test), PROMPT)


def test_a_prompt_that_nobody_set_stays_as_the_file_was_written(tree: DifixTree) -> None:
    assert data_json_unit(tree, "tomorrow's default", given=False).look().state == "made"
    assert kept_prompt(tree, Export.model_construct(_fields_set=set(), prompt="tomorrow's default")) == PROMPT
    assert kept_prompt(tree, Export(prompt="mine")) == "mine"


def test_the_check_of_a_moved_data_json_says_from_where(tmp_path: Path, tree: DifixTree) -> None:
    there = moved(tree, tmp_path / "elsewhere")
    outcome = check_data_json(there, read_rows(there.split_train), read_rows(there.split_test), PROMPT)
    assert not outcome.passed
    assert str(tree.base) in outcome.offenders[0]


def test_a_prompt_that_reads_as_a_path_of_the_old_place_stays(tmp_path: Path, tree: DifixTree) -> None:
    prompt = f'{tree.base}/samples "image":"{tree.base}/x"'
    write_data_json(tree, read_rows(tree.split_train), read_rows(tree.split_test), prompt)
    there = moved(tree, tmp_path / 'a "quoted" place')
    assert renew_paths(there)
    train, test = read_rows(there.split_train), read_rows(there.split_test)
    assert check_data_json(there, train, test, prompt).passed


def test_what_a_version_before_wrote_works_and_is_given_records(tree: DifixTree) -> None:
    as_older(tree)
    assert states(tree) == ["made (not verified yet)"] * 2
    other = SplitSpec(test_fraction=0.3)
    assert take_over(split_unit(tree, other)) is not None
    assert take_over(data_json_unit(tree, PROMPT)) is not None
    assert states(tree) == ["made", "made"]
    assert split_unit(tree, other).look().state == "stale"


def overwrite(tree: DifixTree, *, kept_times: bool) -> Path:
    """A train sample's images by those of a test sample, of one size."""
    train, test = read_rows(tree.split_train)[0], read_rows(tree.split_test)[0]
    for name in ("image_path", "target_image_path", "ref_image_path"):
        path = tree.base / getattr(train, name)
        times = path.stat()
        path.write_bytes((tree.base / getattr(test, name)).read_bytes())
        if kept_times:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return tree.base / train.image_path


@pytest.fixture
def distinct(tree: DifixTree) -> DifixTree:
    """A snapshot whose images differ in their bytes, not in their size; with records."""
    for number, path in enumerate(sorted(tree.samples_dir.rglob("*image*"))):
        path.write_bytes(b"%06d" % number)
    record_shards(tree)
    return tree


def test_a_train_sample_with_the_images_of_a_test_sample_is_refused_in_every_start(distinct: DifixTree) -> None:
    guard_snapshot(distinct, SPLIT)
    image = overwrite(distinct, kept_times=False)
    for _ in range(2):
        with pytest.raises(SnapshotChanged, match="not the ones that were exported") as caught:
            guard_snapshot(distinct, SPLIT)
        assert distinct.relative(image) in str(caught.value.found)


def test_touched_images_and_shards_without_a_record_are_trained_on(distinct: DifixTree) -> None:
    for path in distinct.samples_dir.rglob("*image*"):
        path.touch()
    guard_snapshot(distinct, SPLIT)
    as_older(distinct)
    guard_snapshot(distinct, SPLIT)
    overwrite(distinct, kept_times=False)
    with pytest.raises(Leak, match="the same photographs"):
        guard_snapshot(distinct, SPLIT)


def test_a_shard_record_that_cannot_be_read_is_refused(distinct: DifixTree) -> None:
    distinct.scene_run("hi4d_pair00_dance").made_from.write_text("{")
    with pytest.raises(SnapshotChanged):
        guard_snapshot(distinct, SPLIT)
