"""What a shard is made from is content: what makes it stale, what does not, and what is made again of a damaged one."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from thesis_assets import storage
from thesis_assets.errors import InvalidScene, SnapshotChanged
from thesis_assets.images import codecs
from thesis_assets.images.codecs import encode_jpeg, encode_png, read_rgb
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.provenance import CODE_VERSIONS, Place, examine, read_record
from thesis_assets.rendering import gaussian_renderer
from thesis_assets.rendering.gaussians import from_colors, write_ply
from thesis_assets.samples import triplet_export
from thesis_assets.samples.export import ShardWork, export_shard
from thesis_assets.samples.shards import collect_sample_set, sample_set_unit, write_sample_set
from thesis_assets.samples.snapshot import write_generation_config
from thesis_assets.schemas.samples import SampleMeta
from thesis_assets_tests.samples.test_export import freeze_by_hand, other_photograph
from thesis_assets_tests.samples.tiny_scenes import generation, image, look, roots, unit_of, work, write_scene
from thesis_assets_tests.services.small_disk import mounted

NAME = "hi4d_pair00_dance"
FIRST, SECOND = (SampleId(NAME, 16, 4, fname, fname) for fname in ("000000", "000001"))
LONG_AGO = 1_700_000_000


@pytest.fixture
def shard(tmp_path: Path) -> ShardWork:
    """Exported, and frozen by no one."""
    write_scene(roots(tmp_path), masks=True)
    export_shard(work(tmp_path))
    return work(tmp_path)


@pytest.fixture
def no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(triplet_export, "render_frame")


def photograph(base: Path, fname: str = "000000") -> Path:
    return roots(base).tree(NAME).ground_truth.image(16, fname)


def every_file(base: Path) -> list[Path]:
    return [path for path in base.rglob("*") if path.is_file()]


# ---- what makes nothing stale


def test_a_touched_scene_is_as_it_was_also_in_a_frozen_snapshot(
    tmp_path: Path, shard: ShardWork, no_rendering: None
) -> None:
    freeze_by_hand(shard.tree)
    for path in every_file(roots(tmp_path).canonical_gt):
        os.utime(path)
    assert look(shard).in_words == "made"
    assert not export_shard(shard).exported


@pytest.mark.parametrize(
    "bring",
    [
        pytest.param(shutil.copytree, id="cp -a"),
        pytest.param(lambda a, b: shutil.copytree(a, b, copy_function=shutil.copyfile), id="cp -r"),
        pytest.param(shutil.move, id="mv"),
    ],
)
def test_a_moved_or_copied_home_is_as_it_was(
    tmp_path: Path, bring: Callable[[Path, Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write_scene(roots(here), masks=True)
    export_shard(work(here))
    freeze_by_hand(work(here).tree)
    bring(here, there)
    monkeypatch.delattr(triplet_export, "render_frame")
    assert look(work(there)).in_words == "made"
    assert not export_shard(work(there)).exported
    assert examine(unit_of(work(there))).in_words == "made"


def test_a_home_on_another_file_system_holds_copies_and_survives_the_way_back(tmp_path: Path) -> None:
    write_scene(roots(tmp_path))
    with mounted(tmp_path / "ram", "16m") as ram:
        shard = work(tmp_path, root="ram/difix")
        export_shard(shard)
        meta = storage.read_json(shard.tree.sample_meta(FIRST), SampleMeta)
        assert meta.provenance.target_mode == "copy"
        assert meta.provenance.images["target_image.jpg"] == meta.provenance.photographs["target"]
        assert look(shard).in_words == "made"
        shutil.copytree(ram / "difix", tmp_path / "difix", copy_function=shutil.copyfile)
    assert look(work(tmp_path)).in_words == "made"
    assert examine(unit_of(work(tmp_path))).in_words == "made"


def test_hard_links_that_a_copy_took_apart_make_nothing_stale(tmp_path: Path, shard: ShardWork) -> None:
    for path in every_file(shard.tree.samples_dir):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert look(shard).in_words == "made"


def test_a_scene_that_is_gone_makes_nothing_stale(tmp_path: Path, shard: ShardWork) -> None:
    for root in (roots(tmp_path).canonical_gt, roots(tmp_path).renders, roots(tmp_path).registry):
        shutil.rmtree(root)
    assert look(shard).in_words == "made"
    assert not export_shard(shard).exported


def test_a_photograph_that_is_gone_takes_no_sample_with_it(tmp_path: Path, shard: ShardWork) -> None:
    photograph(tmp_path).unlink()
    assert not export_shard(shard).exported
    assert shard.tree.sample_dir(FIRST).is_dir()


def test_the_way_a_file_comes_to_its_place_is_no_part_of_what_it_is(tmp_path: Path, shard: ShardWork) -> None:
    assert look(work(tmp_path, export={"link_mode": "copy", "prompt": "mend it"}, threads=3)).in_words == "made"
    assert look(work(tmp_path, export={"png_encoder": "pillow"})).state == "stale"


def test_a_default_that_changed_makes_no_work_and_later_scenes_are_made_by_the_old_one(
    tmp_path: Path, shard: ShardWork
) -> None:
    """What the file does not set is as it was: here, as if the stride's default had been 2 when the snapshot was begun."""
    write_scene(roots(tmp_path), "hi4d_pair01_hug")
    begun_by(shard.tree, {"stride": 2})
    freeze_by_hand(shard.tree)
    assert look(shard).in_words == "made"
    assert not export_shard(shard).exported
    shard.tree.frozen.unlink()
    later = export_shard(work(tmp_path, "hi4d_pair01_hug", group="pair01"))
    assert (later.stats.n_saved, later.stats.n_dropped) == (1, 0)
    assert read_yaml(shard.tree.generation_config)["resolved"]["frames"]["stride"] == 2
    with pytest.raises(SnapshotChanged, match="another generation section") as caught:
        write_generation_config(shard.tree, generation(frames={"stride": 1}))
    assert caught.value.found == "`generation.frames.stride` was 2, is 1"


def begun_by(tree: DifixTree, frames: dict[str, object]) -> None:
    """Put other values into what the snapshot says it was made by."""
    section = read_yaml(tree.generation_config)
    section["resolved"]["frames"] |= frames
    tree.generation_config.write_text(yaml.safe_dump(section))
    for path in tree.scene_runs_dir.glob("*/made_from.json"):
        record = json.loads(path.read_bytes())
        record["options"]["generation"]["frames"] |= frames
        path.write_text(json.dumps(record))


def read_yaml(path: Path) -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = yaml.safe_load(path.read_text())
    return found


# ---- what does


def test_an_edited_photograph_mask_camera_and_registry_are_named(tmp_path: Path, shard: ShardWork) -> None:
    tree = roots(tmp_path).tree(NAME)
    edited = {
        f"canonical_gt/{NAME}/images/16/000000.jpg": tree.ground_truth.image(16, "000000"),
        f"canonical_gt/{NAME}/seg/img_seg_mask/16/all/000001.png": tree.ground_truth.mask(16, "000001"),
        f"canonical_gt/{NAME}/all_cameras/4/000001.npz": tree.ground_truth.camera(4, "000001"),
        f"registry/{NAME}.json": tree.registry_entry,
        f"renders/{NAME}/16/000000.png": tree.render(16, "000000"),
    }
    for name, path in edited.items():
        content = path.read_bytes()
        other_photograph(path, content + b" ")
        assert look(shard).in_words == f"stale: `{name}`: changed"
        other_photograph(path, content)
        assert look(shard).in_words == "made"


def test_a_new_frame_makes_stale(tmp_path: Path, shard: ShardWork) -> None:
    storage.write_bytes(photograph(tmp_path, "000002"), encode_jpeg(image(2)))
    assert look(shard).in_words == f"stale: `canonical_gt/{NAME}/images/16/000002.jpg`: new"


def test_a_strategy_that_is_taken_out_of_the_mixture_is_another_mixture(tmp_path: Path) -> None:
    write_scene(roots(tmp_path), cameras=(4, 16, 28))
    mixture = {"same_time_source": 1.0, "nearest_camera": 1.0}
    export_shard(work(tmp_path, reference={"strategy": "mixed", "weights": mixture}))
    one = work(tmp_path, reference={"strategy": "mixed", "weights": {"same_time_source": 1.0}})
    assert look(one).in_words == "stale: `generation.reference.weights.nearest_camera` was 1.0, is not set"


def test_a_raised_revision_of_the_rasteriser_makes_no_work_and_a_new_experiment_renders_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(roots(tmp_path))
    ply = roots(tmp_path).tree(NAME).estimated.static_gaussians
    ply.parent.mkdir(parents=True)
    write_ply(ply, from_colors([[0, 0, 0]], [[0.9, 0.5, 0.1]], 0.2))
    gaussians = {"renders": {"source": "gaussians"}}
    export_shard(work(tmp_path, exp="v1", **gaussians))
    assert export_shard(work(tmp_path, exp="v2", **gaussians)).linked
    monkeypatch.setattr(gaussian_renderer, "TORCH_REVISION", 2)
    assert look(work(tmp_path, exp="v1", **gaussians)).in_words == "made (with torch rasteriser 1, here is 2)"
    fresh = export_shard(work(tmp_path, exp="v3", **gaussians))
    assert (fresh.exported, fresh.linked) == (True, False)
    record = read_record(unit_of(work(tmp_path, exp="v3", **gaussians)).place)
    assert record is not None
    assert record.tools == {"torch rasteriser": "2"}


def test_an_older_code_version_is_no_work_and_is_not_linked(
    tmp_path: Path, shard: ShardWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODE_VERSIONS, "scene_samples", "2")
    assert look(shard).in_words == "made (by an older version: scene_samples 1, now 2)"
    assert not export_shard(work(tmp_path, exp="v2")).linked
    assert export_shard(work(tmp_path, exp="v3")).linked


def test_a_shard_is_not_linked_where_something_it_was_made_from_is_gone(tmp_path: Path, shard: ShardWork) -> None:
    photograph(tmp_path).unlink()
    record = export_shard(work(tmp_path, exp="v2"))
    assert (record.linked, record.stats.n_saved) == (False, 1)


# ---- mending


def cut(path: Path) -> None:
    other_photograph(path, path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["image.png", "target_image.jpg", "ref_image.jpg", "meta.json"])
@pytest.mark.parametrize(
    ("harm", "state"),
    [(Path.unlink, "missing"), (cut, "damaged"), (lambda path: other_photograph(path, b""), "damaged")],
)
def test_a_file_that_is_gone_cut_or_emptied_is_named_and_its_sample_alone_made_again(
    shard: ShardWork, name: str, harm: Callable[[Path], None], state: str
) -> None:
    freeze_by_hand(shard.tree)
    path = shard.tree.sample_dir(FIRST) / name
    content, others = path.read_bytes(), shard.tree.sample_dir(SECOND).stat()
    harm(path)
    found = look(shard)
    assert (found.state, (*found.missing, *found.damaged)) == (state, (f"samples/{FIRST}/{name}",))
    assert export_shard(shard).exported
    assert path.read_bytes() == content
    assert shard.tree.sample_dir(SECOND).stat() == others
    assert look(shard).in_words == "made"


@pytest.mark.parametrize("name", ["all_samples.jsonl", "dropped_samples.csv", "run_stats.json"])
def test_a_damaged_file_of_the_shard_itself_is_written_again(shard: ShardWork, name: str) -> None:
    freeze_by_hand(shard.tree)
    path = shard.tree.scene_run(NAME).base / name
    content = path.read_bytes()
    path.write_bytes(b"")
    assert look(shard).state == "damaged"
    export_shard(shard)
    assert look(shard).in_words == "made"
    assert name == "run_stats.json" or path.read_bytes() == content


def test_a_lost_sample_folder_is_made_again_and_the_inputs_stay_known_when_another_is_gone(
    tmp_path: Path, shard: ShardWork
) -> None:
    gone = photograph(tmp_path, "000001")
    content = gone.read_bytes()
    gone.unlink()
    shutil.rmtree(shard.tree.sample_dir(FIRST))
    assert look(shard).state == "missing"
    export_shard(shard)
    assert look(shard).state == "made"
    assert shard.tree.sample_dir(SECOND).is_dir()
    gone.write_bytes(content)
    assert look(shard).in_words == "made", "what came back is what the shard was made from"


def test_a_lost_sample_whose_photograph_is_gone_is_refused_by_name(tmp_path: Path, shard: ShardWork) -> None:
    photograph(tmp_path).unlink()
    shutil.rmtree(shard.tree.sample_dir(FIRST))
    with pytest.raises(InvalidScene, match="could not be made again") as caught:
        export_shard(shard)
    assert str(FIRST) in str(caught.value.found)
    assert look(shard).state == "missing"
    assert shard.tree.sample_dir(SECOND).is_dir()


def test_a_sample_with_the_images_of_another_one_is_damaged(shard: ShardWork) -> None:
    for name in ("image.png", "target_image.jpg", "ref_image.jpg"):
        other_photograph(shard.tree.sample_dir(FIRST) / name, (shard.tree.sample_dir(SECOND) / name).read_bytes())
    assert look(shard).state == "damaged"
    export_shard(shard)
    assert examine(unit_of(shard)).in_words == "made"


def test_a_frozen_snapshot_takes_the_same_pixels_in_other_bytes(
    shard: ShardWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another version of the PNG library writes them."""
    freeze_by_hand(shard.tree)
    image_path = shard.tree.image(FIRST)
    before, pixels = image_path.read_bytes(), read_rgb(image_path)
    image_path.unlink()
    monkeypatch.setattr(codecs, "encode_png", lambda array, *_: encode_png(array, "pillow"))
    export_shard(shard)
    assert image_path.read_bytes() != before
    assert (read_rgb(image_path) == pixels).all()
    assert look(shard).in_words == "made"


def test_a_frozen_snapshot_refuses_other_pixels_and_an_open_one_takes_them(
    shard: ShardWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = triplet_export.render_frame

    def brighter(*asked: object) -> object:
        return {cam_id: (view + 0.1).clamp(0, 1) for cam_id, view in render(*asked).items()}

    monkeypatch.setattr(triplet_export, "render_frame", brighter)
    freeze_by_hand(shard.tree)
    shutil.rmtree(shard.tree.sample_dir(FIRST))
    with pytest.raises(SnapshotChanged, match="would be another one") as caught:
        export_shard(shard)
    assert caught.value.key == f"samples/{FIRST}/image.png"
    assert not shard.tree.sample_dir(FIRST).exists()
    shard.tree.frozen.unlink()
    export_shard(shard)
    assert look(shard).in_words == "made"


def cut(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(("lose", "state"), [(cut, "damaged"), (Path.unlink, "missing")])
def test_a_record_that_was_lost_is_written_again_from_what_the_samples_say(
    tmp_path: Path, shard: ShardWork, no_rendering: None, lose: Callable[[Path], None], state: str
) -> None:
    before = look(shard).record
    freeze_by_hand(shard.tree)
    lose(shard.tree.scene_run(NAME).made_from)
    assert look(shard).state == state
    assert export_shard(shard).exported
    after = look(shard).record
    assert before is not None
    assert after is not None
    assert after.identity == before.identity
    assert {name for name in after.outputs if after.outputs[name] != before.outputs[name]} <= {
        f"scene_runs/{NAME}/run_stats.json"
    }
    lose(shard.tree.scene_run(NAME).made_from)
    other_photograph(photograph(tmp_path), encode_jpeg(image(9)))
    with pytest.raises((SnapshotChanged, NameError)):
        export_shard(shard)


def test_mending_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(roots(tmp_path), frames=range(6))
    shard = work(tmp_path)
    export_shard(shard)
    freeze_by_hand(shard.tree)
    before = look(shard).record
    lost = [SampleId(NAME, 16, 4, f"{frame:06d}", f"{frame:06d}") for frame in (0, 2, 4)]
    for sample in lost:
        shutil.rmtree(shard.tree.sample_dir(sample))
    rendered: list[str] = []
    render = triplet_export.render_frame

    def stops_at_the_third(*asked: object) -> object:
        if len(rendered) == 2:
            raise KeyboardInterrupt
        rendered.append(str(asked[2]))
        return render(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(triplet_export, "render_frame", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        export_shard(shard)
    left = [sample for sample in lost if not shard.tree.sample_dir(sample).exists()]
    assert {name.split("/")[1] for name in look(shard).missing} == {str(sample) for sample in left}
    monkeypatch.setattr(triplet_export, "render_frame", render)
    export_shard(shard)
    assert look(shard).in_words == "made"
    assert look(shard).record == before


def test_all_is_made_anew_where_that_is_asked_for(tmp_path: Path, shard: ShardWork) -> None:
    before = shard.tree.image(FIRST).stat().st_ino
    assert export_shard(work(tmp_path)).exported is False
    anew = ShardWork(shard.tree, shard.roots, NAME, shard.generation, "pair00", anew=True)
    for _ in ("open", "frozen"):
        assert export_shard(anew).exported
        assert shard.tree.image(FIRST).stat().st_ino != before
        assert look(shard).in_words == "made"
        freeze_by_hand(shard.tree)


def test_an_interrupted_export_makes_a_sample_again_that_was_damaged_meanwhile(tmp_path: Path) -> None:
    write_scene(roots(tmp_path), frames=range(4))
    shard = work(tmp_path)
    export_shard(shard)
    shutil.rmtree(shard.tree.scene_runs_dir)  # as if it had been killed before its record
    cut(shard.tree.image(FIRST))
    lines: list[str] = []
    export_shard(shard, lines.append)
    assert lines[0] == f"{NAME}: 3 of 4 triplets are there already"
    assert look(shard).in_words == "made"
    assert examine(unit_of(shard)).in_words == "made"


def test_meta_says_what_the_sample_is_and_what_it_comes_from(tmp_path: Path, shard: ShardWork) -> None:
    provenance = storage.read_json(shard.tree.sample_meta(FIRST), SampleMeta).provenance
    folder = shard.tree.sample_dir(FIRST)
    assert provenance.images == {
        name: storage.sha256_file(folder / name) for name in ("image.png", "target_image.jpg", "ref_image.jpg")
    }
    assert provenance.pixels == codecs.pixel_digest(read_rgb(folder / "image.png"))
    assert provenance.photographs["target"] == storage.sha256_file(photograph(tmp_path))
    record = read_record(unit_of(shard).place)
    assert record is not None
    assert provenance.identity == record.identity
    assert set(record.outputs) == {
        shard.tree.relative(path)
        for path in (*every_file(shard.tree.samples_dir), *every_file(shard.tree.scene_runs_dir))
        if "made_from" not in path.name
    }


# ---- trees of the version without records


def as_older(tree: DifixTree) -> None:
    """Put a shard back into what the version before wrote."""
    run = tree.scene_run(NAME)
    stats = json.loads(run.run_stats.read_bytes())
    run.run_stats.write_text(json.dumps(stats | {"generation_digest": "a" * 64, "scene_digest": "b" * 64}))
    run.made_from.unlink()
    Place(run.base, run.made_from).stats.unlink()
    for path in tree.samples_dir.glob("*/meta.json"):
        meta = json.loads(path.read_bytes())
        for key in ("identity", "images", "pixels", "photographs"):
            del meta["provenance"][key]
        meta["provenance"] |= {"generation_digest": "a" * 64, "scene_digest": "b" * 64}
        path.write_text(json.dumps(meta))


def test_an_older_shard_works_and_is_given_a_record_without_being_made_again(
    tmp_path: Path, shard: ShardWork, no_rendering: None
) -> None:
    as_older(shard.tree)
    freeze_by_hand(shard.tree)
    assert look(shard).in_words == "made (not verified yet)"
    assert not export_shard(shard).exported
    assert look(shard).in_words == "made"
    assert examine(unit_of(shard)).in_words == "made"
    assert look(work(tmp_path, frames={"stride": 2})).in_words == "stale: `generation.frames.stride` was 1, is 2"
    record = read_record(unit_of(shard).place)
    assert record is not None
    assert record.options["split"] == {"group_id": "pair00"}


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: other_photograph(path, b"")])
def test_what_an_older_shard_had_lost_is_made_again_and_nothing_else(
    shard: ShardWork, harm: Callable[[Path], None]
) -> None:
    as_older(shard.tree)
    freeze_by_hand(shard.tree)
    content, other = shard.tree.image(FIRST).read_bytes(), shard.tree.sample_dir(SECOND).stat().st_ino
    harm(shard.tree.image(FIRST))
    if shard.tree.image(FIRST).exists():
        os.utime(shard.tree.image(FIRST), (LONG_AGO, LONG_AGO))
    assert export_shard(shard).exported
    assert shard.tree.image(FIRST).read_bytes() == content
    assert shard.tree.sample_dir(SECOND).stat().st_ino == other
    assert look(shard).in_words == "made"


def test_an_adopted_shard_is_made_whatever_scene_of_its_name_is_here(shard: ShardWork) -> None:
    run = shard.tree.scene_run(NAME)
    run.made_from.unlink()
    stats = json.loads(run.run_stats.read_bytes())
    run.run_stats.write_text(json.dumps(stats | {"renderer": "adopted from /elsewhere"}))
    assert look(shard).in_words == "made (not verified yet)"
    export_shard(shard)
    assert look(shard).in_words == "made"


# ---- the sample set


def test_a_sample_set_is_stale_by_its_shards_and_scenes_and_damaged_by_a_cut_table(
    tmp_path: Path, shard: ShardWork
) -> None:
    tree = shard.tree
    assert sample_set_unit(tree, [NAME]).look().state == "missing"
    write_sample_set(tree, collect_sample_set(tree, [NAME]))
    assert sample_set_unit(tree, [NAME]).look().in_words == "made"
    assert "`scenes` was" in sample_set_unit(tree, [NAME, "hi4d_pair01_hug"]).look().in_words
    content = tree.all_samples.read_bytes()
    tree.all_samples.write_bytes(b"")
    assert sample_set_unit(tree, [NAME]).look().damaged == ("manifests/all_samples.jsonl",)
    tree.all_samples.write_bytes(content)
    assert sample_set_unit(tree, [NAME]).look().in_words == "made"
    other_photograph(photograph(tmp_path), encode_jpeg(image(9)))
    export_shard(shard)
    assert sample_set_unit(tree, [NAME]).look().in_words == f"stale: `scene_runs/{NAME}`: made anew"


def test_a_shard_whose_record_cannot_be_read_makes_the_set_neither_stale_nor_unknown(shard: ShardWork) -> None:
    tree = shard.tree
    write_sample_set(tree, collect_sample_set(tree, [NAME]))
    tree.scene_run(NAME).made_from.write_text("{")
    assert sample_set_unit(tree, [NAME]).look().in_words == "made"


def test_an_older_sample_set_is_taken_over_and_a_half_written_one_is_not(shard: ShardWork) -> None:
    tree = shard.tree
    write_sample_set(tree, collect_sample_set(tree, [NAME]))
    tree.made_from("sample_set").unlink()
    assert sample_set_unit(tree, [NAME]).look().state == "missing"
    tree.generation_stats.write_text("{}")
    assert sample_set_unit(tree, [NAME]).look().in_words == "made (not verified yet)"
