"""Body-model files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bodies import read_bodies, write_bodies
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
