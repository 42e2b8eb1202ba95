"""Bodies, poses, reaching, contact and the cameras of the studio, without any file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from thesis_assets.demo.studio import CONTACT_METRES, Take, contact_between, film, studio_bodies
from thesis_assets.demo.studio_bodies import JOINT, N_JOINTS, PARENTS, Pose, blend_poses, posed_joints
from thesis_assets.demo.studio_motion import reach_with_arm
from thesis_assets.demo.studio_people import PAIRS, SCENES, StudioScene
from thesis_assets.demo.studio_views import crowd_of, draw, empty_studio

MAN, WOMAN = PAIRS["pair00"]
SIZE, N_FRAMES = 64, 5
angle = st.floats(-0.6, 0.6)


def bent_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    return Pose(0.4 * rng.normal(size=(N_JOINTS, 3)), rng.normal(size=3))


@pytest.fixture(scope="module")
def takes() -> dict[str, Take]:
    return {scene.name: film(scene, SIZE, N_FRAMES) for scene in SCENES}


def test_everybody_has_the_same_topology_and_a_shape_of_their_own() -> None:
    people = [person for pair in PAIRS.values() for person in pair]
    for model in ("smplx", "smpl"):
        assert all(np.array_equal(person.meshes[model].faces, MAN.meshes[model].faces) for person in people)
    heights = [float(np.ptp(person.meshes["smplx"].vertices[:, 1])) for person in people]
    assert len(set(heights)) == 8
    assert 1.5 < min(heights) < max(heights) < 2.0


def test_every_vertex_belongs_wholly_to_the_skeleton() -> None:
    weights = WOMAN.meshes["dressed"].weights
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert weights.min() >= 0.0


def test_surfaces_are_closed_and_point_outwards() -> None:
    mesh = WOMAN.meshes["dressed"]
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges), "two faces run along an edge in the same direction"
    assert all((end, start) in directed for start, end in directed)
    corners = mesh.vertices[mesh.faces]
    assert np.einsum("fa,fa->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_pose_keeps_the_length_of_every_bone(seed: int) -> None:
    joints = posed_joints(MAN.rest, bent_pose(seed))
    for index in range(1, N_JOINTS):
        bone = np.linalg.norm(joints[index] - joints[PARENTS[index]])
        assert np.isclose(bone, np.linalg.norm(MAN.rest[index] - MAN.rest[PARENTS[index]]))


def test_the_parameters_in_the_file_give_the_joints_in_the_file(takes: dict[str, Take]) -> None:
    """Forward kinematics from `root_pose`, `body_pose`, `trans` alone, as a reader of the file would do it."""
    take = takes["studio_pair01_fight"]
    poses = take.motion[1]
    smplx = studio_bodies(take.people, poses, "smplx", contact=True)
    smpl = studio_bodies(take.people, poses, "smpl", contact=True)
    assert smplx.joints is not None
    assert smpl.joints is not None
    for person, individual in enumerate(take.people):
        local = np.concatenate([smplx.parameters["root_pose"][person][None], smplx.parameters["body_pose"][person]])
        world = [Rotation.from_rotvec(local[0])]
        place = [smplx.parameters["trans"][person].astype(float)]
        for index in range(1, 22):
            parent = PARENTS[index]
            place.append(place[parent] + world[parent].apply(individual.rest[index] - individual.rest[parent]))
            world.append(world[parent] * Rotation.from_rotvec(local[index]))
        assert np.allclose(smplx.joints[person], place, atol=1e-5)
    assert np.array_equal(smpl.joints[:, :22], smplx.joints)
    assert np.array_equal(smpl.parameters["global_orient"], smplx.parameters["root_pose"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["left", "right"]))
def test_a_hand_reaches_what_lies_within_the_arm(seed: int, side: str) -> None:
    rng = np.random.default_rng(seed)
    pose = bent_pose(seed)
    shoulder = posed_joints(MAN.rest, pose)[JOINT[f"{side}_shoulder"]]
    direction = rng.normal(size=3)
    goal = shoulder + rng.uniform(0.15, 0.5) * direction / np.linalg.norm(direction)
    reached = reach_with_arm(MAN, pose, side, goal, rng.normal(size=3))  # type: ignore[arg-type]
    assert np.linalg.norm(MAN.posed_palm(reached, side) - goal) < 1e-6  # type: ignore[arg-type]


def test_blending_poses_starts_at_the_first_and_ends_at_the_second() -> None:
    first, second = bent_pose(1), bent_pose(2)
    for share, expected in ((0.0, first), (1.0, second)):
        joints = posed_joints(MAN.rest, blend_poses(first, second, share))
        assert np.allclose(joints, posed_joints(MAN.rest, expected))


def test_people_stand_on_the_floor(takes: dict[str, Take]) -> None:
    for take in takes.values():
        for poses in take.motion:
            for person, pose in zip(take.people, poses, strict=True):
                assert abs(person.surface(pose).vertices[:, 1].min()) < 1e-3


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_people_touch_in_some_frames_and_not_in_others(scene: StudioScene) -> None:
    take = film(scene, SIZE, 12)
    touching = []
    for poses in take.motion:
        found = studio_bodies(take.people, poses, "smplx", contact=True)
        assert found.contact is not None
        assert found.vertices is not None
        touching.append(bool(found.contact.any()))
        for person in (0, 1):
            vertices = np.flatnonzero(found.contact[person])
            partners = found.contact[person][vertices]
            apart = np.linalg.norm(found.vertices[person][vertices] - found.vertices[1 - person][partners], axis=1)
            assert (apart < CONTACT_METRES + 1e-5).all()
    assert any(touching)
    assert not all(touching)


def test_contact_never_names_vertex_zero_which_means_none() -> None:
    first = np.array([[0.0, 0, 0], [1.0, 0, 0], [5.0, 0, 0]])
    second = np.array([[0.0, 0, 0.01], [0.0, 0, 0.02], [1.0, 0, 0.05]])
    assert contact_between(first, second).tolist() == [[1, 0, 0], [0, 0, 0]]


def test_joints_project_into_the_mask_of_their_person(takes: dict[str, Take]) -> None:
    inside = in_front = 0
    for name in ("studio_pair00_hug", "studio_pair03_dance"):
        take = takes[name]
        for camera in take.cameras.values():
            backdrop = empty_studio(camera)
            view = draw(crowd_of(take.people, take.motion[0]), backdrop)
            for index, (person, pose) in enumerate(zip(take.people, take.motion[0], strict=True)):
                pixels, depth = camera.project(posed_joints(person.rest, pose)[[0, 3, 6, 9, 4, 5]])
                columns, rows = pixels.astype(int).T
                seen = view.depth[rows, columns] > depth - 0.25  # not behind the other person
                in_front += int(seen.sum())
                inside += int(view.masks[index][rows, columns][seen].sum())
                assert (view.depth[rows, columns] < depth + 0.02).all(), "no joint lies before the surface that is seen"
    assert in_front > 60
    assert inside / in_front > 0.95


def test_the_whole_action_stays_in_every_image(takes: dict[str, Take]) -> None:
    for take in takes.values():
        for poses in take.motion:
            for person, pose in zip(take.people, poses, strict=True):
                vertices = person.surface(pose, "dressed").vertices
                for camera in take.cameras.values():
                    pixels, depth = camera.project(vertices)
                    assert depth.min() > 1.0
                    assert pixels.min() > 0
                    assert pixels.max() < SIZE


def test_two_people_are_drawn_apart_and_in_colour(takes: dict[str, Take]) -> None:
    take = takes["studio_pair01_fight"]
    camera = take.cameras[28]
    view = draw(crowd_of(take.people, take.motion[0]), empty_studio(camera))
    first, second = (view.image[mask].astype(float) for mask in view.masks)
    assert min(len(first), len(second)) > 0.03 * SIZE * SIZE
    assert np.abs(first.mean(axis=0) - second.mean(axis=0)).max() > 30
    assert first.std(axis=0).min() > 20, "clothes, skin and hair differ"
