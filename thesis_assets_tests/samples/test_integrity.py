import shutil

import pytest

from thesis_assets import storage
from thesis_assets.images.codecs import encode_png
from thesis_assets.layout import SampleId
from thesis_assets.samples.export import export_shard
from thesis_assets.samples.integrity import check_dropped_share, check_manifest_matches_disk, check_samples_complete
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.samples.snapshot import check_generation_config, write_generation_config
from thesis_assets.schemas.samples import DroppedSample
from thesis_assets_tests.samples.tiny_scenes import generation, image, roots, work, write_scene

NAME = "hi4d_pair00_dance"
FIRST = SampleId(NAME, 16, 4, "000000", "000000")


@pytest.fixture
def tree(tmp_path):
    write_scene(roots(tmp_path))
    export_shard(work(tmp_path, export={"link_mode": "copy"}))
    return work(tmp_path).tree


@pytest.fixture
def rows(tree):
    return read_rows(tree.scene_run(NAME).all_samples)


def test_whole_samples_pass_with_counts(tree, rows):
    outcome = check_samples_complete(tree, rows)
    assert outcome.passed
    assert outcome.counts == {"samples": 2, "decoded": 1, "offenders": 0}
    assert check_samples_complete(tree, rows, full=True).counts["decoded"] == 2


@pytest.mark.parametrize("name", ["image.png", "target_image.jpg", "ref_image.jpg", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_missing_or_empty_file_is_named(tree, rows, name, damage):
    path = tree.sample_dir(FIRST) / name
    path.unlink()
    if damage == "empty":
        path.write_bytes(b"")
    outcome = check_samples_complete(tree, rows)
    assert not outcome.passed
    assert outcome.offenders[0].startswith(f"{FIRST}/{name}")


@pytest.mark.parametrize("name", ["image.png", "target_image.jpg", "ref_image.jpg"])
def test_a_file_that_is_cut_short_is_found_without_decoding(tree, rows, name):
    path = tree.sample_dir(FIRST) / name
    path.write_bytes(path.read_bytes()[:-20])
    assert not check_samples_complete(tree, rows, decode_share=0).passed


def test_images_of_different_sizes_are_named(tree, rows):
    tree.image(FIRST).write_bytes(encode_png(image(0, 8)))
    outcome = check_samples_complete(tree, rows)
    assert not outcome.passed
    assert "sizes differ: image.png 8x8, target_image.jpg 16x16" in outcome.offenders[0]


def test_broken_pixels_inside_a_whole_frame_are_found_by_decoding(tree, rows):
    content = bytearray(tree.image(FIRST).read_bytes())
    content[len(content) // 2] ^= 0xFF
    tree.image(FIRST).write_bytes(content)
    assert check_samples_complete(tree, rows, decode_share=0).passed
    assert not check_samples_complete(tree, rows, full=True).passed


def test_the_manifest_and_the_disk_must_agree_in_both_directions(tree, rows):
    assert check_manifest_matches_disk(tree, rows).passed
    (tree.samples_dir / ".tmp-x.partial").mkdir()
    assert check_manifest_matches_disk(tree, rows).passed
    not_in_a_row = check_manifest_matches_disk(tree, rows[1:])
    assert not not_in_a_row.passed
    assert str(FIRST) in not_in_a_row.offenders[0]
    changed = [rows[0].model_copy(update={"group_id": "pair09"}), rows[1]]
    assert "differ in group_id" in check_manifest_matches_disk(tree, changed).offenders[0]
    shutil.rmtree(tree.sample_dir(FIRST))
    assert "meta.json is missing" in check_manifest_matches_disk(tree, rows).offenders[0]


def test_a_meta_file_with_an_unknown_key_is_no_meta_file(tree, rows):
    value = storage.read_json_value(tree.sample_meta(FIRST))
    storage.write_json(tree.sample_meta(FIRST), {**value, "split": "train"})
    assert "split" in check_manifest_matches_disk(tree, rows).offenders[0]


def test_the_generation_section_is_held_against_the_file_and_every_shard(tree):
    assert check_generation_config(tree, generation(export={"link_mode": "copy"}), [NAME]).passed
    other = check_generation_config(tree, generation(frames={"stride": 2}), [NAME])
    assert other.offenders == ["generation_config.yaml: `generation.frames.stride` was 1, is 2"]
    write_generation_config(tree, generation(frames={"stride": 2}), replace=True)
    halfway = check_generation_config(tree, generation(frames={"stride": 2}), [NAME])
    assert halfway.offenders == [f"the shard of {NAME}: `generation.frames.stride` was 1, is 2"]
    tree.generation_config.unlink()
    assert not check_generation_config(tree, generation(), [NAME]).passed


def test_the_share_of_drops_is_named_by_scene_and_reason():
    dropped = [
        DroppedSample(sample_id=str(i), scene_name=NAME, target_cam_id=1, target_fname="0", reason="missing_render")
        for i in range(3)
    ]
    outcome = check_dropped_share(97, dropped)
    assert outcome.passed
    assert outcome.counts == {"saved": 97, "dropped": 3, "share": 0.03}
    assert outcome.offenders == [f"{NAME}: missing_render: 3"]
    assert not check_dropped_share(97, dropped, below=0.03).passed


def test_an_empty_set_passes_no_check(tree):
    outcomes = [
        check_samples_complete(tree, []),
        check_manifest_matches_disk(tree, []),
        check_dropped_share(0, []),
        check_generation_config(tree, generation(), {}),
    ]
    assert [outcome.passed for outcome in outcomes] == [False] * 4
    assert all("there is nothing to check" in outcome.message for outcome in outcomes)
