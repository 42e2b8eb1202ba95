import pytest

from thesis_assets.errors import InvalidExperiment, InvalidScene
from thesis_assets.layout import frame_name
from thesis_assets.samples.plan import plan_scene
from thesis_assets.scenes.scene import open_scene
from thesis_assets_tests.samples.tiny_scenes import generation, roots, write_scene

NAME = "hi4d_pair00_dance"


def planned(base, **parts):
    return plan_scene(open_scene(roots(base), NAME), generation(**parts), "pair00")


def views(plan):
    """(target camera, target frame, reference camera, reference frame), frames as numbers."""
    ids = [candidate.sample for candidate in plan.candidates]
    return [(s.target_cam_id, int(s.target_fname), s.reference_cam_id, int(s.reference_fname)) for s in ids]


def test_every_camera_but_the_source_is_a_target_at_every_frame_in_numeric_order(tmp_path):
    write_scene(roots(tmp_path), cameras=(4, 100, 16), frames=(2, 10))
    assert views(planned(tmp_path)) == [(16, 2, 4, 2), (100, 2, 4, 2), (16, 10, 4, 10), (100, 10, 4, 10)]


def test_skip_frames_go_first_then_the_stride_then_the_cap(tmp_path):
    write_scene(roots(tmp_path), frames=range(10))
    skip = roots(tmp_path).tree(NAME).ground_truth.skip_frames
    skip.write_text("0, 3\n")
    assert [view[1] for view in views(planned(tmp_path, frames={"stride": 2}))] == [1, 4, 6, 8]
    assert [view[1] for view in views(planned(tmp_path, frames={"stride": 2, "max_samples_per_camera": 2}))] == [1, 4]
    assert len(views(planned(tmp_path, frames={"apply_skip_frames": False}))) == 10


def test_explicit_targets_and_a_named_source_are_taken(tmp_path):
    write_scene(roots(tmp_path), cameras=(4, 16, 28), frames=(0,))
    plan = planned(tmp_path, source_camera=16, target_cameras={"mode": "explicit", "ids": [28, 4]})
    assert views(plan) == [(4, 0, 16, 0), (28, 0, 16, 0)]


def test_a_missing_or_empty_image_drops_one_sample_with_its_reason(tmp_path):
    write_scene(roots(tmp_path), cameras=(4, 16, 28), frames=(0, 1, 2))
    truth = roots(tmp_path).tree(NAME).ground_truth
    truth.image(16, frame_name(1)).write_bytes(b"")
    truth.image(4, frame_name(2)).unlink()
    plan = planned(tmp_path)
    assert [(row.target_cam_id, row.target_fname, row.reason) for row in plan.dropped] == [
        (16, "000001", "missing_target_image"),
        (16, "000002", "missing_reference_frame"),
        (28, "000002", "missing_reference_frame"),
    ]
    assert len(plan.candidates) + len(plan.dropped) == 6


def test_a_temporal_offset_takes_the_source_camera_at_another_frame(tmp_path):
    write_scene(roots(tmp_path), frames=(0, 1, 2))
    plan = planned(tmp_path, reference={"strategy": "temporal_offset", "offset": -1})
    assert views(plan) == [(16, 1, 4, 0), (16, 2, 4, 1)]
    assert plan.dropped[0].sample_id == f"{NAME}__tcam16__rccam4__tf000000__rf-00001"
    assert plan.dropped[0].reason == "missing_reference_frame"


def test_a_reference_frame_that_is_skipped_counts_as_missing(tmp_path):
    write_scene(roots(tmp_path), frames=(0, 1, 2))
    roots(tmp_path).tree(NAME).ground_truth.skip_frames.write_text("1")
    plan = planned(tmp_path, reference={"strategy": "temporal_offset", "offset": 1})
    assert views(plan) == []
    assert [row.target_fname for row in plan.dropped] == ["000000", "000002"]


def test_the_nearest_camera_is_another_one_and_of_equal_ones_the_lower(tmp_path):
    write_scene(roots(tmp_path), cameras=(40, 4, 28, 16), frames=(0,))  # on a line, in this order
    plan = planned(tmp_path, reference={"strategy": "nearest_camera"})
    assert views(plan) == [(4, 0, 28, 0), (16, 0, 28, 0), (28, 0, 4, 0)]


def test_a_mixed_strategy_draws_by_seed_and_place_alone(tmp_path):
    write_scene(roots(tmp_path), frames=range(40))
    mixed = {"strategy": "mixed", "offset": 1, "weights": {"same_time_source": 3, "temporal_offset": 1}}
    plan = planned(tmp_path, reference=mixed)
    moved = {target for _, target, _, reference in views(plan) if reference == target + 1}
    assert 3 <= len(moved) <= 20
    assert len(moved) + sum(t == r for _, t, _, r in views(plan)) + len(plan.dropped) == 40
    every_other = planned(tmp_path, reference=mixed, frames={"stride": 2})
    assert set(views(every_other)) <= set(views(plan))
    assert views(planned(tmp_path, reference={**mixed, "seed": 1})) != views(plan)


def test_a_frame_without_a_mask_is_dropped_only_where_the_scene_has_masks(tmp_path):
    write_scene(roots(tmp_path), masks=True)
    roots(tmp_path).tree(NAME).ground_truth.mask(16, "000001").unlink()
    plan = planned(tmp_path)
    assert [row.reason for row in plan.dropped] == ["unreadable_input"]
    assert plan.candidates[0].target_mask is not None
    unmasked = planned(tmp_path, filtering={"apply_mask": False})
    assert unmasked.dropped == []
    assert unmasked.candidates[0].target_mask is None


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ({"source_camera": 99}, "generation.source_camera"),
        ({"target_cameras": {"mode": "explicit", "ids": [16, 99]}}, "generation.target_cameras.ids"),
        ({"target_cameras": {"mode": "explicit", "ids": [4]}}, "generation.target_cameras.ids"),
    ],
)
def test_cameras_that_do_not_fit_the_scene_are_refused_by_key(tmp_path, parts, key):
    write_scene(roots(tmp_path))
    with pytest.raises(InvalidExperiment) as caught:
        planned(tmp_path, **parts)
    assert caught.value.key == key
    assert caught.value.remedy


def test_a_scene_without_a_second_camera_or_a_frame_is_refused(tmp_path):
    write_scene(roots(tmp_path), cameras=(4,))
    with pytest.raises(InvalidScene, match="no camera beside"):
        planned(tmp_path)
    write_scene(roots(tmp_path))
    roots(tmp_path).tree(NAME).ground_truth.skip_frames.write_text("0,1")
    with pytest.raises(InvalidScene, match="no frame"):
        planned(tmp_path)
