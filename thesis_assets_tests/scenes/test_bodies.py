"""Body-model files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bodies import check_bodies, read_bodies, write_bodies
from thesis_assets_tests.scenes.tiny_scene import tiny_bodies


@pytest.mark.parametrize("model", ["smplx", "smpl"])
def test_bodies_come_back_from_their_file(tmp_path: Path, model) -> None:
    written = tiny_bodies(model, n_people=3)
    write_bodies(tmp_path / "000000.npz", written)
    read = read_bodies(tmp_path / "000000.npz", model)
    assert read.n_people == 3
    assert read.arrays.keys() == written.arrays.keys()
    assert all(np.array_equal(read.arrays[name], array) for name, array in written.arrays.items())


def test_joints_vertices_faces_and_contact_may_be_absent(tmp_path: Path) -> None:
    bare = replace(tiny_bodies("smplx"), joints=None, vertices=None, faces=None, contact=None)
    write_bodies(tmp_path / "000000.npz", bare)
    read = read_bodies(tmp_path / "000000.npz", "smplx")
    assert (read.joints, read.vertices, read.faces, read.contact) == (None, None, None, None)


def test_a_file_of_the_other_model_is_refused_by_its_missing_array(tmp_path: Path) -> None:
    write_bodies(tmp_path / "000000.npz", tiny_bodies("smpl"))
    with pytest.raises(InvalidFile) as caught:
        read_bodies(tmp_path / "000000.npz", "smplx")
    assert caught.value.key == "root_pose"


@pytest.mark.parametrize("name", ["body_pose", "joints", "contact"])
def test_an_array_of_another_number_of_people_is_refused_by_name(tmp_path: Path, name: str) -> None:
    arrays = tiny_bodies("smplx").arrays
    np.savez(tmp_path / "000000.npz", **{**arrays, name: arrays[name][:1]})
    with pytest.raises(InvalidFile) as caught:
        read_bodies(tmp_path / "000000.npz", "smplx")
    assert caught.value.key == name


def test_a_pose_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    arrays = tiny_bodies("smpl").arrays
    np.savez(tmp_path / "000000.npz", **{**arrays, "transl": np.full((2, 3), np.inf)})
    with pytest.raises(InvalidFile, match="finite"):
        read_bodies(tmp_path / "000000.npz", "smpl")


def test_bodies_that_break_the_contract_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile):
        write_bodies(tmp_path / "000000.npz", replace(tiny_bodies("smpl"), joints=np.zeros((1, 3, 3), np.float32)))
    assert not (tmp_path / "000000.npz").exists()


def saved(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("n_joints", [24, 45])
def test_joints_and_vertices_are_read_under_either_of_their_names(tmp_path: Path, n_joints: int) -> None:
    arrays = dict(tiny_bodies("smpl").arrays)
    del arrays["joints"], arrays["vertices"]
    points = np.random.default_rng(0).normal(size=(2, n_joints, 3)).astype(np.float32)
    bodies = read_bodies(saved(tmp_path / "a.npz", {**arrays, "joints_3d": points, "verts": points[:, :4]}), "smpl")
    assert np.array_equal(bodies.joints, points)
    assert np.array_equal(bodies.vertices, points[:, :4])


@pytest.mark.parametrize(
    ("model", "name", "shape", "wanted", "remedy"),
    [
        ("smpl", "betas", (10,), "(people, 10)", "betas[None]"),
        ("smpl", "betas", (2, 16), "(2, 10)", "betas[:, :10]"),
        ("smpl", "body_pose", (2, 69), "(2, 23, 3)", "body_pose.reshape(-1, 23, 3)"),
        ("smplx", "lhand_pose", (2, 12), "(2, 15, 3)", "use_pca=False"),
        ("smplx", "rhand_pose", (2, 45), "(2, 15, 3)", "rhand_pose.reshape(-1, 15, 3)"),
    ],
)
def test_a_usual_other_form_is_refused_with_the_line_that_mends_it(
    tmp_path: Path, model, name: str, shape: tuple[int, ...], wanted: str, remedy: str
) -> None:
    path = saved(tmp_path / "a.npz", {**tiny_bodies(model).arrays, name: np.zeros(shape, np.float32)})
    with pytest.raises(InvalidFile) as caught:
        read_bodies(path, model)
    assert (caught.value.key, caught.value.wanted) == (name, wanted)
    assert remedy in str(caught.value.remedy)


def test_one_body_without_the_people_axis_is_told_what_is_missing(tmp_path: Path) -> None:
    arrays = {name: array[0] for name, array in tiny_bodies("smplx").parameters.items()}
    with pytest.raises(InvalidFile) as caught:
        read_bodies(saved(tmp_path / "a.npz", arrays), "smplx")
    assert (caught.value.key, caught.value.found, caught.value.wanted) == ("betas", "(10,) float32", "(people, 10)")


@pytest.mark.parametrize(("model", "name"), [("smpl", "betas"), ("smpl", "joints"), ("smplx", "vertices")])
def test_an_array_of_one_person_names_the_people_axis(tmp_path: Path, model, name: str) -> None:
    arrays = dict(tiny_bodies(model, n_people=1).arrays)
    path = saved(tmp_path / "a.npz", {**arrays, name: arrays[name][0]})
    with pytest.raises(InvalidFile) as caught:
        read_bodies(path, model)
    assert caught.value.key == name
    assert str(caught.value.wanted).startswith("(people, ") or str(caught.value.wanted).startswith("(1, ")
    assert f"`{name}[None]`" in str(caught.value.remedy)


def test_numbers_beyond_what_float32_holds_are_not_finite(tmp_path: Path) -> None:
    arrays = {**tiny_bodies("smpl").arrays, "transl": np.full((2, 3), 1e300)}
    with pytest.raises(InvalidFile, match="not finite") as caught:
        check_bodies(arrays, "smpl", tmp_path / "000000.npz")
    assert caught.value.key == "transl"
