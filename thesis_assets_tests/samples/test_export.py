import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from thesis_assets import storage
from thesis_assets.errors import CellLocked, SnapshotChanged, ThesisAssetsError
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.images.codecs import encode_jpeg, encode_png, read_rgb
from thesis_assets.launch.mapping import map_items
from thesis_assets.layout import SampleId, frame_name
from thesis_assets.samples import triplet_export
from thesis_assets.samples.export import export_shard
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.samples.shards import collect_sample_set, read_dropped, write_sample_set
from thesis_assets.samples.snapshot import write_generation_config
from thesis_assets.scenes.matching import group_id
from thesis_assets.schemas.samples import FrozenSnapshot, SampleMeta
from thesis_assets.splits.data_json import write_data_json
from thesis_assets.splits.manifests import split_rows, write_split_manifests
from thesis_assets_tests.samples.tiny_scenes import SIZE, generation, image, look, roots, work, write_scene

NAME = "hi4d_pair00_dance"
FIRST = SampleId(NAME, 16, 4, "000000", "000000")


def files(base):
    """Every file below a directory with its bytes, but for times, records that hold them, and locks."""
    return {
        path.relative_to(base).as_posix(): path.read_bytes()
        for path in sorted(base.rglob("*"))
        if path.is_file() and path.name != "run_stats.json" and path.suffix != ".lock" and "made_from" not in path.name
    }


def truth(base):
    return roots(base).tree(NAME).ground_truth


def other_photograph(path, content):
    """In a file of its own: the samples that are links to the older one stay as they are."""
    path.unlink()
    path.write_bytes(content)


def freeze_by_hand(tree):
    storage.write_json(
        tree.frozen,
        FrozenSnapshot(
            exp_name=tree.exp_name, frozen_at="", reason="test", data_json_sha256="",
            manifest_sha256={}, n_train=0, n_test=0,
        ),
    )  # fmt: skip


def test_a_scene_becomes_samples_as_the_document_says(tmp_path):
    write_scene(roots(tmp_path))
    shard = work(tmp_path)
    record = export_shard(shard)
    tree = shard.tree
    assert record.exported
    assert (record.stats.n_total_candidates, record.stats.n_saved, record.stats.n_dropped) == (2, 2, 0)
    assert sorted(path.name for path in tree.samples_dir.iterdir()) == [
        f"{NAME}__tcam16__rccam4__tf000000__rf000000",
        f"{NAME}__tcam16__rccam4__tf000001__rf000001",
    ]
    meta = json.loads(tree.sample_meta(FIRST).read_bytes())
    assert list(meta) == [
        "sample_id", "dataset", "scene_name", "group_id", "target_cam_id", "reference_cam_id", "target_fname",
        "reference_fname", "image_path", "target_image_path", "ref_image_path", "provenance",
    ]  # fmt: skip
    assert meta["group_id"] == "pair00"
    assert meta["image_path"] == f"samples/{FIRST}/image.png"
    assert meta["provenance"]["mask_coverage"] is None
    assert np.array_equal(read_rgb(tree.image(FIRST)), image(16) // 2)
    assert tree.target_image(FIRST).samefile(truth(tmp_path).image(16, "000000"))
    assert tree.ref_image(FIRST).samefile(truth(tmp_path).image(4, "000000"))
    assert [row.sample_id for row in read_rows(tree.scene_run(NAME).all_samples)] == sorted(
        path.name for path in tree.samples_dir.iterdir()
    )
    assert tree.scene_run(NAME).dropped_samples.read_text() == (
        "sample_id,scene_name,target_cam_id,target_fname,reason,detail\n"
    )
    assert record.preview is not None
    assert record.preview.startswith(b"\xff\xd8")


def test_masks_black_the_surroundings_of_target_and_reference_but_not_of_the_render(tmp_path):
    write_scene(roots(tmp_path), masks=True)
    shard = work(tmp_path)
    export_shard(shard)
    for path in (shard.tree.target_image(FIRST), shard.tree.ref_image(FIRST)):
        written = read_rgb(path).astype(int)
        assert written[:, SIZE // 2 + 4 :].max() <= 12  # JPEG rings a little at the edge
        assert (
            np.abs(written[:, : SIZE // 2 - 4] - read_rgb(truth(tmp_path).image(16, "000000"))[:, : SIZE // 2 - 4])[
                ..., :2
            ].max()
            < 30
        )
    assert np.array_equal(read_rgb(shard.tree.image(FIRST)), image(16) // 2)
    provenance = storage.read_json(shard.tree.sample_meta(FIRST), SampleMeta).provenance
    assert (provenance.mask_coverage, provenance.target_mode, provenance.reference_mode) == (0.5, "encoded", "encoded")


def test_a_mask_that_covers_everything_changes_no_pixel_so_the_file_is_linked(tmp_path):
    write_scene(roots(tmp_path), masks=True)
    for cam_id in (4, 16):
        truth(tmp_path).mask(cam_id, "000000").write_bytes(encode_png(np.full((SIZE, SIZE), 255, np.uint8)))
    shard = work(tmp_path)
    export_shard(shard)
    assert shard.tree.target_image(FIRST).samefile(truth(tmp_path).image(16, "000000"))
    assert storage.read_json(shard.tree.sample_meta(FIRST), SampleMeta).provenance.mask_coverage == 1.0


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("cam_id", [4, 16])
def test_a_jpeg_without_three_channels_becomes_a_sample_of_three(tmp_path, mode, cam_id):
    write_scene(roots(tmp_path))
    path = truth(tmp_path).image(cam_id, "000000")
    with Image.open(path) as colour:
        other = colour.convert(mode)
    path.unlink()
    other.save(path, quality=95)
    shard = work(tmp_path)
    export_shard(shard)
    found = shard.tree.target_image(FIRST) if cam_id == 16 else shard.tree.ref_image(FIRST)
    with Image.open(found) as image_of_sample, Image.open(path) as given:
        assert image_of_sample.mode == "RGB"
        wanted = np.asarray(given.convert("RGB")).astype(int)
        assert np.abs(np.asarray(image_of_sample).astype(int) - wanted).max() <= 8


def test_link_mode_copy_and_unmasked_pngs_give_files_of_their_own(tmp_path):
    write_scene(roots(tmp_path))
    png = truth(tmp_path).image(16, "000000", ".png")
    png.write_bytes(encode_png(image(3)))
    truth(tmp_path).image(16, "000000").unlink()
    shard = work(tmp_path, export={"link_mode": "copy"})
    export_shard(shard)
    provenance = storage.read_json(shard.tree.sample_meta(FIRST), SampleMeta).provenance
    assert (provenance.target_mode, provenance.reference_mode) == ("encoded", "copy")
    assert shard.tree.target_image(FIRST).read_bytes().startswith(b"\xff\xd8")
    assert not shard.tree.ref_image(FIRST).samefile(truth(tmp_path).image(4, "000000"))


def test_one_bad_frame_drops_one_sample_and_says_why(tmp_path):
    write_scene(roots(tmp_path), frames=range(8), masks=True)
    tree = roots(tmp_path).tree(NAME)
    tree.render(16, frame_name(1)).unlink()
    tree.render(16, frame_name(2)).write_bytes(encode_png(image(1, 8)))
    tree.render(16, frame_name(3)).write_bytes(b"not an image")
    truth(tmp_path).mask(16, frame_name(4)).write_bytes(encode_png(np.zeros((SIZE, SIZE), np.uint8)))
    content = truth(tmp_path).image(16, frame_name(5)).read_bytes()
    truth(tmp_path).image(16, frame_name(5)).write_bytes(content[: len(content) // 2])
    truth(tmp_path).image(4, frame_name(6)).write_bytes(encode_jpeg(image(1, 24)))
    truth(tmp_path).camera(16, frame_name(7)).write_bytes(b"")
    shard = work(tmp_path, filtering={"min_mask_coverage": 0.1})
    record = export_shard(shard)
    dropped = read_dropped(shard.tree.scene_run(NAME).dropped_samples)
    assert {int(row.target_fname): row.reason for row in dropped} == {
        1: "missing_render",
        2: "size_mismatch",
        3: "unreadable_input",
        4: "low_mask_coverage",
        5: "unreadable_input",
        6: "size_mismatch",
        7: "unreadable_input",
    }
    assert (record.stats.n_saved, record.stats.n_dropped) == (1, 7)
    assert [path.name for path in shard.tree.samples_dir.iterdir()] == [str(FIRST)]
    assert all(str(tmp_path) not in row.detail for row in dropped)


def test_a_missing_encoder_fails_the_scene_instead_of_dropping_its_samples(tmp_path, monkeypatch):
    write_scene(roots(tmp_path))

    def fails(*_):
        raise ThesisAssetsError("no encoder")

    monkeypatch.setattr("thesis_assets.images.codecs.encode_png", fails)
    with pytest.raises(ThesisAssetsError, match="no encoder"):
        export_shard(work(tmp_path))
    assert not work(tmp_path).tree.scene_run(NAME).run_stats.exists()


def test_the_same_bytes_come_out_whatever_the_number_of_threads_or_the_order_of_scenes(tmp_path):
    names = ["hi4d_pair00_dance", "hi4d_pair01_hug"]
    for name in names:
        write_scene(roots(tmp_path), name, cameras=(4, 16, 28), frames=range(4), masks=True)
    for root, threads, order in (("one", 1, names), ("two", 4, names[::-1])):
        for name in order:
            export_shard(work(tmp_path, name, root=root, threads=threads))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    ids = [row.sample_id for row in read_rows(work(tmp_path, root="one").tree.scene_run(NAME).all_samples)]
    assert ids == sorted(ids)


def test_one_worker_or_two_and_another_order_of_scenes_give_the_same_snapshot_byte_for_byte(tmp_path):
    names = ["hi4d_pair00_dance", "hi4d_pair01_hug", "hi4d_pair02_fight"]
    for name in names:
        write_scene(roots(tmp_path), name, cameras=(4, 16, 28), frames=range(3), masks=True)
    split = SplitSpec.model_validate({"test_groups": {"hi4d": ["pair01"]}})
    for root, workers, order in (("one", 1, names), ("two", 2, names[::-1])):
        works = [replace(work(tmp_path, name, root=root), group_id=group_id(name, {})) for name in order]
        assert not [
            outcome for outcome in map_items(export_shard, works, workers=workers) if isinstance(outcome, Exception)
        ]
        tree = works[0].tree
        samples = collect_sample_set(tree, order)
        write_sample_set(tree, samples)
        result = split_rows(samples.rows, split, lambda scene: ("hi4d", group_id(scene, {})))
        write_split_manifests(tree, samples.rows, result, split, samples.dropped, samples.shards)
        write_data_json(tree, result.train, result.test, "remove degradation")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    data_json = next(name for name in one if name.endswith("data.json"))
    two[data_json] = two[data_json].replace(str(tmp_path / "two").encode(), str(tmp_path / "one").encode())
    for name in [name for name in one if name.endswith("generation_stats.json")]:
        for tree_files, root in ((one, "one"), (two, "two")):
            tree_files[name] = tree_files[name].replace(str(tmp_path / root).encode(), b"")
    assert one == two


def test_a_current_shard_is_left_alone_and_a_changed_scene_makes_it_stale(tmp_path):
    write_scene(roots(tmp_path))
    assert look(work(tmp_path)).state == "missing"
    first = export_shard(work(tmp_path))
    assert look(work(tmp_path)).in_words == "made"
    again = export_shard(work(tmp_path))
    assert not again.exported
    assert again.stats == first.stats
    assert look(work(tmp_path, group="pair99")).in_words == "stale: `split.group_id` was pair00, is pair99"
    other_photograph(truth(tmp_path).image(16, "000000"), b"")
    assert look(work(tmp_path)).in_words == f"stale: `canonical_gt/{NAME}/images/16/000000.jpg`: changed"
    assert export_shard(work(tmp_path)).stats.n_saved == 1
    assert not work(tmp_path).tree.sample_dir(FIRST).exists()


def test_a_lost_sample_is_made_again_and_the_others_are_kept(tmp_path):
    write_scene(roots(tmp_path), frames=range(4))
    shard = work(tmp_path)
    export_shard(shard)
    before = files(shard.tree.base)
    kept = shard.tree.image(SampleId(NAME, 16, 4, "000002", "000002"))
    inode = kept.stat().st_ino
    shard.tree.image(FIRST).unlink()
    assert look(shard).state == "missing"
    lines = []
    assert export_shard(shard, lines.append).exported
    assert files(shard.tree.base) == before
    assert kept.stat().st_ino == inode
    assert lines[0] == f"{NAME}: 3 of 4 triplets are there already"


def test_an_interrupted_export_goes_on_where_it_stopped(tmp_path, monkeypatch):
    write_scene(roots(tmp_path), frames=range(6))
    shard = work(tmp_path)
    rendered = []
    render = triplet_export.render_frame

    def stops_at_the_fourth(renderer, scene, fname, cam_ids):
        if len(rendered) == 3:
            raise KeyboardInterrupt
        rendered.append(fname)
        return render(renderer, scene, fname, cam_ids)

    monkeypatch.setattr(triplet_export, "render_frame", stops_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        export_shard(shard)
    assert not shard.tree.scene_run(NAME).run_stats.exists()
    left = shard.tree.samples_dir / f".tmp-{FIRST}.abcdef012345.partial"
    left.mkdir()
    written = len([path for path in shard.tree.samples_dir.iterdir() if not path.name.startswith(".tmp-")])
    rendered.clear()

    def counts(renderer, scene, fname, cam_ids):
        rendered.append(fname)
        return render(renderer, scene, fname, cam_ids)

    monkeypatch.setattr(triplet_export, "render_frame", counts)
    export_shard(shard)
    assert written > 0
    assert len(rendered) == 6 - written
    assert not left.exists()
    export_shard(work(tmp_path, root="in_one_go"))
    assert files(shard.tree.root) == files(tmp_path / "in_one_go")


def test_a_stale_shard_counts_as_unfinished_while_it_is_made_anew(tmp_path, monkeypatch):
    write_scene(roots(tmp_path))
    shard = work(tmp_path)
    export_shard(shard)
    truth(tmp_path).image(16, "000000").write_bytes(encode_jpeg(image(9)))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(triplet_export, "render_frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_shard(shard)
    assert not shard.tree.scene_run(NAME).run_stats.exists()


def test_another_generation_section_is_refused_before_anything_is_written(tmp_path):
    write_scene(roots(tmp_path))
    shard = work(tmp_path)
    export_shard(shard)
    before = files(shard.tree.base)
    other = work(tmp_path, frames={"stride": 2})
    with pytest.raises(SnapshotChanged) as caught:
        export_shard(other)
    assert caught.value.key == "generation.frames.stride"
    assert caught.value.found == "`generation.frames.stride` was 1, is 2"
    assert "fork" in caught.value.remedy
    assert "--force scene_samples" in caught.value.remedy
    assert files(shard.tree.base) == before


def test_replace_exports_again_and_leaves_no_sample_of_the_old_section(tmp_path):
    write_scene(roots(tmp_path))
    export_shard(work(tmp_path))
    other = work(tmp_path, frames={"stride": 2})
    write_generation_config(other.tree, other.generation, replace=True)
    assert export_shard(other).exported
    assert [path.name for path in other.tree.samples_dir.iterdir()] == [str(FIRST)]


def test_more_scenes_or_another_prompt_are_no_other_generation(tmp_path):
    write_scene(roots(tmp_path))
    export_shard(work(tmp_path))
    wider = work(tmp_path, scenes=["hi4d_*", "mmm_*"], export={"prompt": "mend it"})
    assert not export_shard(wider).exported
    written = yaml.safe_load(wider.tree.generation_config.read_text())
    assert written["generation"]["scenes"] == ["hi4d_*", "mmm_*"]
    assert written["generation"] == {
        "scenes": ["hi4d_*", "mmm_*"], "renders": {"source": "precomputed"}, "export": {"prompt": "mend it"},
    }  # fmt: skip
    assert written["resolved"]["frames"]["stride"] == 1


def test_a_frozen_snapshot_takes_no_new_and_no_changed_shard_but_a_repair(tmp_path):
    write_scene(roots(tmp_path))
    write_scene(roots(tmp_path), "hi4d_pair01_hug")
    shard = work(tmp_path)
    export_shard(shard)
    freeze_by_hand(shard.tree)
    assert not export_shard(shard).exported
    with pytest.raises(SnapshotChanged, match="frozen"):
        export_shard(work(tmp_path, "hi4d_pair01_hug", group="pair01"))
    with pytest.raises(SnapshotChanged, match="frozen"):
        write_generation_config(shard.tree, generation(frames={"stride": 2}), replace=True)
    shutil.rmtree(shard.tree.sample_dir(FIRST))
    assert export_shard(shard).exported
    other_photograph(truth(tmp_path).image(16, "000000"), encode_jpeg(image(9)))
    with pytest.raises(SnapshotChanged, match="made from other inputs") as caught:
        export_shard(shard)
    assert caught.value.found == f"stale: `canonical_gt/{NAME}/images/16/000000.jpg`: changed"
    assert shard.tree.scene_run(NAME).run_stats.exists()


def test_two_exports_of_one_scene_do_not_run_at_once(tmp_path):
    write_scene(roots(tmp_path))
    shard = work(tmp_path)
    caught = []

    def second():
        try:
            export_shard(shard)
        except CellLocked as error:
            caught.append(error)

    with storage.cell_lock(shard.tree.lock(f"scene-{NAME}"), "test"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_an_equal_shard_of_another_experiment_is_linked_not_rendered(tmp_path, monkeypatch):
    write_scene(roots(tmp_path))
    first = work(tmp_path, exp="v1")
    export_shard(first)
    monkeypatch.delattr(triplet_export, "render_frame")
    fork = work(tmp_path, exp="v2", scenes=["hi4d_*"])
    record = export_shard(fork)
    assert (record.exported, record.linked) == (True, True)
    assert fork.tree.image(FIRST).samefile(first.tree.image(FIRST))
    assert files(fork.tree.samples_dir) == files(first.tree.samples_dir)
    assert look(fork).in_words == "made"
    copied = work(tmp_path, exp="v3", export={"link_mode": "copy"})
    assert export_shard(copied).linked
    assert not copied.tree.image(FIRST).samefile(first.tree.image(FIRST)), "the same samples, in files of their own"


@pytest.mark.parametrize("differs", [{"group": "pair09"}, {"frames": {"stride": 2}}])
def test_a_shard_of_another_group_or_section_is_not_linked(tmp_path, differs):
    write_scene(roots(tmp_path))
    export_shard(work(tmp_path, exp="v1"))
    assert not export_shard(work(tmp_path, exp="v2", **differs)).linked


def test_a_damaged_shard_of_another_experiment_is_not_linked(tmp_path):
    write_scene(roots(tmp_path))
    first = work(tmp_path, exp="v1")
    export_shard(first)
    first.tree.image(FIRST).unlink()
    record = export_shard(work(tmp_path, exp="v2"))
    assert (record.linked, record.stats.n_saved) == (False, 2)
