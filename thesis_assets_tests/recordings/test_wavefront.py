"""Reading Wavefront meshes."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.pose import obj_bytes
from thesis_assets.recordings.world_tracks import read_wavefront, vertex_normals

CORNERS = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "mesh.obj"
    path.write_text(text)
    return path


def test_what_our_own_writer_wrote_comes_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    vertices, faces = generator.normal(size=(50, 3)), generator.integers(0, 50, (90, 3))
    path = tmp_path / "mesh.obj"
    path.write_bytes(obj_bytes([vertices], faces))
    mesh = read_wavefront(path)
    assert np.allclose(mesh.vertices, vertices, atol=1e-6)
    assert np.array_equal(mesh.faces, faces)


def test_normals_textures_colours_and_comments_are_passed_over(tmp_path: Path) -> None:
    text = "# v 9 9 9\no body\nv 0 0 0 1 0 0\nv 1 0 0 1 0 0\nv 0 1 0 0 0 1\nvn 0 0 1\nvt 0 0\nf 1/1/1 2//1 3\ns off\n"
    mesh = read_wavefront(write(tmp_path, text))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2]]


def test_points_alone_are_a_cloud(tmp_path: Path) -> None:
    assert read_wavefront(write(tmp_path, CORNERS)).faces.shape == (0, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f 1 2 3\n",
        CORNERS + "f 1 2 4\n",
        CORNERS + "f 0 1 2\n",
        CORNERS + "f -1 -2 -3\n",
        CORNERS + "f 1 2 3 1\n",
        CORNERS + "f 1 2 3\nf 1 2\n",
        "v 0 0\n",
        "v 0 0 zero\n",
        "v 0 0 nan\n",
        "v \n",
        CORNERS + "v 0 0\n",
    ],
)
def test_a_broken_mesh_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidFile):
        read_wavefront(write(tmp_path, text))


def test_normals_point_outwards_and_have_length_one() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], np.float32)
    normals = vertex_normals(vertices, np.array([[0, 1, 2]]))
    assert np.allclose(normals[:3], [0, 0, 1])
    assert np.allclose(normals[3], 0)


def test_what_this_platform_writes_and_the_same_with_normals_read_alike(tmp_path: Path) -> None:
    plain = b"v 0 0 0\nv 1.5 -2e-05 0\nv 0 1 0\nf 1 2 3\n"
    (tmp_path / "plain.obj").write_bytes(plain)
    (tmp_path / "other.obj").write_bytes(b"# by another program\n" + plain)
    one, other = read_wavefront(tmp_path / "plain.obj"), read_wavefront(tmp_path / "other.obj")
    assert one.vertices.tolist() == other.vertices.tolist()
    assert one.faces.tolist() == other.faces.tolist() == [[0, 1, 2]]
    assert one.vertices[1].tolist() == pytest.approx([1.5, -2e-05, 0])


WORDS = st.sampled_from(
    ["v", "f", "vn", "#", "0", "1", "2", "3", "-1.5", "2e-05", "1e400", "nan", "1/2/3", "", "x", '"', "\t"]
)
LINES = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=8)


@given(LINES)
def test_the_short_way_reads_what_the_long_way_reads(lines: list[str]) -> None:
    content = (CORNERS + "".join(f"{line}\n" for line in lines)).encode()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = []
        # A comment makes it a file that is read by lines.
        for name, text in (("short", content), ("long", b"# by lines\n" + content)):
            path = Path(folder) / f"{name}.obj"
            path.write_bytes(text)
            try:
                mesh = read_wavefront(path)
                outcomes.append((mesh.vertices.tolist(), mesh.faces.tolist()))
            except InvalidFile:
                outcomes.append(None)
    assert outcomes[0] == outcomes[1]
