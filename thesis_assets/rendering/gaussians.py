"""3D Gaussians as arrays, the standard 3DGS PLY file they are stored in, and their activated values on a device.

The file form is that of "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (Kerbl et al. 2023): binary little
endian, `x y z nx ny nz f_dc_* f_rest_* opacity scale_* rot_*`, with `f_rest_*` channel by channel.
Does not belong here: projecting or drawing them.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import plyfile
from numpy.lib.recfunctions import structured_to_unstructured

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor


SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): colour = 0.5 + SH_C0 * sh_dc."""
MAX_HEADER_BYTES = 64 * 1024
MAX_GAUSSIANS = 50_000_000

_WHOLE_DEGREES = (0, 3, 8, 15)


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic Gaussians in world coordinates (metres), float32.

    Attributes:
        means: (N, 3) centres.
        sh_dc: (N, 3) spherical-harmonic coefficient of degree 0, RGB.
        sh_rest: (N, K, 3) higher coefficients; K is 0, 3, 8 or 15 (degree 0 to 3).
        opacity_logit: (N,) opacity = sigmoid of it.
        log_scales: (N, 3) natural logarithm of the standard deviations along the own axes, metres.
        rotations: (N, 4) quaternions, w first, not necessarily of unit length; own axes to world.
    """

    means: NDArray[np.float32]
    sh_dc: NDArray[np.float32]
    sh_rest: NDArray[np.float32]
    opacity_logit: NDArray[np.float32]
    log_scales: NDArray[np.float32]
    rotations: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.means)
        rest = self.sh_rest.shape[1] if self.sh_rest.ndim == 3 else -1
        if rest not in _WHOLE_DEGREES:
            raise ThesisAssetsError(
                "spherical harmonics of no whole degree", key="sh_rest", found=self.sh_rest.shape, wanted="(N, K, 3)"
            )
        wanted = {
            "means": (n, 3),
            "sh_dc": (n, 3),
            "sh_rest": (n, rest, 3),
            "opacity_logit": (n,),
            "log_scales": (n, 3),
            "rotations": (n, 4),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32:
                raise ThesisAssetsError(
                    "an array of Gaussians has another shape or type",
                    key=name,
                    found=f"{array.shape} {array.dtype}",
                    wanted=f"{shape} float32",
                )

    def __len__(self) -> int:
        return len(self.means)


def from_colors(means: ArrayLike, rgb: ArrayLike, scales: ArrayLike, opacity: ArrayLike = 0.9) -> Gaussians:
    """Gaussians of one colour each, the same from every side (degree 0), along the world's axes.

    Args:
        means: (N, 3) metres.
        rgb: (N, 3) in [0, 1].
        scales: standard deviations in metres: one number, (N,) or (N, 3), above 0.
        opacity: one number or (N,), between 0 and 1, both excluded.
    """
    centres = np.asarray(means, np.float32).reshape(-1, 3)
    n = len(centres)
    deviations = np.asarray(scales, np.float64)
    if deviations.ndim == 1:
        deviations = deviations[:, None]
    alphas = np.broadcast_to(np.asarray(opacity, np.float64), (n,))
    if (deviations <= 0).any() or (alphas <= 0).any() or (alphas >= 1).any():
        raise ThesisAssetsError(
            "Gaussians need a positive size and an opacity between 0 and 1",
            found=f"smallest scale {deviations.min()}, opacity {alphas.min()} to {alphas.max()}",
        )
    quaternions = np.zeros((n, 4), np.float32)
    quaternions[:, 0] = 1
    return Gaussians(
        means=centres,
        sh_dc=((np.asarray(rgb, np.float64).reshape(n, 3) - 0.5) / SH_C0).astype(np.float32),
        sh_rest=np.zeros((n, 0, 3), np.float32),
        opacity_logit=np.log(alphas / (1 - alphas)).astype(np.float32),
        log_scales=np.log(np.broadcast_to(deviations, (n, 3))).astype(np.float32),
        rotations=quaternions,
    )


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write the standard file, atomically."""
    storage.write_bytes(path, ply_bytes(gaussians))


def ply_bytes(gaussians: Gaussians) -> bytes:
    """What `write_ply` writes. Normals are zero, as every 3DGS tool writes them."""
    n, rest = len(gaussians), gaussians.sh_rest.shape[1]
    names = _column_names(3 * rest)
    columns = np.zeros((n, len(names)), "<f4")
    columns[:, 0:3] = gaussians.means
    columns[:, 6:9] = gaussians.sh_dc
    columns[:, 9 : 9 + 3 * rest] = gaussians.sh_rest.transpose(0, 2, 1).reshape(n, 3 * rest)
    columns[:, -8] = gaussians.opacity_logit
    columns[:, -7:-4] = gaussians.log_scales
    columns[:, -4:] = gaussians.rotations
    table = columns.view([(name, "<f4") for name in names])[:, 0]
    content = io.BytesIO()
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")], byte_order="<").write(content)
    return content.getvalue()


def read_ply(path: Path) -> Gaussians:
    """Read a standard 3DGS PLY; vertex properties that no rasteriser uses are passed over, and elements behind the vertices.

    Raises:
        InvalidFile: it is missing, no binary little-endian PLY, truncated, lacks a property, has one that changes the picture and is
            not drawn, or a value that is not finite.
    """
    try:
        with path.open("rb") as handle:
            count, dtype, start = _parse_header(path, handle.read(MAX_HEADER_BYTES))
            room = os.fstat(handle.fileno()).st_size - start
            handle.seek(start)
            content = handle.read(min(room, count * dtype.itemsize))
    except FileNotFoundError as error:
        raise InvalidFile("the Gaussians' file is missing", file=path) from error
    except OSError as error:
        raise InvalidFile("the Gaussians' file cannot be read", file=path, found=error.strerror) from error
    if len(content) < count * dtype.itemsize:
        raise InvalidFile(
            "the PLY is truncated",
            file=path,
            found=f"{len(content)} bytes of vertices",
            wanted=f"{count * dtype.itemsize} for {count} Gaussians",
            remedy="write it again",
        )
    return _from_table(path, np.frombuffer(content, dtype, count))


def _parse_header(path: Path, content: bytes) -> tuple[int, np.dtype[np.void], int]:
    """Number of vertices, type of one, and the offset of the first.

    plyfile is given the header alone, its counts as 0: of a whole file it would make room for as many rows as are claimed.
    """
    end = re.search(rb"[\r\n]end_header\r?\n", content)
    words = [line.split() for line in content[: end.start() if end else 0].decode("ascii", "replace").split("\n")]
    counts = [line[2] for line in words if line[0:1] == ["element"] and len(line) == 3]
    empty = [[*line[:2], *("0" for _ in line[2:])] if line[:1] == ["element"] else line for line in words]
    lines = [*(" ".join(line) for line in empty), "end_header", ""]
    try:
        header = plyfile.PlyData.read(io.BytesIO("\n".join(lines).encode("ascii", "replace")))
    except (plyfile.PlyParseError, ValueError) as error:
        raise InvalidFile("the file is not a PLY", file=path, found=f"{content[:40]!a}: {error}") from error
    if end is None or header.text or header.byte_order != "<":
        found = next((" ".join(line) for line in words if line[:1] == ["format"]), "no format line")
        raise InvalidFile("the PLY has another format", file=path, found=found, wanted="binary_little_endian 1.0")
    if any(each.name == "packed_position" for element in header for each in element.properties):
        raise InvalidFile(
            "the PLY is compressed, as SuperSplat writes it",
            file=path,
            found="packed_position",
            wanted="x y z f_dc_* opacity scale_* rot_*, as 3DGS writes them",
            remedy=f"unpack it: `npx @playcanvas/splat-transform {path.name} {path.name.split('.')[0]}_unpacked.ply`",
        )
    vertex = next(iter(header), None)
    if vertex is None or vertex.name != "vertex":
        raise InvalidFile("the PLY's first element is not `vertex`", file=path)
    number = counts[0]
    if not number.isdigit() or len(number) > len(str(MAX_GAUSSIANS)) or int(number) > MAX_GAUSSIANS:
        raise InvalidFile("no usable number of Gaussians", file=path, key="element vertex", found=number[:40])
    if any(isinstance(each, plyfile.PlyListProperty) for each in vertex.properties):
        raise InvalidFile("a vertex property is a list", file=path, wanted="plain numbers, as 3DGS writes them")
    return int(number), vertex.dtype("<"), end.end()


def _from_table(path: Path, table: NDArray[np.void]) -> Gaussians:
    present = table.dtype.names or ()
    if "filter_3D" in present:
        raise InvalidFile(
            "the PLY's Gaussians have a smoothing filter of their own, as Mip-Splatting trains them",
            file=path,
            key="filter_3D",
            wanted="Gaussians whose scales and opacities hold the filter already",
            remedy="fuse it: `python create_fused_ply.py -m <model>` of Mip-Splatting",
        )
    n_rest = sum(name.startswith("f_rest_") for name in present)
    if n_rest % 3 or n_rest // 3 not in _WHOLE_DEGREES:
        raise InvalidFile("`f_rest_*` of no whole degree", file=path, found=n_rest, wanted="0, 9, 24 or 45")
    names = [name for name in _column_names(n_rest) if name not in ("nx", "ny", "nz")]
    missing = [name for name in names if name not in present]
    if missing:
        raise InvalidFile(
            "the PLY lacks properties of 3D Gaussians",
            file=path,
            found=f"no {', '.join(missing[:5])}",
            wanted="x y z f_dc_* opacity scale_* rot_*, as 3DGS writes them",
        )
    columns = structured_to_unstructured(table[[name for name in names if not name.startswith("f_rest_")]], np.float32)
    rest = structured_to_unstructured(table[names[6 : 6 + n_rest]], np.float32) if n_rest else columns[:, :0]
    gaussians = Gaussians(
        means=columns[:, 0:3],
        sh_dc=columns[:, 3:6],
        sh_rest=np.ascontiguousarray(rest.reshape(len(table), 3, n_rest // 3).transpose(0, 2, 1)),
        opacity_logit=columns[:, 6],
        log_scales=columns[:, 7:10],
        rotations=columns[:, 10:],
    )
    for name, array in vars(gaussians).items():
        # The logit of an opacity of exactly 1 is infinite, and of exactly 0; both can be drawn.
        usable = ~np.isnan(array) if name == "opacity_logit" else np.isfinite(array)
        if not usable.all():
            raise InvalidFile("a Gaussian's value is not finite", file=path, key=name, remedy="write the file again")
    return gaussians


def _column_names(n_rest: int) -> list[str]:
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(n_rest)]
    return [*names, "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]


@dataclass(frozen=True)
class GaussianTensors:
    """`Gaussians` activated, on a device, float32: scales in metres, opacities in [0, 1], unit quaternions."""

    means: Tensor
    sh_dc: Tensor
    sh_rest: Tensor
    opacities: Tensor
    scales: Tensor
    rotations: Tensor


def to_tensors(gaussians: Gaussians, device: str | torch.device = "cpu") -> GaussianTensors:
    """Activate the stored values and put them on `device`."""
    import torch

    def tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
        return torch.from_numpy(np.array(array, np.float32)).to(device)

    return GaussianTensors(
        means=tensor(gaussians.means),
        sh_dc=tensor(gaussians.sh_dc),
        sh_rest=tensor(gaussians.sh_rest),
        opacities=torch.sigmoid(tensor(gaussians.opacity_logit)),
        scales=torch.exp(tensor(gaussians.log_scales)),
        rotations=torch.nn.functional.normalize(tensor(gaussians.rotations), dim=1),
    )
