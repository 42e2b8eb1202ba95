"""Pose metrics against cases worked out by hand, and against SciPy's rotation fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation import pose_metrics
from thesis_assets.evaluation.pose_metrics import RigidMotion, fit_rigid

# A lopsided body: no rotation brings its mirror image back onto it.
BODY = np.array([[0.0, 0, 0], [0.3, 0, 0], [0, 0.5, 0], [0, 0, 0.2], [0.1, 0.4, 0.3]])


def random_motion(rng: np.random.Generator) -> RigidMotion:
    return RigidMotion(Rotation.random(random_state=rng.integers(2**31)).as_matrix(), rng.normal(size=3))


def test_a_known_rotation_and_translation_is_found_and_leaves_no_error() -> None:
    quarter_turn = RigidMotion(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 2, 3]))
    found = fit_rigid(BODY, quarter_turn.move(BODY)).motion
    np.testing.assert_allclose(found.matrix, quarter_turn.matrix, atol=1e-12)
    np.testing.assert_allclose(quarter_turn.move(BODY[1]), [1.0, 2.3, 3.0], atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(3, 40))
def test_the_rigid_fit_equals_scipys_on_noisy_points(seed: int, n_points: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(n_points, 3))
    target = random_motion(rng).move(source) + rng.normal(scale=0.1, size=source.shape)
    wanted, _ = Rotation.align_vectors(target - target.mean(axis=0), source - source.mean(axis=0))
    found = fit_rigid(source, target).motion
    np.testing.assert_allclose(found.rotation, wanted.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(found.translation, target.mean(axis=0) - wanted.apply(source.mean(axis=0)), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_a_motion_and_its_inverse_cancel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    motion, points = random_motion(rng), rng.normal(size=(2, 7, 3))
    np.testing.assert_allclose(motion.inverse().move(motion.move(points)), points, atol=1e-12)


def test_a_mirror_image_does_not_align() -> None:
    mirrored = BODY * np.array([-1.0, 1, 1])
    for matrix in (
        fit_rigid(BODY, mirrored).motion.rotation,
        pose_metrics.rotation_onto(BODY - 0.1, mirrored - 0.1)[0],
    ):
        assert np.linalg.det(matrix) == pytest.approx(1.0)
    error = pose_metrics.procrustes_mm(mirrored[None], BODY[None])
    assert error is not None
    assert error > 20  # A fit that may reflect gives 0.


def test_scale_is_fitted_by_pa_mpjpe_only() -> None:
    larger = 1.1 * BODY
    assert pose_metrics.procrustes_mm(larger[None], BODY[None]) == pytest.approx(0, abs=1e-9)
    wanted = 0.1 * np.linalg.norm(BODY, axis=1).mean() * 1000
    assert pose_metrics.mean_distance_mm(larger[None], BODY[None]) == pytest.approx(wanted)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0.2, 5.0))
def test_pa_mpjpe_forgives_any_similarity(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(2, 24, 3))
    predicted = np.stack([scale * random_motion(rng).move(person) for person in true])
    assert pose_metrics.procrustes_mm(predicted, true) == pytest.approx(0, abs=1e-6)


def test_one_joint_five_centimetres_off_counts_a_fifth_of_that() -> None:
    predicted = BODY.copy()
    predicted[4] += [0.0, 0.03, 0.04]
    assert pose_metrics.mean_distance_mm(predicted[None], BODY[None]) == pytest.approx(10.0)


def test_a_shift_of_the_whole_person_does_not_count_root_relative() -> None:
    moved = BODY + 0.5
    assert pose_metrics.root_relative_mm(moved[None], BODY[None], moved[None, 0], BODY[None, 0]) == pytest.approx(0)
    assert pose_metrics.mean_distance_mm(moved[None], BODY[None]) == pytest.approx(500 * np.sqrt(3))


def test_swapped_people_cost_their_distance() -> None:
    two = np.stack([BODY, BODY + np.array([2.0, 0, 0])])
    assert pose_metrics.mean_distance_mm(two[::-1], two) == pytest.approx(2000)


def test_nobody_gives_an_empty_value() -> None:
    assert pose_metrics.mean_distance_mm(np.empty((0, 5, 3)), np.empty((0, 5, 3))) is None
    assert pose_metrics.procrustes_mm(np.empty((0, 5, 3)), np.empty((0, 5, 3))) is None


def test_people_with_numbers_that_are_not_finite_are_found() -> None:
    joints = np.stack([BODY, BODY])
    joints[1, 2, 0] = np.nan
    assert pose_metrics.finite_people(joints, np.zeros((2, 9, 3))).tolist() == [True, False]


def test_no_point_in_common_is_refused() -> None:
    with pytest.raises(ThesisAssetsError, match="no point in common"):
        fit_rigid(np.empty((0, 3)), np.empty((0, 3)))


@pytest.mark.parametrize(("points", "share"), [(np.eye(3)[:1] * np.arange(4)[:, None], 0.0), (BODY[:1], 0.0)])
def test_points_on_a_line_or_in_one_place_hold_no_rotation(points: np.ndarray, share: float) -> None:
    assert fit_rigid(points, points).second_to_first == pytest.approx(share, abs=1e-12)


def test_the_singular_values_are_those_of_the_cross_covariance() -> None:
    rng = np.random.default_rng(4)
    source = rng.normal(size=(30, 3)) * [3.0, 2.0, 1.0]
    target = random_motion(rng).move(source) + rng.normal(scale=0.1, size=source.shape)
    wanted = np.linalg.svd(np.cov(source.T, target.T, bias=True)[:3, 3:], compute_uv=False)
    found = fit_rigid(source, target)
    assert found.singular_values == pytest.approx(tuple(wanted))
    assert found.second_to_first == pytest.approx(wanted[1] / wanted[0])


def test_contact_distance_is_the_mean_of_both_directions_means() -> None:
    vertices = np.zeros((2, 4, 3))
    vertices[1, :, 0] = [0.1, 0.2, 0.3, 0.4]  # All of person 0's vertices are at the origin.
    contact = np.array([[1, 0, 0, 0], [0, 2, 3, 0]])  # 0's vertex 0 touches 1's 1; 1's 1 and 2 touch 0's 2 and 3.
    assert pose_metrics.contact_distance_mm(vertices, contact) == pytest.approx((200 + (200 + 300) / 2) / 2)
    one_way = np.array([[1, 0, 0, 0], [0, 0, 0, 0]])
    assert pose_metrics.contact_distance_mm(vertices, one_way) == pytest.approx(200)


@pytest.mark.parametrize("n_people", [1, 2, 3])
def test_no_contact_gives_an_empty_value(n_people: int) -> None:
    vertices = np.zeros((n_people, 4, 3))
    assert pose_metrics.contact_distance_mm(vertices, None) is None
    assert pose_metrics.contact_distance_mm(vertices, np.zeros((n_people, 4), np.int64)) is None


@pytest.mark.parametrize(
    ("true", "predicted", "share"),
    [
        ([2.0, 2.2], [2.0, 2.1], 1.0),  # One layer (gap below 0.3), predicted within 0.15.
        ([2.0, 2.2], [2.0, 2.2], 0.0),  # One layer, but predicted 0.2 apart.
        ([2.0, 2.4], [2.0, 2.2], 1.0),  # Two layers, predicted order clear.
        ([2.0, 2.4], [2.0, 2.1], 0.0),  # Two layers, predicted difference too small to say.
        ([2.0, 2.4], [2.4, 2.0], 0.0),  # The wrong way round.
        ([2.4, 2.0], [2.4, 2.0], 1.0),
        ([2.0, 2.25, 2.5], [2.0, 2.0, 2.0], 1.0),  # A chain of small gaps is one layer, though its ends are 0.5 apart.
        ([2.0, 3.0, 4.0], [2.0, 3.0, 2.5], 2 / 3),  # One of three pairs is wrong.
    ],
)
def test_the_order_in_depth_is_judged_by_layers(true: list[float], predicted: list[float], share: float) -> None:
    found = pose_metrics.depth_order_share(np.array(predicted), np.array(true))
    assert found == pytest.approx(share)


def test_one_person_has_no_order_in_depth() -> None:
    assert pose_metrics.depth_order_share(np.array([2.0]), np.array([2.0])) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_alignment_by_camera_puts_the_true_camera_where_the_predicted_one_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = random_motion(rng).matrix[:3], random_motion(rng).matrix[:3]
    points = rng.normal(size=(6, 3))
    moved = pose_metrics.by_source_camera(predicted, true).move(points)
    seen_by_predicted, seen_by_true = RigidMotion.of(predicted).move(moved), RigidMotion.of(true).move(points)
    np.testing.assert_allclose(seen_by_predicted, seen_by_true, atol=1e-10)
    np.testing.assert_allclose(pose_metrics.depths_in_camera(points, true), seen_by_true[:, 2], atol=1e-12)
