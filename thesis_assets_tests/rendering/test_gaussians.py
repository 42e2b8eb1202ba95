"""The 3DGS PLY file: round trips, files of other tools, files that are refused."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import plyfile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.rendering.gaussians import SH_C0, Gaussians, from_colors, read_ply, to_tensors, write_ply


def random_gaussians(n: int, rest: int, seed: int = 0) -> Gaussians:
    random = np.random.default_rng(seed)
    shapes = [(n, 3), (n, 3), (n, rest, 3), (n,), (n, 3), (n, 4)]
    return Gaussians(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


def ply(lines: list[str], body: bytes = b"") -> bytes:
    return "\n".join(["ply", *lines, "end_header", ""]).encode() + body


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 20), rest=st.sampled_from([0, 3, 8, 15]), seed=st.integers(0, 9))
def test_what_is_written_is_read_back_bit_by_bit(n: int, rest: int, seed: int, tmp_path: Path) -> None:
    gaussians = random_gaussians(n, rest, seed)
    write_ply(tmp_path / "a.ply", gaussians)
    for name, array in vars(read_ply(tmp_path / "a.ply")).items():
        assert np.array_equal(array, getattr(gaussians, name)), name


def test_the_file_has_the_columns_of_3dgs_in_their_order(tmp_path: Path) -> None:
    gaussians = random_gaussians(2, 3)
    write_ply(tmp_path / "a.ply", gaussians)
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    names = [line.split()[-1] for line in header.decode().splitlines() if line.startswith("property float")]
    rest = [f"f_rest_{i}" for i in range(9)]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:] == [*rest, "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    row = np.frombuffer(body, "<f4").reshape(2, len(names))[1]
    red = gaussians.sh_rest[1, :, 0]
    assert np.array_equal(row[9:12], red)  # all coefficients of red, then of green, then of blue


def test_a_file_of_another_tool_may_order_and_add_columns(tmp_path: Path) -> None:
    names = ["rot_0", "rot_1", "rot_2", "rot_3", "opacity", "scale_0", "scale_1", "scale_2", "segment"]
    names += ["f_dc_0", "f_dc_1", "f_dc_2", "x", "y", "z"]
    row = np.arange(len(names), dtype="<f8")
    lines = ["format binary_little_endian 1.0", "comment made elsewhere", "element vertex 1"]
    lines += [f"property double {name}" for name in names] + [
        "element face 0",
        "property list uchar int vertex_indices",
    ]
    (tmp_path / "a.ply").write_bytes(ply(lines, row.tobytes()))
    gaussians = read_ply(tmp_path / "a.ply")
    assert gaussians.means.tolist() == [[12, 13, 14]]
    assert gaussians.rotations.tolist() == [[0, 1, 2, 3]]
    assert gaussians.sh_rest.shape[1] == 0


def test_colours_sizes_and_opacity_are_stored_the_way_3dgs_activates_them() -> None:
    gaussians = from_colors([[0, 0, 1], [0, 0, 2]], [[1, 0.5, 0], [0, 0, 1]], [0.1, 0.2], opacity=0.75)
    assert np.allclose(0.5 + SH_C0 * gaussians.sh_dc, [[1, 0.5, 0], [0, 0, 1]], atol=1e-6)
    assert np.allclose(np.exp(gaussians.log_scales), [[0.1] * 3, [0.2] * 3])
    assert np.allclose(1 / (1 + np.exp(-gaussians.opacity_logit)), 0.75)
    assert gaussians.rotations.tolist() == [[1, 0, 0, 0]] * 2


@pytest.mark.parametrize(("scales", "opacity"), [(0.0, 0.5), (-1.0, 0.5), (0.1, 1.0), (0.1, 0.0)])
def test_a_size_or_opacity_without_a_logarithm_is_refused(scales: float, opacity: float) -> None:
    with pytest.raises(ThesisAssetsError, match="positive size"):
        from_colors([[0, 0, 1]], [[1, 1, 1]], scales, opacity=opacity)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    whole = vars(random_gaussians(3, 3))
    for name in whole:
        with pytest.raises(ThesisAssetsError, match=r"another shape|no whole degree"):
            Gaussians(**{**whole, name: whole[name][:2]} if name != "means" else {**whole, name: whole[name][:, :2]})
    with pytest.raises(ThesisAssetsError, match="no whole degree"):
        Gaussians(**{**whole, "sh_rest": np.zeros((3, 5, 3), np.float32)})


COLUMNS = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
PROPERTIES = [f"property float {name}" for name in [*COLUMNS, "rot_0", "rot_1", "rot_2", "rot_3"]]
FORMAT = "format binary_little_endian 1.0"
BAD_FILES = {
    "not a PLY": b"hello",
    "not a PLY ": b"",
    "another format": ply(["format ascii 1.0", "element vertex 1", *PROPERTIES]),
    "first element": ply([FORMAT, "element face 1", "property int a"]),
    "no usable number": ply([FORMAT, "element vertex 99999999999", *PROPERTIES]),
    "no usable number ": ply([FORMAT, "element vertex -1", *PROPERTIES]),
    "is a list": ply([FORMAT, "element vertex 1", *PROPERTIES, "property list uchar int a"]),
    "same name": ply([FORMAT, "element vertex 1", *PROPERTIES, "property float x"]),
    "no opacity": ply([FORMAT, "element vertex 0", *(line for line in PROPERTIES if "opacity" not in line)]),
    "no whole degree": ply([FORMAT, "element vertex 0", *PROPERTIES, "property float f_rest_0"]),
    "truncated": ply([FORMAT, "element vertex 2", *PROPERTIES], bytes(4 * 14 * 2 - 1)),
    "not finite": ply([FORMAT, "element vertex 1", *PROPERTIES], np.full(14, np.nan, "<f4").tobytes()),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_a_file_that_holds_no_gaussians_says_why(problem: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(BAD_FILES[problem])
    with pytest.raises(InvalidFile, match=problem.strip()) as caught:
        read_ply(path)
    assert caught.value.file == str(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="missing"):
        read_ply(tmp_path / "a.ply")


def test_an_opacity_of_exactly_one_or_none_is_read(tmp_path: Path) -> None:
    gaussians = random_gaussians(3, 0)
    gaussians.opacity_logit[:] = [np.inf, -np.inf, 0]
    write_ply(tmp_path / "a.ply", gaussians)
    assert to_tensors(read_ply(tmp_path / "a.ply")).opacities.tolist() == [1.0, 0.0, 0.5]


def test_a_compressed_ply_is_named_with_the_tool_that_unpacks_it(tmp_path: Path) -> None:
    packed = [f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")]
    chunk = ["element chunk 1", "property float min_x", "property float max_x"]
    lines = ["format binary_little_endian 1.0", *chunk, "element vertex 1", *packed]
    (tmp_path / "a.ply").write_bytes(ply(lines, bytes(24)))
    with pytest.raises(InvalidFile, match="compressed") as caught:
        read_ply(tmp_path / "a.ply")
    assert "splat-transform a.ply" in str(caught.value.remedy)


def test_gaussians_with_a_filter_of_their_own_are_refused(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", random_gaussians(1, 0))
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    header += b"property float filter_3D\nend_header\n"
    (tmp_path / "a.ply").write_bytes(header + body + np.float32(0.1).tobytes())
    with pytest.raises(InvalidFile, match="smoothing filter") as caught:
        read_ply(tmp_path / "a.ply")
    assert "create_fused_ply" in str(caught.value.remedy)


@pytest.mark.parametrize("number", ["9" * 5000, "99999999999"])
def test_a_number_of_gaussians_beyond_any_is_refused(tmp_path: Path, number: str) -> None:
    lines = ["format binary_little_endian 1.0", f"element vertex {number}", "property float x"]
    (tmp_path / "a.ply").write_bytes(ply(lines))
    with pytest.raises(InvalidFile, match="no usable number"):
        read_ply(tmp_path / "a.ply")


def test_of_a_sparse_file_of_many_gigabytes_no_more_is_read_than_its_gaussians(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", random_gaussians(2, 0))
    os.truncate(tmp_path / "a.ply", 12 * 1024**3)
    assert len(read_ply(tmp_path / "a.ply")) == 2


def test_rows_that_other_elements_claim_are_never_made_room_for(tmp_path: Path) -> None:
    more = ["element face 999999999999999999", "property list uchar int vertex_indices"]
    lines = [FORMAT, "comment by Müller", "element vertex 1", *PROPERTIES, *more]
    (tmp_path / "a.ply").write_bytes(ply(lines, np.arange(14, dtype="<f4").tobytes()))
    assert read_ply(tmp_path / "a.ply").means.tolist() == [[0, 1, 2]]


# --- against plyfile's own reading and writing of whole files ---------------------------------------------------------


def of_plyfile(path: Path) -> dict[str, np.ndarray]:
    """The fields of `Gaussians` as plyfile reads them, by the property names that 3DGS writes."""
    vertex = plyfile.PlyData.read(str(path))["vertex"]

    def columns(*names: str) -> np.ndarray:
        return np.stack([np.asarray(vertex[name], np.float32) for name in names], axis=1)

    n_rest = sum(each.name.startswith("f_rest_") for each in vertex.properties)
    per_channel = n_rest // 3
    rest = [columns(*(f"f_rest_{channel * per_channel + k}" for channel in range(3))) for k in range(per_channel)]
    return {
        "means": columns("x", "y", "z"),
        "sh_dc": columns("f_dc_0", "f_dc_1", "f_dc_2"),
        "sh_rest": np.stack(rest, axis=1) if rest else np.zeros((vertex.count, 0, 3), np.float32),
        "opacity_logit": columns("opacity")[:, 0],
        "log_scales": columns("scale_0", "scale_1", "scale_2"),
        "rotations": columns("rot_0", "rot_1", "rot_2", "rot_3"),
    }


def written_by_plyfile(path: Path, names: list[str], n: int = 7, **values: float) -> None:
    """A file of random numbers, one float property a name; `values` stand in the first row."""
    table = np.zeros(n, [(name, "<f4") for name in names])
    for name in names:
        table[name] = np.random.default_rng(len(name)).normal(size=n)
    for name, value in values.items():
        table[name][0] = value
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")], byte_order="<").write(str(path))


def all_names(rest: int) -> list[str]:
    normals, more = ["nx", "ny", "nz"], [f"f_rest_{i}" for i in range(3 * rest)]
    return [*COLUMNS[:3], *normals, *COLUMNS[3:6], *more, *COLUMNS[6:], "rot_0", "rot_1", "rot_2", "rot_3"]


@pytest.mark.parametrize("rest", [0, 3, 8, 15])
def test_a_file_that_plyfile_wrote_is_read_as_plyfile_reads_it(tmp_path: Path, rest: int) -> None:
    written_by_plyfile(tmp_path / "a.ply", all_names(rest))
    found, theirs = vars(read_ply(tmp_path / "a.ply")), of_plyfile(tmp_path / "a.ply")
    assert found.keys() == theirs.keys()
    for name, array in found.items():
        assert np.array_equal(array, theirs[name]), name


@pytest.mark.parametrize("rest", [0, 3, 8, 15])
def test_a_file_of_ours_is_read_by_plyfile_as_it_was_written(tmp_path: Path, rest: int) -> None:
    gaussians = random_gaussians(5, rest)
    write_ply(tmp_path / "a.ply", gaussians)
    for name, array in of_plyfile(tmp_path / "a.ply").items():
        assert np.array_equal(array, getattr(gaussians, name)), name


@pytest.mark.parametrize(("logit", "opacity"), [(np.inf, 1.0), (-np.inf, 0.0), (60.0, 1.0)])
def test_an_opacity_at_its_limit_that_plyfile_wrote_is_read(tmp_path: Path, logit: float, opacity: float) -> None:
    written_by_plyfile(tmp_path / "a.ply", all_names(0), opacity=logit)
    assert to_tensors(read_ply(tmp_path / "a.ply")).opacities[0].item() == opacity


@pytest.mark.parametrize("name", ["x", "scale_0", "rot_3", "f_dc_1"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_cannot_be_drawn_at_infinity_is_refused(tmp_path: Path, name: str, value: float) -> None:
    written_by_plyfile(tmp_path / "a.ply", all_names(0), **{name: value})
    with pytest.raises(InvalidFile, match="not finite"):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize(("rest", "n"), [(0, 1), (3, 7), (15, 7)])
def test_a_smoothing_filter_is_refused_whatever_stands_beside_it(tmp_path: Path, rest: int, n: int) -> None:
    written_by_plyfile(tmp_path / "a.ply", [*all_names(rest), "filter_3D"], n)
    with pytest.raises(InvalidFile, match="smoothing filter") as caught:
        read_ply(tmp_path / "a.ply")
    assert caught.value.key == "filter_3D"


@pytest.mark.parametrize("parts", [("chunk", "vertex"), ("chunk", "vertex", "sh"), ("vertex",)])
def test_packed_gaussians_are_named_with_any_of_their_elements(tmp_path: Path, parts: tuple[str, ...]) -> None:
    fields = {
        "chunk": [("min_x", "<f4"), ("max_x", "<f4")],
        "vertex": [(f"packed_{name}", "<u4") for name in ("position", "rotation", "scale", "color")],
        "sh": [("f_rest_0", "u1"), ("f_rest_1", "u1"), ("f_rest_2", "u1")],
    }
    elements = [plyfile.PlyElement.describe(np.zeros(3, fields[name]), name) for name in parts]
    plyfile.PlyData(elements, byte_order="<").write(str(tmp_path / "a.ply"))
    with pytest.raises(InvalidFile, match="compressed") as caught:
        read_ply(tmp_path / "a.ply")
    assert "splat-transform" in str(caught.value.remedy)


def test_no_more_room_is_made_than_the_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of a few bytes claimed 3 GB."""
    (tmp_path / "a.ply").write_bytes(ply([FORMAT, "element vertex 50000000", *PROPERTIES], bytes(56)))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidFile, match="truncated"):
            read_ply(tmp_path / "a.ply")
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
