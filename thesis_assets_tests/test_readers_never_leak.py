"""Any bytes given to any reader end in a value or in an error of ours, within bounded memory.

Each reader is given a thousand mutations of a file that it reads; more of them in `make soak`.
"""

import random
import resource
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.metric_tables import read_results, read_table
from thesis_assets.experiments import read_experiment
from thesis_assets.experiments.model_ledger import read_model_entry
from thesis_assets.images import codecs
from thesis_assets.layout import ModelLedger
from thesis_assets.provenance import Place, read_record
from thesis_assets.recordings.world_tracks import read_wavefront
from thesis_assets.rendering.gaussians import from_colors, ply_bytes, read_ply
from thesis_assets.samples.sample_rows import read_rows, write_rows
from thesis_assets.scenes.bodies import read_bodies, write_bodies
from thesis_assets.scenes.bounded_files import array_bytes, read_depth
from thesis_assets.scenes.camera import read_camera, write_camera
from thesis_assets.scenes.importers.colmap import read_colmap
from thesis_assets.scenes.importers.hi4d import read_hi4d
from thesis_assets.scenes.importers.nerfstudio import read_nerfstudio
from thesis_assets.scenes.scene import read_skip_frames
from thesis_assets.tuning.checkpoints import WEIGHTS
from thesis_assets.tuning.refine import load_refiner
from thesis_assets.tuning.run_config import TrainerFlags
from thesis_assets.tuning.tiny_model import TinyTraining
from thesis_assets_tests.scenes.hi4d_form import START, rig, write_action
from thesis_assets_tests.scenes.importers.small_captures import Row, colmap_binary, colmap_text, nerfstudio, photograph
from thesis_assets_tests.scenes.tiny_scene import tiny_bodies, tiny_camera
from thesis_assets_tests.splits.rows import pair_rows

MUTATIONS = 1000
SOAKED = 20_000
MOST_MEMORY_KB = 1024 * 1024
"""By which a reader may grow the process, over all its mutations."""


@dataclass(frozen=True)
class Reader:
    """A file that is read, and the call that reads it. `slow`: a tenth of the mutations, where each costs much."""

    file: str
    content: Callable[[Path], bytes]
    read: Callable[[Path], object]
    slow: bool = False


def _written(write: Callable[[Path], object]) -> Callable[[Path], bytes]:
    def content(folder: Path) -> bytes:
        path = folder / "seed"
        write(path)
        return path.read_bytes()

    return content


def _checkpoint(path: Path) -> None:
    model = TinyTraining(TrainerFlags(dataset_path="d", output_dir="o", tracker_run_name="r", resolution=32))
    torch.save({**model.state(), "step": 3}, path)


def _listing(folder: Path) -> bytes:
    photograph(folder / "images" / "a.png")
    return nerfstudio(folder, [{"file_path": "images/a.png"}]).read_bytes()


def _model(form: str) -> Callable[[Path], bytes]:
    def content(folder: Path) -> bytes:
        write = colmap_binary if form == "bin" else colmap_text
        photograph(folder / "images" / "a.png")
        return (write(folder, [Row("a.png", 1, points=2)]) / f"images.{form}").read_bytes()

    return content


HI4D_CAMERAS, HI4D_META = "cameras/rgb_cameras.npz", "meta.npz"
HI4D_BODY = f"smpl/{START:06d}.npz"


def _action(file: str) -> Callable[[Path], bytes]:
    def content(folder: Path) -> bytes:
        return (write_action(folder, rig((4,)), n_frames=1).folder / file).read_bytes()

    return content


def _read_action(folder: Path) -> None:
    for other in read_hi4d(folder, without=("seg",)).others:
        if other.convert is not None:
            other.convert(other.source)


TEXT_OBJ = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
TABLE = b"frame,cam_id,psnr\n1,4,20.000000\n2,4,21.000000\n"
EXPERIMENT = b"""exp_name: file
generation: {scenes: ["hi4d_*"], renders: {source: precomputed}, recipes: [{name: a, share: 1.0, schedule: [0.5], iterations: 9}]}
split: {test_groups: {hi4d: [pair15]}}
runs: {a: {max_train_steps: 100, learning_rate: 2e-5}}
evaluation: {epochs: {0: unrefined, 1: {step: 100}}}
"""
READERS = {
    "png": Reader("file.png", lambda _: codecs.encode_png(_image()), codecs.read_rgb),
    "png by Pillow": Reader("file.png", lambda _: codecs.encode_png(_image(), "pillow"), codecs.read_rgb),
    "jpeg": Reader("file.jpg", lambda _: codecs.encode_jpeg(_image()), codecs.read_rgb),
    "jpeg, whole": Reader("file.jpg", lambda _: codecs.encode_jpeg(_image()), codecs.check_complete),
    "jpeg, channels": Reader("file.jpg", lambda _: codecs.encode_jpeg(_image()), codecs.jpeg_components),
    "mask": Reader("file.png", lambda _: codecs.encode_png(_image()[..., 0] // 128 * 255, "pillow"), codecs.read_mask),
    "depth": Reader("file.npy", lambda _: array_bytes(np.ones((4, 6), np.float32)), read_depth),
    "camera": Reader(
        "file.npz",
        _written(lambda path: write_camera(path, tiny_camera())),
        lambda path: read_camera(path, 4, 8, 6),
    ),
    "bodies": Reader(
        "file.npz",
        _written(lambda path: write_bodies(path, tiny_bodies("smplx"))),
        lambda path: read_bodies(path, "smplx"),
    ),
    "gaussians": Reader("file.ply", lambda _: ply_bytes(from_colors(np.eye(3), np.eye(3), 0.1)), read_ply),
    "mesh": Reader("file.obj", lambda _: TEXT_OBJ, read_wavefront),
    "skip frames": Reader("skip.csv", lambda _: b"5, 12, 13, 27\n", read_skip_frames),
    "colmap, binary": Reader("images.bin", _model("bin"), lambda path: read_colmap(path.parent)),
    "colmap, text": Reader("images.txt", _model("txt"), lambda path: read_colmap(path.parent)),
    "nerfstudio": Reader(
        "transforms.json",
        _listing,
        lambda path: read_nerfstudio(path),
    ),
    "hi4d, cameras": Reader(HI4D_CAMERAS, _action(HI4D_CAMERAS), lambda path: _read_action(path.parent.parent)),
    "hi4d, meta": Reader(HI4D_META, _action(HI4D_META), lambda path: _read_action(path.parent)),
    "hi4d, bodies": Reader(HI4D_BODY, _action(HI4D_BODY), lambda path: _read_action(path.parent.parent)),
    "experiment": Reader("file.yaml", lambda _: EXPERIMENT, read_experiment),
    "model entry": Reader(
        "file.yaml",
        lambda _: b"trained_on: {hi4d: [pair17], lab: '*'}\nsource: its paper\n",
        lambda path: read_model_entry(ModelLedger(path.parent), path.stem),
    ),
    "rows": Reader("rows.jsonl", _written(lambda path: write_rows(path, pair_rows("pair01"))), read_rows),
    "record": Reader(
        "made_from.json",
        lambda _: (
            b'{"step":"nvs","code_version":"1","options":{"a":[1]},"tools":{},"inputs":{"x":"ab"},'
            b'"outputs":{"y":[1,"ab",null]},"noted":{},"identity":"i","data_version":"d"}'
        ),
        lambda path: read_record(Place(path.parent, path)),
    ),
    "table": Reader("table.csv", lambda _: TABLE, lambda path: read_table(path, ("frame", "cam_id", "psnr"))),
    "results": Reader("results.txt", lambda _: b"psnr: 20.5\nssim: nan\n", lambda path: read_results(path, ("psnr",))),
    "checkpoint": Reader("file.pkl", _written(_checkpoint), load_refiner, slow=True),
}


def _image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)


def mutated(content: bytes, seed: int) -> bytes:
    """A few edits: bits, cuts, doubled and moved parts, numbers at their limits; sums of PNG and ZIP parts are made right at times."""
    draw = random.Random(seed)
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(len(data) + 1)
        length = draw.choice((1, 2, 4, 8, 40))
        match draw.randrange(7):
            case 0 if data:
                data[min(place, len(data) - 1)] ^= 1 << draw.randrange(8)
            case 1:
                del data[place:]
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length]
            case 4:
                data[place : place + length] = draw.randbytes(length)
            case 5:
                data[place : place + 8] = struct.pack(draw.choice("<>") + "q", draw.choice((-1, 0, 2**31, 2**62)))
            case _:
                data[place:place] = draw.choice((b"9" * 5000, b"-", b"nan", b"\0", b"[" * 3000, "é".encode(), b"\n\n"))
    return _with_sums(bytes(data)) if draw.random() < 0.5 else bytes(data)


def _with_sums(data: bytes) -> bytes:
    """A PNG whose chunks have right sums again, so that what lies behind them is reached."""
    if not data.startswith(codecs.PNG_SIGNATURE):
        return data
    out, place = bytearray(data[:8]), 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        out += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return bytes(out) + data[place:]


def _fuzz(name: str, folder: Path, mutations: int) -> None:
    reader = READERS[name]
    content = reader.content(folder)
    path = folder / reader.file
    path.write_bytes(content)
    reader.read(path)  # the file that is mutated is one that is read
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=mutations // (10 if reader.slow else 1), deadline=None, database=None)
    @given(st.integers(0, 2**32))
    def reads_or_refuses(seed: int) -> None:
        path.write_bytes(mutated(content, seed))
        try:
            reader.read(path)
        except ThesisAssetsError:
            return

    reads_or_refuses()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY_KB


@pytest.mark.parametrize("name", READERS)
def test_any_bytes_end_in_a_value_or_in_an_error_of_ours(name: str, tmp_path: Path) -> None:
    _fuzz(name, tmp_path, MUTATIONS)


@pytest.mark.soak
@pytest.mark.parametrize("name", READERS)
def test_twenty_thousand_mutations_of_each_file_end_so_too(name: str, tmp_path: Path) -> None:
    _fuzz(name, tmp_path, SOAKED)


@pytest.mark.parametrize("name", ["stride 0", "sparse", "a key that is no text", "a huge network"])
def test_a_checkpoint_that_claims_more_than_it_holds_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    _checkpoint(path)
    state: dict[Any, Any] = torch.load(path, weights_only=True)
    first = next(iter(state[WEIGHTS]))
    match name:
        case "stride 0":
            state[WEIGHTS][first] = torch.zeros(1).expand(100_000, 100_000)
        case "sparse":
            state[WEIGHTS][first] = torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), [1.0], (10**12,))
        case "a key that is no text":
            state[5] = 1
        case "a huge network":
            state["architecture"] = {**state["architecture"], "channels_half": 8 * 10**9}
    torch.save(state, path)
    with pytest.raises(ThesisAssetsError):
        load_refiner(path)
